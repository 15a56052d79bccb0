// Files that are written whole or not at all: into a temporary file in the same folder, which is then renamed.
#pragma once
#include <string>

namespace cli {

class WholeFile {
 public:
  // Creates the temporary file; throws Failure.
  explicit WholeFile(std::string path);
  // Removes it unless it was committed.
  ~WholeFile();
  WholeFile(const WholeFile&) = delete;
  WholeFile& operator=(const WholeFile&) = delete;

  int descriptor() const { return descriptor_; }
  void write(const std::string& content);
  // Puts the file in place of `path`.
  void commit();

 private:
  [[noreturn]] void fail(const std::string& what) const;

  std::string path_, temporary_;
  int descriptor_;
};

// Throws a Failure, before a long run, if a file at `path` could not be written; leaves nothing behind.
void require_writable(const std::string& path);

}  // namespace cli
