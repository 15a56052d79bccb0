// The progress line.
#include "progress.hpp"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>

#include "client.hpp"

namespace cli {
namespace {

constexpr double redraw_seconds = 0.1;  // at most ten times a second

// "8 s", "3:20", "2:05:00"
std::string duration(double seconds) {
  if (!(seconds < 1e9)) return "unknown time";
  const auto whole = static_cast<long>(std::ceil(seconds));
  char text[32];
  if (whole < 60)
    std::snprintf(text, sizeof text, "%ld s", whole);
  else if (whole < 3600)
    std::snprintf(text, sizeof text, "%ld:%02ld", whole / 60, whole % 60);
  else
    std::snprintf(text, sizeof text, "%ld:%02ld:%02ld", whole / 3600, whole / 60 % 60, whole % 60);
  return text;
}

std::string line(const lamina_progress& at) {
  std::string text = "step " + std::to_string(at.step) + "/" + std::to_string(at.steps) + "  loss " + format_number(at.loss, 6);
  if (!std::isnan(at.excess)) text += "  excess " + format_number(at.excess, 4);
  if (at.step == 0 || at.steps_per_second <= 0) return text;
  text +=
      "  " +
      (at.steps_per_second < 1000 ? format_number(at.steps_per_second, 3) : std::to_string(std::lround(at.steps_per_second))) +
      " steps/s";
  if (at.step < at.steps) text += "  " + duration(static_cast<double>(at.steps - at.step) / at.steps_per_second) + " left";
  return text;
}

size_t terminal_width() {
  winsize size{};
  return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1 ? size.ws_col : 80;
}

}  // namespace

Progress::Progress(lamina_trainer* trainer, bool quiet, PeriodicSave& saves)
    : saves_(saves), terminal_(isatty(STDERR_FILENO) != 0), quiet_(quiet) {
  if (quiet && !saves.wanted()) return;
  const auto call = [](void* user, const lamina_progress* at) -> int32_t {
    Progress& self = *static_cast<Progress*>(user);
    if (!self.quiet_) self.tell(*at);
    if (at->step < at->steps) self.saves_.look();  // the end is saved by the caller
    return 0;
  };
  const double often = quiet ? 1e6 : terminal_ ? redraw_seconds : 0.5;
  check(lamina_trainer_on_progress(trainer, call, this, saves.wanted() ? std::min(often, saves.every()) : often));
}

// Plain lines come at 1, 2, 4, 8, ... seconds and at the end, so that the longest run writes about twenty.
void Progress::tell(const lamina_progress& at) {
  if (terminal_) {
    std::fprintf(stderr, "\r%s\033[K", line(at).substr(0, terminal_width() - 1).c_str());
    std::fflush(stderr);
    drawn_ = true;
  } else if (at.seconds >= next_ || at.step >= at.steps) {
    std::fprintf(stderr, "%s\n", line(at).c_str());
    while (next_ <= at.seconds) next_ *= 2;
  }
}

void Progress::finish() {
  if (drawn_) std::fputc('\n', stderr);
  drawn_ = false;
}

}  // namespace cli
