// The soft loss of one prompt minus the Bayes risk; the identity is in soft_loss.hpp.
#include "model/soft_loss.hpp"

#include <cmath>

#include "kernels/scalar_math.hpp"

namespace lamina {
namespace {

// t phi(p / t - 1) for p = e / z; x - log_z = log p. Near 1, with r = u / (2 + u): phi = u r - 2 r^3 (1/3 + r^2/5 + ...),
// since log(1 + u) = 2 atanh(r).
double term(double t, double log_t, double e, double z, double x, double log_z) {
  if (t == 0) return e / z;
  const double u = (e - t * z) / (t * z);
  if (std::abs(u) > 0.1) return t * (u - (x - log_z - log_t));
  const double r = u / (2 + u), r2 = r * r;
  const double tail = 1.0 / 3 + r2 * (1.0 / 5 + r2 * (1.0 / 7 + r2 * (1.0 / 9 + r2 * (1.0 / 11 + r2 / 13))));
  return t * (u * r - 2 * r * r2 * tail);
}

}  // namespace

SoftTarget::SoftTarget(double alpha)
    : answer(1 - alpha), tau(alpha), log_answer(alpha > 0 ? kernels::log(1 - alpha) : 0.0), log_tau(alpha > 0 ? kernels::log(alpha) : 0.0) {}

double excess_of(const SoftmaxParts& p, const SoftTarget& target) {
  const double z = p.e_answer + p.e_tau + p.rest;
  // One term alone near p = 1: p_answer / 1 - 1 = -(rest + e_tau) / z, so that KL = -log p_answer = log1p of the odds.
  if (target.tau == 0 && p.e_answer > 0) {
    const double odds = (p.e_tau + p.rest) / p.e_answer;
    if (odds < 1e300) return kernels::log1p(odds);
    return p.log_z - p.x_answer;
  }
  return term(target.answer, target.log_answer, p.e_answer, z, p.x_answer, p.log_z) +
         term(target.tau, target.log_tau, p.e_tau, z, p.x_tau, p.log_z) + p.rest / z;
}

double binary_entropy(double alpha) {
  if (alpha <= 0 || alpha >= 1) return 0;
  return -alpha * kernels::log(alpha) - (1 - alpha) * kernels::log1p(-alpha);
}

}  // namespace lamina
