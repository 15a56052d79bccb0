// Closed forms of the training of softmax attention on features (the system of arXiv 2310.05249; derived, see the task's
// description): gradient flow from Q = 0 at N = infinity, and what a trajectory is held against.
#pragma once
#include "task/task.hpp"
#include "theory/feature_column.hpp"

namespace lamina {

// The column of a feature of probability p among K - 1 others that are alike: with a = E a_k, L_k = 1/2 (1-a)^2 K/(K-1) and
//   da/dt = p (K/(K-1))^2 a^2 (1-a)^3,  so  p (K/(K-1))^2 t = F(a) - F(p),   F(a) = 3 ln(a/(1-a)) - 1/a + 2/(1-a) + 1/(2(1-a)^2).
double flow_integral(double a);
// t at which attention is a, and at which L_k is eps; attention at time t after it was `start`.
double flow_time(double K, double p, double attention);
double flow_time_to_loss(double K, double p, double eps);
double flow_attention(double K, double p, double time, double start);

// Whether a curve of the excess is predicted, in one line what it is, and its value at eta t: exact flow at N = infinity for equal
// p; with one dominant feature its exact flow, and for the others, from the blow-up at eta t = K^2 / (1 - p_1) (K large) where their
// attention is 1/2, the flow of equal features; NaN before; else the limit K / (4 eta t), NaN where that is above 1/8.
bool has_prediction(const FeatureLaw& law);
const char* feature_prediction(const FeatureLaw& law);
double predicted_excess(const FeatureLaw& law, double time);

// The phase of descent that query k is in, by gradient signals alone (alpha_k and beta_{k,n} are minus the population gradient by
// A_k and B_{k,n}; feature m is the most probable other one):
//   1 suppression: alpha_k < |beta_{k,m}|, which is where beta_{k,n} > 0 for the features that are neither;
//   2 switching:   alpha_k leads, and attention to m still exceeds attention to k;
//   3 growth:      attention to k exceeds attention to m, and is below 1/2;
//   4 convergence: attention to k is at least 1/2.
// Equal features begin in 2 or 3 (attentions start equal): growth, then convergence; a dominant query in 3 or 4.
int phase_of(const FeatureLaw& law, int64_t query, const ColumnValue& column);

}  // namespace lamina
