// Reading and writing tensor files.
#include "train/tensor_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <stdexcept>

namespace lamina {
namespace {

constexpr uint64_t largest_header = 1 << 26, largest_file = uint64_t{1} << 36;

[[noreturn]] void fail_file(const std::string& what, const std::string& path) {
  fail(LAMINA_E_FILE, "path is " + path + ", which could not be " + what + ": " + std::string(strerrordesc_np(errno)));
}

class Descriptor {
 public:
  Descriptor(const std::string& path, int flags) : fd_(open(path.c_str(), flags | O_CLOEXEC, 0666)) {}
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }
  bool close_now() {
    const int fd = fd_;
    fd_ = -1;
    return close(fd) == 0;
  }

 private:
  int fd_;
};

void write_whole(int fd, const char* data, size_t bytes, const std::string& path) {
  while (bytes > 0) {
    const ssize_t written = write(fd, data, bytes);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) fail_file("written", path);
    data += written, bytes -= static_cast<size_t>(written);
  }
}

// A symbolic link is followed; a device or a pipe is never replaced by a file.
void write_file(const std::string& path, const std::string& content) {
  struct stat there;
  if (stat(path.c_str(), &there) == 0 && !S_ISREG(there.st_mode))
    fail(LAMINA_E_FILE, "path is " + path + ", which is no regular file, must be one or not exist");
  std::error_code unresolved;
  const std::filesystem::path real = std::filesystem::weakly_canonical(path, unresolved);
  const std::string place = unresolved ? path : real.string(), temporary = place + ".tmp" + std::to_string(getpid());
  const auto remove_and_fail = [&](const std::string& what) {
    const int error = errno;
    unlink(temporary.c_str());
    errno = error;
    fail_file(what, path);
  };
  {
    Descriptor file(temporary, O_WRONLY | O_CREAT | O_TRUNC);
    if (file.get() < 0) fail_file("created", path);
    try {
      write_whole(file.get(), content.data(), content.size(), path);
    } catch (...) {
      unlink(temporary.c_str());
      throw;
    }
    if (fsync(file.get()) != 0 || !file.close_now()) remove_and_fail("synced");
  }
  if (rename(temporary.c_str(), place.c_str()) != 0) remove_and_fail("put in place");
  const size_t slash = place.rfind('/');
  const std::string folder = slash == place.npos ? "." : slash == 0 ? "/" : place.substr(0, slash);
  Descriptor directory(folder, O_RDONLY | O_DIRECTORY);
  if (directory.get() >= 0) fsync(directory.get());
}

std::string read_file(const std::string& path) {
  Descriptor file(path, O_RDONLY | O_NONBLOCK);  // a pipe is refused below, not waited for
  struct stat info;
  if (file.get() < 0 || fstat(file.get(), &info) != 0) fail_file("opened", path);
  if (!S_ISREG(info.st_mode)) fail(LAMINA_E_FILE, "path is " + path + ", which is not a regular file");
  if (static_cast<uint64_t>(info.st_size) > largest_file) fail(LAMINA_E_FORMAT, "path is " + path + ", a file too large to be a checkpoint");
  std::string content(static_cast<size_t>(info.st_size), '\0');
  size_t at = 0;
  while (at < content.size()) {
    const ssize_t got = read(file.get(), content.data() + at, content.size() - at);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail_file("read", path);
    if (got == 0) break;
    at += static_cast<size_t>(got);
  }
  content.resize(at);
  return content;
}

std::string pack(const char* format, const Json& content, const Tensors& tensors) {
  Json header;
  header["__metadata__"] = {{"format", format}, {"run", content.dump()}};
  uint64_t offset = 0;
  for (const auto& [name, values] : tensors) {
    const uint64_t end = offset + values.size() * sizeof(double);
    header[name] = {{"dtype", "F64"}, {"shape", {values.size()}}, {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  std::string bytes(8, '\0');
  for (int i = 0; i < 8; ++i) bytes[i] = static_cast<char>(static_cast<uint64_t>(text.size()) >> (8 * i));
  bytes += text;
  for (const auto& [name, values] : tensors)
    bytes.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(double));
  return bytes;
}

Json unpack(const std::string& content, const std::string& format, Tensors& tensors) {
  if (content.size() < 8) throw std::runtime_error("shorter than a header");
  uint64_t length = 0;
  for (int i = 0; i < 8; ++i) length |= static_cast<uint64_t>(static_cast<unsigned char>(content[i])) << (8 * i);
  if (length > largest_header || length > content.size() - 8) throw std::runtime_error("the header's length does not fit the file");
  const Json header = Json::parse(content.begin() + 8, content.begin() + 8 + static_cast<int64_t>(length));
  const char* data = content.data() + 8 + length;
  const uint64_t bytes = content.size() - 8 - length;
  for (const auto& [name, tensor] : header.items()) {
    if (name == "__metadata__") continue;
    const uint64_t from = tensor.at("data_offsets").at(0).get<uint64_t>(), to = tensor.at("data_offsets").at(1).get<uint64_t>();
    if (tensor.at("dtype") != "F64" || from > to || to > bytes || (to - from) % sizeof(double) != 0)
      throw std::runtime_error("tensor " + name + " does not fit the file");
    std::vector<double> values((to - from) / sizeof(double));
    if (!values.empty()) std::memcpy(values.data(), data + from, to - from);
    tensors[name] = std::move(values);
  }
  const Json& found = header.at("__metadata__").at("format");
  if (found != format) throw std::runtime_error("its format is " + found.dump() + ", not " + format);
  return Json::parse(header.at("__metadata__").at("run").get<std::string>());
}

}  // namespace

void write_tensor_file(const std::string& path, const char* format, const Json& content, const Tensors& tensors) {
  std::string bytes;
  try {
    bytes = pack(format, content, tensors);
  } catch (const Json::exception&) {
    fail(LAMINA_E_UNSUPPORTED, "an option holds text that is not UTF-8, which a file of a run cannot hold: rename the file");
  }
  write_file(path, bytes);
}

Json read_tensor_file(const std::string& path, const char* format, Tensors& tensors) {
  return unpack(read_file(path), format, tensors);
}

Json to_json(const std::map<std::string, OptionValue>& values) {
  Json json = Json::object();
  for (const auto& entry : values) {
    Json& to = json[entry.first];
    std::visit([&to](const auto& v) {
      if constexpr (std::is_same_v<std::decay_t<decltype(v)>, double>)
        to = std::isfinite(v) ? Json(v) : Json(v > 0 ? "inf" : "-inf");  // JSON has no infinity; options read the word
      else
        to = v;
    }, entry.second);
  }
  return json;
}

Options options_in(const Json& json) {
  Options options;
  for (const auto& [key, value] : json.items()) {
    if (value.is_number()) options.set(key, value.get<double>());
    else if (value.is_string()) options.set(key, value.get<std::string>());
    else options.set(key, value.get<std::vector<double>>());
  }
  return options;
}

int64_t integer_in(const Json& content, const char* key, int64_t least, int64_t most) {
  const Json& value = content.at(key);
  const bool whole = value.is_number_integer() && (value.get<double>() >= static_cast<double>(least)) &&
                     (value.get<double>() <= static_cast<double>(most));
  if (!whole) throw std::runtime_error("its " + std::string(key) + " is " + value.dump() + ", not an integer from " +
                                       std::to_string(least) + " to " + std::to_string(most));
  return value.get<int64_t>();
}

}  // namespace lamina
