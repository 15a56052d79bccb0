// The model of in-context learning on features (arXiv 2310.05249), read literally on prompts:
//   s_i = x_i^T Q x_query,  a = softmax(s), or s / N, or max(s, 0) / N (relu'(0) = 1),  yhat = sum_i a_i y_i,
//   L = mean 1/2 (yhat - y_query)^2,   -dL/dQ = mean -(yhat - y_query) sum_i a_i (y_i - yhat) x_i x_query^T   (softmax).
// Tokens are features, so a prompt is counts c_n and sums of labels, its cost independent of d, and a column of Q sees only the
// prompts that ask for its feature. Prompts without values are averaged over f exactly: with b_n = c_n a_n and e = b - unit_query,
//   L = mean 1/2 e^T Gm e,   -dL/dQ[n, query] = mean -b_n ((Gm e)_n - b^T Gm e)   (softmax).
#pragma once
#include <memory>

#include "model/model.hpp"

namespace lamina {

std::unique_ptr<Model> make_feature_model(const Task& task, const Settings& settings, const kernels::InstructionSet& isa);

}  // namespace lamina
