// The usual call: a plan without flags, each array dense, none in the place of another, a workspace of its size if any. It is right,
// and known to be at a glance, where the checks of arrays.cpp would take a third of the shortest call. What is wrong with any other,
// if anything is, they find.
#pragma once
#include "attention/attention.hpp"
#include "attention/scratch.hpp"

namespace lamina::attention {

class UsualCall {
 public:
  UsualCall(const Plan& p, const lamina_attention_arrays& a)
      : bytes_(static_cast<uint64_t>(p.element_bytes())),
        usual_(p.flags == 0 && a.reserved == 0 && !a.bias.data && !a.mask.data && !a.query_lengths && !a.key_lengths &&
               !a.query_offsets && !a.key_offsets) {}

  void input(const lamina_input& x, const Extents& extents) {
    usual_ &= x.data != nullptr;
    input_[inputs_++] = span(x, extents);
  }
  void result(const lamina_output& x, const Extents& extents) {
    usual_ &= x.data != nullptr;
    output_[outputs_++] = span(x, extents);
  }
  // May be absent.
  void gradient(const lamina_output& x, const Extents& extents) { output_[outputs_++] = x.data ? span(x, extents) : Span{0, 0}; }
  void absent(const void* data) { usual_ &= data == nullptr; }
  bool with_workspace(const void* memory, size_t bytes, size_t needed) {
    const auto low = reinterpret_cast<uintptr_t>(memory);
    usual_ &= !memory || (bytes >= needed && low % alignment == 0 && low + needed >= low);
    output_[outputs_++] = {low, memory ? low + needed : low};
    for (int i = 0; i < outputs_; ++i) {
      for (int j = 0; j < inputs_; ++j) usual_ &= !overlap(output_[i], input_[j]);
      for (int j = 0; j < i; ++j) usual_ &= !overlap(output_[i], output_[j]);
    }
    return usual_;
  }

 private:
  struct Span {
    uintptr_t low, high;
  };
  static bool overlap(const Span& x, const Span& y) { return (x.low < y.high) & (y.low < x.high); }
  template <class Array>
  Span span(const Array& x, const Extents& extents) {
    const auto low = reinterpret_cast<uintptr_t>(x.data);
    uint64_t differs = low & (bytes_ - 1);
    for (int k = 0; k < 4; ++k) differs |= static_cast<uint64_t>(x.stride[k]) ^ extents.dense[k];
    const uintptr_t high = low + extents.count * bytes_;  // no array of a plan has 2^63 bytes
    usual_ &= (differs == 0) & (high >= low);
    return {low, high};
  }
  uint64_t bytes_;
  bool usual_;
  int inputs_ = 0, outputs_ = 0;
  Span input_[4], output_[4];
};

inline bool is_usual_forward(const Plan& p, const lamina_attention_arrays& a, const void* workspace, size_t workspace_bytes) {
  UsualCall call(p, a);
  call.input(a.q, p.of_q), call.input(a.k, p.of_k), call.input(a.v, p.of_v);
  for (const void* data : {a.lse.data, a.weights.data, a.scores.data}) call.absent(data);
  call.result(a.o, p.of_o);
  return call.with_workspace(workspace, workspace_bytes, p.workspace(LAMINA_FORWARD));
}

inline bool is_usual_backward(const Plan& p, const lamina_attention_arrays& a, const void* workspace, size_t workspace_bytes) {
  UsualCall call(p, a);
  call.input(a.q, p.of_q), call.input(a.k, p.of_k), call.input(a.v, p.of_v), call.input(a.d_o, p.of_o);
  const void* const others[] = {a.d_lse.data, a.d_weights.data, a.d_bias.data, a.d_scale};
  for (const void* data : others) call.absent(data);
  call.gradient(a.d_q, p.of_q), call.gradient(a.d_k, p.of_k), call.gradient(a.d_v, p.of_v);
  return call.with_workspace(workspace, workspace_bytes, p.workspace(LAMINA_BACKWARD));
}

}  // namespace lamina::attention
