// Parallel loops on oneTBB. What protects the host and the bits:
//   - a call works in an arena that no other call can enter: where two threads share one, oneTBB may move a body to the other
//     thread, and tasks of the host could run on our stack while we wait;
//   - a context of its own, so that a host that cancels its tasks does not make us skip ours;
//   - never more threads than the process is allowed, else oneTBB prints a warning;
//   - no exception passes through oneTBB.
#include "base/parallel.hpp"

#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/info.h>
#include <oneapi/tbb/parallel_for.h>
#include <oneapi/tbb/task_arena.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <vector>

#include "base/float_environment.hpp"

namespace lamina {
namespace {

int process_limit() {
  return static_cast<int>(tbb::global_control::active_value(tbb::global_control::max_allowed_parallelism));
}

// Threads that may work here and now: the process' limit (a host may lower or raise it), and that of a smaller arena of the
// host that we are called from. An arena as large as the machine is oneTBB's own and says nothing about a raised limit.
int current_limit() {
  const int arena = tbb::this_task_arena::max_concurrency();
  const int limit = process_limit();
  return arena < tbb::info::default_concurrency() ? std::min(arena, limit) : limit;
}

// One pass over the chunks by several threads. Chunks are handed out in ascending order, so the first failing chunk always
// runs, and its exception is the one that is kept, however the threads interleave.
class Loop {
 public:
  Loop(int64_t chunks, const std::function<void(int64_t, int)>& body) : chunks_(chunks), body_(body) {}

  void work(int slot) noexcept {
    const FloatEnvironment environment;
    for (;;) {
      const int64_t chunk = next_.fetch_add(1, std::memory_order_relaxed);
      if (chunk >= chunks_) return;
      try {
        body_(chunk, slot);
      } catch (...) {
        const std::lock_guard lock(mutex_);
        if (chunk < failed_) failed_ = chunk, failure_ = std::current_exception();
        next_.store(chunks_, std::memory_order_relaxed);
      }
    }
  }

  void rethrow() const {
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

// The arenas that no call is using. A call takes one of the size it needs, or makes one; it comes back at the call's end.
struct Team::Arenas {
  struct Arena {
    explicit Arena(int n) : threads(n), arena(n) {}
    int threads;
    tbb::task_arena arena;
  };

  std::unique_ptr<Arena> take(int threads) {
    std::unique_ptr<Arena> unfit;  // destroyed after the lock is released
    const std::lock_guard lock(mutex);
    for (auto& arena : idle) {
      if (arena->threads != threads) continue;
      std::swap(arena, idle.back());
      auto taken = std::move(idle.back());
      idle.pop_back();
      return taken;
    }
    auto made = std::make_unique<Arena>(threads);
    if (idle.empty()) {
      idle.reserve(count + 1);  // so that give_back cannot fail
      ++count;
    } else {
      unfit = std::move(idle.back());
      idle.pop_back();
    }
    return made;
  }

  void give_back(std::unique_ptr<Arena> arena) noexcept {
    const std::lock_guard lock(mutex);
    idle.push_back(std::move(arena));
  }

  std::mutex mutex;
  std::vector<std::unique_ptr<Arena>> idle;
  size_t count = 0;  // idle and in use
};

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

  struct Lease {
    Lease(Arenas& owner, int n) : arenas(owner), held(owner.take(n)) {}
    ~Lease() { arenas.give_back(std::move(held)); }
    Arenas& arenas;
    std::unique_ptr<Arenas::Arena> held;
  };
  Loop loop(chunks, body);
  {
    const Lease lease(*arenas_, workers);
    lease.held->arena.execute([&] {
      tbb::task_group_context context(tbb::task_group_context::isolated);
      tbb::parallel_for(
          0, workers, [&](int slot) { loop.work(slot); }, tbb::simple_partitioner(), context);
    });
  }
  loop.rethrow();
}

}  // namespace lamina
