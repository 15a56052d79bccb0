// The signals of the phases.
#include "theory/feature_phase.hpp"

#include <algorithm>
#include <cmath>

namespace lamina {
namespace {

// Whether alpha_k falls over a short stretch of gradient flow. It moves no logit by more than 1e-6, so that the peak is found that early
// at most; and alpha_k, right to some 1e-15 of itself, is told from its neighbour where the peak is more than 1e-8 away.
bool increment_falls(const FeatureColumn& column, std::span<const double> logits, const std::vector<double>& descent, ColumnIntegral& integral) {
  double largest = 0;
  for (double d : descent) largest = std::max(largest, std::abs(d));
  if (!(largest > 0)) return false;
  std::vector<double> later(logits.begin(), logits.end());
  for (size_t n = 0; n < later.size(); ++n) later[n] += 1e-6 * (descent[n] / largest);
  ColumnValue value;
  integral.evaluate(column, later, false, value);
  return value.descent[0] < descent[0];
}

}  // namespace

int phase_of(const FeatureColumn& column, std::span<const double> logits, const ColumnValue& value, ColumnIntegral& integral) {
  if (!std::isfinite(value.loss)) return 0;
  const std::vector<double>& p = column.probability;
  const auto leader = static_cast<size_t>(std::max_element(p.begin() + 1, p.end()) - p.begin());
  if (p[leader] > p[0] && value.attention[0] < value.attention[leader]) {
    // The column's slopes sum to 0: alpha_k < |beta_{k,m}| is where the others' sum is positive, which is 0 if there are none.
    double others = 0;
    for (size_t n = 1; n < p.size(); ++n) others += (column.multiplicity[n] - (n == leader ? 1 : 0)) * value.descent[n];
    return others > 0 ? 1 : 2;
  }
  return increment_falls(column, logits, value.descent, integral) ? 4 : 3;
}

const char* phaseless(const FeatureLaw& law) {
  if (!law.moments.empty()) return "second_moments is given, must be empty for phases";
  return law.length == 1 ? "prompt_length is 1, must be at least 2 for phases: attention to one key has no gradient" : nullptr;
}

}  // namespace lamina
