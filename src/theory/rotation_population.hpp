// The blocks of linear attention on rotating sequences (arXiv 2405.16845): yhat_t = a b W G_t x_t, G_t = 1/(t-1) sum_{s<t} x_s x_s^H.
// With q_j = |x_j|^2, which W keeps, and uniform independent phases,
//   E x_t^H G_t x_t = E sum q_j^2,   E |G_t x_t|^2 = E sum q_j^3 + 1/(t-1) E sum_{r != j} q_j q_r^2,
// so the loss 1/2 sum_{t=2}^{T-1} E|yhat_t - x_{t+1}|^2 is 1/2 (C - 2 c A + c^2 B) for c = a b, least at c = A / B.
#pragma once
#include "task/task.hpp"

namespace lamina {

struct RotationPopulation {
  explicit RotationPopulation(const RotationLaw& law);

  double optimum() const { return A / B; }
  double excess(double c) const { return 0.5 * B * (c - optimum()) * (c - optimum()); }  // the loss minus its least value
  double slope(double c) const { return B * (c - optimum()); }
  // c of gradient flow from a = b, which it keeps: dc/dt = 2 c (A - B c) is logistic.
  double flow(double start, double time) const;

  double A, B;
  double infimum;  // (C - A^2 / B) / 2
  double square;   // E q_j over the coordinates that are not 0: c times it is the mean of yhat_j / x_j
};

}  // namespace lamina
