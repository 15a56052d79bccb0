// A list of oneTBB's arenas, each used by one call at a time. Compiled without the thread sanitizer, as oneTBB is: see parallel.cpp.
#include "base/arenas.hpp"

#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/info.h>
#include <oneapi/tbb/parallel_for.h>
#include <oneapi/tbb/task_arena.h>

#include <algorithm>
#include <mutex>
#include <utility>
#include <vector>

namespace lamina {

int process_limit() {
  return static_cast<int>(tbb::global_control::active_value(tbb::global_control::max_allowed_parallelism));
}

// An arena as large as the machine is oneTBB's own and says nothing about a limit that the host has raised.
int current_limit() {
  const int arena = tbb::this_task_arena::max_concurrency();
  const int limit = process_limit();
  return arena < tbb::info::default_concurrency() ? std::min(arena, limit) : limit;
}

// The arenas that no call is using. A call takes one of the size it needs, or makes one; it comes back at the call's end.
struct Arenas::List {
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

Arenas::Arenas() : list_(std::make_unique<List>()) {}

Arenas::~Arenas() = default;

void Arenas::run(int workers, void (*work)(void*, int) noexcept, void* argument) const {
  struct Lease {
    Lease(List& owner, int n) : list(owner), held(owner.take(n)) {}
    ~Lease() { list.give_back(std::move(held)); }
    List& list;
    std::unique_ptr<List::Arena> held;
  };
  const Lease lease(*list_, workers);
  lease.held->arena.execute([&] {
    tbb::task_group_context context(tbb::task_group_context::isolated);
    tbb::parallel_for(
        0, workers, [&](int slot) { work(argument, slot); }, tbb::simple_partitioner(), context);
  });
}

}  // namespace lamina
