// The soft loss of one prompt minus the Bayes risk, without cancellation.
#pragma once

namespace lamina {

// Excess = lse - (1 - a) x_answer - a x_tau - h(a) = KL(target || p), for the target (1 - a) on the answer and a on tau.
//   KL = sum_i t_i phi(p_i / t_i - 1) + p_rest,  phi(u) = u - log(1 + u) >= 0,
// a sum of non-negative terms, each with a small relative error. Here p = e_i / Z with Z = e_answer + e_tau + rest and e the
// exponentials of the logits minus a common shift; x_* are the shifted logits, log_z = log Z.
struct SoftmaxParts {
  double x_answer, x_tau;   // shifted logits
  double e_answer, e_tau;   // their exponentials
  double rest;              // sum of the exponentials of all others
  double log_z;             // log(e_answer + e_tau + rest)
};
struct SoftTarget {
  explicit SoftTarget(double alpha);
  double answer, tau, log_answer, log_tau;  // 1 - a, a
};
double excess_of(const SoftmaxParts& parts, const SoftTarget& target);
inline double excess_of(const SoftmaxParts& parts, double alpha) { return excess_of(parts, SoftTarget(alpha)); }

// h(a) = -a ln a - (1 - a) ln(1 - a) in nats.
double binary_entropy(double alpha);

}  // namespace lamina
