// Closed forms of the tied model on in-context recall: xi_answer = lambda n_y, xi_tau = lambda n_y + ln(alpha / (1 - alpha)),
// all others 0 (constructions c0, n1_star, n1_prime, relu_selector). Derived from the system of arXiv 2505.15009.
#pragma once
#include "task/task.hpp"

namespace lamina {

// E ln(1 + (K - 1 - [alpha > 0]) (1 - alpha) exp(-lambda n_y)): the population loss minus the Bayes risk, at the same lambda for
// every trigger; K - 1 = N wrong tokens without noise, N - 1 with it.
double population_excess(const RecallLaw& law, double lambda);
// Its derivative, for one trigger of probability 1.
double population_excess_slope(const RecallLaw& law, double lambda);
// eta t / sqrt|Q|, eta t / |Q| or eta t: lambda after t steps of normalised descent from 0 under a uniform trigger law.
double lambda_after(const RecallLaw& law, double step_size, double steps, const std::string& normalisation);
// KL(alpha || estimate): the excess left when the noise is taken to be `estimate`.
double estimate_excess(double alpha, double estimate);
// sum_k P(k) alpha^k over k successors seen of the trigger when nothing forces one to be the answer (arXiv 2406.03068):
// Bayes risk = h(alpha) + (1 - alpha) ln(answers) sum.
double unforced_bayes_risk(double alpha, double answers, double mean_power);

}  // namespace lamina
