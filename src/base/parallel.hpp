// Parallel loops over chunks. The cut into chunks is the caller's and never depends on the number
// of threads, so neither do the bits.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>

namespace lamina {

class Arenas;

// At most `threads` threads per call (0: all that the process may use). With one thread, or one chunk, oneTBB is not entered.
// A const Team may be used by several host threads at once: each call takes an arena of its own from a list.
class Team {
 public:
  explicit Team(int threads);
  ~Team();
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  int threads() const;
  // body(chunk, slot) for chunk = 0..chunks-1, in any order; slot < threads() is never used by two bodies at a time, so it
  // can index scratch memory. An exception of a body is thrown again here, after all bodies have ended.
  void for_each(int64_t chunks, const std::function<void(int64_t chunk, int slot)>& body) const;

 private:
  std::unique_ptr<Arenas> arenas_;
  int threads_;
};

}  // namespace lamina
