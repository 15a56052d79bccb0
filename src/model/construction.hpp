// The fixed forms of W, V, U, F behind the named initialisations: Bayes-optimal one-layer transformers for in-context recall
// (the system of arXiv 2505.15009; forms reconstructed, see the description of the task).
//   W = sum_q E(q) (lambda_q Et(q) - (kappa lambda_q + beta) E(tau))^T
//   V = s (I - v E(tau) E(tau)^T),   U = [E(0) .. E(N)]^T,   F = E(tau) f^T,  f = f_0 + l f_l + s f_s,
// where l stands for the noise logit ln(alpha / (1 - alpha)).
//   c0            kappa = 0, v = 0, f = 0                                         noiseless, linear or relu
//   n1_star       kappa = 0, v = 1, f = sum_{j not in Q} E(j) + l sum_q E(q)        noisy, linear or relu
//   n1_prime      kappa = 0, v = 0, f = sum_q Et(q) - 2 E(tau) + l sum_q E(q)       noisy, linear or relu
//   c1            kappa = 0, v = 0, f = 0                                         noiseless, softmax; needs s -> infinity
//   n2            kappa = 1, v = 0, f = (s + l) sum_q E(q)                        noisy, softmax; needs s -> infinity
//   relu_selector kappa = 1, v = 0, f as n1_star (0 if noiseless)                 relu
// With the feed-forward part on the query alone (g = x_H) f keeps its part on x_H: f = (f_s s + l) sum_q E(q).
#pragma once
#include <vector>

#include "task/task.hpp"

namespace lamina {

struct Construction {
  double kappa = 0, beta = 0;
  bool value_skips_tau = false;                  // v
  bool feed_forward = false;                     // F is not 0
  bool reads_attention = false;                  // g = x_H + phi
  std::vector<double> f_constant, f_logit, f_scale;  // f_0, f_l, f_s [D]
};

// The form `name` ("c0", ...; "zero" and "gaussian" mean the recommended one for this noise and attention).
Construction make_construction(const std::string& name, const RecallLaw& law, bool softmax, const std::string& feed_forward,
                               double suppression);

// ln(alpha / (1 - alpha)); 0 for alpha = 0, where no construction reads it.
double noise_logit(double alpha);

}  // namespace lamina
