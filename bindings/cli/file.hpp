// Output files. A regular file is written whole or not at all: into a temporary file in the same folder, which is then renamed. What is
// no regular file (a device, a named pipe, /dev/stdout) is never replaced: it is opened and written to. "-" is the standard output.
#pragma once
#include <string>
#include <utility>
#include <vector>

namespace cli {

class OutputFile {
 public:
  // Creates the temporary file, or opens the device; throws Failure.
  explicit OutputFile(const std::string& path);
  // Removes the temporary file unless it was committed.
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  void write(const std::string& content);
  // Puts a regular file in place of `path`.
  void commit();

 private:
  [[noreturn]] void fail(const std::string& what) const;

  std::string path_;       // as the user gave it, for messages
  std::string place_;      // the file itself, where the path is a symbolic link
  std::string temporary_;  // empty for what is no regular file
  int descriptor_ = -1;
};

// The options that name files, with their values, "" where none is named: throws a usage Failure if two name the same file (but a
// device may be named twice). Whether one is "-": then nothing else may be printed on the standard output.
bool require_different(const std::vector<std::pair<const char*, std::string>>& options);

// Throws a usage Failure, before a long run, if a file at `path`, the value of `option`, could not be written; leaves nothing behind.
void require_writable(const char* option, const std::string& path, bool device_allowed);

}  // namespace cli
