// A text file read in blocks of whole, valid UTF-8 code points, in bounded memory, as often as wanted.
#pragma once
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <string_view>

namespace lamina {

class Utf8File {
 public:
  // Throws LAMINA_E_FILE if `path` is missing, no regular file, or cannot be opened.
  explicit Utf8File(const std::string& path);

  // The next block, valid until the next call; empty at the end. A byte-order mark at the start is left out. Throws
  // LAMINA_E_FILE if reading fails, LAMINA_E_FORMAT with the offset at the first byte that is NUL or no part of well-formed
  // UTF-8.
  std::string_view next_block();
  void rewind();
  const std::string& path() const { return path_; }

 private:
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  size_t valid_prefix(size_t size, bool at_end) const;

  std::string path_;
  std::unique_ptr<std::FILE, Close> file_;
  std::unique_ptr<char[]> buffer_;
  int64_t offset_ = 0;            // of the buffer's first byte in the file
  size_t used_ = 0, filled_ = 0;  // bytes handed out, bytes in the buffer
};

// Decodes the code point at `p`, which is valid UTF-8, and moves p behind it.
inline char32_t next_code_point(const char*& p) {
  const auto byte = [&p] { return static_cast<unsigned char>(*p++); };
  const char32_t first = byte();
  if (first < 0x80) return first;
  char32_t code = first & (first < 0xe0 ? 0x1fu : first < 0xf0 ? 0x0fu : 0x07u);
  for (int rest = first < 0xe0 ? 1 : first < 0xf0 ? 2 : 3; rest > 0; --rest) code = code << 6 | (byte() & 0x3fu);
  return code;
}

}  // namespace lamina
