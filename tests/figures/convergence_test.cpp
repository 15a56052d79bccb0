// Figures of in-context convergence on the exact law (named F1 to F24 here and in the README): one column at a time, by plain
// gradient descent on theory's slopes; the trainer's trajectories are held to the same numbers in convergence_run_test.cpp.
#include <gtest/gtest.h>

#include <cmath>

#include "theory/feature_column.hpp"
#include "theory/feature_forms.hpp"

namespace lamina::tests {
namespace {

constexpr int64_t infinite = -1;

// Descent of the logits of one query; groups as in its constructor, the query first.
class Column {
 public:
  Column(std::vector<double> probability, std::vector<double> multiplicity, int64_t N, double eta = 1)
      : integral_(*kernels::select(nullptr)->f64), eta_(eta), q(probability.size(), 0.0) {
    column_.length = N, column_.probability = std::move(probability), column_.multiplicity = std::move(multiplicity);
    read();
  }
  void step() {
    for (size_t n = 0; n < q.size(); ++n) q[n] += eta_ * slope(n);
    ++t;
    read();
  }
  // The first step at which holds(), read before its update.
  template <class Holds>
  int64_t until(Holds holds) {
    while (!holds(*this)) step();
    return t;
  }
  int64_t until_loss(double eps) {
    return until([&](const Column& c) { return c.loss() <= eps; });
  }
  int64_t until_half() {
    return until([](const Column& c) { return c.attention(0) >= 0.5; });
  }
  double loss() const { return value_.loss; }
  double attention(size_t n) const { return value_.attention[n] * (n == 0 ? 1 : column_.multiplicity[n]); }
  double slope(size_t n) const { return column_.probability[0] * value_.descent[n]; }

  int64_t t = 0;

 private:
  void read() { integral_.evaluate(column_, q, true, value_); }
  FeatureColumn column_;
  ColumnIntegral integral_;
  ColumnValue value_;
  double eta_;

 public:
  std::vector<double> q;
};

Column balanced(double K, int64_t N, double eta = 1) { return Column({1 / K, 1 / K}, {1, K - 1}, N, eta); }
Column dominant(double K, double p, int64_t N) { return Column({p, (1 - p) / (K - 1)}, {1, K - 1}, N); }
Column rare(double K, double p, int64_t N, double eta = 1) {
  const double r = (1 - p) / (K - 1);
  return Column({r, p, r}, {1, 1, K - 2}, N, eta);
}

TEST(F4, StepOfHalfAttention) {
  const std::pair<int, int64_t> cases[] = {{5, 32}, {10, 145}, {20, 546}, {40, 1994}, {80, 7379}};
  for (const auto& [K, want] : cases) EXPECT_EQ(balanced(K, infinite).until_half(), want) << K;
  EXPECT_NEAR(flow_time(160, 1.0 / 160, 0.5) / (160.0 * 160), 1.0905, 5e-5);
  EXPECT_NEAR(flow_time(320, 1.0 / 320, 0.5) / (320.0 * 320), 1.0521, 5e-5);
}

TEST(F5, StepsToEachLoss) {
  const std::pair<int, std::array<int64_t, 4>> cases[] = {
      {10, {166, 493, 2809, 23913}}, {20, {586, 1288, 6198, 50802}}, {80, {7528, 10485, 30962, 216582}}};
  for (const auto& [K, want] : cases) {
    Column c = balanced(K, infinite);
    for (int i = 0; i < 4; ++i) EXPECT_EQ(c.until_loss(std::pow(10, -1 - i)), want[i]) << K;
  }
  const double formula[] = {584.7, 1287.7, 6199.0, 50804};
  for (int i = 0; i < 4; ++i) EXPECT_NEAR(flow_time_to_loss(20, 0.05, std::pow(10, -1 - i)) / formula[i], 1, 1e-4);
}

TEST(F6, Slopes) {
  const double want[] = {1.94, 1.82, 1.43, 1.09};
  Column small = balanced(160, infinite), large = balanced(320, infinite);
  for (int i = 0; i < 4; ++i) {
    const double eps = std::pow(10, -1 - i), a = static_cast<double>(small.until_loss(eps)), b = static_cast<double>(large.until_loss(eps));
    EXPECT_NEAR(std::log2(b / a), want[i], 0.006) << eps;
  }
  const double by_eps[] = {.41, .61, .87, .97, .99, 1.00};
  for (int i = 0; i < 6; ++i) {  // the derivative of the closed form, at K = 10
    const double eps = std::pow(10, -1 - i), h = 1e-4;
    const double slope = std::log(flow_time_to_loss(10, 0.1, eps * (1 - h)) / flow_time_to_loss(10, 0.1, eps * (1 + h))) / (2 * h);
    EXPECT_NEAR(slope, by_eps[i], 0.02) << eps;
  }
  const std::pair<int, double> tails[] = {{5, .84}, {10, .96}, {20, 1.02}, {40, 1.05}, {80, 1.08}};
  for (const auto& [K, want_tail] : tails)
    EXPECT_NEAR(4e-4 * static_cast<double>(balanced(K, infinite).until_loss(1e-4)) / K, want_tail, 0.006) << K;
}

TEST(F7, StepSizeScalesTime) {
  const std::pair<double, int64_t> cases[] = {{.1, 61989}, {1, 6198}, {10, 619}, {40, 154}, {100, 61}};
  for (const auto& [eta, want] : cases) EXPECT_EQ(balanced(20, infinite, eta).until_loss(1e-3), want) << eta;
}

TEST(F8, PeakOfTheIncrement) {
  const std::pair<int, double> cases[] = {{5, .1852}, {10, .1646}, {20, .1559}, {40, .1519}, {80, .1500}};
  for (const auto& [K, want] : cases) {
    Column c = balanced(K, infinite);
    double peak = 0, at = 0;
    while (c.attention(0) < 0.6) {
      if (c.slope(0) > peak) peak = c.slope(0), at = c.attention(0);
      c.step();
    }
    EXPECT_NEAR(peak * K, want, 6e-5) << K;
    EXPECT_NEAR(peak * (K - 1), 4.0 / 27, 2e-4) << K;
    EXPECT_NEAR(at, 1.0 / 3, 0.01) << K;
  }
}

TEST(F9, FinitePrompts) {
  const std::pair<int64_t, int64_t> cases[] = {{50, 639}, {100, 585}, {200, 564}, {400, 554}, {1000, 549}, {8000, 546}, {infinite, 546}};
  for (const auto& [N, want] : cases) EXPECT_EQ(balanced(20, N).until_half(), want) << N;
}

TEST(F10, DominantAndRareTimes) {
  const std::pair<int, std::array<int64_t, 4>> first[] = {{20, {4, 74, 564, 5023}}, {100, {4, 77, 590, 5241}}},
                                               other[] = {{20, {1331, 2651, 11924, 96304}}, {100, {25756, 33075, 83776, 543459}}};
  for (int i = 0; i < 2; ++i) {
    Column one = dominant(first[i].first, .5, infinite), k = rare(other[i].first, .5, infinite);
    for (int e = 0; e < 4; ++e) {
      EXPECT_EQ(one.until_loss(std::pow(10, -1 - e)), first[i].second[e]) << first[i].first;
      EXPECT_EQ(k.until_loss(std::pow(10, -1 - e)), other[i].second[e]) << other[i].first;
    }
  }
}

TEST(F11, RatioOfTimes) {
  const std::tuple<int, double, double, double> cases[] = {{20, 333, 21.1, 19.2}, {50, 1785, 60.9, 50.2}, {100, 6439, 142, 103.7}, {200, 23773, 358, 216.8}};
  for (const auto& [K, tenth, thousandth, least] : cases) {
    Column one = dominant(K, .5, infinite), k = rare(K, .5, infinite);
    const auto ratio = [&](double eps) { return static_cast<double>(k.until_loss(eps)) / static_cast<double>(one.until_loss(eps)); };
    EXPECT_NEAR(ratio(.1), tenth, 1);
    EXPECT_NEAR(ratio(1e-3) / thousandth, 1, 4e-3);
    EXPECT_NEAR(ratio(1e-4) / least, 1, 3e-3);
  }
}

struct Switch {
  int K;
  double eta, at, A;
  int64_t steps;
};

TEST(F12, SwitchOfLeadership) {
  const Switch cases[] = {{20, 1, 1.050, .486, 420}, {50, 1, 1.027, .506, 2567}, {100, 1, .953, .491, 9528}, {200, 1, .880, .471, 35187},
                          {1000, 20, .764, .436, 0}, {10000, 200, .696, .415, 0}, {100000, 2000, .676, .408, 0}};
  for (const Switch& s : cases) {
    Column c = rare(s.K, .5, infinite, s.eta);
    const int64_t t = c.until([](const Column& x) { return x.slope(0) >= -x.slope(1); });
    EXPECT_LE(c.slope(2), 0) << s.K;  // the same step is the sign change of beta_{k,n}
    EXPECT_NEAR(s.eta * static_cast<double>(t) / s.K / s.K, s.at, 6e-4) << s.K;
    EXPECT_NEAR(c.q[0], s.A, 6e-4) << s.K;
    if (s.steps > 0) {
      EXPECT_EQ(t, s.steps);
    }
    if (s.K == 100000) {
      EXPECT_NEAR(c.q[1], -5.549, 6e-4);
    }
  }
}

TEST(F13, BlowUp) {
  const std::tuple<int, double, double> cases[] = {{20, 1, 3.135}, {50, 1, 2.782}, {100, 1, 2.539}, {200, 1, 2.359},
                                                   {1000, 20, 2.135}, {10000, 200, 2.035}, {100000, 2000, 2.010}};
  for (const auto& [K, eta, want] : cases)
    EXPECT_NEAR(eta * static_cast<double>(rare(K, .5, infinite, eta).until_half()) / K / K, want, 6e-4) << K;
  EXPECT_NEAR(static_cast<double>(rare(50, .3, infinite).until_half()) / 2500, 1.913, 6e-4);
  EXPECT_NEAR(static_cast<double>(rare(50, .7, infinite).until_half()) / 2500, 4.836, 6e-4);
}

TEST(F14, FirstIncrements) {
  const std::pair<int, double> cases[] = {{20, 4.13}, {50, 10.12}, {100, 20.12}, {200, 40.12}};
  for (const auto& [K, want] : cases) EXPECT_NEAR(-rare(K, .5, infinite).slope(1) / rare(K, .5, infinite).slope(0), want, 6e-3) << K;
  const double K = 1e6;
  const Column c = rare(K, .5, infinite);
  EXPECT_NEAR(-K * c.slope(1), 1.0 / 16, 1e-6);
  EXPECT_NEAR(K * K * c.slope(0), 5.0 / 16, 1e-5);
  EXPECT_NEAR(K * K * c.slope(2), 1.0 / 16, 1e-5);
}

TEST(F15, AttentionOfARareQuery) {
  Column c = rare(100, .5, infinite);
  EXPECT_NEAR(c.attention(1), .5, 1e-12);
  EXPECT_EQ(c.until([](const Column& x) { return x.attention(1) <= .25; }), 2705);
  EXPECT_EQ(c.until([](const Column& x) { return x.attention(0) >= x.attention(1); }), 20926);
  EXPECT_NEAR(c.attention(1), .0705, 1e-4);
  c.until_loss(1e-4);
  EXPECT_NEAR(c.attention(1), .0007, 5e-5);
}

TEST(F15, MonotoneWithOneChangeOfSign) {
  const std::pair<double, double> cases[] = {{20, .5}, {100, .5}, {50, .3}, {50, .7}};
  for (const auto& [K, p] : cases) {
    Column c = rare(K, p, infinite);
    int changes = 0;
    int64_t switched = -1, changed = -1;
    while (c.t < 120000) {
      const double before[] = {c.q[0], c.q[1], c.attention(1), c.slope(2)};
      if (switched < 0 && c.slope(0) >= -c.slope(1)) switched = c.t;
      c.step();
      ASSERT_TRUE(c.q[0] > before[0] && c.q[1] < before[1] && c.attention(1) < before[2]) << K << " " << c.t;
      if ((c.slope(2) > 0) != (before[3] > 0)) ++changes, changed = c.t;
    }
    EXPECT_EQ(changes, 1) << K;
    EXPECT_EQ(changed, switched) << K;
  }
}

// The integral in place of the limit: K = 80 at N = 1000, as many steps as the limit needs to 1e-4.
TEST(F5, LongRunAtFiniteLength) {
  Column c = balanced(80, 1000);
  while (c.t < 20000) c.step();
  EXPECT_NEAR(c.q[0] + 79 * c.q[1], 0, 1e-12 * c.q[0]);
}

}  // namespace
}  // namespace lamina::tests
