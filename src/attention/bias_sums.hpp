// The gradient of a bias that is broadcast: where d_bias has stride 0 along some axes of [n, H, L_q, L_k] it is the sum of dS
// along them. What is left is cut into tiles, as blocks of queries and chunks of keys cut it. One thread makes a tile: of all
// blocks and chunks that belong to it dS is made again, in ascending order of (sequence, head, block, chunk), and added; so
// no array of [n, H, L_q, L_k] exists, and no bit depends on the threads. Sums are in double: of each row of a tile over its
// keys, of those over its rows, each where the axis is summed, and of tiles.
#pragma once
#include "attention/tile.hpp"

namespace lamina::attention {

// Memory of one thread.
struct BiasSums {
  double *sum = nullptr, *part = nullptr;  // a tile of d_bias [rows, cols]; of one tile of dS the sum over its rows
  BiasSums() = default;
  BiasSums(const Plan& plan, Carver& carver) {
    const bool any = plan.has(LAMINA_WITH_BIAS);
    sum = carver.take<double>(any ? plan.query_block : 0, plan.key_chunk);
    part = carver.take<double>(any ? plan.key_chunk : 0);
  }
};

// What is left, in tiles.
inline int64_t tiles_of_bias(const Plan& plan, const lamina_output& d_bias) {
  const int64_t extent[] = {plan.n, plan.H, plan.blocks(), plan.chunks()};
  int64_t tiles = 1;
  for (int k = 0; k < 4; ++k) tiles *= d_bias.stride[k] == 0 ? std::min<int64_t>(extent[k], 1) : extent[k];
  return tiles;
}

// sum [rows, cols] += dS of a tile, along an axis that is summed the sum of it
template <class T>
void add_to_bias(const BiasSums& w, const Block& block, const Tile<T>& tile, bool over_queries, bool over_keys, int64_t cols) {
  double* const sum = over_queries ? w.part : w.sum;
  if (over_queries) std::fill_n(sum, cols, 0.0);
  for (int64_t i = 0; i < block.rows; ++i) {
    const int64_t p = i / panel;
    double* const row = sum + (over_queries ? 0 : i * cols);
    double of_row = 0;
    for (int64_t j = tile.seen[p].first; j < tile.seen[p].last; ++j) {
      if (!tile.sees(p, j, i % panel)) continue;
      (over_keys ? of_row : row[j]) += static_cast<double>(tile.g[tile.at(p, j) + i % panel]);
    }
    if (over_keys) row[0] += of_row;
  }
  for (int64_t j = 0; over_queries && j < cols; ++j) w.sum[j] += sum[j];
}

// Tile `item` of d_bias. again(b, h, index, chunk, add) calls add(block, tile) with dS of block `index` of a head against a
// chunk, unless the block sees none of it.
template <class T, class Again>
void sum_of_bias(const Call<T>& call, const BiasSums& w, int64_t item, const Again& again) {
  const Plan& plan = call.plan;
  const lamina_output& d_bias = call.arrays.d_bias;
  const int64_t extent[] = {plan.n, plan.H, plan.blocks(), plan.chunks()};
  int64_t first[4], last[4];
  for (int k = 3; k >= 0; --k) {
    const bool all = d_bias.stride[k] == 0;
    first[k] = all ? 0 : item % extent[k];
    last[k] = all ? extent[k] : first[k] + 1;
    if (!all) item /= extent[k];
  }
  const bool over_queries = d_bias.stride[2] == 0, over_keys = d_bias.stride[3] == 0;
  const int64_t i0 = first[2] * plan.query_block, j0 = first[3] * plan.key_chunk;
  const int64_t rows = over_queries ? 1 : std::min(plan.query_block, plan.L_q - i0);
  const int64_t cols = over_keys ? 1 : std::min(plan.key_chunk, plan.L_k - j0);
  std::fill_n(w.sum, rows * cols, 0.0);
  const auto add = [&](const Block& block, const Tile<T>& tile) { add_to_bias(w, block, tile, over_queries, over_keys, cols); };
  for (int64_t b = first[0]; b < last[0]; ++b)
    for (int64_t h = first[1]; h < last[1]; ++h)
      for (int64_t index = first[2]; index < last[2]; ++index)
        for (int64_t chunk = first[3]; chunk < last[3]; ++chunk) again(b, h, index, chunk, add);
  const Matrix<T> out = head<T>(d_bias, first[0], first[1]);
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < cols; ++j) *out.at(i0 + i, j0 + j) = static_cast<T>(w.sum[i * cols + j]);
}

}  // namespace lamina::attention
