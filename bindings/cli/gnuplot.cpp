// Running gnuplot: script on stdin and SVG on stdout, both temporary files, no shell in between.
#include "gnuplot.hpp"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include "client.hpp"

extern char** environ;

namespace cli {
namespace {

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using Scratch = std::unique_ptr<std::FILE, CloseFile>;

Scratch scratch() {
  Scratch file(std::tmpfile());
  if (!file) throw Failure(run_failed, std::string("no picture: no temporary file: ") + std::strerror(errno));
  return file;
}

std::string first_line(std::FILE* file) {
  std::rewind(file);
  char line[512];
  while (std::fgets(line, sizeof line, file)) {
    std::string text(line);
    while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back()))) text.pop_back();
    if (!text.empty()) return text;
  }
  return "no message";
}

std::string content_of(std::FILE* file) {
  std::string content;
  char block[4096];
  std::rewind(file);
  while (const size_t got = std::fread(block, 1, sizeof block, file)) content.append(block, got);
  return content;
}

}  // namespace

std::string run_gnuplot(const std::string& script) {
  const Scratch input = scratch(), output = scratch(), errors = scratch();
  std::fwrite(script.data(), 1, script.size(), input.get());
  if (std::fflush(input.get()) != 0)
    throw Failure(run_failed, std::string("no picture: the temporary file: ") + std::strerror(errno));
  std::rewind(input.get());
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, fileno(input.get()), STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, fileno(output.get()), STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, fileno(errors.get()), STDERR_FILENO);
  char name[] = "gnuplot", plain[] = "-d";  // -d: without the user's own settings
  char* arguments[] = {name, plain, nullptr};
  pid_t child = 0;
  const int error = posix_spawnp(&child, name, &actions, nullptr, arguments, environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error == ENOENT) throw Failure(run_failed, "no picture: gnuplot was not found (Debian: apt-get install gnuplot-nox)");
  if (error != 0) throw Failure(run_failed, std::string("no picture: gnuplot could not be started: ") + std::strerror(error));
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
    throw Failure(run_failed, "no picture: gnuplot failed: " + first_line(errors.get()));
  std::string picture = content_of(output.get());
  if (picture.find("</svg>") == picture.npos)
    throw Failure(run_failed, "no picture: gnuplot wrote only " + std::to_string(picture.size()) + " bytes, is the disk full?");
  // A blank after a sub- or superscript begins a piece of text of its own, where viewers would leave it out.
  const std::string text = "<text>", kept = "<text xml:space=\"preserve\">";
  for (size_t at = picture.find(text); at != picture.npos; at = picture.find(text, at + kept.size())) picture.replace(at, text.size(), kept);
  return picture;
}

}  // namespace cli
