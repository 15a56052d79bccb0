// The arrays of a call: checked before any write, then read as one matrix per head.
#pragma once
#include "attention/attention.hpp"

namespace lamina::attention {

// Throws Error naming the argument: what is required and absent, given and not planned, misaligned, out of the address space,
// overlapping (byte ranges of outputs, the workspace among them, with any other array; of two outputs their elements), lengths
// out of range.
void check_forward(const Plan& plan, const lamina_attention_arrays& arrays, const void* workspace, size_t workspace_bytes);
void check_backward(const Plan& plan, const lamina_attention_arrays& arrays, const void* workspace, size_t workspace_bytes);

// Whether d_bias (of a call that was checked) is a sum along some axis: one where its stride is 0, as that of bias then is.
bool sums_bias(const Plan& plan, const lamina_attention_arrays& arrays);

// One head of an array: element (row, col) at data + row * row_stride + col * col_stride; data nullptr: absent.
template <class T>
struct Matrix {
  T* data = nullptr;
  int64_t row = 0, col = 0;
  explicit operator bool() const { return data != nullptr; }
  T* at(int64_t i, int64_t f = 0) const { return data + i * row + f * col; }
};

template <class T>
Matrix<const T> head(const lamina_input& x, int64_t b, int64_t h) {
  if (!x.data) return {};
  return {static_cast<const T*>(x.data) + b * x.stride[0] + h * x.stride[1], x.stride[2], x.stride[3]};
}
template <class T>
Matrix<T> head(const lamina_output& x, int64_t b, int64_t h) {
  if (!x.data) return {};
  return {static_cast<T*>(x.data) + b * x.stride[0] + h * x.stride[1], x.stride[2], x.stride[3]};
}
// The same in an array of positions; `offsets` (unless nullptr) pack the sequences along one axis.
template <class T, class Array>
auto head(const Array& x, int64_t b, int64_t h, const int64_t* offsets) {
  auto rows = head<T>(x, offsets ? 0 : b, h);
  if (offsets && rows) rows.data += offsets[b] * rows.row;
  return rows;
}

}  // namespace lamina::attention
