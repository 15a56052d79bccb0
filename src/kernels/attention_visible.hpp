// What mask and bias let a panel of queries see (attention_table.hpp), once per instruction set: read row by row as they stand,
// for most panels are seen whole or not at all, and brought to the layout of a panel only where neither holds.
#pragma once
#include "kernels/attention_product.hpp"
#include "kernels/elementary.hpp"

namespace lamina::kernels {
namespace {

// 16 bytes, a register of every set.
using Bytes = uint8_t __attribute__((vector_size(16)));
LAMINA_INLINE Bytes load_bytes(const uint8_t* p) {
  Bytes x;
  __builtin_memcpy(&x, p, sizeof x);
  return x;
}
LAMINA_INLINE bool any_bit(Bytes x) {
  uint64_t half[2];
  __builtin_memcpy(half, &x, sizeof x);
  return (half[0] | half[1]) != 0;
}
LAMINA_INLINE Bytes ones_where(Bytes x) {
  return reinterpret_cast<Bytes>(x != 0) & 1;
}

// Row l of 16 becomes column l: four times rows k and k + 8 are interleaved.
LAMINA_INLINE void transpose_bytes(Bytes (&x)[16]) {
#pragma GCC unroll 1
  for (int stage = 0; stage < 4; ++stage) {
    Bytes y[16];
    unroll<8>([&](int k) LAMINA_INLINE_LAMBDA {
      y[2 * k] = __builtin_shufflevector(x[k], x[k + 8], 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
      y[2 * k + 1] = __builtin_shufflevector(x[k], x[k + 8], 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    });
    unroll<16>([&](int k) LAMINA_INLINE_LAMBDA { x[k] = y[k]; });
  }
}

LAMINA_INLINE Seen seen_of(bool some, bool not_all) {
  return !some ? Seen::none : not_all ? Seen::some : Seen::all;
}

__attribute__((noinline)) Seen seen_by_mask(int64_t rows, int64_t keys, const uint8_t* mask, int64_t row, int64_t col) {
  bool some = false, not_all = false;
  for (int64_t i = 0; i < (row == 0 ? 1 : rows) && !(some && not_all); ++i) {
    const uint8_t* x = mask + i * row;
    int64_t j = 0;
    Bytes seen = {}, hidden = {};
    for (; col == 1 && j + 16 <= keys; j += 16) {
      const Bytes part = load_bytes(x + j);
      seen |= part;
      hidden |= reinterpret_cast<Bytes>(part == 0);
    }
    some = some || any_bit(seen), not_all = not_all || any_bit(hidden);
    for (; j < keys; ++j) (x[opaque(j) * col] != 0 ? some : not_all) = true;
  }
  return seen_of(some, not_all);
}

template <class T>
LAMINA_INLINE Seen seen_by_bias(int64_t rows, int64_t keys, const T* bias, int64_t row, int64_t col) {
  const Batch<T> lowest = splat(-Numbers<T>::infinity), zero = splat(T(0)), one = splat(T(1));
  bool some = false, not_all = false;
  for (int64_t i = 0; i < (row == 0 ? 1 : rows) && !(some && not_all); ++i) {
    const T* x = bias + i * row;
    int64_t j = 0;
    Batch<T> hidden[4] = {zero, zero, zero, zero};  // how many
    constexpr int64_t step = 4 * width<T>;
    for (; col == 1 && j + step <= keys; j += step)
      unroll<4>([&](int l) LAMINA_INLINE_LAMBDA {
        hidden[l] = hidden[l] + select(load(x + j + l * width<T>) == lowest, one, zero);
      });
    const T count = fold_sum((hidden[0] + hidden[2]) + (hidden[1] + hidden[3]));
    some = some || count < static_cast<T>(j), not_all = not_all || count > T(0);
    for (; j < keys; ++j) (x[opaque(j) * col] == -Numbers<T>::infinity ? not_all : some) = true;
  }
  return seen_of(some, not_all);
}

__attribute__((noinline)) void put_mask(int64_t rows, int64_t keys, const uint8_t* mask, int64_t row, int64_t col, uint8_t* visible) {
  Bytes real;
  for (int i = 0; i < lanes; ++i) real[i] = i < rows ? 1 : 0;
  int64_t j = 0;
  for (; col == 1 && j + 16 <= keys; j += 16) {
    Bytes x[16];
    unroll<16>([&](int i) LAMINA_INLINE_LAMBDA { x[i] = load_bytes(mask + (i < rows ? i : rows - 1) * row + j); });
    transpose_bytes(x);
    unroll<16>([&](int l) LAMINA_INLINE_LAMBDA {
      const Bytes y = ones_where(x[l]) & real;
      __builtin_memcpy(visible + (j + l) * lanes, &y, sizeof y);
    });
  }
  for (; j < keys; ++j)
    for (int64_t i = 0; i < lanes; ++i) visible[j * lanes + i] = i < rows && mask[opaque(i) * row + j * col] != 0 ? 1 : 0;
}

template <class T>
LAMINA_INLINE void hide_by_bias(int64_t rows, int64_t keys, const T* bias, int64_t row, int64_t col, uint8_t* visible) {
  const Batch<T> lowest = splat(-Numbers<T>::infinity), zero = splat(T(0)), one = splat(T(1));
  int64_t j = 0;
  for (; col == 1 && j + columns<T> <= keys; j += columns<T>) {
    T seen[columns<T> * lanes];
    for (int64_t i = 0; i < lanes; i += width<T>) {
      const int64_t first = i < rows ? i : rows - 1;
      Batch<T> part[columns<T>];
      load_columns(bias + first * row + j, row, rows - 1 - first, part);
      unroll<columns<T>>([&](int c) LAMINA_INLINE_LAMBDA { store(seen + c * lanes + i, select(part[c] == lowest, zero, one)); });
    }
    for (int64_t at = 0; at < columns<T> * lanes; ++at)
      visible[j * lanes + at] &= static_cast<uint8_t>(static_cast<int32_t>(seen[at]));
  }
  for (; j < keys; ++j)
    for (int64_t i = 0; i < rows; ++i)
      visible[j * lanes + i] &= bias[opaque(i) * row + j * col] == -Numbers<T>::infinity ? 0 : 1;
}

template <class T>
Seen attention_visible(int64_t rows, int64_t keys, const uint8_t* mask, int64_t mask_row, int64_t mask_col, const T* bias,
                       int64_t bias_row, int64_t bias_col, uint8_t* visible) {
  const Seen by_mask = mask ? seen_by_mask(rows, keys, mask, mask_row, mask_col) : Seen::all;
  if (by_mask == Seen::none) return Seen::none;
  const Seen by_bias = bias ? seen_by_bias(rows, keys, bias, bias_row, bias_col) : Seen::all;
  if (by_bias == Seen::none) return Seen::none;
  if (by_mask == Seen::all && by_bias == Seen::all) return Seen::all;
  const uint8_t one = 1;
  if (by_mask == Seen::all) mask = &one, mask_row = mask_col = 0;
  put_mask(rows, keys, mask, mask_row, mask_col, visible);
  if (by_bias != Seen::all) hide_by_bias(rows, keys, bias, bias_row, bias_col, visible);
  return Seen::some;
}

}  // namespace
}  // namespace lamina::kernels
