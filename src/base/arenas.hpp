// Threads of oneTBB for one loop at a time: the only code that includes oneTBB.
#pragma once
#include <memory>

namespace lamina {

// The threads that the process may use: its affinity and the host's tbb::global_control.
int process_limit();
// As many as may work here and now: also bounded by a smaller arena of the host that this thread is in.
int current_limit();

// What protects the host and the bits:
//   - a call works in an arena that no other call can enter: where two threads share one, oneTBB may move a body to the other
//     thread, and tasks of the host could run on our stack while we wait;
//   - a context of its own, so that a host that cancels its tasks does not make us skip ours.
// A const Arenas may be used by several threads at once.
class Arenas {
 public:
  Arenas();
  ~Arenas();
  Arenas(const Arenas&) = delete;
  Arenas& operator=(const Arenas&) = delete;

  // work(argument, slot) for slot = 0..workers-1, each once, by up to `workers` threads; returns when all have ended. `workers` is
  // at most current_limit(), else oneTBB prints a warning. work must not throw.
  void run(int workers, void (*work)(void* argument, int slot) noexcept, void* argument) const;

 private:
  struct List;
  std::unique_ptr<List> list_;
};

}  // namespace lamina
