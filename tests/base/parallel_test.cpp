// Parallel loops: every chunk once, slots of one thread at a time, exceptions, and manners towards a host that uses oneTBB.
#include "base/parallel.hpp"

#include <gtest/gtest.h>
#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/parallel_for.h>
#include <oneapi/tbb/task_arena.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cfenv>
#include <chrono>
#include <mutex>
#include <set>
#include <stdexcept>
#include <thread>
#include <vector>

namespace lamina {
namespace {

using Limit = tbb::global_control;

// oneTBB is not compiled for the thread sanitizer, which sees races where a test itself uses its arenas and loops.
#ifdef __SANITIZE_THREAD__
#define SKIP_UNDER_THREAD_SANITIZER() GTEST_SKIP() << "SKIPPED: the thread sanitizer does not see how the host's own oneTBB synchronises"
#else
#define SKIP_UNDER_THREAD_SANITIZER() static_cast<void>(0)
#endif

// One number per chunk that depends on the chunk alone; checks that no slot is used twice at a time.
std::vector<int64_t> squares(const Team& team, int64_t chunks) {
  std::vector<int64_t> result(static_cast<size_t>(chunks), -1);
  std::vector<std::atomic<int>> used(static_cast<size_t>(team.threads()));
  team.for_each(chunks, [&](int64_t chunk, int slot) {
    EXPECT_EQ(used.at(static_cast<size_t>(slot)).fetch_add(1), 0);
    EXPECT_EQ(result[static_cast<size_t>(chunk)], -1);
    result[static_cast<size_t>(chunk)] = chunk * chunk;
    used[static_cast<size_t>(slot)].fetch_sub(1);
  });
  return result;
}

void expect_squares(const std::vector<int64_t>& result) {
  for (size_t i = 0; i < result.size(); ++i) ASSERT_EQ(result[i], static_cast<int64_t>(i * i));
}

TEST(Team, RunsEveryChunkOnce) {
  const Limit limit(Limit::max_allowed_parallelism, 8);
  for (const int threads : {0, 1, 2, 3, 8}) {
    const Team team(threads);
    EXPECT_GE(team.threads(), 1);
    for (const int64_t chunks : {0, 1, 2, 7, 1000}) expect_squares(squares(team, chunks));
  }
}

TEST(Team, UsesAsManyThreadsAsItMay) {
  const Limit limit(Limit::max_allowed_parallelism, 8);
  const Team team(8);
  std::set<std::thread::id> seen;
  std::mutex mutex;
  for (int attempt = 0; attempt < 20 && seen.size() < 8; ++attempt) {
    seen.clear();
    team.for_each(64, [&](int64_t, int) {
      std::this_thread::sleep_for(std::chrono::milliseconds(4));
      const std::lock_guard lock(mutex);
      seen.insert(std::this_thread::get_id());
    });
    EXPECT_LE(seen.size(), 8u);
  }
  if (seen.size() < 8) GTEST_SKIP() << "SKIPPED: only " << seen.size() << " of 8 threads took part";
}

TEST(Team, StaysWithinTheHostsLimits) {
  SKIP_UNDER_THREAD_SANITIZER();
  const Team team(8);
  const auto concurrency = [&] {
    std::set<std::thread::id> seen;
    std::mutex mutex;
    team.for_each(32, [&](int64_t, int) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      const std::lock_guard lock(mutex);
      seen.insert(std::this_thread::get_id());
    });
    return seen.size();
  };
  testing::internal::CaptureStderr();
  {
    const Limit limit(Limit::max_allowed_parallelism, 2);
    EXPECT_LE(concurrency(), 2u);
  }
  {
    const Limit limit(Limit::max_allowed_parallelism, 1);
    EXPECT_EQ(concurrency(), 1u);
  }
  tbb::task_arena(1).execute([&] { EXPECT_EQ(concurrency(), 1u); });
  concurrency();
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

TEST(Team, SeveralHostThreadsShareOneTeam) {
  const Limit limit(Limit::max_allowed_parallelism, 4);
  const Team team(3);
  std::vector<std::thread> hosts;
  for (int i = 0; i < 4; ++i)
    hosts.emplace_back([&] {
      for (int repeat = 0; repeat < 50; ++repeat) expect_squares(squares(team, 40));
    });
  for (auto& host : hosts) host.join();
}

TEST(Team, WorksInsideAHostsLoopAndNested) {
  SKIP_UNDER_THREAD_SANITIZER();
  const Limit limit(Limit::max_allowed_parallelism, 4);
  const Team team(4);
  tbb::parallel_for(0, 20, [&](int) { expect_squares(squares(team, 30)); });
  std::atomic<int> total{0};
  team.for_each(6, [&](int64_t, int) { team.for_each(5, [&](int64_t, int) { ++total; }); });
  EXPECT_EQ(total, 30);
}

TEST(Team, NoTaskOfTheHostStartsWhileACallWaits) {
  SKIP_UNDER_THREAD_SANITIZER();
  const Limit limit(Limit::max_allowed_parallelism, 4);
  const Team team(2);
  static thread_local bool inside = false;
  std::atomic<int> intruders{0};
  // Many tasks of the host lie ready on the thread that calls us.
  tbb::task_arena(4).execute([&] {
    tbb::parallel_for(
        0, 100,
        [&](int) {
          if (inside) ++intruders;
          inside = true;
          team.for_each(4, [](int64_t, int) { std::this_thread::sleep_for(std::chrono::microseconds(200)); });
          inside = false;
        },
        tbb::simple_partitioner());
  });
  EXPECT_EQ(intruders, 0);
}

TEST(Team, AHostThatCancelsItsTasksDoesNotSkipOurs) {
  SKIP_UNDER_THREAD_SANITIZER();
  const Limit limit(Limit::max_allowed_parallelism, 4);
  const Team team(4);
  std::atomic<int> incomplete{0};
  tbb::task_group_context context;
  tbb::parallel_for(
      0, 8,
      [&](int) {
        context.cancel_group_execution();
        std::atomic<int> done{0};
        team.for_each(100, [&](int64_t, int) { ++done; });
        if (done != 100) ++incomplete;
      },
      tbb::simple_partitioner(), context);
  EXPECT_EQ(incomplete, 0);
}

TEST(Team, TheFirstFailingChunkIsTheOneThatIsThrown) {
  const Limit limit(Limit::max_allowed_parallelism, 8);
  for (const int threads : {1, 2, 8}) {
    const Team team(threads);
    for (int repeat = 0; repeat < 50; ++repeat) {
      // The first failure in time is now the first chunk's, now a later one's.
      const int64_t slow = repeat % 2 == 0 ? 20 : 21;
      std::atomic<int> running{0};
      std::atomic<bool> both{false};
      try {
        team.for_each(200, [&](int64_t chunk, int) {
          ++running;
          if (chunk == 21) both = true;
          for (int i = 0; chunk == 20 && !both && i < 20; ++i) std::this_thread::sleep_for(std::chrono::microseconds(100));
          if (chunk == slow) std::this_thread::sleep_for(std::chrono::microseconds(300));
          if (chunk >= 20) {
            --running;
            throw std::runtime_error(std::to_string(chunk));
          }
          --running;
        });
        FAIL() << "did not throw";
      } catch (const std::runtime_error& error) {
        EXPECT_STREQ(error.what(), "20");
        EXPECT_EQ(running, 0);
      }
    }
    expect_squares(squares(team, 50));
  }
}

TEST(Team, BodiesRunInTheDefaultFloatingPointEnvironment) {
  const Limit limit(Limit::max_allowed_parallelism, 4);
  const Team team(4);
  std::atomic<int> wrong{0};
  std::fesetround(FE_UPWARD);
  team.for_each(64, [&](int64_t, int) {
    if (std::fegetround() != FE_TONEAREST) ++wrong;
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  });
  EXPECT_EQ(std::fegetround(), FE_UPWARD);
  std::fesetround(FE_TONEAREST);
  EXPECT_EQ(wrong, 0);
}

TEST(Team, WorksInAForkedChild) {
  const Limit limit(Limit::max_allowed_parallelism, 4);
  const Team team(4);
  expect_squares(squares(team, 100));
  const pid_t child = fork();
  if (child == 0) {
    alarm(20);  // a deadlock fails
    const auto result = squares(team, 100);
    _exit(result[99] == 99 * 99 ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}

#ifdef __SANITIZE_THREAD__
TEST(Team, TheThreadSanitizerSeesARaceOfTwoBodies) {
  testing::GTEST_FLAG(death_test_style) = "threadsafe";
  const auto race = [] {
    const Limit limit(Limit::max_allowed_parallelism, 4);
    int64_t sum = 0;
    for (int i = 0; i < 100; ++i) Team(4).for_each(64, [&](int64_t chunk, int) {
      sum += chunk;
      std::this_thread::sleep_for(std::chrono::microseconds(100));
    });
    _exit(sum == 0);
  };
  EXPECT_EXIT(race(), testing::ExitedWithCode(66), "data race");
}
#endif

}  // namespace
}  // namespace lamina
