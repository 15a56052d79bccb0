// Attention on short sequences. Many (short.cpp): a lane of every register is one key head, its queries and keys are walked one
// by one. Few (few.cpp): a lane is one query. And of one query or a few against many keys (keys.cpp): a lane is one key. The
// bits are those of forward.cpp and backward.cpp.
#pragma once
#include "attention/attention.hpp"

namespace lamina::attention {

// The most queries and keys, and features, of such plans; bias, mask, weights, scores and offsets they do not have.
inline constexpr int64_t short_tokens = 64, short_width = 32;

template <class T>
size_t short_workspace(const Plan& plan, int32_t direction);
template <class T>
void short_forward(const Plan& plan, const lamina_attention_arrays& arrays, char* memory);
template <class T>
void short_backward(const Plan& plan, const lamina_attention_arrays& arrays, char* memory);

template <class T>
size_t few_workspace(const Plan& plan, int32_t direction);
template <class T>
void few_forward(const Plan& plan, const lamina_attention_arrays& arrays, char* memory);
template <class T>
void few_backward(const Plan& plan, const lamina_attention_arrays& arrays, char* memory);

// The most queries of a plan that runs with a key a lane; weights and scores it does not have, nor backward a bias.
inline constexpr int64_t few_rows = 4;

template <class T>
size_t keys_workspace(const Plan& plan, int32_t direction);
template <class T>
void keys_forward(const Plan& plan, const lamina_attention_arrays& arrays, char* memory);
template <class T>
void keys_backward(const Plan& plan, const lamina_attention_arrays& arrays, char* memory);

}  // namespace lamina::attention
