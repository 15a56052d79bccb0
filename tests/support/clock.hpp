// Processor time, for tests that bound a cost: what else runs takes nothing from it but cache and clock.
#pragma once
#include <algorithm>
#include <ctime>

namespace lamina::tests {

// Of this thread.
inline double cpu_seconds() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

// The least of several turns.
template <class Work>
double least_seconds(int turns, Work work) {
  double least = 1e9;
  for (int turn = 0; turn < turns; ++turn) {
    const double start = cpu_seconds();
    work();
    least = std::min(least, cpu_seconds() - start);
  }
  return least;
}

}  // namespace lamina::tests
