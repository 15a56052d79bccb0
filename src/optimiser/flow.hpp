// Gradient flow dx/dt = -gradient(x), one update for each stretch of time step_size: Dormand and Prince's pair of orders 5 and 4 with
// error control takes steps of its own length, and its continuous extension gives x at the end of each stretch.
#pragma once
#include "optimiser/optimiser.hpp"

namespace lamina {

std::unique_ptr<Optimiser> make_flow(const Settings& settings, size_t parameters, Slope slope);

}  // namespace lamina
