// What the terms of the population of rotating sequences read of complex matrices [d,d], several in a row: Re and Im of the entries and
// of their sums.
#pragma once
#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

namespace lamina {

class RotationSums {
 public:
  // The entries, the diagonal, the sums along rows, along columns, of all, and of the diagonal.
  enum Kind : int64_t { entries, diagonal, rows, columns, total, trace };

  RotationSums(int64_t dimension, int64_t matrices)
      : d(dimension), shape(static_cast<size_t>(matrices), Shape::full), re(static_cast<size_t>(matrices * size(d))), im(re) {}

  static int64_t size(int64_t d) { return d * d + 3 * d + 2; }
  static int64_t offset(Kind kind, int64_t d) {
    return kind == entries ? 0 : kind == total ? d * d + 3 * d : kind == trace ? d * d + 3 * d + 1 : d * d + (kind - diagonal) * d;
  }

  // The four blocks of lags of a matrix whose row i is at from + i * stride, Re, and that far behind Im; times 1 and sign.
  void set_blocks(const double* from, int64_t behind, int64_t stride, double sign) {
    for (int64_t block = 0; block < std::ssize(shape); ++block)
      for (int64_t i = 0; i < d; ++i)
        for (int64_t j = 0; j < d; ++j) {
          const int64_t at_entry = (block / 2 * d + i) * stride + block % 2 * d + j;
          re[at(block, i, j)] = from[at_entry], im[at(block, i, j)] = sign * from[behind + at_entry];
        }
    reduce();
  }
  void set_keys(std::span<const double> Q, double sign) { set_blocks(Q.data(), 4 * d * d, 2 * d, sign); }
  // c I in one block, 0 in the others.
  void set_identity(int64_t block, double c) {
    std::ranges::fill(shape, Shape::zero);
    shape[static_cast<size_t>(block)] = Shape::scalar;
    for (int64_t i = 0; i < d; ++i) re[at(block, i, i)] = c;
    reduce();
  }

  // The sums of all matrices from their entries.
  void reduce() {
    for (auto* part : {&re, &im})
      for (size_t at = 0; at < part->size(); at += static_cast<size_t>(size(d))) {
        double* m = part->data() + at;
        double *along = m + d * d, *row = along + d, *column = row + d, *whole = column + d;
        std::fill(along, whole + 2, 0.0);
        for (int64_t i = 0; i < d; ++i) {
          along[i] = m[i * d + i], whole[1] += m[i * d + i];
          for (int64_t j = 0; j < d; ++j) row[i] += m[i * d + j], column[j] += m[i * d + j];
        }
        for (int64_t i = 0; i < d; ++i) whole[0] += row[i];
      }
  }
  // Of slopes: those by the entries from those by all sums.
  void spread() {
    for (auto* part : {&re, &im})
      for (size_t at = 0; at < part->size(); at += static_cast<size_t>(size(d))) {
        double* m = part->data() + at;
        const double *along = m + d * d, *row = along + d, *column = row + d, *whole = column + d;
        for (int64_t i = 0; i < d; ++i) {
          for (int64_t j = 0; j < d; ++j) m[i * d + j] += row[i] + column[j] + whole[0];
          m[i * d + i] += along[i] + whole[1];
        }
      }
  }
  size_t at(int64_t matrix, int64_t i, int64_t j) const { return static_cast<size_t>(matrix * size(d) + i * d + j); }

  int64_t d;
  enum class Shape { zero, scalar, full };
  std::vector<Shape> shape;  // of each matrix
  std::vector<double> re, im;
};

}  // namespace lamina
