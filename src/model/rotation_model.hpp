// Linear attention on sequences of complex vectors (arXiv 2405.16845). Tokens e_t = (x_t, x_{t-1}), x_0 = 0, E_t = [e_1 .. e_t]:
//   yhat_t = P M_t Q e_t / (t-1),  M_t = E_t E_t^H,  P = W_PV [d,2d], Q = W_KQ [2d,2d];  L = mean 1/2 sum_{t=2}^{T-1} |yhat_t - x_{t+1}|^2.
// variant=original, P and Q literally, as real and imaginary parts: with v = M_t Q e_t / (t-1), r = yhat_t - x_{t+1}
//   dP = sum_t r v^H,   dQ = sum_t M_t P^H r e_t^H / (t-1)   (d/dRe + i d/dIm).
// variant=full, Q[d:, :d] = a I, P[:, :d] = b I, 0 elsewhere: yhat_t = a b g_t, g_t = 1/(t-1) sum_{s<t} x_{s+1} x_s^H x_t.
#pragma once
#include "model/model.hpp"

namespace lamina {

std::unique_ptr<Model> make_rotation_model(const Task& task, const Settings& settings, const kernels::InstructionSet& isa);

}  // namespace lamina
