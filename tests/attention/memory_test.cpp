// Memory: what is asked for is enough, a call with a workspace allocates nothing, the host's allocator is used, and running out
// of memory leaves the outputs alone.
#include <oneapi/tbb/global_control.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <new>
#include <utility>

#include "tests/attention/harness.hpp"

namespace {

// Every allocation of the process goes through these: the C functions by name, operator new, and the pages that an allocator
// such as oneTBB's takes.
std::atomic<bool> counting{false};
std::atomic<int64_t> allocations{0};
[[maybe_unused]] void count_one() {  // not called under a sanitizer
  if (counting.load(std::memory_order_relaxed)) allocations.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && defined(__GLIBC__)
#define LAMINA_COUNTS_MALLOC 1
extern "C" {
void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);
void* malloc(size_t bytes) {
  count_one();
  return __libc_malloc(bytes);
}
void* calloc(size_t count, size_t bytes) {
  count_one();
  return __libc_calloc(count, bytes);
}
void* realloc(void* memory, size_t bytes) {
  count_one();
  return __libc_realloc(memory, bytes);
}
void* aligned_alloc(size_t alignment, size_t bytes) {
  count_one();
  return __libc_memalign(alignment, bytes);
}
void* memalign(size_t alignment, size_t bytes) {
  count_one();
  return __libc_memalign(alignment, bytes);
}
void* mmap(void* at, size_t bytes, int protection, int flags, int file, off_t offset) {
  count_one();
  return reinterpret_cast<void*>(syscall(SYS_mmap, at, bytes, protection, flags, file, offset));
}
int posix_memalign(void** out, size_t alignment, size_t bytes) {
  count_one();
  *out = __libc_memalign(alignment, bytes);
  return *out ? 0 : 12;
}
}
#endif

using namespace harness;

namespace {

lamina_attention_spec busy_spec(int32_t type) {
  lamina_attention_spec s = new_spec();
  s.element = type, s.batch = 2, s.heads = 4, s.kv_heads = 2, s.queries = 150, s.keys = 200, s.width = 33, s.value_width = 17;
  s.causal = LAMINA_CAUSAL_BOTTOM_RIGHT;
  s.flags =
      LAMINA_WITH_BIAS | LAMINA_WITH_MASK | LAMINA_WITH_LENGTHS | LAMINA_WITH_LSE | LAMINA_WITH_WEIGHTS | LAMINA_WITH_SCORES;
  return s;
}

template <class T>
void expect_no_allocation() {
#if defined(LAMINA_COUNTS_MALLOC)
  for (const uint64_t strides : {0, 5}) {
    const Problem p = make_problem(busy_spec(element<T>), 4);
    const Plan plan = make_plan(p.spec);
    Arrays<T> arrays(p, strides);
    size_t bytes[2];
    ASSERT_EQ(lamina_attention_workspace(plan.get(), LAMINA_FORWARD, &bytes[0]), LAMINA_OK);
    ASSERT_EQ(lamina_attention_workspace(plan.get(), LAMINA_BACKWARD, &bytes[1]), LAMINA_OK);
    Workspace forward(bytes[0]), backward(bytes[1]);
    allocations = 0;
    counting = true;
    const lamina_status first = lamina_attention_forward(plan.get(), &arrays.c, forward.data(), bytes[0]);
    const lamina_status second = lamina_attention_backward(plan.get(), &arrays.c, backward.data(), bytes[1]);
    counting = false;
    EXPECT_EQ(allocations, 0);
    EXPECT_EQ(first, LAMINA_OK);
    EXPECT_EQ(second, LAMINA_OK);
    forward.expect_intact();
    backward.expect_intact();

    // Without a workspace the counter does move: it works.
    counting = true;
    ASSERT_EQ(lamina_attention_forward(plan.get(), &arrays.c, nullptr, 0), LAMINA_OK);
    counting = false;
    EXPECT_GT(allocations, 0);
  }
#else
  GTEST_SKIP() << "SKIPPED: allocations cannot be counted under a sanitizer or without glibc";
#endif
}

TEST(AttentionMemory, NoAllocationWithWorkspaceF32) {
  expect_no_allocation<float>();
}
TEST(AttentionMemory, NoAllocationWithWorkspaceF64) {
  expect_no_allocation<double>();
}

// The ways that a call may go, each with the shape that takes it there.
struct Way {
  const char* name;
  int32_t map;
  int64_t batch, heads, queries, keys, width;
  uint32_t flags;
};
const Way ways[] = {
    {"a query a lane", LAMINA_SOFTMAX, 1, 1, 8, 8, 8, 0},
    {"a key head a lane", LAMINA_SOFTMAX, 64, 2, 16, 16, 8, 0},
    {"a key a lane", LAMINA_SOFTMAX, 2, 2, 1, 3000, 16, LAMINA_WITH_MASK},
    {"a key a lane, chunks shared", LAMINA_SOFTMAX, 1, 1, 2, 20000, 32, 0},
    {"blocks", LAMINA_SOFTMAX, 2, 8, 300, 300, 16, LAMINA_WITH_LSE},
    {"blocks with bias and mask", LAMINA_RELU, 2, 4, 150, 200, 16, LAMINA_WITH_BIAS | LAMINA_WITH_MASK | LAMINA_WITH_SCORES},
    {"packed", LAMINA_SOFTMAX, 6, 4, 200, 200, 16, LAMINA_WITH_OFFSETS},
    {"segments", LAMINA_SOFTMAX, 1, 1, 1200, 300, 8, 0},
    {"two sweeps", LAMINA_SOFTMAX, 1, 3, 70, 66000, 4, 0},
    {"states", LAMINA_LINEAR, 8, 1, 600, 600, 16, 0},
    {"shared states", LAMINA_LINEAR, 1, 1, 1200, 1200, 16, 0},
};

// With one thread every call, with two a call in the steady state: oneTBB holds on to what it once took.
TEST(AttentionMemory, NoWayAllocates) {
#if defined(LAMINA_COUNTS_MALLOC)
  const tbb::global_control raise(tbb::global_control::max_allowed_parallelism, 2);
  for (const Way& way : ways)
    for (const int32_t threads : {1, 2}) {
      lamina_attention_spec s = new_spec();
      s.element = LAMINA_F32, s.map = way.map, s.batch = way.batch, s.heads = way.heads, s.queries = way.queries;
      s.keys = way.keys, s.width = way.width, s.flags = way.flags, s.threads = threads;
      const Problem p = make_problem(s, 4);
      const Plan plan = make_plan(s);
      Arrays<float> arrays(p);
      size_t bytes[2];
      ASSERT_EQ(lamina_attention_workspace(plan.get(), LAMINA_FORWARD, &bytes[0]), LAMINA_OK);
      ASSERT_EQ(lamina_attention_workspace(plan.get(), LAMINA_BACKWARD, &bytes[1]), LAMINA_OK);
      Workspace forward(bytes[0]), backward(bytes[1]);
      const bool vectors = std::string(lamina_attention_isa(plan.get())) != "reference";
      const int calls = !vectors ? 1 : way.keys > 10000 ? 2 : 10;
      const auto allocated = [&] {
        lamina_status status = LAMINA_OK;
        allocations = 0;
        counting = true;
        for (int call = 0; call < calls && status == LAMINA_OK; ++call) {
          status = lamina_attention_forward(plan.get(), &arrays.c, forward.data(), bytes[0]);
          if (status == LAMINA_OK) status = lamina_attention_backward(plan.get(), &arrays.c, backward.data(), bytes[1]);
        }
        counting = false;
        EXPECT_EQ(status, LAMINA_OK) << lamina_last_error();
        return allocations.load();
      };
      if (threads == 1) {
        EXPECT_EQ(allocated(), 0) << way.name;
        continue;
      }
      int quiet = 0;
      for (int window = 0; window < 30 && quiet < 3; ++window) quiet = allocated() == 0 ? quiet + 1 : 0;
      EXPECT_EQ(quiet, 3) << way.name << ": " << calls << " calls that allocate nothing, three times in a row";
    }
#else
  GTEST_SKIP() << "SKIPPED: allocations cannot be counted under a sanitizer or without glibc";
#endif
}

// Every kind of plan, any strides: exactly the bytes asked for are enough (canaries stand around them).
TEST(AttentionMemory, WorkspaceIsEnough) {
  for (const int threads : {1, 3})
    for (const int64_t queries : {1, 17, 64, 150})
      for (const int64_t keys : {1, 16, 129, 300}) {
        lamina_attention_spec s = busy_spec(LAMINA_F32);
        s.queries = queries, s.keys = keys;
        const Problem p = make_problem(s, 6);
        expect_same_bits(run<float>(p), run<float>(p, {.stride_seed = 8, .threads = threads, .workspace = true}), describe(p));
      }
}

// Memory grows with the length, not with its square.
TEST(AttentionMemory, LinearInLength) {
  for (const int32_t direction : {LAMINA_FORWARD, LAMINA_BACKWARD}) {
    size_t bytes = 0;
    lamina_attention_spec s = new_spec();
    s.element = LAMINA_F32, s.batch = s.heads = 1, s.queries = s.keys = 65536, s.width = 64;
    for (const int threads : {1, 2}) {
      s.threads = threads;
      const Plan plan = make_plan(s);
      ASSERT_EQ(lamina_attention_workspace(plan.get(), direction, &bytes), LAMINA_OK);
      EXPECT_LE(bytes, size_t{8} << 20) << direction << " " << threads;
    }
  }
}

struct Host {
  int64_t taken = 0, given_back = 0;
  size_t bytes = 0;
  bool fails = false;
};
void* host_allocate(void* user, size_t bytes, size_t alignment) {
  auto* host = static_cast<Host*>(user);
  if (host->fails) return nullptr;
  ++host->taken;
  host->bytes = bytes;
  return ::operator new (bytes, std::align_val_t{alignment});
}
void host_release(void* user, void* memory, size_t bytes) {
  auto* host = static_cast<Host*>(user);
  ++host->given_back;
  EXPECT_EQ(bytes, host->bytes);
  ::operator delete (memory, std::align_val_t{64});
}

// Frees the plan that asks, which must live until its call has ended.
struct FreeingHost : Host {
  lamina_attention* plan = nullptr;
};
void* free_the_plan(void* user, size_t bytes, size_t alignment) {
  lamina_attention_free(std::exchange(static_cast<FreeingHost*>(user)->plan, nullptr));
  return host_allocate(static_cast<Host*>(user), bytes, alignment);
}

TEST(AttentionMemory, AnAllocatorMayFreeThePlanThatAsksIt) {
  FreeingHost host;
  Problem p = make_problem(busy_spec(LAMINA_F64), 4);
  p.spec.allocator = {free_the_plan, host_release, static_cast<Host*>(&host)};
  Arrays<double> arrays(p);
  ASSERT_EQ(lamina_attention_create(&p.spec, &host.plan), LAMINA_OK) << lamina_last_error();
  EXPECT_EQ(lamina_attention_forward(host.plan, &arrays.c, nullptr, 0), LAMINA_OK) << lamina_last_error();
  EXPECT_EQ(host.plan, nullptr);
  EXPECT_EQ(host.given_back, 1);
}

TEST(AttentionMemory, HostAllocator) {
  Host host;
  Problem p = make_problem(busy_spec(LAMINA_F64), 4);
  const Outputs<double> want = run<double>(p);
  p.spec.allocator = {host_allocate, host_release, &host};
  expect_same_bits(want, run<double>(p), "");
  EXPECT_EQ(host.taken, 2);
  EXPECT_EQ(host.given_back, 2);

  // Out of memory: a status, no write, and the plan works afterwards.
  const Plan plan = make_plan(p.spec);
  Arrays<double> arrays(p);
  const Outputs<double> untouched = arrays.outputs(p);
  host.fails = true;
  EXPECT_EQ(lamina_attention_forward(plan.get(), &arrays.c, nullptr, 0), LAMINA_E_MEMORY);
  EXPECT_NE(std::string(lamina_last_error()).find("lamina_attention_forward: "), std::string::npos);
  EXPECT_EQ(lamina_attention_backward(plan.get(), &arrays.c, nullptr, 0), LAMINA_E_MEMORY);
  expect_same_bits(untouched, arrays.outputs(p), "");
  host.fails = false;
  EXPECT_EQ(lamina_attention_forward(plan.get(), &arrays.c, nullptr, 0), LAMINA_OK);
  EXPECT_EQ(lamina_attention_backward(plan.get(), &arrays.c, nullptr, 0), LAMINA_OK);
  expect_same_bits(want, arrays.outputs(p), "");
}

}  // namespace
