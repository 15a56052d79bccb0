// The named constructions; the formulas are in construction.hpp.
#include "model/construction.hpp"

#include "kernels/scalar_math.hpp"

namespace lamina {

double noise_logit(double alpha) { return alpha > 0 ? kernels::log(alpha) - kernels::log1p(-alpha) : 0.0; }

Construction make_construction(const std::string& name, const RecallLaw& law, bool softmax, const std::string& feed_forward,
                               double suppression) {
  const int64_t K = law.vocabulary + 1, D = 2 * K, tau = law.vocabulary;
  const bool noisy = law.noise > 0;
  std::string form = name;
  if (name == "zero" || name == "gaussian") form = softmax ? (noisy ? "n2" : "c1") : (noisy ? "n1_star" : "c0");

  Construction c;
  c.f_constant.assign(D, 0.0), c.f_logit.assign(D, 0.0), c.f_scale.assign(D, 0.0);
  c.beta = suppression;
  c.kappa = form == "n2" || form == "relu_selector" ? 1 : 0;
  c.value_skips_tau = form == "n1_star";
  c.reads_attention = feed_forward == "query_and_attention";
  c.feed_forward = noisy && feed_forward != "none" && form != "c0" && form != "c1";
  if (!c.feed_forward) return c;

  for (int32_t q : law.triggers) c.f_logit[q] = 1;
  if (form == "n2")
    for (int32_t q : law.triggers) c.f_scale[q] = 1;
  if (!c.reads_attention) return c;
  if (form == "n1_star" || form == "relu_selector") {
    for (int64_t j = 0; j < tau; ++j) c.f_constant[j] = 1;
    for (int32_t q : law.triggers) c.f_constant[q] = 0;
  } else if (form == "n1_prime") {
    for (int32_t q : law.triggers) c.f_constant[K + q] = 1;
    c.f_constant[tau] = -2;
  }
  return c;
}

}  // namespace lamina
