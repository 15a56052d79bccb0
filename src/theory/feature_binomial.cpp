// The sum over the count of the query's own feature; the formula is in the header.
#include "theory/feature_binomial.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/scalar_math.hpp"

namespace lamina {
namespace {

constexpr double least_weight = 1e-300;  // of the largest

// Sums in two doubles: what a long run of small terms adds is not lost.
struct Sum {
  double whole = 0, rest = 0;
  void add(double x) {
    const double y = x + rest, next = whole + y;
    rest = y - (next - whole), whole = next;
  }
};

}  // namespace

BinomialValue binomial_value(const FeatureLaw& law, int64_t query, double A, double B) {
  const double N = static_cast<double>(law.length), p = law.probability[static_cast<size_t>(query)];
  double others = 0, squares = 0;  // 1 - p from its parts, which are not lost beside a p near 1
  for (int64_t n = 0; n < law.features; ++n)
    if (n != query) others += law.probability[n], squares += law.probability[n] * law.probability[n];
  const double rho2 = squares / (others * others), odds = p / others;
  const double own = A >= B ? 1 : kernels::exp(A - B), other = A >= B ? kernels::exp(B - A) : 1;  // weights up to a factor
  Sum weights, loss, alpha;
  // weight: P(c) over that of the mode
  const auto add = [&](double c, double weight) {
    const double M = N - c;
    weights.add(weight);
    if (M == 0) return;
    // With no copy of its own, other / Z = 1 / M whatever the weight.
    const double share = c == 0 ? 1 / M : other / (c * own + M * other), mine = c == 0 ? 0 : c * own / (c * own + M * other);
    const double bracket = M * share * share * (M + (M - 1) * rho2 + 1);
    loss.add(weight * bracket), alpha.add(weight * mine * bracket);
  };
  const double mode = std::min(std::floor((N + 1) * p), N);
  double weight = 1;
  for (double c = mode; weight >= least_weight; --c) {
    add(c, weight);
    if (c == 0) break;
    weight *= c / ((N - c + 1) * odds);
  }
  weight = 1;
  for (double c = mode + 1; c <= N; ++c) {
    weight *= (N - c + 1) * odds / c;
    if (weight < least_weight) break;
    add(c, weight);
  }
  return {0.5 * loss.whole / weights.whole, p * alpha.whole / weights.whole};
}

}  // namespace lamina
