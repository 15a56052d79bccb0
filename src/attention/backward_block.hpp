// Backward: the memory of one thread and of all, and a block of queries, loaded.
#pragma once
#include "attention/bias_sums.hpp"
#include "attention/segments.hpp"

namespace lamina::attention {

// Scratch of one thread.
template <class T>
struct Scratch {
  T *q_t, *do_t;                     // (c Q)^T [panels, d, 16], dO^T [panels, d_v, 16]
  T *q, *d_o, *k;                    // rows with contiguous features
  T *s, *g;                          // tiles of a block: one, or all (plan.keep_tiles)
  uint8_t* visible;                  // likewise
  Tile<T>* tiles;                    // likewise
  T *dq, *add, *ones;                // sum of a block [stride], that of one tile [16]; 1 for each query of a panel
  Sums<T> total, partial;            // of a key head [L_k] or of a chunk, and of a segment; not Sweep::segments
  T *m, *m_any, *sum, *sum_any, *d;  // maximum of S, sum of P, sum of P G; _any: written and not read
  T *divisor, *shift;                // N (softmax: 1/N) and D - dlse
  int64_t* seen;                     // keys seen
  BiasSums bias;                     // of a tile of dbias where it is a sum

  Scratch(const Plan& plan, Carver& carver) {
    using kernels::padded;
    const int64_t stride = padded(plan.query_block), d_row = padded(plan.d), dv_row = padded(plan.d_v), keys = plan.key_chunk;
    const int64_t count = plan.keep_tiles ? plan.chunks() : 1;
    const int64_t summed_keys = plan.sweep == Sweep::key_head ? plan.L_k : plan.sweep == Sweep::twice ? keys : 0;
    q_t = carver.take<T>(plan.d, stride);
    do_t = carver.take<T>(plan.d_v, stride);
    q = carver.take<T>(plan.query_block, d_row);
    d_o = carver.take<T>(plan.query_block, dv_row);
    k = carver.take<T>(keys, d_row);
    s = carver.take<T>(count * keys, stride);
    g = carver.take<T>(count * keys, stride);
    visible = carver.take<uint8_t>(count * keys, stride);
    tiles = carver.take<Tile<T>>(count);
    dq = carver.take<T>(stride, d_row);
    add = carver.take<T>(panel, d_row);
    ones = carver.take<T>(panel);
    if (ones) std::fill_n(ones, panel, T(1));
    total = Sums<T>(plan, summed_keys, carver);
    partial = Sums<T>(plan, plan.parts() > 1 ? summed_keys : 0, carver);
    for (T** row : {&m, &m_any, &sum, &sum_any, &d, &divisor, &shift}) *row = carver.take<T>(stride);
    seen = carver.take<int64_t>(stride);
    bias = BiasSums(plan, carver);
  }
};

// What the threads of one call share.
template <class T>
struct Shared {
  T* rows;         // m, divisor, shift of every block (Sweep::twice, or for sums of dbias) [n, H, blocks, 3, stride]
  double* dscale;  // of every block [n, H, blocks]
  Shared(const Plan& plan, Carver& carver) {
    const bool any = plan.sweep == Sweep::twice || plan.has(LAMINA_WITH_BIAS);
    rows = carver.take<T>(any ? plan.n * plan.H * plan.blocks() : 0, 3 * kernels::padded(plan.query_block));
    dscale = carver.take<double>(plan.n * plan.H, plan.blocks());
  }
};

// A block of queries of one head, loaded.
template <class T>
struct Queries {
  int64_t b, h, index;
  Head<T> head;
  Block block;
  Matrix<const T> d_lse, d_weights;
  Matrix<T> d_bias;
  Rows<T> q, d_o;

  // 1. (c Q)^T, dO^T, and their rows
  Queries(const Call<T>& call, const Scratch<T>& w, int64_t b_, int64_t h_, int64_t index_)
      : b(b_),
        h(h_),
        index(index_),
        head(call, b, h),
        block(call.plan, head.band, call.queries(b), index),
        d_lse(call.of_queries(call.arrays.d_lse, b, h)),
        d_weights(attention::head<T>(call.arrays.d_weights, b, h)),
        d_bias(sums_bias(call.plan, call.arrays) ? Matrix<T>() : attention::head<T>(call.arrays.d_bias, b, h)) {
    const Matrix<const T> cotangent = call.of_queries(call.arrays.d_o, b, h);
    transpose(call, block, call.plan.d, call.query_factor, head.q, w.q_t);
    transpose(call, block, call.plan.d_v, T(1), cotangent, w.do_t);
    q = contiguous(head.q, block.i0, block.rows, call.plan.d, w.q);
    d_o = contiguous(cotangent, block.i0, block.rows, call.plan.d_v, w.d_o);
  }
};

}  // namespace lamina::attention
