// Differential fuzz: random plans of every kind against the oracle, and each in several ways (strides, threads, instruction
// sets, workspace, the host's floating-point state) that must give the same bits. A case is a function of its number alone:
// LAMINA_FUZZ_SEED is the first, LAMINA_FUZZ_CASES how many (default 10000), LAMINA_FUZZ_PROCESSES among how many processes.
#include <oneapi/tbb/global_control.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>

#include "tests/attention/harness.hpp"

using namespace harness;

namespace {

int64_t from_environment(const char* name, int64_t fallback) {
  const char* text = std::getenv(name);
  return text && *text ? std::atoll(text) : fallback;
}

// Lengths at which something changes: nothing, one, primes, edges of vectors, blocks of queries and chunks of keys.
int64_t random_length(Dice& dice) {
  static const int64_t edges[] = {0,  1,  1,  2,  3,  5,  7,  8,   9,   13,  15,  16,  17,  31,
                                  32, 33, 61, 63, 64, 65, 97, 127, 128, 129, 251, 256, 257, 300};
  return dice.chance(0.6) ? edges[dice.below(sizeof edges / sizeof *edges)] : dice.below(40);
}
int64_t random_width(Dice& dice) {
  static const int64_t edges[] = {1, 2, 3, 4, 7, 8, 15, 16, 17, 24, 31, 32, 33, 63, 64, 65, 80, 96, 127, 128, 129, 255, 256};
  return dice.chance(0.4) ? edges[dice.below(sizeof edges / sizeof *edges)] : 1 + dice.below(20);
}

// Sizes under a budget of multiply-adds, most of them small: many cases find more than large ones.
void random_sizes(Dice& dice, lamina_attention_spec& s) {
  const double at = dice.uniform();
  if (dice.chance(0.1)) {  // many short sequences, which may share the lanes of a register
    s.kv_heads = 1 + dice.below(2), s.heads = s.kv_heads * (1 + dice.below(2)), s.batch = 1 + dice.below(70);
    s.queries = 1 + dice.below(20), s.keys = dice.chance(0.5) ? s.queries : 1 + dice.below(20), s.width = 1 + dice.below(12);
    if (dice.chance(0.05)) s.batch = 1 + dice.below(20), s.queries = s.keys = 50 + dice.below(20), s.width = 1 + dice.below(32);
    return;
  }
  const double budget = at < 0.8 ? 2e3 : at < 0.97 ? 2e4 : at < 0.996 ? 2e5 : 4e6;
  s.kv_heads = 1 + dice.below(3);
  s.heads = s.kv_heads * (1 + dice.below(3));
  if (dice.chance(0.3)) s.kv_heads = 0;
  s.batch = dice.chance(0.02) ? 0 : dice.chance(0.2) ? 1 + dice.below(40) : 1 + dice.below(3);
  s.queries = random_length(dice), s.keys = random_length(dice);
  s.width = random_width(dice);
  if (dice.chance(0.5)) s.value_width = random_width(dice);
  if (budget > 1e6) s.queries = 70 + dice.below(300), s.keys = 70 + dice.below(400);
  const auto work = [&] {
    const auto d = static_cast<double>(s.width + (s.value_width ? s.value_width : s.width));
    return static_cast<double>(s.batch * s.heads * std::max<int64_t>(s.queries, 1) * std::max<int64_t>(s.keys, 1)) * d;
  };
  while (work() > budget) {
    int64_t* const sizes[] = {&s.batch, &s.heads, &s.queries, &s.keys, &s.width, &s.value_width};
    int64_t& size = *sizes[dice.below(6)];
    if (&size == &s.heads)
      s.heads = s.kv_heads = 1;
    else if (size > 1)
      size = 1 + dice.below(size - 1);
  }
}

lamina_attention_spec random_spec(Dice& dice) {
  lamina_attention_spec s = new_spec();
  s.element = dice.chance(0.5) ? LAMINA_F32 : LAMINA_F64;
  s.map = 1 + static_cast<int32_t>(dice.below(3));
  s.normaliser =
      s.map == LAMINA_SOFTMAX ? (dice.chance(0.5) ? 0 : LAMINA_NORMALISE_ROW_SUM) : static_cast<int32_t>(dice.below(4));
  s.causal = static_cast<int32_t>(dice.below(3));
  random_sizes(dice, s);
  if (dice.chance(0.3)) s.flags |= LAMINA_WITH_BIAS;
  if (dice.chance(0.3)) s.flags |= LAMINA_WITH_MASK;
  if (dice.chance(0.3)) s.flags |= LAMINA_WITH_LENGTHS;
  if (dice.chance(0.2)) s.flags |= LAMINA_WITH_OFFSETS;
  if (dice.chance(0.5)) s.flags |= LAMINA_WITH_WEIGHTS;
  if (dice.chance(0.5)) s.flags |= LAMINA_WITH_SCORES;
  if (s.map == LAMINA_SOFTMAX && dice.chance(0.5)) s.flags |= LAMINA_WITH_LSE;
  if (dice.chance(0.3)) s.flags |= LAMINA_WINDOW_LEFT, s.window_left = dice.chance(0.2) ? INT64_MAX : random_length(dice);
  if (dice.chance(0.3)) s.flags |= LAMINA_WINDOW_RIGHT, s.window_right = dice.chance(0.2) ? INT64_MAX : random_length(dice);
  if (dice.chance(0.1))
    s.flags |= LAMINA_SCALE_IS_ZERO;
  else if (dice.chance(0.4))
    s.scale = dice.chance(0.5) || s.normaliser == LAMINA_NORMALISE_ROW_SUM ? 0.5 : -0.75;
  // A score of relu may not be 0 but for rounding: its slope would be a matter of taste.
  if (s.map == LAMINA_RELU && s.scale == 0 && !(s.flags & LAMINA_SCALE_IS_ZERO)) s.scale = 0.25;
  if (dice.chance(0.5)) s.relu_at_zero = dice.chance(0.5) ? 1 : 0.5;
  // A literal division by a linear row sum that is 0 gives infinities, not a comparison: leave the sum a term.
  if (s.map == LAMINA_LINEAR && s.normaliser == LAMINA_NORMALISE_ROW_SUM && (s.flags & LAMINA_SCALE_IS_ZERO))
    s.flags &= ~static_cast<uint32_t>(LAMINA_SCALE_IS_ZERO);
  if (dice.chance(0.05)) {  // few queries, of many keys
    s.queries = 1 + dice.below(4), s.keys = 65 + dice.below(300), s.width = 1 + dice.below(20), s.value_width = dice.below(20);
    s.flags &= ~static_cast<uint32_t>(LAMINA_WITH_WEIGHTS | LAMINA_WITH_SCORES);
  }
  if (dice.chance(0.005)) {  // long enough for states
    s.map = LAMINA_LINEAR, s.normaliser = static_cast<int32_t>(dice.below(3)), s.batch = 1;
    s.flags &= ~static_cast<uint32_t>(LAMINA_WITH_BIAS | LAMINA_WITH_MASK | LAMINA_WITH_WEIGHTS | LAMINA_WITH_SCORES |
                                      LAMINA_WITH_LSE | LAMINA_WINDOW_LEFT);
    s.window_left = 0, s.kv_heads = 1, s.heads = 1 + dice.below(2);
    s.queries = 65 + dice.below(300), s.keys = 65 + dice.below(300), s.width = 1 + dice.below(40),
    s.value_width = dice.below(20);
  }
  return s;
}

// A NaN or an infinity or two in one of the inputs: where they are seen is the oracle's to say.
void poison(Dice& dice, Problem& p) {
  oracle::Array* const arrays[] = {&p.q, &p.k, &p.v, &p.d_o, &p.bias, &p.d_lse, &p.d_weights};
  oracle::Array& array = *arrays[dice.below(7)];
  const oracle::Real inf = std::numeric_limits<oracle::Real>::infinity(), values[] = {inf, -inf, inf - inf};
  for (int64_t k = dice.below(2); k >= 0 && !array.empty(); --k)
    array[dice.below(static_cast<int64_t>(array.size()))] = values[dice.below(3)];
}

// Another way to run the same problem.
Run random_run(Dice& dice, uint64_t seed, const char* isa) {
  static const int32_t threads[] = {1, 1, 2, 3, 8, 0};
  return {.stride_seed = dice.chance(0.2) ? 0 : seed * 4 + 1 + static_cast<uint64_t>(dice.below(3)),
          .threads = threads[dice.below(6)],
          .isa = isa,
          .workspace = dice.chance(0.5),
          .host = host_states[dice.chance(0.5) ? 0 : dice.below(6)]};
}

template <class T>
double run_case(const Problem& p, uint64_t seed, Dice& dice, const std::string& what) {
  const int32_t sets = lamina_isa_count();
  const auto set = [&] { return lamina_isa_name(static_cast<int32_t>(dice.below(sets))); };
  const Outputs<T> result = run<T>(p, random_run(dice, seed, lamina_isa_name(static_cast<int32_t>(seed % sets))));
  expect_same_bits(result, run<T>(p, random_run(dice, seed, lamina_isa_name(static_cast<int32_t>((seed + 1) % sets)))), what);
  if (dice.chance(0.3)) expect_same_bits(result, run<T>(p, random_run(dice, seed, set())), what);
  return expect_near(result, oracle::solve(p), what);
}

// Cases first, first + step, ... below last; the largest error in units of its bound.
double run_cases(int64_t first, int64_t last, int64_t step) {
  const tbb::global_control raise(tbb::global_control::max_allowed_parallelism, 8);
  double worst = 0;
  for (int64_t number = first; number < last && !testing::Test::HasFailure(); number += step) {
    const auto seed = static_cast<uint64_t>(number);
    Dice dice(seed);
    Problem p = make_problem(random_spec(dice), seed);
    if (dice.chance(0.05)) poison(dice, p);
    const std::string what = " LAMINA_FUZZ_CASES=1 LAMINA_FUZZ_SEED=" + std::to_string(number) + ":" + describe(p);
    worst = std::max(
        worst, p.spec.element == LAMINA_F32 ? run_case<float>(p, seed, dice, what) : run_case<double>(p, seed, dice, what));
  }
  return worst;
}

TEST(AttentionFuzz, AgreesWithTheOracle) {
  const int64_t cases = from_environment("LAMINA_FUZZ_CASES", 10000), first = from_environment("LAMINA_FUZZ_SEED", 1);
  const int64_t processes = std::clamp<int64_t>(from_environment("LAMINA_FUZZ_PROCESSES", 2), 1, 64);
  // Children are made before the first thread.
  std::vector<pid_t> children;
  for (int64_t k = 1; k < processes; ++k) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      run_cases(first + k, first + cases, processes);
      fflush(stdout);
      _exit(testing::Test::HasFailure() ? 1 : 0);
    }
    children.push_back(child);
  }
  const double worst = run_cases(first, first + cases, processes);
  for (const pid_t child : children) {
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "a process of cases failed: see above";
  }
  printf("%lld cases in %lld processes, largest error %.2f of its bound\n", static_cast<long long>(cases),
         static_cast<long long>(processes), worst);
}

}  // namespace
