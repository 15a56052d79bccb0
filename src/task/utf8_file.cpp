// Reading and checking UTF-8 (Unicode 15, table 3-7: no overlong forms, no surrogates, nothing above U+10FFFF).
#include "task/utf8_file.hpp"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "base/error.hpp"

namespace lamina {
namespace {

constexpr size_t block_bytes = size_t{1} << 18;

[[noreturn]] void fail_file(const std::string& path, const std::string& why) {
  fail(LAMINA_E_FILE, "file \"" + path + "\" " + why);
}

std::string reason(int error) {
  return std::error_code(error, std::generic_category()).message();
}

// The length of the well-formed code point that begins p[0..size): 0 if there is none, -1 if more bytes are needed to tell.
int code_point_length(const unsigned char* p, size_t size) {
  const unsigned first = p[0];
  if (first < 0x80) return 1;
  if (first < 0xc2 || first > 0xf4) return 0;
  const int length = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
  const unsigned lowest = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
  const unsigned highest = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
  for (int i = 1; i < length; ++i) {
    if (static_cast<size_t>(i) == size) return -1;
    if (p[i] < (i == 1 ? lowest : 0x80) || p[i] > (i == 1 ? highest : 0xbf)) return 0;
  }
  return length;
}

}  // namespace

Utf8File::Utf8File(const std::string& path) : path_(path) {
  if (path.find('\0') != path.npos) fail_file(path.c_str(), "has a NUL byte in its name");
  std::error_code error;
  const std::filesystem::file_status status = std::filesystem::status(path, error);
  if (status.type() == std::filesystem::file_type::not_found) fail_file(path, "does not exist");
  if (error) fail_file(path, "cannot be read: " + error.message());
  if (status.type() == std::filesystem::file_type::directory) fail_file(path, "is a directory, must be a text file");
  if (status.type() != std::filesystem::file_type::regular) fail_file(path, "is no regular file: it is read twice");
  file_.reset(std::fopen(path.c_str(), "rb"));
  if (!file_) fail_file(path, "cannot be opened: " + reason(errno));
  std::setvbuf(file_.get(), nullptr, _IONBF, 0);
  buffer_ = std::make_unique<char[]>(block_bytes);
}

void Utf8File::rewind() {
  if (std::fseek(file_.get(), 0, SEEK_SET) != 0) fail_file(path_, "cannot be read again: " + reason(errno));
  offset_ = 0;
  used_ = filled_ = 0;
}

std::string_view Utf8File::next_block() {
  const size_t carried = filled_ - used_;  // the beginning of a code point that the last block cut
  std::memmove(buffer_.get(), buffer_.get() + used_, carried);
  offset_ += static_cast<int64_t>(used_);
  errno = 0;
  filled_ = carried + std::fread(buffer_.get() + carried, 1, block_bytes - carried, file_.get());
  if (std::ferror(file_.get())) fail_file(path_, "cannot be read: " + reason(errno));
  const bool at_end = filled_ < block_bytes;
  used_ = valid_prefix(filled_, at_end);
  const bool mark = offset_ == 0 && used_ >= 3 && std::memcmp(buffer_.get(), "\xef\xbb\xbf", 3) == 0;
  if (mark && used_ == 3 && !at_end) return next_block();
  return {buffer_.get() + (mark ? 3 : 0), used_ - (mark ? 3 : 0)};
}

size_t Utf8File::valid_prefix(size_t size, bool at_end) const {
  const auto* bytes = reinterpret_cast<const unsigned char*>(buffer_.get());
  size_t i = 0;
  while (i < size) {
    // Eight plain characters at once: no high bit, and no byte 0 (the subtraction borrows into the high bit of a zero byte).
    uint64_t word;
    if (i + 8 <= size && (std::memcpy(&word, bytes + i, 8), true) &&
        ((word | (word - 0x0101010101010101)) & 0x8080808080808080) == 0) {
      i += 8;
      continue;
    }
    if (bytes[i] == 0)
      fail(LAMINA_E_FORMAT, "file \"" + path_ + "\": byte " + std::to_string(offset_ + static_cast<int64_t>(i)) +
                                " is NUL: a binary file, must be UTF-8 text");
    const int length = code_point_length(bytes + i, size - i);
    if (length < 0 && !at_end) return i;
    if (length <= 0)
      fail(LAMINA_E_FORMAT, "file \"" + path_ + "\": byte " + std::to_string(offset_ + static_cast<int64_t>(i)) +
                                " begins no well-formed code point, must be UTF-8 text");
    i += static_cast<size_t>(length);
  }
  return i;
}

}  // namespace lamina
