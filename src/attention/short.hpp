// Attention on many short sequences: a lane of every register is one key head, its queries and keys are walked one by one.
// The bits are those of forward.cpp and backward.cpp.
#pragma once
#include "attention/attention.hpp"

namespace lamina::attention {

// Whether a plan is run this way: decided by its shape and options alone.
bool is_short(const Plan& plan);

template <class T>
size_t short_workspace(const Plan& plan, int32_t direction);
template <class T>
void short_forward(const Plan& plan, const lamina_attention_arrays& arrays, char* memory);
template <class T>
void short_backward(const Plan& plan, const lamina_attention_arrays& arrays, char* memory);

}  // namespace lamina::attention
