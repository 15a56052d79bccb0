// Writing files whole or not at all, and devices as they are.
#include "file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "client.hpp"

namespace cli {

OutputFile::OutputFile(const std::string& path) : path_(path), place_(path) {
  if (path == "-") {
    std::fflush(stdout);
    descriptor_ = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0);
    if (descriptor_ < 0) fail("opened");
    return;
  }
  struct stat there;
  const bool exists = stat(path.c_str(), &there) == 0;
  if (exists && S_ISDIR(there.st_mode)) throw Failure(run_failed, "\"" + path_ + "\" cannot be written: it is a folder");
  if (exists && !S_ISREG(there.st_mode)) {
    descriptor_ = open(path.c_str(), O_WRONLY | O_CLOEXEC | O_NONBLOCK);  // a pipe that nobody reads is an error, not a wait
    if (descriptor_ < 0) fail("opened");
    fcntl(descriptor_, F_SETFL, fcntl(descriptor_, F_GETFL) & ~O_NONBLOCK);
    return;
  }
  std::error_code ignored;
  if (const auto real = std::filesystem::weakly_canonical(path, ignored); !ignored) place_ = real.string();
  temporary_ = place_ + ".tmp" + std::to_string(getpid());
  descriptor_ = open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (descriptor_ < 0) fail("created");
}

OutputFile::~OutputFile() {
  if (descriptor_ < 0) return;
  close(descriptor_);
  if (!temporary_.empty()) unlink(temporary_.c_str());
}

void OutputFile::fail(const std::string& what) const {
  const std::string name = path_ == "-" ? "the standard output" : "\"" + path_ + "\"";
  throw Failure(run_failed, name + " cannot be " + what + ": " + std::strerror(errno));
}

void OutputFile::write(const std::string& content) {
  for (size_t at = 0; at < content.size();) {
    const ssize_t written = ::write(descriptor_, content.data() + at, content.size() - at);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) fail("written");
    at += static_cast<size_t>(written);
  }
}

void OutputFile::commit() {
  const bool regular = !temporary_.empty();
  if (regular && fsync(descriptor_) != 0 && errno != EINVAL) fail("written");
  const int descriptor = descriptor_;
  descriptor_ = -1;
  if (close(descriptor) == 0 && (!regular || rename(temporary_.c_str(), place_.c_str()) == 0)) return;
  const int error = errno;
  if (regular) unlink(temporary_.c_str());
  errno = error;
  fail("written");
}

bool require_different(const std::vector<std::pair<const char*, std::string>>& options) {
  bool printed = false;
  for (size_t i = 0; i < options.size(); ++i) {
    const std::string& path = options[i].second;
    printed = printed || path == "-";
    for (size_t j = 0; j < i; ++j)
      if (!path.empty() && path == options[j].second && path.rfind("/dev/", 0) != 0)
        throw Failure(usage, std::string(options[j].first) + " and " + options[i].first + " are both \"" + path +
                                 "\", must be different files");
  }
  return printed;
}

void require_writable(const char* option, const std::string& path, bool device_allowed) {
  if (path.empty()) return;
  const auto refuse = [&](const std::string& must) { throw Failure(usage, std::string(option) + " is \"" + path + "\", must be " + must); };
  const std::string allowed = device_allowed ? "a file that can be written, or - for the standard output: " : "a file that can be written: ";
  if (path == "-") {
    if (!device_allowed) refuse("a file: a run cannot be saved to the standard output");
    return;
  }
  struct stat there;
  if (stat(path.c_str(), &there) == 0 && !S_ISREG(there.st_mode) && !S_ISDIR(there.st_mode)) {  // opening a pipe would end its reader
    if (!device_allowed) refuse(allowed + "it is no regular file");
    if (access(path.c_str(), W_OK) != 0) refuse(allowed + std::strerror(errno));
    return;
  }
  try {
    OutputFile probe(path);
  } catch (const Failure& failure) {
    const std::string why = failure.what();
    const size_t colon = why.rfind(": ");
    refuse(allowed + (colon == why.npos ? why : why.substr(colon + 2)));
  }
}

}  // namespace cli
