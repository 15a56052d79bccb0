// Linear attention on in-context linear regression (arXiv 2306.09927). Tokens e_n = (x_n, y_n), query e_q = (x_q, 0), E = [e_1 .. e_N e_q]:
//   yhat = last entry of  E + W_PV E E^T W_KQ E / N  in the query's column,   L = mean 1/2 (yhat - y_q)^2.
// variant=original, W_PV and W_KQ [d+1,d+1] literally: with p the last row of W_PV, K the first d columns of W_KQ, G = E E^T / N,
//   yhat = p^T G K x_q,   dp = delta G K x_q,   dK = delta G p x_q^T,   delta = yhat - y_q; no other entry has a gradient.
// variant=full, the blocks p = (0, u), K = (U, 0) that gradient flow never leaves: with h = 1/N sum_n y_n x_n
//   yhat = u h^T U x_q,   du = delta h^T U x_q,   dU = delta u h x_q^T.
#pragma once
#include "model/model.hpp"

namespace lamina {

std::unique_ptr<Model> make_regression_model(const Task& task, const Settings& settings, const kernels::InstructionSet& isa);

}  // namespace lamina
