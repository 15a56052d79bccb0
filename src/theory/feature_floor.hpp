// Infima over Q of the population losses of feature_population.hpp: what is left at a finite prompt length.
#pragma once
#include "kernels/kernels.hpp"
#include "task/task.hpp"

namespace lamina {

// inf over the logits of L_k.
//   N = infinity: 0.
//   softmax: A -> infinity, so that only prompts without the query's feature count: (1 - p_k)^N min over the other logits of
//     1/2 E[a^T D a | c_k = 0]; for equal p it is 1/2 (1-1/K)^N (1 + 1/(K-1) + (1-1/(K-1))/N). Features on which f always is what
//     it is on the query's count as the query's.
//   softmax, the query unmasked: 1/2 E 1/(c_k+1)^2; of a general Gm the least of four descents, from attention to the query's
//     feature alone, to others, and between (not convex: no proof that it is the least).
//   linear, relu: 1/2 (1 - p_k) / (1 + (N-1) p_k); for a general Gm the least squares over all weights, or over those >= 0, which
//     relu is confined to (a convex problem, solved exactly). The factor O(K^3) is shared by the queries, relu has its own for each.
double infimum_of(const FeatureLaw& law, kernels::Map map, int64_t query);
// sum_k p_k inf L_k
double infimum_of(const FeatureLaw& law, kernels::Map map);

}  // namespace lamina
