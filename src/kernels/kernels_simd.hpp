// The one source of every kernel: with veneer.hpp set to one instruction set, the table of that set.
#pragma once
#include "kernels/attention_simd.hpp"
#include "kernels/elementary.hpp"
#include "kernels/few_simd.hpp"
#include "kernels/gemm.hpp"
#include "kernels/kernels.hpp"
#include "kernels/lanes.hpp"
#include "kernels/pair.hpp"
#include "kernels/row.hpp"

namespace lamina::kernels {
namespace {

template <class T>
inline constexpr Table<T> table_of_set = {
    .gemm = gemm<T>,
    .exp = exp_row<T>,
    .exp2 = exp2_row<T>,
    .log = log_row<T>,
    .log1p = log1p_row<T>,
    .expm1 = expm1_row<T>,
    .sum = sum_row<T>,
    .cross_entropy = cross_entropy<T>,
    .spread = spread<T>,
    .collect = collect<T>,
    .pair_forward = pair_forward<T>,
    .pair_backward = pair_backward<T>,
    .cross_entropies = cross_entropies<T>,
    .attention = attention_table<T>,
    .short_attention = short_table<T>,
};

}  // namespace
}  // namespace lamina::kernels
