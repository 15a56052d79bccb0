// Runs that end before their time: the signals that stop one, and its file as it was some seconds ago for those that cannot be caught.
#pragma once
#include <signal.h>

#include <chrono>
#include <functional>
#include <string>

#include "client.hpp"

namespace cli {

// While it lives the first SIGINT, SIGTERM or SIGHUP calls stop(handle), which must be safe in a signal handler; the same signal again
// kills. SIGTERM and SIGHUP that were ignored before (nohup) stay so. One at a time.
class StopOnSignal {
 public:
  StopOnSignal(void (*stop)(void*), void* handle);
  ~StopOnSignal();
  StopOnSignal(const StopOnSignal&) = delete;
  StopOnSignal& operator=(const StopOnSignal&) = delete;

  // 128 + the number of the first signal that came; success if none did.
  Exit code() const;

 private:
  struct sigaction before_[3];
};

// Saves again and again while a run lasts, at most a twentieth of the time. A save that fails is told once and does not end the run.
class PeriodicSave {
 public:
  // every: seconds from one save to the next, positive. Without a path nothing is ever saved.
  PeriodicSave(const std::string& path, double every, std::function<void()> save);
  bool wanted() const { return !path_.empty(); }
  double every() const { return every_; }
  // To be called often, where what is saved stands still; saves if it is time.
  void look();

 private:
  using Clock = std::chrono::steady_clock;
  std::string path_;
  double every_;
  std::function<void()> save_;
  Clock::time_point next_;
  bool told_ = false;
};

// The value of the option --save-every, given or its default, for a run with `save` as its --save; throws a usage Failure.
double seconds_between_saves(const std::string& given, const std::string& save);
constexpr const char* usual_seconds_between_saves = "60";

}  // namespace cli
