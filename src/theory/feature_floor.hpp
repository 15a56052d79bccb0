// Infima over Q of the population losses of feature_population.hpp: what is left at a finite prompt length.
#pragma once
#include <optional>

#include "base/parallel.hpp"
#include "kernels/kernels.hpp"
#include "task/task.hpp"
#include "theory/least_squares.hpp"

namespace lamina {

// inf over the logits of L_k; NaN where a law's numbers are so far apart (1e300) that double cannot hold the sums.
//   N = infinity: 0.
//   softmax: A -> infinity, so that only prompts without the query's feature count: (1 - p_k)^N min over the other logits of
//     1/2 E[a^T D a | c_k = 0]; for equal p it is 1/2 (1-1/K)^N (1 + 1/(K-1) + (1-1/(K-1))/N). Features on which f always is what
//     it is on the query's count as the query's.
//   softmax, the query unmasked: 1/2 E 1/(c_k+1)^2.
//   softmax of a general Gm, masked (in place of that min) or not: the least loss found by several descents, of which some logits may end
//     at infinity (feature_minimum.hpp); no loss is below the infimum, but that none is below the value has no proof.
//   linear, relu: 1/2 (1 - p_k) / (1 + (N-1) p_k); for a general Gm the least squares over all weights, or over those >= 0, which
//     relu is confined to (a convex problem, solved exactly). The factor O(K^3) is shared by the queries, relu has its own for each.
double infimum_of(const FeatureLaw& law, kernels::Map map, int64_t query);
// sum_k p_k inf L_k. Of softmax with a general Gm, whose descents take milliseconds and more, queries are shared among the team's threads.
double infimum_of(const FeatureLaw& law, kernels::Map map, const Team& team = Team(1));

// Linear and relu attention at finite N, query by query: with g* the weights of the infimum, for relu over those >= 0, and
// y = M g* - b (0 for linear; for relu y >= 0 and y_n g*_n = 0),
//   L_k(g) - inf L_k = 1/2 (g - g*)^T M (g - g*) + y^T g,
//   M = (1 - 1/N) P Gm P + diag(Gm_nn p_n) / N,   b = (P Gm)_k,   P = diag(p).
// Terms of one sign, and no difference of losses: near g* the excess keeps the digits that g - g* has.
class LinearOptima {
 public:
  LinearOptima(FeatureLaw law, kernels::Map map);  // linear or relu
  double infimum(int64_t query);
  double excess(int64_t query, std::span<const double> g);  // g [K]: mapped scores

 private:
  struct Optimum {
    std::vector<double> g, slope;
  };
  std::vector<double> linear_term(int64_t query) const;
  const Optimum& optimum(int64_t query);

  FeatureLaw law_;
  kernels::Map map_;
  std::optional<LeastSquares> squares_;         // of a general Gm
  std::vector<std::optional<Optimum>> optima_;  // by query, made when first asked for
};

}  // namespace lamina
