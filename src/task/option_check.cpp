// Consistency errors of options, and laws from weights.
#include "task/option_check.hpp"

#include <cmath>

#include "base/error.hpp"

namespace lamina {

void fail_option(const std::string& key, const std::string& value, const std::string& allowed) {
  fail(LAMINA_E_OPTION, key + " is " + value + ", must be " + allowed);
}

std::vector<double> law_from_weights(const char* key, std::span<const double> weights, int64_t count) {
  if (weights.empty()) return std::vector<double>(static_cast<size_t>(count), 1 / static_cast<double>(count));
  const std::string size = std::to_string(weights.size());
  if (static_cast<int64_t>(weights.size()) != count)
    fail_option(key, "an array of " + size, "empty or an array of " + std::to_string(count));
  double sum = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    if (!(weights[i] >= 0)) fail_option(key, number_text(weights[i]) + " at index " + std::to_string(i), ">= 0 everywhere");
    sum += weights[i];
  }
  if (!(sum > 0 && std::isfinite(sum))) fail_option(key, "an array with sum " + number_text(sum), "of positive, finite sum");
  std::vector<double> law(weights.begin(), weights.end());
  for (double& p : law) p /= sum;
  return law;
}

}  // namespace lamina
