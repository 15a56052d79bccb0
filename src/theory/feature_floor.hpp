// Infima over Q of the population losses of feature_population.hpp: what is left at a finite prompt length.
#pragma once
#include "kernels/kernels.hpp"
#include "task/task.hpp"

namespace lamina {

// inf over the logits of L_k. NaN where none is built in: relu whose best linear weights are not all positive, for a class of
// functions that is not the identity.
//   N = infinity: 0.
//   softmax: A -> infinity, so that only prompts without the query's feature count: (1 - p_k)^N min over the other logits of
//     1/2 E[a^T D a | c_k = 0]; for equal p it is 1/2 (1-1/K)^N (1 + 1/(K-1) + (1-1/(K-1))/N). Features on which f always is what
//     it is on the query's count as the query's.
//   softmax, the query unmasked: 1/2 E 1/(c_k+1)^2; of a general Gm the least of four descents, from attention to the query's
//     feature alone, to others, and between (not convex: no proof that it is the least).
//   linear, relu: 1/2 (1 - p_k) / (1 + (N-1) p_k), or the least squares of a general Gm.
double infimum_of(const FeatureLaw& law, kernels::Map map, int64_t query);
// sum_k p_k inf L_k
double infimum_of(const FeatureLaw& law, kernels::Map map);

}  // namespace lamina
