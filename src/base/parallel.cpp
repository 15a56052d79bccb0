// Parallel loops: chunks in ascending order to whoever is free, and no exception through oneTBB.
#include "base/parallel.hpp"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>

#include "base/arenas.hpp"
#include "base/float_environment.hpp"

#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>
#endif

namespace lamina {
namespace {

// oneTBB is not compiled for the thread sanitizer, which therefore misses that a loop's beginning comes before its bodies, and they
// before its end. These say so, and nothing else: a race between two bodies is still seen.
void happens_before([[maybe_unused]] const void* event) {
#ifdef __SANITIZE_THREAD__
  __tsan_release(const_cast<void*>(event));
#endif
}

void happens_after([[maybe_unused]] const void* event) {
#ifdef __SANITIZE_THREAD__
  __tsan_acquire(const_cast<void*>(event));
#endif
}

// One pass over the chunks by several threads. Chunks are handed out in ascending order, so the first failing chunk always
// runs, and its exception is the one that is kept, however the threads interleave.
class Loop {
 public:
  Loop(int64_t chunks, const std::function<void(int64_t, int)>& body) : chunks_(chunks), body_(body) { happens_before(&next_); }

  void work(int slot) noexcept {
    happens_after(&next_);
    const FloatEnvironment environment;
    for (;;) {
      const int64_t chunk = next_.fetch_add(1, std::memory_order_relaxed);
      if (chunk >= chunks_) break;
      try {
        body_(chunk, slot);
      } catch (...) {
        const std::lock_guard lock(mutex_);
        if (chunk < failed_) failed_ = chunk, failure_ = std::current_exception();
        next_.store(chunks_, std::memory_order_relaxed);
      }
    }
    happens_before(&failure_);
  }

  void rethrow() const {
    happens_after(&failure_);
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  const int64_t chunks_;
  const std::function<void(int64_t, int)>& body_;
  std::atomic<int64_t> next_{0};
  std::mutex mutex_;
  int64_t failed_ = INT64_MAX;
  std::exception_ptr failure_;
};

}  // namespace

Team::Team(int threads) : arenas_(std::make_unique<Arenas>()), threads_(threads > 0 ? threads : std::max(1, process_limit())) {}

Team::~Team() = default;

int Team::threads() const {
  return threads_;
}

void Team::for_each(int64_t chunks, const std::function<void(int64_t chunk, int slot)>& body) const {
  const int wanted = static_cast<int>(std::min<int64_t>(threads_, chunks));
  const int workers = wanted > 1 ? std::min(wanted, current_limit()) : 1;
  if (workers <= 1) {
    for (int64_t chunk = 0; chunk < chunks; ++chunk) body(chunk, 0);
    return;
  }

  Loop loop(chunks, body);
  arenas_->run(workers, [](void* self, int slot) noexcept { static_cast<Loop*>(self)->work(slot); }, &loop);
  loop.rethrow();
}

}  // namespace lamina
