// Writing files whole or not at all.
#include "file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "client.hpp"

namespace cli {

WholeFile::WholeFile(std::string path) : path_(std::move(path)), temporary_(path_ + ".tmp" + std::to_string(getpid())) {
  struct stat there;
  if (stat(path_.c_str(), &there) == 0 && S_ISDIR(there.st_mode))
    throw Failure(run_failed, "\"" + path_ + "\" cannot be written: it is a folder");
  descriptor_ = open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (descriptor_ < 0) fail("created");
}

WholeFile::~WholeFile() {
  if (descriptor_ < 0) return;
  close(descriptor_);
  unlink(temporary_.c_str());
}

void WholeFile::fail(const std::string& what) const {
  throw Failure(run_failed, "\"" + path_ + "\" cannot be " + what + ": " + std::strerror(errno));
}

void WholeFile::write(const std::string& content) {
  for (size_t at = 0; at < content.size();) {
    const ssize_t written = ::write(descriptor_, content.data() + at, content.size() - at);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) fail("written");
    at += static_cast<size_t>(written);
  }
}

void WholeFile::commit() {
  if (fsync(descriptor_) != 0 && errno != EINVAL) fail("written");
  const int descriptor = descriptor_;
  descriptor_ = -1;
  if (close(descriptor) != 0 || rename(temporary_.c_str(), path_.c_str()) != 0) {
    const int error = errno;
    unlink(temporary_.c_str());
    errno = error;
    fail("written");
  }
}

void require_writable(const std::string& path) {
  WholeFile probe(path);
}

}  // namespace cli
