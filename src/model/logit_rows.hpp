// What is read from the logits of one prompt, element j of each row at [j * stride].
#pragma once
#include <algorithm>

#include "kernels/scalar_math.hpp"
#include "model/model.hpp"
#include "model/soft_loss.hpp"

namespace lamina {

// The excess from logits x [n] and the residual r = weight (p - unit(label)); the places of label, answer and tau (-1: tau is
// not among them) and `absent` further logits 0.
template <class T>
double excess_from_residual(int64_t n, int64_t stride, const T* x, const T* r, double weight, int64_t label, int64_t answer,
                            int64_t tau, double absent, double loss, double noise) {
  const double alpha = answer == tau ? 0.0 : noise;
  if (alpha == 0 && label == answer) return loss;
  const double log_z = loss + x[label * stride];
  double sum[4] = {};
  for (int64_t j = 0; j < n; ++j)
    if (j != answer && j != tau && j != label) sum[j % 4] += r[j * stride];
  double rest = ((sum[0] + sum[1]) + (sum[2] + sum[3])) / weight;
  const auto p = [&](int64_t j) {
    return j == label ? kernels::exp(x[j * stride] - log_z) : static_cast<double>(r[j * stride]) / weight;
  };
  if (label != answer && label != tau) rest += p(label);
  if (absent > 0) rest += absent * kernels::exp(-log_z);
  const bool has_tau = tau >= 0 && tau != answer;
  return excess_of({x[answer * stride] - log_z, has_tau ? x[tau * stride] - log_z : 0.0, p(answer), has_tau ? p(tau) : 0.0, rest, 0.0},
                   alpha);
}

// Adds one prompt to the metrics but for the masses; rows [K] are contiguous, r is the residual of weight 1.
template <class T>
void add_logit_metrics(int64_t K, const T* x, const T* r, const T* attention, const T* feed_forward, double loss, double weight,
                       int32_t label, int32_t answer, double noise, Metrics& m) {
  const double log_z = loss + x[label];
  m.loss.loss += weight * loss;
  m.loss.excess += weight * excess_from_residual(K, 1, x, r, 1.0, label, answer, K - 1, 0.0, loss, noise);
  m.accuracy += weight * (std::max_element(x, x + K - 1) - x == answer);
  m.attention_accuracy += weight * (std::max_element(attention, attention + K) - attention == answer);
  m.feed_forward_noise += weight * (std::max_element(feed_forward, feed_forward + K) - feed_forward == K - 1);
  m.answer_probability += weight * kernels::exp(x[answer] - log_z);
  m.noise_probability += weight * kernels::exp(x[K - 1] - log_z);
}

inline Metrics sum_of(const std::vector<Metrics>& parts) {
  Metrics sum;
  static_assert(sizeof(Metrics) % sizeof(double) == 0);
  for (const Metrics& part : parts)
    for (size_t i = 0; i < sizeof(Metrics) / sizeof(double); ++i)
      reinterpret_cast<double*>(&sum)[i] += reinterpret_cast<const double*>(&part)[i];
  return sum;
}

}  // namespace lamina
