// The least loss of one column over its logits, among them those at infinity.
#pragma once
#include <vector>

#include "theory/feature_column.hpp"

namespace lamina {

// The least loss found over the logits of a column of finite N with D given, where a query of probability 0 has no logit of its own. The
// loss is not convex, and its infimum may lie where some logits are infinitely far below others. So logits have levels: with S_1, S_2, ..
// the groups of each from the top, down to that of an unmasked query, which is a key of every prompt,
//   L = sum_i P(no key is above level i) L_i,   L_i the loss of S_i given that, prompts without a key of S_i counting for nothing.
// A descent follows Newton's method with the exact Hessian, whose diagonal gains as much of the sums of its absolute rows as makes it
// positive definite, to a decrement of 1e-14 of the loss; what falls as e^{-x} is sent on, to a level of its own once it has no weight.
// Descents begin at equal logits; at those that favour values near the query's, as the third and the eighth power of their distance; at
// two random ones; and at the least found with its levels brought together. Beyond 8 groups not at random ones, beyond 30 only at the
// first two, beyond 100 only at equal ones. So the value is a limit of losses, never below the infimum; that no other basin is deeper has no proof.
// NaN where double cannot hold the sums.
double least_loss(const FeatureColumn& column);

}  // namespace lamina
