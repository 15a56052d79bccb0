// Max-margin solutions of next-token prediction (arXiv 2409.17335) in closed form, for a task with a NextTokenLaw.
//   W_ov*: the least |W|_F with W[n(x), x] - W[y, x] >= 1 for all y != n(x): e_{n(x)} - 1/V in column x, |W_ov*|^2 = V - 1.
//   W_kq*: the least |W|_F with W[x, q] - W[z, q] >= 1 wherever a sentence of query q may have the optimal token x and another
//   z, that is wherever the level of x is above that of z: level minus mean level in column q, 0 for tokens never seen with q.
// Proof of the second: by columns; adjacent levels bind with multipliers that are sums of the entries above, which are positive
// since the entries descend and sum to 0.
#pragma once
#include <vector>

#include "task/task.hpp"

namespace lamina {

std::vector<double> feed_forward_max_margin(const NextTokenLaw& law);  // [V, V] as W_ov[y, x]
std::vector<double> attention_max_margin(const NextTokenLaw& law);     // [V, V] as W_kq[x, q]

// log(1 + (V - 1) exp(-eta t / sqrt(V - 1))): the loss of the collocations after t steps of l2-normalised descent from 0 with
// equal weights, which moves along W_ov* at every step.
double collocation_loss(double vocabulary, double step_size, double steps);

}  // namespace lamina
