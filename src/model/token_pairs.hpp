// Attention over lists of token pairs, for prompts of so many distinct tokens that a grid would be mostly empty: what the pair
// kernels compute on grids, one lane after the other. Arrays as there, [L, 16]; A is [pairs].
#pragma once
#include <algorithm>

#include "model/token_prompts.hpp"

namespace lamina {

// The score of a pair, or the cotangent of its weight.
template <class T>
T pair_sum(const TokenBlock& block, const TokenPair& pair, int lane, const T* current, const T* previous) {
  const T x = current[pair.current * block_lanes + lane];
  return previous && pair.previous < block.names ? x + previous[pair.previous * block_lanes + lane] : x;
}

template <class T>
void add_pair(const TokenBlock& block, const TokenPair& pair, int lane, T x, T* current, T* previous) {
  current[pair.current * block_lanes + lane] += x;
  if (pair.previous < block.names) previous[pair.previous * block_lanes + lane] += x;
}

template <class T>
void list_forward(kernels::Map map, const kernels::Table<T>& table, const TokenBlock& block, const T* u, const T* v, T* a, T* c_current,
                  T* c_previous) {
  std::fill_n(c_current, block.names * block_lanes, T(0)), std::fill_n(c_previous, block.names * block_lanes, T(0));
  for (int lane = 0; lane < block.used; ++lane) {
    const int64_t first = block.pairs_at[lane], last = block.pairs_at[lane + 1];
    const auto weighted = [&](int64_t k, T x) { return static_cast<T>(block.pairs[k].count) * x; };
    const auto add = [&](int64_t k, T x) { add_pair(block, block.pairs[k], lane, x, c_current, c_previous); };
    if (map != kernels::Map::softmax) {
      for (int64_t k = first; k < last; ++k) {
        const T s = pair_sum(block, block.pairs[k], lane, u, v);
        add(k, weighted(k, map == kernels::Map::relu ? std::max(s, T(0)) : s));
      }
      continue;
    }
    for (int64_t k = first; k < last; ++k) a[k] = pair_sum(block, block.pairs[k], lane, u, v);
    const T maximum = *std::max_element(a + first, a + last);
    for (int64_t k = first; k < last; ++k) a[k] -= maximum;
    table.exp(last - first, a + first, a + first);
    T sum = 0;
    for (int64_t k = first; k < last; ++k) sum += a[k] = weighted(k, a[k]);
    const T scale = 1 / sum;
    for (int64_t k = first; k < last; ++k) add(k, a[k] *= scale);
  }
}

template <class T>
void list_backward(kernels::Map map, const TokenBlock& block, const T* u, const T* v, const T* a, const T* d_current,
                   const T* d_previous, T* g_current, T* g_previous) {
  std::fill_n(g_current, block.names * block_lanes, T(0)), std::fill_n(g_previous, block.names * block_lanes, T(0));
  for (int lane = 0; lane < block.used; ++lane) {
    const int64_t first = block.pairs_at[lane], last = block.pairs_at[lane + 1];
    T mean = 0;
    for (int64_t k = first; map == kernels::Map::softmax && k < last; ++k)
      mean += a[k] * pair_sum(block, block.pairs[k], lane, d_current, d_previous);
    for (int64_t k = first; k < last; ++k) {
      const TokenPair& pair = block.pairs[k];
      T ds = pair_sum(block, pair, lane, d_current, d_previous);
      if (map == kernels::Map::softmax)
        ds = a[k] * (ds - mean);
      else
        ds = map == kernels::Map::relu && pair_sum(block, pair, lane, u, v) < 0 ? T(0) : static_cast<T>(pair.count) * ds;
      add_pair(block, pair, lane, ds, g_current, g_previous);
    }
  }
}

// The weight of all positions of `current` after `previous`, tokens, in one lane after a forward pass on grid or list.
template <class T>
T pair_weight(kernels::Map map, const TokenBlock& block, const T* u, const T* v, const T* a, int lane, int32_t previous,
              int32_t current) {
  const int64_t i = block.name_of(previous, lane), j = block.name_of(current, lane);
  if (i < 0 || j < 0) return 0;
  TokenPair pair{static_cast<int32_t>(i), static_cast<int32_t>(j), 0};
  int64_t at = (i * block.names + j) * block_lanes + lane;
  if (block.is_grid()) {
    pair.count = block.cells[at];
  } else {
    for (at = block.pairs_at[lane]; at < block.pairs_at[lane + 1]; ++at)
      if (block.pairs[at].previous == pair.previous && block.pairs[at].current == pair.current) {
        pair.count = block.pairs[at].count;
        break;
      }
  }
  if (pair.count == 0) return 0;
  if (map == kernels::Map::softmax) return a[at];
  const T s = pair_sum(block, pair, lane, u, v);
  return static_cast<T>(pair.count) * (map == kernels::Map::relu ? std::max(s, T(0)) : s);
}

}  // namespace lamina
