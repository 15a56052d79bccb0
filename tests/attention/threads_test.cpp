// Threads and the host's floating-point state against the bits: no difference over 1 to 32 threads, forward and backward, each
// problem ten times. LAMINA_BITS_PROBLEMS is how many problems (default 100).
#include <oneapi/tbb/global_control.h>

#include <cstdlib>

#include "tests/attention/harness.hpp"

using namespace harness;

namespace {

const int32_t thread_counts[] = {1, 2, 3, 4, 7, 8, 16, 32};

// Enough work to be shared out (more than 2^20 multiply-adds), in every form: few heads and many, one block and several; now
// and then so long that a key head has several parts, or that linear attention goes by states.
lamina_attention_spec random_spec(Dice& dice) {
  lamina_attention_spec s = new_spec();
  s.element = dice.chance(0.5) ? LAMINA_F32 : LAMINA_F64;
  s.map = 1 + static_cast<int32_t>(dice.below(3));
  if (s.map != LAMINA_SOFTMAX) s.normaliser = static_cast<int32_t>(dice.below(4)), s.scale = 0.25;
  s.causal = static_cast<int32_t>(dice.below(3));
  s.kv_heads = 1 + dice.below(3), s.heads = s.kv_heads * (1 + dice.below(2));
  s.queries = 20 + dice.below(200), s.keys = 20 + dice.below(300), s.width = 1 + dice.below(40),
  s.value_width = 1 + dice.below(40);
  if (dice.chance(0.1)) {
    s.queries = 600 + dice.below(601), s.width = 1 + dice.below(12), s.value_width = 1 + dice.below(12), s.kv_heads = 1;
    s.heads = 1 + dice.below(2);
    if (s.map == LAMINA_LINEAR && dice.chance(0.7))
      s.keys = 300 + dice.below(500), s.normaliser = 1 + static_cast<int32_t>(dice.below(2));
  }
  if (dice.chance(0.1)) s.queries = 1 + dice.below(4), s.keys = 600 + dice.below(4000);  // a key a lane
  const int64_t work = s.heads * s.queries * s.keys * (s.width + s.value_width);
  s.batch = 1 + (int64_t{1} << 20) / work;
  if (dice.chance(0.2)) s.flags |= LAMINA_WITH_BIAS;
  if (dice.chance(0.2)) s.flags |= LAMINA_WITH_MASK;
  if (dice.chance(0.2)) s.flags |= LAMINA_WITH_LENGTHS;
  if (dice.chance(0.2)) s.flags |= LAMINA_WITH_OFFSETS;
  if (dice.chance(0.2)) s.flags |= LAMINA_WITH_WEIGHTS;
  if (s.map == LAMINA_SOFTMAX && dice.chance(0.3)) s.flags |= LAMINA_WITH_LSE;
  return s;
}

template <class T>
void check(const Problem& p, uint64_t seed, const std::string& what) {
  const Outputs<T> want = run<T>(p);
  for (const int32_t threads : thread_counts) {
    lamina_attention_spec spec = p.spec;
    spec.threads = threads;
    const Plan plan = make_plan(spec);
    Arrays<T> arrays(p, threads % 2 ? 0 : seed);
    for (int repeat = 0; repeat < 10; ++repeat) {
      lamina_status forward, backward;
      {
        const HostState state(repeat < 6 ? 0 : host_states[1 + (seed + static_cast<uint64_t>(repeat)) % 5]);
        forward = lamina_attention_forward(plan.get(), &arrays.c, nullptr, 0);
        backward = lamina_attention_backward(plan.get(), &arrays.c, nullptr, 0);
      }
      ASSERT_EQ(forward, LAMINA_OK) << lamina_last_error();
      ASSERT_EQ(backward, LAMINA_OK) << lamina_last_error();
      expect_same_bits(want, arrays.outputs(p), what);
      arrays.forget();
    }
  }
}

TEST(AttentionThreads, NoBitDiffers) {
  const tbb::global_control raise(tbb::global_control::max_allowed_parallelism, 32);
  const char* text = std::getenv("LAMINA_BITS_PROBLEMS");
  const int64_t problems = text && *text ? std::atoll(text) : 100;
  for (int64_t number = 1; number <= problems && !HasFailure(); ++number) {
    const auto seed = static_cast<uint64_t>(number);
    Dice dice(seed);
    const Problem p = make_problem(random_spec(dice), seed);
    const std::string what = " problem " + std::to_string(number) + describe(p);
    p.spec.element == LAMINA_F32 ? check<float>(p, seed, what) : check<double>(p, seed, what);
  }
  printf("%lld problems x 8 thread counts x 10 repeats\n", static_cast<long long>(problems));
}

// That so many threads took part shows in the workspace: each thread of a call has a part of it for its own, and a thread that
// comes late finds no work and touches nothing. A busy machine may keep threads away, so it is tried several times.
TEST(AttentionThreads, AsManyTakePartAsWereAskedFor) {
  const tbb::global_control raise(tbb::global_control::max_allowed_parallelism, 32);
  lamina_attention_spec s = new_spec();
  s.batch = 1, s.heads = 64, s.queries = 512, s.keys = 1024, s.width = 64;
  const std::vector<double> x(64 * 1024 * 64, 0.5);
  std::vector<double> o(64 * 512 * 64);
  lamina_attention_arrays arrays;
  ASSERT_EQ(lamina_attention_arrays_init(&arrays, sizeof arrays), LAMINA_OK);
  arrays.q = arrays.k = arrays.v = {x.data(), {0, 1024 * 64, 64, 1}};
  arrays.o = {o.data(), {64 * 512 * 64, 512 * 64, 64, 1}};
  std::string short_of;
  for (const int32_t threads : thread_counts) {
    s.threads = threads;
    const Plan plan = make_plan(s);
    size_t bytes = 0;
    ASSERT_EQ(lamina_attention_workspace(plan.get(), LAMINA_FORWARD, &bytes), LAMINA_OK);
    ASSERT_EQ(bytes % static_cast<size_t>(threads), 0u);
    const size_t part = bytes / static_cast<size_t>(threads);
    int most = 0;
    for (int attempt = 0; attempt < 30 && most < threads; ++attempt) {
      Workspace workspace(bytes);
      ASSERT_EQ(lamina_attention_forward(plan.get(), &arrays, workspace.data(), bytes), LAMINA_OK) << lamina_last_error();
      int used = 0;
      const auto* memory = static_cast<const unsigned char*>(workspace.data());
      for (int slot = 0; slot < threads; ++slot)
        used += !std::all_of(memory + slot * part, memory + (slot + 1) * part, [](unsigned char c) { return c == 0x5a; });
      most = std::max(most, used);
    }
    printf("%2d threads asked for: %2d took part\n", threads, most);
    if (most < threads) short_of += " " + std::to_string(most) + " of " + std::to_string(threads);
  }
  if (!short_of.empty()) GTEST_SKIP() << "SKIPPED: this machine gave only so many threads:" << short_of;
}

}  // namespace
