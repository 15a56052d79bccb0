// The kernels for work that belongs to no model and has no instruction set chosen for it: drawing of data.
#pragma once
#include "kernels/kernels.hpp"

namespace lamina::kernels {

// select(nullptr), or where the environment names no set that this CPU can run, the last: all have the same bits.
const InstructionSet& own_set();

}  // namespace lamina::kernels
