// Hosts with threads of their own: several at once on one plan, calls from inside the host's oneTBB loops, under its limits,
// after fork. Each call stays on its caller's thread where it must, gives the same bits, and runs no task of the host.
#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/parallel_for.h>
#include <oneapi/tbb/task_group.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <ctime>
#include <filesystem>
#include <latch>
#include <thread>

#include "tests/attention/harness.hpp"

using namespace harness;

namespace {

double seconds(clockid_t clock) {
  timespec now;
  clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}
int64_t threads_alive() {
  return std::distance(std::filesystem::directory_iterator("/proc/self/task"), std::filesystem::directory_iterator());
}

// Both directions; whether they succeeded. Fails no test, so that any thread may call it.
template <class T>
bool both(const Plan& plan, Arrays<T>& arrays) {
  return lamina_attention_forward(plan.get(), &arrays.c, nullptr, 0) == LAMINA_OK &&
         lamina_attention_backward(plan.get(), &arrays.c, nullptr, 0) == LAMINA_OK;
}

lamina_attention_spec small_spec() {
  lamina_attention_spec s = new_spec();
  s.element = LAMINA_F32, s.batch = 2, s.heads = 4, s.queries = s.keys = 64, s.width = 32, s.causal = LAMINA_CAUSAL_TOP_LEFT;
  return s;
}
// Enough work for several threads.
Problem large_problem() {
  lamina_attention_spec s = new_spec();
  s.batch = 2, s.heads = 4, s.queries = 150, s.keys = 200, s.width = 33, s.causal = LAMINA_CAUSAL_BOTTOM_RIGHT;
  s.flags = LAMINA_WITH_BIAS | LAMINA_WITH_LSE;
  return make_problem(s, 4);
}

constexpr int hosts = 8;
// The thread sanitizer has a thread of its own, and makes everything so slow that times mean nothing.
#if defined(__SANITIZE_THREAD__)
constexpr bool watched = true;
#else
constexpr bool watched = false;
#endif
constexpr int64_t alone = watched ? 2 : 1;

// Eight host threads, each calling its plan `calls` times: the processor time of their calls together, that of the whole
// process meanwhile, and how long it took.
struct Times {
  double callers = 0, process = 0, wall = 0;
  int64_t alive = 0;
};
Times run_hosts(const std::vector<const Plan*>& plans, std::vector<std::unique_ptr<Arrays<float>>>& arrays, int calls) {
  std::latch ready(hosts + 1), done(hosts + 1);
  std::atomic<int> failures{0};
  std::vector<double> spent(hosts);
  std::vector<std::thread> threads;
  for (int t = 0; t < hosts; ++t)
    threads.emplace_back([&, t] {
      ready.arrive_and_wait();
      const double start = seconds(CLOCK_THREAD_CPUTIME_ID);
      for (int call = 0; call < calls; ++call) failures += !both(*plans[t], *arrays[t]);
      spent[t] = seconds(CLOCK_THREAD_CPUTIME_ID) - start;
      done.arrive_and_wait();
    });
  Times times;
  const double start = seconds(CLOCK_PROCESS_CPUTIME_ID), begin = seconds(CLOCK_MONOTONIC);
  ready.arrive_and_wait();
  times.alive = threads_alive();
  done.arrive_and_wait();
  times.process = seconds(CLOCK_PROCESS_CPUTIME_ID) - start, times.wall = seconds(CLOCK_MONOTONIC) - begin;
  for (auto& thread : threads) thread.join();
  for (const double s : spent) times.callers += s;
  EXPECT_EQ(failures, 0);
  return times;
}

// The first test of the program: oneTBB has no threads yet, and must have none after.
TEST(AttentionHosts, EightThreadsOnOnePlanAreEightCalls) {
  const Problem p = make_problem(small_spec(), 1);
  const Outputs<float> want = run<float>(p);
  const Plan shared = make_plan(p.spec);
  std::vector<Plan> own;
  std::vector<const Plan*> one_plan, eight_plans;
  std::vector<std::unique_ptr<Arrays<float>>> arrays;
  for (int t = 0; t < hosts; ++t) {
    own.push_back(make_plan(p.spec));
    arrays.push_back(std::make_unique<Arrays<float>>(p));
  }
  for (int t = 0; t < hosts; ++t) one_plan.push_back(&shared), eight_plans.push_back(&own[t]);

  std::vector<double> ratios;
  double callers = 0, process = 0, wall_one = 1e9, wall_eight = 1e9;
  const int rounds = watched ? 1 : 9, calls = watched ? 2 : 40;
  // The least wall clock of each: on a busy machine some rounds say nothing, so more are made before it fails.
  for (int round = 0; round < rounds || (round < 10 * rounds && wall_one > 1.2 * wall_eight); ++round) {
    const Times one = run_hosts(one_plan, arrays, calls), eight = run_hosts(eight_plans, arrays, calls);
    ratios.push_back(one.callers / eight.callers);
    callers += one.callers, process += one.process;
    wall_one = std::min(wall_one, one.wall), wall_eight = std::min(wall_eight, eight.wall);
    EXPECT_EQ(one.alive, hosts + alone) << "threads that are not the host's";
  }
  std::sort(ratios.begin(), ratios.end());
  const double ratio = ratios[ratios.size() / 2];
  printf("one plan / eight plans, wall clock: %.3f; processor time: %.3f; by the callers %.4f s of %.4f s of the process\n",
         wall_one / wall_eight, ratio, callers, process);
  if (!watched) {
    EXPECT_LE(ratio, 1.2);
    EXPECT_LE(wall_one, 1.2 * wall_eight);
    EXPECT_LE(process - callers, 0.03 * process + 0.02) << "somebody else worked";
  }
  EXPECT_EQ(threads_alive(), alone);
  for (auto& a : arrays) expect_same_bits(want, a->outputs(p), "");
}

// A page that stops the thread which first reads it, until it is let go.
struct Gate {
  static constexpr size_t bytes = 1 << 16;
  std::atomic<bool> reached{false}, open{false};
  void* page;

  Gate() : page(mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) {
    current = this;
    struct sigaction action = {};
    action.sa_sigaction = stop, action.sa_flags = SA_SIGINFO;
    sigaction(SIGSEGV, &action, &before);
  }
  ~Gate() {
    sigaction(SIGSEGV, &before, nullptr);
    munmap(page, bytes);
  }

 private:
  static void stop(int, siginfo_t* info, void*) {
    const auto at = static_cast<char*>(info->si_addr), first = static_cast<char*>(current->page);
    if (at < first || at >= first + bytes) {  // a fault of another kind comes again, and ends the program
      sigaction(SIGSEGV, &current->before, nullptr);
      return;
    }
    current->reached = true;
    const timespec pause = {0, 1000000};
    while (!current->open) nanosleep(&pause, nullptr);
    mprotect(current->page, bytes, PROT_READ);
  }
  struct sigaction before = {};
  static inline Gate* current = nullptr;
};

// Calls on one plan wait for no other: while one is held where it reads its queries, seven threads make whole calls.
TEST(AttentionHosts, ACallThatIsHeldHoldsNoOther) {
  const Problem p = make_problem(small_spec(), 1);
  const Plan plan = make_plan(p.spec);
  for (const int32_t direction : {LAMINA_FORWARD, LAMINA_BACKWARD}) {
    Gate gate;
    ASSERT_NE(gate.page, MAP_FAILED);
    ASSERT_LE(p.q.size() * sizeof(float), Gate::bytes);
    std::vector<std::unique_ptr<Arrays<float>>> arrays;
    for (int t = 0; t < hosts; ++t) arrays.push_back(std::make_unique<Arrays<float>>(p));
    arrays[0]->c.q.data = gate.page;
    std::atomic<int> failures{0}, done{0};
    std::vector<std::thread> threads;
    threads.emplace_back([&] {
      const auto call = direction == LAMINA_FORWARD ? lamina_attention_forward : lamina_attention_backward;
      failures += call(plan.get(), &arrays[0]->c, nullptr, 0) != LAMINA_OK;
      ++done;
    });
    const auto within = [&](const auto& event) {  // so many seconds that a busy machine comes to it
      for (int k = 0; k < 60000 && !event(); ++k) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      return event();
    };
    EXPECT_TRUE(within([&] { return gate.reached.load(); }));
    for (int t = 1; t < hosts; ++t)
      threads.emplace_back([&, t] {
        failures += !both(plan, *arrays[t]);
        ++done;
      });
    EXPECT_TRUE(within([&] { return done == hosts - 1; })) << done << " of " << hosts - 1 << " calls ended beside the held one";
    EXPECT_FALSE(gate.open);
    gate.open = true;
    for (auto& thread : threads) thread.join();
    EXPECT_EQ(failures, 0);
    EXPECT_EQ(done, hosts);
  }
}

thread_local bool inside_call = false;
std::atomic<int64_t> intrusions{0};

// Tasks of the host, on eight threads: one in `every` calls lamina, the others see whether they run inside such a call.
template <class Call>
void host_loop(int tasks, int every, Call call) {
  const auto task = [&](int i) {
    if (inside_call) ++intrusions;
    if (i % every != 0) {
      std::this_thread::sleep_for(std::chrono::microseconds(200));
      return;
    }
    inside_call = true;
    call(i / every);
    inside_call = false;
  };
  tbb::task_arena arena(8);
  arena.execute([&] { tbb::parallel_for(0, tasks, task, tbb::simple_partitioner()); });
}

TEST(AttentionHosts, NoTaskOfTheHostRunsInsideACall) {
  const tbb::global_control raise(tbb::global_control::max_allowed_parallelism, 8);
  // The check is able to fail: a plain wait, for a task that another thread has taken, lets the host's tasks in.
  for (int attempt = 0; attempt < 20 && intrusions == 0; ++attempt)
    host_loop(512, 512, [](int) {
      std::atomic<bool> taken{false};
      tbb::task_group group;
      group.run([&] {
        taken = true;
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
      });
      for (int k = 0; k < 50 && !taken; ++k) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      group.wait();
    });
  EXPECT_GT(intrusions.load(), 0) << "tasks run inside a plain wait went unnoticed";
  intrusions = 0;

  const Problem p = large_problem();
  const Outputs<double> want = run<double>(p);
  for (const int32_t threads : {1, 2, 4, 0}) {
    lamina_attention_spec spec = p.spec;
    spec.threads = threads;
    const Plan plan = make_plan(spec);
    std::vector<std::unique_ptr<Arrays<double>>> arrays;
    for (int k = 0; k < 16; ++k) arrays.push_back(std::make_unique<Arrays<double>>(p));
    std::atomic<int> failures{0};
    for (int repeat = 0; repeat < 3; ++repeat) host_loop(64, 4, [&](int k) { failures += !both(plan, *arrays[k]); });
    EXPECT_EQ(failures, 0);
    for (auto& a : arrays) expect_same_bits(want, a->outputs(p), " threads " + std::to_string(threads));
  }
  EXPECT_EQ(intrusions, 0);
}

// A host that allows one thread, when the plan is made, when it runs, or both; and tasks that wait for tasks that call.
TEST(AttentionHosts, UnderTheHostsLimits) {
  const Problem p = large_problem();
  const Outputs<double> want = run<double>(p);
  lamina_attention_spec spec = p.spec;
  spec.threads = 4;
  Arrays<double> arrays(p);
  const auto check = [&](const Plan& plan, const char* what) {
    arrays.forget();
    ASSERT_TRUE(both(plan, arrays)) << what;
    expect_same_bits(want, arrays.outputs(p), what);
  };
  const Plan before = make_plan(spec);
  {
    const tbb::global_control one(tbb::global_control::max_allowed_parallelism, 1);
    check(before, "one thread allowed at the call");
    const Plan under = make_plan(spec);
    check(under, "one thread allowed");
    tbb::task_group group;
    group.run_and_wait([&] { check(under, "in a task, one thread allowed"); });
  }
  const Plan after = make_plan(spec);
  check(after, "no limit any more");
  const tbb::global_control many(tbb::global_control::max_allowed_parallelism, 16);
  check(before, "a raised limit");
  tbb::task_arena small(2);
  small.execute([&] { check(before, "in an arena of the host"); });
}

// A child made while the parent's threads are warm, and while a call is running, computes the same bits and ends.
TEST(AttentionHosts, ForkedChildrenWork) {
  const tbb::global_control raise(tbb::global_control::max_allowed_parallelism, 4);
  const Problem p = large_problem();
  lamina_attention_spec spec = p.spec;
  spec.threads = 4;
  const Outputs<double> want = run<double>(p);
  for (const bool running : {false, true}) {
    const Plan plan = make_plan(spec), busy = make_plan(spec);
    Arrays<double> arrays(p), other(p);
    ASSERT_TRUE(both(plan, arrays));
    std::atomic<bool> stop{false};
    std::thread worker([&] {
      while (running && !stop) both(busy, other);
    });
    int failed = 0, late = 0;
    for (int k = 0; k < 20; ++k) {
      const pid_t child = fork();
      ASSERT_GE(child, 0);
      if (child == 0) {
        alarm(20);
        Arrays<double>& mine = arrays;
        mine.forget();
        bool good = both(plan, mine);
        const Plan fresh(make_plan(spec));
        good = good && both(fresh, mine) && mine.outputs(p).o == want.o && mine.outputs(p).d_k == want.d_k;
        _exit(good ? 0 : 1);
      }
      int status = 0;
      ASSERT_EQ(waitpid(child, &status, 0), child);
      failed += WIFEXITED(status) && WEXITSTATUS(status) != 0;
      late += WIFSIGNALED(status);
    }
    stop = true;
    worker.join();
    EXPECT_EQ(failed, 0) << "children with other bits" << (running ? ", a call running" : "");
    EXPECT_EQ(late, 0) << "children that came to no end" << (running ? ", a call running" : "");
    ASSERT_TRUE(both(plan, arrays));
    expect_same_bits(want, arrays.outputs(p), " parent after fork");
  }
}

}  // namespace
