// One query among features whose logits are all alike: the sum over the count c of its own feature, term by term positive. It shares
// nothing with the integral of feature_column.hpp, and keeps its relative accuracy however near the floor.
#pragma once
#include "task/task.hpp"

namespace lamina {

struct BinomialValue {
  double loss, alpha;  // L_k, and -dL/dA_k = p_k times -dL_k/dA_k
};

// Query k with logit A on its own feature and B on every other, finite N, masked, f linear:
//   c ~ Bin(N, p_k), M = N - c, Z = c e^A + M e^B, rho2 = sum_{m != k} (p_m / (1 - p_k))^2,
//   L_k = 1/2 E_c[ (M e^B / Z)^2 + e^{2B} (M (M-1) rho2 + M) / Z^2 ],   alpha_k = p_k E_c[ (c e^A / Z) (the same bracket) ].
// Given c, the other positions are M independent draws of the other features: sum_{m != k} c_m^2 has mean M (M-1) rho2 + M.
// At most N + 1 terms; those of a probability below 1e-300 times the largest are left out, so that O(sqrt N) remain of a long prompt.
BinomialValue binomial_value(const FeatureLaw& law, int64_t query, double A, double B);

}  // namespace lamina
