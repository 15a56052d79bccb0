// Matrices of as many entries as a register has lanes, into one matrix of registers and back (short_table.hpp).
#pragma once
#include "kernels/veneer.hpp"

namespace lamina::kernels {
namespace {

// `count` runs of `length` elements, run r of entry l from x[l] + r * x_run by steps of 1, at y + r * y_run by steps of y_step:
// whole registers of one entry each, transposed.
template <class T, class Body>
LAMINA_INLINE void each_run(int64_t count, int64_t length, const Body& body) {
  for (int64_t r = 0; r < count; ++r)
    for (int64_t e = 0; e < length; e += width<T>) body(r, e, length - e < width<T> ? length - e : width<T>);
}

// How a matrix [rows, cols] is read in runs of neighbouring elements; length 0: it has none.
struct Runs {
  int64_t count, length;
  int64_t x_run;          // from run to run in memory
  int64_t y_run, y_step;  // in registers
  LAMINA_INLINE Runs(int64_t rows, int64_t cols, int64_t x_row, int64_t x_col) {
    if ((x_col == 1 && x_row == cols) || (rows == 1 && x_col == 1))
      *this = {1, rows * cols, 0, 0, 1};
    else if (x_col == 1)
      *this = {rows, cols, x_row, cols, 1};
    else if (x_row == 1)
      *this = {cols, rows, x_col, 1, cols};
    else
      *this = {0, 0, 0, 0, 0};
  }
  LAMINA_INLINE Runs(int64_t n, int64_t l, int64_t xr, int64_t yr, int64_t ys)
      : count(n), length(l), x_run(xr), y_run(yr), y_step(ys) {}
};

template <class T>
void short_interleave(int64_t rows, int64_t cols, T factor, const T* const* x, int64_t x_row, int64_t x_col, T* y) {
  constexpr int w = width<T>;
  const Runs runs(rows, cols, x_row, x_col);
  if (runs.length == 0) {
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < cols; ++c, y += w)
        for (int l = 0; l < w; ++l) y[l] = factor * x[l][r * x_row + c * x_col];
    return;
  }
  const Batch<T> by = splat(factor);
  each_run<T>(runs.count, runs.length, [&](int64_t r, int64_t e, int64_t n) LAMINA_INLINE_LAMBDA {
    Batch<T> part[w];
    const int64_t at = r * runs.x_run + e;
    const auto read = [&](auto... tail)
                          LAMINA_INLINE_LAMBDA { unroll<w>([&](int l) LAMINA_INLINE_LAMBDA { part[l] = load(x[l] + at, tail...); }); };
    n == w ? read() : read(Tail<T>(n));
    transpose(part);
    T* const to = y + (r * runs.y_run + e * runs.y_step) * w;
    unroll<w>([&](int l) LAMINA_INLINE_LAMBDA {
      if (l < n) store(to + l * runs.y_step * w, by * part[l]);
    });
  });
}

template <class T>
void short_separate(int64_t count, int64_t rows, int64_t cols, T factor, const T* y, T* const* x, int64_t x_row,
                    int64_t x_col) {
  constexpr int w = width<T>;
  const Runs runs(rows, cols, x_row, x_col);
  if (runs.length == 0) {
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < cols; ++c, y += w)
        for (int64_t l = 0; l < count; ++l) x[l][r * x_row + c * x_col] = factor * y[l];
    return;
  }
  const Batch<T> by = splat(factor);
  each_run<T>(runs.count, runs.length, [&](int64_t r, int64_t e, int64_t n) LAMINA_INLINE_LAMBDA {
    Batch<T> part[w];
    const T* const from = y + (r * runs.y_run + e * runs.y_step) * w;
    unroll<w>([&](int l) LAMINA_INLINE_LAMBDA { part[l] = l < n ? by * load(from + l * runs.y_step * w) : by; });
    transpose(part);
    const int64_t at = r * runs.x_run + e;
    if (n == w && count == w)
      unroll<w>([&](int l) LAMINA_INLINE_LAMBDA { store(x[l] + at, part[l]); });
    else
      unroll<w>([&](int l) LAMINA_INLINE_LAMBDA {
        if (l < count) store(x[l] + at, part[l], Tail<T>(n));
      });
  });
}

}  // namespace
}  // namespace lamina::kernels
