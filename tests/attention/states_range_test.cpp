// Linear attention by states: what is not finite, or leaves the range of the type in a state, goes back to scores.
#include "tests/attention/states.hpp"

using namespace harness;

namespace {

// One number that is not finite, or too large for a state: its key head is computed by scores, the other as if nothing were the
// matter.
void check_not_finite(int32_t causal) {
  lamina_attention_spec s = linear({270, 300, 6, 0}, LAMINA_F64);
  s.heads = 4, s.kv_heads = 2, s.causal = causal;
  const Problem clean = make_problem(s, 3);
  const Outputs<double> states = run<double>(clean);
  const oracle::Real inf = std::numeric_limits<oracle::Real>::infinity();
  int n = 0;
  for (oracle::Array Problem::*array : {&Problem::q, &Problem::k, &Problem::v, &Problem::d_o})
    for (const oracle::Real value : {inf, -inf, inf - inf, oracle::Real{0x1p1012}, inf - inf}) {
      Problem p = clean;
      const size_t numbers = (p.*array).size() / 2;  // of the first key head
      if (++n % 5 == 0) std::fill_n((p.*array).begin(), numbers, 0);
      (p.*array)[numbers / 2] = value;
      const Outputs<double> got = run<double>(p), scores = by_scores<double>(p);
      expect_near(got, oracle::solve(p), describe(p));
      expect_same_bits(got, run<double>(p, {.threads = 3, .workspace = true}), describe(p));
      for (const auto values : {&Outputs<double>::o, &Outputs<double>::d_q, &Outputs<double>::d_k, &Outputs<double>::d_v}) {
        const auto &x = got.*values, &y = scores.*values, &z = states.*values;
        if (array == &Problem::d_o && values == &Outputs<double>::o) continue;  // which does not read d_o
        const size_t half = x.size() / 2;
        int64_t differing = 0;
        for (size_t i = 0; i < x.size(); ++i) {
          const double want = i < half ? y[i] : z[i];
          differing += std::memcmp(&x[i], &want, sizeof want) != 0 && !(std::isnan(x[i]) && std::isnan(want));
        }
        EXPECT_EQ(differing, 0);
      }
    }
}
TEST(AttentionStatesRange, NotFiniteGoesByScores) {
  check_not_finite(LAMINA_CAUSAL_TOP_LEFT);
}
// Where sizes are found while the states are made.
TEST(AttentionStatesRange, NotFiniteGoesByScoresWithEveryoneSeen) {
  check_not_finite(LAMINA_CAUSAL_NONE);
}

constexpr oracle::Array Problem::*inputs[] = {&Problem::q, &Problem::k, &Problem::v, &Problem::d_o};

// Exponents of two by which Q, K, V and dO are multiplied, and what that makes of the results (Outputs or oracle::Result).
struct Exponents {
  int q, k, v, d_o;
  std::string text() const {
    std::string text = " exponents";
    for (const int x : {q, k, v, d_o}) text += " " + std::to_string(x);
    return text;
  }
  Problem scaled(Problem p) const {
    multiply(p.q, q), multiply(p.k, k), multiply(p.v, v), multiply(p.d_o, d_o);
    return p;
  }
  template <class Results>
  Results scaled_results(Results x) const {
    multiply(x.o, q + k + v), multiply(x.d_q, k + v + d_o), multiply(x.d_k, q + v + d_o), multiply(x.d_v, q + k + d_o);
    x.d_scale = std::ldexp(x.d_scale, q + k + v + d_o);
    return x;
  }
  template <class T>
  static void multiply(std::vector<T>& x, int exponent) {
    for (T& value : x) value = std::ldexp(value, exponent);
  }
};
// body(exponents, n), n < 81: each -1, 0 or 1 times `size`
template <class Body>
void each_sign(int size, const Body& body) {
  for (int n = 0; n < 81; ++n)
    body(Exponents{(n / 27 - 1) * size, (n / 9 % 3 - 1) * size, (n / 3 % 3 - 1) * size, (n % 3 - 1) * size}, n);
}
// Two heads on one key head; 10 problems: every band, divided by nothing and by the number of keys, scales of both signs.
constexpr int kinds = 10;
template <class T>
Problem grouped(int kind) {
  const bool all = kind % std::size(bands) == 0;
  lamina_attention_spec s = linear(all ? Size{71, 65, 6, 5} : Size{265, 258, 6, 5}, element<T>);
  s.heads = 2, s.kv_heads = 1, s.scale = kind % 3 == 0 ? -0.5 : 0;
  s.normaliser = kind % 2 ? LAMINA_NORMALISE_VISIBLE : LAMINA_NORMALISE_NONE;
  bands[kind % std::size(bands)].set(s);
  return make_problem(s, 20 + kind);
}

// The largest error of o, d_q, d_k, d_v and d_scale in units of its bound: normwise 8 u max size, for numbers of both signs; and
// each within the first-order bound of states.hpp; the least normal number in any case.
template <class T>
std::array<double, 5> errors(const Outputs<T>& x, const oracle::Solution& truth) {
  const oracle::Real u = std::numeric_limits<T>::epsilon() / 2;
  const oracle::Real terms = 256 + 5 + 6 + 4;  // c + n + d + 4
  const auto largest = [&](const auto& values, const oracle::Array& want, const oracle::Array& size) {
    const oracle::Real top = *std::max_element(size.begin(), size.end());
    oracle::Real worst = 0;
    for (size_t i = 0; i < want.size(); ++i) {
      const oracle::Real bound = u * std::min(8 * top, terms * size[i]) + std::numeric_limits<T>::min();
      const oracle::Real error = std::fabs(static_cast<oracle::Real>(values[i]) - want[i]) / bound;
      if (!(error <= worst)) worst = std::isnan(error) ? std::numeric_limits<oracle::Real>::infinity() : error;
    }
    return static_cast<double>(worst);
  };
  const auto &v = truth.value, &s = truth.size;
  return {largest(x.o, v.o, s.o), largest(x.d_q, v.d_q, s.d_q), largest(x.d_k, v.d_k, s.d_k), largest(x.d_v, v.d_v, s.d_v),
          largest(std::array{x.d_scale}, {v.d_scale}, {s.d_scale})};
}
// What scores give right is right. Returns how many of the five results they do.
template <class T>
int expect_right_where_scores_are(const Problem& p, const oracle::Solution& truth, const std::string& what) {
  const std::array<double, 5> got = errors(run<T>(p), truth), scores = errors(by_scores<T>(p), truth);
  const char* const names[] = {"o", "d_q", "d_k", "d_v", "d_scale"};
  int right = 0;
  for (int a = 0; a < 5; ++a) {
    if (!(scores[a] <= 1)) continue;
    ++right;
    EXPECT_LE(got[a], 1) << names[a] << what << describe(p);
  }
  return right;
}

// K^T V or Q^T dO, or the product with a third array, would overflow, or lose digits or all of them below the least number.
template <class T>
void check_out_of_range() {
  std::vector<oracle::Solution> truths;
  for (int kind = 0; kind < kinds; ++kind) truths.push_back(oracle::solve(grouped<T>(kind)));
  int right = 0;
  each_sign(sizeof(T) == 4 ? 100 : 900, [&](const Exponents& by, int n) {
    const Problem p = by.scaled(grouped<T>(n % kinds));
    oracle::Solution truth = truths[n % kinds];
    truth.value = by.scaled_results(truth.value), truth.size = by.scaled_results(truth.size);
    right += expect_right_where_scores_are<T>(p, truth, by.text());
    expect_same_bits(run<T>(p), run<T>(p, {.threads = 2, .workspace = true}), by.text() + describe(p));
  });
  printf("%d of %d results are right by scores\n", right, 81 * 5);
  EXPECT_GE(right, 200);
}
TEST(AttentionStatesRange, OutOfRangeGoesByScoresF32) {
  check_out_of_range<float>();
}
TEST(AttentionStatesRange, OutOfRangeGoesByScoresF64) {
  check_out_of_range<double>();
}

// Numbers of very different sizes: arrays, their features and their rows have exponents of their own, those of Q and K such that
// scores are mostly in range; some numbers are 0.
template <class T>
void check_mixed() {
  Dice dice(5);
  int right = 0;
  const int cases = 60, most = sizeof(T) == 4 ? 120 : 1000;
  const auto exponent = [&](int size) { return static_cast<int>(dice.below(2 * size + 1)) - size; };
  for (int n = 0; n < cases; ++n) {
    Problem p = grouped<T>(n % kinds);
    const int spread = 1 << dice.below(sizeof(T) == 4 ? 6 : 9), of_q = exponent(most);
    for (const auto array : inputs) {
      const int of_array = array == &Problem::q ? of_q : array == &Problem::k ? exponent(most / 6) - of_q : exponent(most);
      std::vector<int> of_feature(array == &Problem::q || array == &Problem::k ? p.D() : p.Dv());
      for (int& x : of_feature) x = exponent(spread);
      int of_row = 0;
      for (size_t i = 0; i < (p.*array).size(); ++i) {
        const size_t feature = i % of_feature.size();
        if (feature == 0) of_row = exponent(spread / 4);
        const int by = std::clamp(of_array + of_feature[feature] + of_row, -most, most);
        (p.*array)[i] = static_cast<T>(dice.chance(0.05) ? 0 : std::ldexp((p.*array)[i], by));
      }
    }
    right += expect_right_where_scores_are<T>(p, oracle::solve(p), " case " + std::to_string(n));
  }
  printf("%d of %d results are right by scores\n", right, 5 * cases);
  EXPECT_GE(right, 150);
}
TEST(AttentionStatesRange, MixedSizesAreRightWhereScoresAreF32) {
  check_mixed<float>();
}
TEST(AttentionStatesRange, MixedSizesAreRightWhereScoresAreF64) {
  check_mixed<double>();
}

// Numbers of the sizes that occur do not leave the range: as arrays are multiplied by powers of two, so are results by states.
// Nor do arrays of zeros, or a tiny number among others.
template <class T>
void check_in_range() {
  each_sign(sizeof(T) == 4 ? 29 : 240, [&](const Exponents& by, int n) {
    const Problem p = grouped<T>(n % kinds);
    expect_same_bits(by.scaled_results(run<T>(p)), run<T>(by.scaled(p)), by.text() + describe(p));
  });
  for (int kind = 0; kind < kinds; ++kind)
    for (const auto array : inputs)
      for (const bool zero : {true, false}) {
        Problem p = grouped<T>(kind);
        for (auto& x : p.*array) x = zero ? 0 : x;
        if (!zero) (p.*array)[7] = std::numeric_limits<T>::denorm_min();
        const Outputs<T> got = run<T>(p), scores = by_scores<T>(p);
        for (const double error : errors(got, oracle::solve(p))) EXPECT_LE(error, 1) << describe(p);
        const auto expect_states = [&](const std::vector<T>& x, const std::vector<T>& y, oracle::Array Problem::*unread) {
          EXPECT_FALSE((!zero || array == unread) && same(x, y)) << "by scores?" << describe(p);
        };
        expect_states(got.o, scores.o, &Problem::d_o), expect_states(got.d_q, scores.d_q, &Problem::q);
        expect_states(got.d_k, scores.d_k, &Problem::k), expect_states(got.d_v, scores.d_v, &Problem::v);
      }
}
TEST(AttentionStatesRange, InRangeStaysF32) {
  check_in_range<float>();
}
TEST(AttentionStatesRange, InRangeStaysF64) {
  check_in_range<double>();
}

// One number out of range is found wherever it stands, with every stride and instruction set.
template <class T>
void check_one_number() {
  const int far = sizeof(T) == 4 ? 120 : 1000;
  const Problem clean = Exponents{40, -20, -20, 0}.scaled(make_problem(linear({64, 65, 7, 0}, element<T>), 9));
  EXPECT_FALSE(same(run<T>(clean).o, by_scores<T>(clean).o));
  for (const auto array : {&Problem::k, &Problem::v})
    for (size_t i = 0; i < clean.k.size(); ++i) {
      Problem p = clean;
      (p.*array)[i] = std::ldexp(i % 3 == 0 ? -1.0L : 1.0L, i % 2 == 0 ? far : -far);
      const Outputs<T> want{.o = by_scores<T>(p).o};
      for (int32_t isa = 0; isa < lamina_isa_count(); ++isa) {
        const Outputs<T> got{.o = run<T>(p, {.stride_seed = i % 4 * static_cast<uint64_t>(isa), .isa = lamina_isa_name(isa)}).o};
        expect_same_bits(want, got, " of number " + std::to_string(i) + describe(p));
      }
    }
}
TEST(AttentionStatesRange, OneNumberOutOfRangeIsFoundF32) {
  check_one_number<float>();
}
TEST(AttentionStatesRange, OneNumberOutOfRangeIsFoundF64) {
  check_one_number<double>();
}
// One that is not finite, in every place of every array: no result is left that a state has made.
template <class T>
void check_one_not_finite() {
  const oracle::Real inf = std::numeric_limits<oracle::Real>::infinity(), values[] = {inf, -inf, inf - inf};
  const Problem clean = make_problem(linear({64, 65, 7, 0}, element<T>), 9);
  EXPECT_FALSE(same(run<T>(clean).o, by_scores<T>(clean).o));
  EXPECT_FALSE(same(run<T>(clean).d_k, by_scores<T>(clean).d_k));
  for (const auto array : inputs)
    for (size_t i = 0; i < (clean.*array).size(); ++i) {
      Problem p = clean;
      (p.*array)[i] = values[i % 3];
      const Outputs<T> want = by_scores<T>(p), got = run<T>(p, {.isa = lamina_isa_name(static_cast<int32_t>(i) % lamina_isa_count())});
      for (const auto result : {&Outputs<T>::o, &Outputs<T>::d_q, &Outputs<T>::d_k, &Outputs<T>::d_v}) {
        if (array == &Problem::d_o && result == &Outputs<T>::o) continue;  // which does not read d_o
        int64_t differing = 0;
        for (size_t n = 0; n < (want.*result).size(); ++n) {
          const T x = (got.*result)[n], y = (want.*result)[n];
          differing += std::isnan(x) ? !std::isnan(y) : x != y;
        }
        EXPECT_EQ(differing, 0) << "number " << i << describe(p);
      }
    }
}
TEST(AttentionStatesRange, OneNumberNotFiniteIsFoundF32) {
  check_one_not_finite<float>();
}
TEST(AttentionStatesRange, OneNumberNotFiniteIsFoundF64) {
  check_one_not_finite<double>();
}
// And by whichever thread scans it.
TEST(AttentionStatesRange, OneNumberOutOfRangeIsFoundByThreads) {
  const Problem clean = Exponents{40, -20, -20, 0}.scaled(make_problem(linear({1100, 1060, 8, 0}, LAMINA_F32), 9));
  for (const size_t i : {size_t{0}, size_t{4500}, clean.k.size() - 1}) {
    Problem p = clean;
    p.k[i] = 0x1p-120L;
    EXPECT_TRUE(same(by_scores<float>(p).o, run<float>(p, {.threads = 3}).o)) << i;
  }
}

// A scale out of range: of Q it makes numbers that scores hold.
TEST(AttentionStatesRange, ScaleOutOfRangeGoesByScores) {
  for (const int exponent : {-120, 100})
    for (int kind = 0; kind < kinds; ++kind) {
      Problem p = Exponents{-exponent, exponent < 0 ? 0 : -40, 0, 0}.scaled(grouped<float>(kind));
      p.spec.scale = std::ldexp(0.75, exponent);
      EXPECT_GE(expect_right_where_scores_are<float>(p, oracle::solve(p), " scale"), 3) << describe(p);
    }
}

}  // namespace
