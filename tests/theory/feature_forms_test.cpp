// Closed courses of training against trajectories integrated here from the increments as the paper has them; phases; refusals.
#include "theory/feature_forms.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "support/runs.hpp"
#include "theory/theory.hpp"

namespace lamina::tests {
namespace {

std::vector<double> theory(const std::string& name, const Task& task, const std::vector<double>& arguments, size_t results = 1) {
  std::vector<double> out(results);
  find_theory(name).evaluate(&task, arguments, out);
  return out;
}

// A column at N = infinity under gradient flow: a_n = p_n e^{q_n} / Z and, with S = sum_{m != k} a_m^2,
//   dA/dt = p_k a_k ((1 - a_k)^2 + S),   dB_n/dt = p_k a_n (S - a_n - a_k (1 - a_k)),
// by the classical Runge-Kutta rule with steps that move no logit by more than 0.005.
struct Flow {
  std::vector<double> p, members, q, a;
  double t = 0, alpha = 0;
  std::vector<double> slope;

  Flow(std::vector<double> probability, std::vector<double> multiplicity)
      : p(std::move(probability)), members(std::move(multiplicity)), q(p.size(), 0.0), a(p.size()) {
    slope = slopes(q);
  }
  std::vector<double> slopes(const std::vector<double>& at) {
    double z = 0, S = 0;
    for (size_t n = 0; n < p.size(); ++n) z += members[n] * (a[n] = p[n] * std::exp(at[n]));
    for (double& weight : a) weight /= z;
    for (size_t n = 1; n < p.size(); ++n) S += members[n] * a[n] * a[n];
    std::vector<double> d(p.size());
    d[0] = alpha = p[0] * a[0] * ((1 - a[0]) * (1 - a[0]) + S);
    for (size_t n = 1; n < p.size(); ++n) d[n] = p[0] * a[n] * (S - a[n] - a[0] * (1 - a[0]));
    return d;
  }
  double step_size() const {
    double fastest = 0;
    for (double d : slope) fastest = std::max(fastest, std::abs(d));
    return 0.005 / fastest;
  }
  void step(double h) {
    const auto moved = [&](const std::vector<double>& d, double by) {
      std::vector<double> x = q;
      for (size_t n = 0; n < x.size(); ++n) x[n] += by * d[n];
      return x;
    };
    const std::vector<double> k1 = slope, k2 = slopes(moved(k1, h / 2)), k3 = slopes(moved(k2, h / 2)), k4 = slopes(moved(k3, h));
    for (size_t n = 0; n < q.size(); ++n) q[n] += h / 6 * (k1[n] + 2 * k2[n] + 2 * k3[n] + k4[n]);
    t += h;
    slope = slopes(q);
  }
  void until(double time) {
    while (t < time) step(std::min(step_size(), time - t));
  }
  // The time at which value(*this), negative now, reaches 0: between two steps by halving.
  template <class Value>
  double time_of(Value value) {
    for (;;) {
      Flow before = *this;
      step(step_size());
      if (value(*this) < 0) continue;
      double low = 0, high = t - before.t;
      for (int i = 0; i < 50; ++i) {
        Flow trial = before;
        trial.step(0.5 * (low + high));
        (value(trial) < 0 ? low : high) = 0.5 * (low + high);
      }
      return before.t + high;
    }
  }
  double loss() const {
    double S = 0;
    for (size_t n = 1; n < a.size(); ++n) S += members[n] * a[n] * a[n];
    return 0.5 * ((1 - a[0]) * (1 - a[0]) + S);
  }
};

Flow first_of(double K, double p) { return Flow({p, (1 - p) / (K - 1)}, {1, K - 1}); }
Flow rare_of(double K, double p) { return Flow({(1 - p) / (K - 1), p, (1 - p) / (K - 1)}, {1, 1, K - 2}); }
std::shared_ptr<const Task> infinite(const std::string& line) { return convergence_task("prompt_length=inf " + line); }
std::shared_ptr<const Task> dominant(int K, double p) {
  return infinite("features=" + std::to_string(K) + " dominant=" + std::to_string(p));
}

TEST(FlowTime, IsThatOfTheIntegratedFlow) {
  for (const int K : {5, 20, 80})
    for (const double p : {1.0 / K, 0.25, 0.5}) {
      const auto task = p == 1.0 / K ? infinite("features=" + std::to_string(K)) : dominant(K, p);
      for (const double a : {0.6, 0.9, 0.99}) {
        const double t = first_of(K, p).time_of([&](const Flow& f) { return f.a[0] - a; });
        EXPECT_NEAR(theory("flow_time", *task, {a})[0] / t, 1, 1e-8) << K << " " << p << " " << a;
        EXPECT_NEAR(theory("flow_attention", *task, {t})[0], a, 1e-9) << K << " " << p << " " << a;
      }
      const double t = first_of(K, p).time_of([&](const Flow& f) { return 1e-3 - f.loss(); });
      EXPECT_NEAR(theory("flow_time_to_loss", *task, {1e-3})[0] / t, 1, 1e-8) << K << " " << p;
    }
}

TEST(IncrementPeak, IsWhereAttentionIsAThird) {
  for (const int K : {5, 20, 80})
    for (const double p : {1.0 / K, 0.25}) {
      const auto task = p == 1.0 / K ? infinite("features=" + std::to_string(K)) : dominant(K, p);
      const std::vector<double> peak = theory("increment_peak", *task, {}, 2);
      Flow flow = first_of(K, p);
      flow.until(0.97 * peak[0]);
      const double before = flow.alpha;
      flow.until(peak[0]);
      EXPECT_NEAR(flow.a[0], 1.0 / 3, 1e-8) << K << " " << p;
      EXPECT_NEAR(flow.alpha / peak[1], 1, 1e-8) << K << " " << p;
      if (p == 1.0 / K) {
        EXPECT_NEAR(peak[1] * (K - 1) * 27 / 4, 1, 1e-14) << K;
      }
      flow.until(1.03 * peak[0]);
      EXPECT_LT(before, peak[1]) << K;
      EXPECT_LT(flow.alpha, peak[1]) << K;
    }
  // A feature that begins above a third is at its peak at once.
  const std::vector<double> peak = theory("increment_peak", *dominant(20, 0.5), {}, 2);
  EXPECT_EQ(peak[0], 0);
  EXPECT_NEAR(peak[1], first_of(20, 0.5).alpha, 1e-15);
}

// Descent in a run: the crossing of attention 1/3 is the step of the largest increment, at the law's time.
TEST(IncrementPeak, IsFoundByACrossing) {
  const Experiment run("features=20 prompt_length=inf steps=700 record_every=1 crossings=attention_0=0.33333333333333333", "in_context_convergence");
  const auto step = static_cast<int64_t>(run.trainer->crossings()[0].step);
  int64_t largest = 0;
  for (int64_t t = 0; t <= 700; ++t)
    if (run.at(t, "alpha_0") > run.at(largest, "alpha_0")) largest = t;
  EXPECT_LE(std::abs(largest - step), 1);
  EXPECT_NEAR(theory("increment_peak", *infinite("features=20"), {}, 2)[0] / static_cast<double>(step), 1, 0.01);
}

// eta t over its limit is 1 + O(sqrt eps) where the other features are alike; else a slow term of small size is left.
TEST(LateTime, IsTheLimitForEveryLaw) {
  for (const char* line : {"features=8", "features=5 dominant=0.6", "features=3 feature_law=zipf watched=1", "features=5 feature_law=zipf watched=4",
                           "features=8 feature_law=zipf"}) {
    const auto task = infinite(line);
    const auto k = static_cast<size_t>(task->features()->watched[0]);
    const std::vector<double>& p = task->features()->probability;
    std::vector<double> order{p[k]}, differences;
    for (size_t n = 0; n < p.size(); ++n)
      if (n != k) order.push_back(p[n]);
    Flow flow(order, std::vector<double>(order.size(), 1.0));
    for (const double eps : {1e-6, 1e-8, 1e-10, 1e-12})
      differences.push_back(flow.time_of([&](const Flow& f) { return eps - f.loss(); }) / theory("late_time", *task, {eps})[0] - 1);
    EXPECT_LT(std::abs(differences[0]), 0.01) << line;
    EXPECT_LT(std::abs(differences[3]), 1e-3) << line;
    EXPECT_LT(std::abs(differences[3]), 0.5 * std::abs(differences[1])) << line;
    if (std::string(line).find("zipf") == std::string::npos) {
      EXPECT_NEAR(differences[2] / differences[3], 10, 0.1) << line;
    }
  }
}

// A rare column, K large. What the dominant feature's attention a adds: with its odds o = a / (1 - a) after the early phase,
//   e^{-A} = 1 - (1 - p_1)(tau - delta),   delta = int (a - a^2 + a^3) dtau = sqrt(2 tau / ((1 - p_1) K)) + O(ln K / K),
//   B_1 = law + 3 o + O(o^2 ln o),   so all laws are limits with differences of known size, of order K^(-1/2).
TEST(RareColumn, LawsAreLimitsOfTheIntegratedFlow) {
  for (const double p : {0.3, 0.5, 0.7}) {
    double before[2] = {};
    for (const int K : {10000, 160000}) {
      const auto task = dominant(std::min(K, 4096), p);  // as large as tasks are; laws of tau alone do not depend on K
      const double scale = static_cast<double>(K) * K, root = std::sqrt(static_cast<double>(K));
      const double switched = theory("switch_time", *task, {})[0], blown_up = theory("blow_up_time", *task, {})[0];
      Flow flow = rare_of(K, p);
      const double at = flow.time_of([](const Flow& f) { return f.slope[0] + f.slope[1]; }) / scale;
      EXPECT_NEAR(flow.q[0], std::log(1.5), 6 / root) << p << " " << K;
      const double half = flow.time_of([](const Flow& f) { return f.a[0] - 0.5; }) / scale;
      const double differences[2] = {at - switched, half - blown_up};
      EXPECT_NEAR(differences[1] / std::sqrt(2 * blown_up / ((1 - p) * K)), 1, 4 * std::log(K) / root) << p << " " << K;
      if (before[0] != 0) {
        EXPECT_NEAR(differences[0] / before[0], 0.25, 0.025) << p;
        EXPECT_NEAR(differences[1] / before[1], 0.25, 0.06) << p;
      }
      std::copy(differences, differences + 2, before);
    }
  }
}

TEST(RareColumn, EarlyLogits) {
  for (const double p : {0.3, 0.5, 0.7}) {
    const double K = 4096, rho = p / (1 - p);
    const auto task = dominant(4096, p);
    Flow flow = rare_of(K, p);
    for (const double part : {0.2, 0.5, 0.8}) {
      const double tau = part / (1 - p);
      flow.until(tau * K * K);
      const std::vector<double> law = theory("early_rare_logits", *task, {tau * K * K}, 2);
      const double delta = std::sqrt(2 * tau / ((1 - p) * K)), odds = rho * std::exp(law[1]);
      EXPECT_NEAR((std::exp(-flow.q[0]) - std::exp(-law[0])) / ((1 - p) * delta), 1, 0.25) << p << " " << tau;
      EXPECT_NEAR((flow.q[1] - law[1]) / (3 * odds), 1, 0.25) << p << " " << tau;
      EXPECT_LT(std::abs(flow.q[0] - law[0]), 0.2) << p;
      EXPECT_LT(std::abs(flow.q[1] - law[1]), 0.1) << p;
    }
    EXPECT_EQ(theory("early_rare_logits", *task, {0}, 2), (std::vector<double>{0, 0}));
  }
}

// Gradient descent, eta = 1, by the increments above: phases at the steps on both sides of each change (F8, F12, F15). At 24433 and 456
// the derivative of alpha by time, written out, is first negative in an independent program; attention is 0.33333 and 0.33368.
TEST(Phases, ChangeAtTheirSignalsInOrder) {
  struct Turn {
    int64_t step;
    double phase;
  };
  const auto follow = [](Flow flow, const std::string& line, int64_t query, const std::vector<int64_t>& group, const std::vector<Turn>& turns) {
    const auto task = infinite(line + " watched=" + std::to_string(query));
    const int64_t d = task->features()->dimension;
    std::vector<double> Q(static_cast<size_t>(d * d));
    int64_t step = 0;
    for (const Turn& turn : turns) {
      for (; step < turn.step; ++step)
        for (size_t n = 0; n < flow.q.size(); ++n) {
          flow.q[n] += flow.slope[n];
          if (n + 1 == flow.q.size()) flow.slope = flow.slopes(flow.q);
        }
      for (int64_t n = 0; n < d; ++n) Q[static_cast<size_t>(n * d + query)] = flow.q[static_cast<size_t>(n == query ? 0 : group[static_cast<size_t>(n)])];
      EXPECT_EQ(theory("phase_of_query", *task, Q)[0], turn.phase) << line << " at step " << turn.step;
    }
  };
  std::vector<int64_t> rare(100, 2), others(100, 1);
  rare[0] = 1;
  follow(rare_of(100, 0.5), "features=100 dominant=0.5", 1, rare,
         {{0, 1}, {9527, 1}, {9528, 2}, {20925, 2}, {20926, 3}, {24432, 3}, {24433, 4}, {60000, 4}});
  follow(first_of(20, 0.05), "features=20", 3, others, {{0, 3}, {455, 3}, {456, 4}, {2000, 4}});
  follow(first_of(2, 0.5 - 1e-9), "features=2", 1, others, {{0, 4}, {50, 4}});
  follow(first_of(20, 0.3), "features=20 dominant=0.3", 0, others, {{0, 3}, {3, 3}, {4, 4}, {100, 4}});
  follow(first_of(20, 0.5), "features=20 dominant=0.5", 0, others, {{0, 4}, {1, 4}, {100, 4}});
}

// At any Q, by the definitions: N = infinity with the derivative of alpha along the flow written out, finite N with a difference of
// the gradient over a stretch that is a hundred times as long as the detector's, to both sides.
TEST(Phases, AreThoseOfTheirDefinitionsAtAnyQ) {
  int64_t seen[5] = {};
  uint64_t state = 7;
  const auto random = [&] { return static_cast<double>((state = state * 6364136223846793005u + 1442695040888963407u) >> 11) * 0x1p-53; };
  for (const char* line : {"features=5", "features=6 dominant=0.5", "features=6 feature_law=zipf", "features=5 feature_weights=1,3,1,2,2",
                           "features=4 feature_law=zipf mask=no", "features=3 dominant=0.6"})
    for (const char* length : {"inf", "40", "6"})
      for (int trial = 0; trial < 60; ++trial) {
        const auto task = convergence_task(std::string(line) + " prompt_length=" + length);
        const std::vector<double>& p = task->features()->probability;
        const auto K = static_cast<int64_t>(p.size()), k = static_cast<int64_t>(random() * static_cast<double>(K));
        const auto watched = convergence_task(std::string(line) + " prompt_length=" + length + " watched=" + std::to_string(k));
        std::vector<double> Q(static_cast<size_t>(K * K));
        const double spread = 3 * random();
        for (double& q : Q) q = spread * (random() - 0.5);
        for (int64_t n = 0; n < K; ++n) Q[static_cast<size_t>(n * K + n)] += 4 * random();
        const auto at = [&](int64_t n) { return static_cast<size_t>(n * K + k); };
        const std::vector<double> gradient = theory("population_gradient", *task, Q, Q.size());
        const std::vector<double> attention = theory("population_attention", *task, Q, Q.size());
        int64_t m = k == 0 ? 1 : 0;
        for (int64_t n = 0; n < K; ++n)
          if (n != k && p[static_cast<size_t>(n)] > p[static_cast<size_t>(m)]) m = n;
        double phase = 0;
        if (p[static_cast<size_t>(m)] > p[static_cast<size_t>(k)] && attention[at(k)] < attention[at(m)]) {
          phase = gradient[at(m)] > -gradient[at(k)] ? 1 : 2;
          if (std::abs(gradient[at(m)] + gradient[at(k)]) < 1e-12) continue;
        } else if (std::string(length) == "inf") {
          double S = 0, mean = 0, S_rate = 0;
          const double a = attention[at(k)];
          for (int64_t n = 0; n < K; ++n) mean -= attention[at(n)] * gradient[at(n)];
          for (int64_t n = 0; n < K; ++n) {
            const double square = n == k ? 0 : attention[at(n)] * attention[at(n)];
            S += square, S_rate += 2 * square * (-gradient[at(n)] - mean);
          }
          const double rate = a * (-gradient[at(k)] - mean), whole = rate * ((1 - a) * (1 - a) + S) + a * (S_rate - 2 * (1 - a) * rate);
          phase = whole < 0 ? 4 : 3;
          if (std::abs(whole) < 1e-5 * std::abs(gradient[at(k)])) continue;
        } else {
          double largest = 0, alpha[2];
          for (int64_t n = 0; n < K; ++n) largest = std::max(largest, std::abs(gradient[at(n)]));
          for (const int side : {0, 1}) {
            std::vector<double> moved = Q;
            for (int64_t n = 0; n < K; ++n) moved[at(n)] -= (side ? 1e-4 : -1e-4) * gradient[at(n)] / largest;
            alpha[side] = -theory("population_gradient", *task, moved, Q.size())[at(k)];
          }
          phase = alpha[1] < alpha[0] ? 4 : 3;
          if (std::abs(alpha[1] - alpha[0]) < 1e-8 * alpha[0]) continue;
        }
        EXPECT_EQ(theory("phase_of_query", *watched, Q)[0], phase) << line << " N = " << length << " query " << k << " trial " << trial;
        ++seen[static_cast<size_t>(phase)];
      }
  for (const int phase : {1, 2, 3, 4}) EXPECT_GT(seen[phase], 50) << phase;
}

void expect_refusal(const std::string& name, const Task& task, const std::vector<double>& arguments, size_t results, std::initializer_list<const char*> says) {
  try {
    theory(name, task, arguments, results);
    ADD_FAILURE() << name << " was evaluated for " << task.name();
  } catch (const Error& error) {
    for (const char* text : says) EXPECT_NE(std::string(error.what()).find(text), std::string::npos) << name << ": " << error.what();
  }
}

TEST(FeatureForms, RefuseLawsThatTheyAreNotAbout) {
  const auto twins = convergence_task("features=2 second_moments=1,0.5,0.5,1"), keyed = convergence_task("features=4 mask=no");
  const auto zipf = convergence_task("features=6 feature_law=zipf"), balanced = convergence_task("features=20"), near = convergence_task("features=20 dominant=0.1");
  const auto flat = convergence_task("features=2 dominant=0.9"), single = convergence_task("features=3 prompt_length=1");
  const auto rare = convergence_task("features=20 dominant=0.5 prompt_length=100 watched=1"), endless = convergence_task("features=4 prompt_length=inf");
  for (const char* name : {"flow_time", "flow_time_to_loss", "flow_attention", "late_time", "early_rare_logits", "switch_time", "blow_up_time", "increment_peak"}) {
    const TheoryRow& row = find_theory(name);
    const std::vector<double> arguments(static_cast<size_t>(row.arguments), 0.1);
    const auto results = static_cast<size_t>(row.results);
    expect_refusal(name, *twins, arguments, results, {"second_moments is given", "must be empty"});
    expect_refusal(name, *keyed, arguments, results, {"mask is no", "must be yes"});
    if (std::string(name) != "late_time") expect_refusal(name, *zipf, arguments, results, {"feature_law", "balanced or dominant"});
  }
  for (const char* name : {"switch_time", "blow_up_time"}) {
    expect_refusal(name, *balanced, {}, 1, {"p_1, is 0.05", "must be above 0.2"});
    expect_refusal(name, *near, {}, 1, {"p_1, is 0.1", "must be above 0.2"});
    expect_refusal(name, *flat, {}, 1, {"features is 2", "at least 3"});
  }
  expect_refusal("early_rare_logits", *rare, {-1}, 2, {"eta t is -1", "[0, 800)"});
  expect_refusal("early_rare_logits", *rare, {800}, 2, {"eta t is 800", "[0, 800)"});
  expect_refusal("flow_time_to_loss", *rare, {1e-40}, 1, {"eps is 1e-40", "above ", "infimum"});
  expect_refusal("late_time", *rare, {0}, 1, {"eps is 0", "infimum"});
  expect_refusal("late_time", *rare, {1e-9}, 1, {"eps is 1e-09", "infimum"});
  expect_refusal("late_time", *rare, {0.9}, 1, {"eps is 0.9", "infimum"});
  expect_refusal("phase_of_query", *twins, {0, 0, 0, 0}, 1, {"second_moments is given"});
  expect_refusal("phase_of_query", *single, std::vector<double>(9), 1, {"prompt_length is 1", "at least 2"});
  expect_refusal("phase_of_query", *endless, {1}, 1, {"argument_count is 1", "16"});
  expect_refusal("population_attention", *endless, std::vector<double>(16, INFINITY), 16, {"an entry of Q is inf", "finite"});
  expect_refusal("binomial_loss", *twins, {1, 0}, 2, {"second_moments is given"});
  expect_refusal("binomial_loss", *keyed, {1, 0}, 2, {"mask is no"});
  expect_refusal("binomial_loss", *endless, {1, 0}, 2, {"prompt_length is inf"});
  expect_refusal("binomial_loss", *rare, {1, INFINITY}, 2, {"B is inf"});
  expect_refusal("query_infimum", *rare, {20}, 1, {"k is 20", "[0, 19]"});
}

// Where leadership switches at all: at the threshold of the message, alpha and |beta_1| are equal at Q = 0.
TEST(RareColumn, ThresholdOfSuppression) {
  for (const int K : {4, 20, 1000}) {
    const auto lead = [&](double p) {
      const Flow flow = rare_of(K, p);
      return -flow.slope[1] - flow.slope[0];
    };
    for (double p = 0.02; p < 1; p += 0.02) {
      if (p < 1.0 / K) continue;
      bool accepted = true;
      try {
        theory("switch_time", *dominant(K, p), {});
      } catch (const Error&) {
        accepted = false;
      }
      EXPECT_EQ(accepted, lead(p) > 0) << K << " " << p;
    }
  }
}

// A mean of two columns of one Q by hand: E a_n over both counts of a prompt of two features and one token.
TEST(PopulationAttention, OfShortPrompts) {
  const auto task = convergence_task("features=2 dominant=0.3 prompt_length=2");
  const std::vector<double> a = theory("population_attention", *task, {0.5, -1, 0.2, 2}, 4);
  const double share = 1 / (1 + std::exp(0.2 - 0.5)), other = 1 / (1 + std::exp(2.0 - -1));
  EXPECT_NEAR(a[0], 0.09 + 0.42 * share, 1e-14);
  EXPECT_NEAR(a[2], 1 - a[0], 1e-14);
  EXPECT_NEAR(a[1], 0.09 + 0.42 * other, 1e-14);
  EXPECT_NEAR(a[3], 1 - a[1], 1e-14);
}

}  // namespace
}  // namespace lamina::tests
