// The one-layer decoder of next-token prediction (arXiv 2409.17335): of a sentence X = (x_1 .. x_L) of one-hot tokens
//   a = softmax(X^T W_kq x_L),  xi = W_ov X a,  p = softmax(xi),  L = mean -log p_label.
// W_kq[x, q] and W_ov[y, x] are [V, V]; a sentence of one token is a collocation, xi = W_ov[., x]. With r_y = p_y - [y = label],
// h_x = sum_y r_y W_ov[y, x] and b_x the weight of all copies of token x:
//   dL/dW_ov[y, x] = r_y b_x,   dL/dW_kq[x, q] = b_x (h_x - sum_z b_z h_z).
// Near convergence both factors are small differences: r_label is minus the sum of the others, never p - 1, and h is taken
// relative to the token that has most of the attention, whose own slope is minus the sum of the others'.
// The excess is what the attention costs: the loss minus that of the same W_ov on the optimal token x alone,
//   log1p(sum_y e^{-m_y} (e^{d_y} - 1) / (1 + sum_y e^{-m_y})),  m_y = W_ov[label, x] - W_ov[y, x],
//   d_y = sum_{z != x} b_z (m_y - (W_ov[label, z] - W_ov[y, z])),  y != label.
#pragma once
#include <memory>

#include "model/model.hpp"

namespace lamina {

std::unique_ptr<Model> make_decoder_model(const Task& task, const Settings& settings, const kernels::InstructionSet& isa);

}  // namespace lamina
