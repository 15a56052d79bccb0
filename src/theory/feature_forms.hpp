// Closed forms of the training of softmax attention on features (the system of arXiv 2310.05249; derived, see the task's
// description): gradient flow from Q = 0 at N = infinity, and what a trajectory is held against.
#pragma once
#include "task/task.hpp"
#include "theory/feature_population.hpp"

namespace lamina {

// The column of a feature of probability p among K - 1 others that are alike: with a = E a_k, L_k = 1/2 (1-a)^2 K/(K-1) and
//   da/dt = p (K/(K-1))^2 a^2 (1-a)^3,  so  p (K/(K-1))^2 t = F(a) - F(p),   F(a) = 3 ln(a/(1-a)) - 1/a + 2/(1-a) + 1/(2(1-a)^2).
double flow_integral(double a);
// t at which attention is a, and at which L_k is eps; attention at time t after it was `start`.
double flow_time(double K, double p, double attention);
double flow_time_to_loss(double K, double p, double eps);
double flow_attention(double K, double p, double time, double start);

// To what t with L_k(t) = eps tends, eps -> 0, for every law: near attention 1, ln a_n of the other features falls by
// p_k (a_n (b + a_n) + b^2 + sum a^2) per unit of time, b = 1 - a_k their sum, whose one course that keeps its form has them equal,
// a_n^2 = 1 / (2 p_k K^2 t), L_k = (K - 1) / (4 K p_k t). Relative differences of the a_n vanish as t^(-(K+1)/(2 K^2)), slowly.
double late_time(double K, double p, double eps);

// Whether a curve of the excess is predicted, in one line what it is, and its value at eta t: exact flow at N = infinity for equal
// p; with one dominant feature its exact flow, and for the others, from the blow-up at eta t = K^2 / (1 - p_1) (K large) where their
// attention is 1/2, the flow of equal features; NaN before; else the limit (K - 1) / (4 eta t), NaN where that is above 1/8.
bool has_prediction(const FeatureLaw& law);
const char* feature_prediction(const FeatureLaw& law);
double predicted_excess(const FeatureLaw& law, double time);

// What rows of the registry share: the check of a Q [d,d], one of its columns [K], and the law's population.
void require_matrix(const FeatureLaw& law, std::span<const double> Q);
std::vector<double> logits_of(const FeatureLaw& law, std::span<const double> Q, int64_t query);
FeaturePopulation softmax_population(const FeatureLaw& law);

}  // namespace lamina
