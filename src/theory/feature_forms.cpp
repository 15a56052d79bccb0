// Closed forms on features, and their rows in the registry.
#include "theory/feature_forms.hpp"

#include <array>
#include <cmath>
#include <limits>

#include "base/error.hpp"
#include "kernels/scalar_math.hpp"
#include "theory/feature_floor.hpp"
#include "theory/feature_population.hpp"
#include "theory/theory.hpp"

namespace lamina {
namespace {

using kernels::exp;
using kernels::log;

constexpr double undefined = std::numeric_limits<double>::quiet_NaN();

bool balanced(const FeatureLaw& law) {
  for (double p : law.probability)
    if (p != law.probability[0]) return false;
  return true;
}

}  // namespace

double flow_integral(double a) {
  const double rest = 1 - a;
  return 3 * log(a / rest) - 1 / a + 2 / rest + 1 / (2 * rest * rest);
}

double flow_time(double K, double p, double attention) {
  const double ratio = (K - 1) / K;
  return ratio * ratio / p * (flow_integral(attention) - flow_integral(p));
}

double flow_time_to_loss(double K, double p, double eps) { return flow_time(K, p, 1 - std::sqrt(2 * eps * (K - 1) / K)); }

// Newton's method in the log-odds z of a, where F rises by 1 / (a (1-a)^2) per unit, inside a bracket that halves.
double flow_attention(double K, double p, double time) {
  const double ratio = K / (K - 1), want = flow_integral(p) + p * ratio * ratio * time;
  const auto attention = [](double z) { return 1 / (1 + exp(-z)); };
  double low = log(p / (1 - p)), high = low + 1, z = low;
  while (flow_integral(attention(high)) < want && high < 30) high += high - low;
  for (int iteration = 0; iteration < 200; ++iteration) {
    const double a = attention(z), error = flow_integral(a) - want;
    (error > 0 ? high : low) = z;
    const double next = z - error * a * (1 - a) * (1 - a);
    const double before = z;
    z = next > low && next < high ? next : 0.5 * (low + high);
    if (std::abs(z - before) < 1e-14 * (1 + std::abs(z))) break;
  }
  return attention(z);
}

bool has_prediction(const FeatureLaw& law) { return law.masked && law.moments.empty(); }

const char* feature_prediction(const FeatureLaw& law) {
  return balanced(law) ? "loss of gradient flow from Q = 0 for infinite prompts" : "K / (4 eta t), to which the loss tends for infinite prompts";
}

double predicted_excess(const FeatureLaw& law, double time) {
  const double K = static_cast<double>(law.features);
  if (balanced(law)) {
    const double rest = 1 - flow_attention(K, 1 / K, time);
    return 0.5 * rest * rest * K / (K - 1);
  }
  const double late = K / (4 * time);
  return late < 0.125 ? late : undefined;
}

namespace {

using Arguments = std::span<const double>;
using Results = std::span<double>;

const FeatureLaw& law_of(const Task* task) { return *task->features(); }

kernels::Map map_of(const Task* task) {
  (void)task;
  return kernels::Map::softmax;
}

void require_matrix(const FeatureLaw& law, Arguments in) {
  const int64_t wanted = law.dimension * law.dimension;
  if (std::ssize(in) != wanted)
    fail_argument("argument_count", static_cast<double>(in.size()), "dimension^2 = " + std::to_string(wanted));
  for (double q : in)
    if (!std::isfinite(q)) fail_argument("an entry of Q", q, "finite");
}

double population(const Task* task, Arguments in, double* gradient) {
  const FeatureLaw& law = law_of(task);
  require_matrix(law, in);
  FeaturePopulation form(law, map_of(task), *kernels::select(nullptr)->f64, true);
  std::vector<double> x(static_cast<size_t>(form.variables()));
  if (!form.gather(in.data(), law.dimension, x.data())) {
    form = FeaturePopulation(law, map_of(task), *kernels::select(nullptr)->f64, false);
    x.resize(static_cast<size_t>(form.variables()));
    form.gather(in.data(), law.dimension, x.data());
  }
  std::vector<double> slopes(x.size());
  const Team alone(1);
  const double loss = form.loss_and_gradient(x.data(), gradient ? slopes.data() : nullptr, alone);
  if (gradient) {
    std::fill_n(gradient, law.dimension * law.dimension, 0.0);
    form.scatter(slopes.data(), gradient, law.dimension);
  }
  return loss;
}

constexpr std::array rows{
    TheoryRow{"population_loss", "The exact population loss of softmax attention at a merged matrix Q [d,d], by rows (row: key).",
              "Q -> loss", feature_task, -1, 1, [](const Task* task, Arguments in, Results out) { out[0] = population(task, in, nullptr); }},
    TheoryRow{"population_gradient", "Its gradient [d,d].", "Q -> gradient", feature_task, -1, -1,
              [](const Task* task, Arguments in, Results out) { population(task, in, out.data()); }},
    TheoryRow{"loss_infimum", "The infimum of the population loss at this prompt length.", "-> loss", feature_task, 0, 1,
              [](const Task* task, Arguments, Results out) { out[0] = infimum_of(law_of(task), map_of(task)); }},
};

}  // namespace

std::span<const TheoryRow> feature_forms() { return rows; }

}  // namespace lamina
