// Signal handlers and periodic saves.
#include "interruption.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>

namespace cli {
namespace {

constexpr int signals[] = {SIGINT, SIGTERM, SIGHUP};
constexpr double most_of_the_time = 0.05;  // that saves may take

std::atomic<void (*)(void*)> stop_running{nullptr};
std::atomic<void*> running{nullptr};
volatile sig_atomic_t first_signal = 0;

extern "C" void note_and_stop(int number) {
  if (first_signal == 0) first_signal = number;
  if (const auto stop = stop_running.load()) stop(running.load());
}

}  // namespace

StopOnSignal::StopOnSignal(void (*stop)(void*), void* handle) {
  running.store(handle), stop_running.store(stop);
  struct sigaction action {};
  action.sa_handler = note_and_stop;
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  for (size_t i = 0; i < std::size(signals); ++i) {
    sigaction(signals[i], nullptr, &before_[i]);
    // A shell without job control lets what runs in the background ignore SIGINT, which its user may send none the less.
    if (signals[i] == SIGINT || before_[i].sa_handler != SIG_IGN) sigaction(signals[i], &action, nullptr);
  }
}

StopOnSignal::~StopOnSignal() {
  for (size_t i = 0; i < std::size(signals); ++i) sigaction(signals[i], &before_[i], nullptr);
  stop_running.store(nullptr), running.store(nullptr);
}

Exit StopOnSignal::code() const { return first_signal == 0 ? success : static_cast<Exit>(128 + first_signal); }

PeriodicSave::PeriodicSave(const std::string& path, double every, std::function<void()> save)
    : path_(path), every_(every), save_(std::move(save)), next_(Clock::now()) {
  if (wanted()) next_ += std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(std::min(every_, 1e8)));
}

void PeriodicSave::look() {
  const Clock::time_point start = Clock::now();
  if (!wanted() || start < next_) return;
  try {
    save_();
  } catch (const std::exception& error) {
    if (!told_) std::fprintf(stderr, "lamina: %s; the run goes on and is saved later\n", error.what());
    told_ = true;
  }
  const Clock::time_point end = Clock::now();
  const double took = std::chrono::duration<double>(end - start).count();
  next_ = end + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(std::min(1e8, std::max(every_, took / most_of_the_time))));
}

double seconds_between_saves(const std::string& given, const std::string& save) {
  if (given.empty()) return std::strtod(usual_seconds_between_saves, nullptr);
  char* end = nullptr;
  const double seconds = std::strtod(given.c_str(), &end);
  if (*end || !(seconds > 0)) throw Failure(usage, "--save-every is \"" + given + "\", must be a positive number of seconds");
  if (save.empty()) throw Failure(usage, "--save-every is \"" + given + "\", and needs --save, the file to save into");
  return seconds;
}

}  // namespace cli
