// The reduced two-layer model of causal structure (arXiv 2402.14735): with x_i the token of position i and q = x_T the query,
//   P = softmax(A1) by rows over j <= i,  u_j = A2[q, x_j],  s = P u,  a = softmax(s),  f_y = sum of a_i with x_i = y,
//   L = mean -sum_y pi_y log(f_y + epsilon).
// A1 [T, T] attends by position and is the same for all prompts, A2 [S, S] by token. With g_y = -pi_y / (f_y + epsilon):
//   dL/ds_i = a_i (g_{x_i} - sum_k a_k g_{x_k}),  v = P^T dL/ds,  dL/dA2[q, x_j] = v_j summed over j,
//   dL/dP[i, j] = dL/ds_i u_j,  dL/dA1[i, j] = P_ij (dL/dP[i, j] - sum_k P_ik dL/dP[i, k]).
// The excess is that of causal_base.hpp, the same epsilon in both. It is no divergence: L at the posterior mean is within order
// epsilon^2 of the least that children allow.
#pragma once
#include "model/model.hpp"

namespace lamina {

// That model, or with variant=catformer the trained one (catformer_model.hpp).
std::unique_ptr<Model> make_causal_model(const Task& task, const Settings& settings, const kernels::InstructionSet& isa);

}  // namespace lamina
