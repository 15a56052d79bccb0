// Checks of the arrays of a call.
#include "attention/arrays.hpp"

#include <algorithm>
#include <string>

#include "attention/scratch.hpp"
#include "attention/usual_call.hpp"
#include "base/error.hpp"

namespace lamina::attention {
namespace {

std::string text(int64_t value) {
  return std::to_string(value);
}
// name and the parts of the sentence, in a row
template <class... Parts>
[[noreturn]] void fail_array(const char* name, const Parts&... parts) {
  std::string what = name;
  (what.append(parts), ...);
  fail(LAMINA_E_ARGUMENT, what);
}

// The axes of an output that have more than one place, the largest stride first; reach[k]: from its first element to its last
// along the axes from k on. No two elements share a place, so each stride is more than the reach of what follows.
struct Axes {
  int count = 0;
  int64_t stride[4], extent[4], reach[5];

  Axes(const int64_t* strides, const int64_t* extents) {
    for (int k = 0; k < 4; ++k) {
      if (extents[k] == 1) continue;
      int at = count++;
      for (; at > 0 && stride[at - 1] < strides[k]; --at) stride[at] = stride[at - 1], extent[at] = extent[at - 1];
      stride[at] = strides[k], extent[at] = extents[k];
    }
    reach[count] = 0;
    for (int k = count; k-- > 0;) reach[k] = reach[k + 1] + stride[k] * (extent[k] - 1);
  }
};

// Whether an element of x along its axes from kx on stands where one of y does from ky on, whose first is `ahead` elements
// after that of x. By the largest stride s: multiples k s of it, k the difference of the two indices, that bring what remains
// of the two within each other's reach. These are two at most if both have the stride, or if the other lies within it; where
// they are more the two are not told apart, and taken to meet.
bool meet(const Axes& x, int kx, const Axes& y, int ky, int64_t ahead) {
  if (ahead > x.reach[kx] || -ahead > y.reach[ky]) return false;
  if (kx == x.count && ky == y.count) return true;
  const int64_t sx = kx < x.count ? x.stride[kx] : 0, sy = ky < y.count ? y.stride[ky] : 0, s = std::max(sx, sy);
  const int64_t above = sx == s ? x.extent[kx] - 1 : 0, below = sy == s ? y.extent[ky] - 1 : 0;
  if (sx == s) ++kx;
  if (sy == s) ++ky;
  const auto floor = [s](int64_t a) { return a / s - (a % s < 0 ? 1 : 0); };
  const int64_t first = std::max(-floor(x.reach[kx] - ahead), -below), last = std::min(floor(ahead + y.reach[ky]), above);
  if (last - first > 2) return true;
  for (int64_t k = first; k <= last; ++k)
    if (meet(x, kx, y, ky, ahead - k * s)) return true;
  return false;
}

// The byte ranges of one call, inputs before outputs. Fixed room: a call allocates nothing.
class Ranges {
 public:
  // Bytes low <= address < high.
  void add(const char* name, uintptr_t low, uintptr_t high, bool output) {
    if (!output) inputs_ = count_ + 1;
    range_[count_++] = {name, low, high};
  }
  // That the output added next has these strides: its elements, and not all that lies between them, are what it writes.
  void next_has(const int64_t* stride, const Extents& extents, int64_t bytes) {
    layout_[layouts_++] = {count_, stride, {extents.n[0], extents.n[1], extents.n[2], extents.n[3]}, bytes};
  }
  void check_overlaps() const {
    bool some = false;
    for (int i = inputs_; i < count_; ++i)
      for (int j = 0; j < i; ++j) some |= overlap(range_[i], range_[j]);
    if (some) tell_apart();
  }

 private:
  struct Range {
    const char* name;
    uintptr_t low, high;
  };
  struct Layout {
    int range;
    const int64_t* stride;
    int64_t extents[4];
    int64_t bytes;
  };
  static bool overlap(const Range& x, const Range& y) { return (x.low < y.high) & (y.low < x.high); }
  const Layout* layout(int range) const {
    for (int l = 0; l < layouts_; ++l)
      if (layout_[l].range == range) return &layout_[l];
    return nullptr;
  }
  // Of ranges that overlap: whether they are two outputs whose elements lie between each other's, as in one packed array. All
  // elements of a call's outputs are of one size, to which they are aligned.
  bool interleave(int i, int j) const {
    const Layout *x = layout(i), *y = layout(j);
    if (!x || !y) return false;
    const auto ahead = static_cast<int64_t>(range_[j].low - range_[i].low) / x->bytes;
    return !meet(Axes(x->stride, x->extents), 0, Axes(y->stride, y->extents), 0, ahead);
  }
  void tell_apart() const {
    for (int i = inputs_; i < count_; ++i)
      for (int j = 0; j < i; ++j)
        if (overlap(range_[i], range_[j]) && !interleave(i, j))
          fail_array(range_[i].name, " overlaps ", range_[j].name, ", must not");
  }
  Range range_[24];
  Layout layout_[4];  // o, lse, weights, scores, or d_q, d_k, d_v, d_bias
  int count_ = 0, inputs_ = 0, layouts_ = 0;
};

class Checker {
 public:
  explicit Checker(const Plan& plan) : plan_(plan) {}

  void input(const char* name, const lamina_input& x, const Extents& extents, bool required, int64_t bytes) {
    if (present(name, x.data, extents, required, bytes)) add(name, x.data, x.stride, extents, bytes, false);
  }
  void input(const char* name, const lamina_input& x, const Extents& extents, bool required) {
    input(name, x, extents, required, plan_.element_bytes());
  }
  void output(const char* name, const lamina_output& x, const Extents& extents, bool required) {
    if (!x.data && !required) return;
    const int64_t bytes = plan_.element_bytes();
    if (!present(name, x.data, extents, required, bytes)) return;
    check_distinct(name, x.stride, extents);
    ranges_.next_has(x.stride, extents, bytes);
    add(name, x.data, x.stride, extents, bytes, true);
  }
  // An array that the plan does not know about may not be given: it would be ignored.
  void planned(const char* name, const void* data, uint32_t flag, const char* flag_name) {
    if (data && !plan_.has(flag)) fail_array(name, ".data is given, must be NULL in a plan without ", flag_name);
  }
  // offsets: of the same axis, checked before; nullptr: none.
  void lengths(const char* name, const int64_t* values, int64_t most, const int64_t* offsets) {
    if (!integers(name, values, LAMINA_WITH_LENGTHS, "LAMINA_WITH_LENGTHS", plan_.n)) return;
    for (int64_t b = 0; b < plan_.n; ++b) {
      const int64_t room = offsets ? offsets[b + 1] - offsets[b] : most;
      if (values[b] < 0 || values[b] > room)
        fail_array(name, "[", text(b), "] is ", text(values[b]), ", must be 0..", text(room));
    }
  }
  void offsets(const char* name, const int64_t* values, int64_t most) {
    if (!integers(name, values, LAMINA_WITH_OFFSETS, "LAMINA_WITH_OFFSETS", plan_.n + 1)) return;
    if (values[0] != 0) fail_array(name, "[0] is ", text(values[0]), ", must be 0");
    for (int64_t b = 0; b < plan_.n; ++b)
      if (values[b + 1] < values[b] || values[b + 1] - values[b] > most)
        fail_array(name, "[", text(b + 1), "] is ", text(values[b + 1]), ", must be ", text(values[b]), "..",
                   text(values[b] + std::min(most, INT64_MAX - values[b])));
  }
  void number(const char* name, const double* value) {
    if (!value) return;
    aligned(name, value, 8);
    add(name, value, 8, true);
  }
  void workspace(const void* memory, size_t bytes, size_t needed) {
    if (!memory) return;
    if (bytes < needed)
      fail_array("workspace_bytes", " is ", std::to_string(bytes), ", must be at least ", std::to_string(needed));
    aligned("workspace", memory, alignment);
    if (needed > 0) add("workspace", memory, needed, true);
  }
  void finish() const { ranges_.check_overlaps(); }

 private:
  // Whether such integers are planned and there; a failure where only one of the two.
  bool integers(const char* name, const int64_t* values, uint32_t flag, const char* flag_name, int64_t count) {
    if (!plan_.has(flag)) {
      if (values) fail_array(name, " is given, must be NULL in a plan without ", flag_name);
      return false;
    }
    if (plan_.n == 0) return false;
    if (!values) fail_array(name, " is NULL, must point to ", text(count), " numbers");
    aligned(name, values, 8);
    add(name, values, static_cast<size_t>(count) * 8, false);
    return true;
  }
  bool present(const char* name, const void* data, const Extents& extents, bool required, int64_t bytes) {
    if (extents.empty) return false;
    if (!data && required)
      fail_array(name, ".data is NULL, must point to [", text(extents.n[0]), ", ", text(extents.n[1]), ", ", text(extents.n[2]),
                 ", ", text(extents.n[3]), "] elements");
    if (data) aligned(name, data, static_cast<size_t>(bytes));
    return data != nullptr;
  }
  // bytes: a power of two
  void aligned(const char* name, const void* data, size_t bytes) {
    const uintptr_t address = reinterpret_cast<uintptr_t>(data);
    if ((address & (bytes - 1)) != 0)
      fail_array(name, " is at address ", std::to_string(address), ", must be a multiple of ", std::to_string(bytes));
  }
  void add(const char* name, const void* data, size_t bytes, bool output) {
    const uintptr_t low = reinterpret_cast<uintptr_t>(data);
    uintptr_t high;
    if (__builtin_add_overflow(low, bytes, &high)) fail_array(name, ": elements outside the address space, must be within it");
    ranges_.add(name, low, high, output);
  }
  // The bytes of an array. Below `plain` nothing here overflows: at most 2^58 elements.
  void add(const char* name, const void* data, const int64_t* stride, const Extents& extents, int64_t bytes, bool output) {
    if (!plain(stride, extents)) return add_any(name, data, stride, extents, bytes, output);
    int64_t after = 1;
    for (int k = 0; k < 4; ++k) after += stride[k] * (extents.n[k] - 1);
    add(name, data, static_cast<size_t>(after * bytes), output);
  }
  // No stride is negative, and strides and extents are less than 2^28: the usual case.
  static bool plain(const int64_t* stride, const Extents& extents) {
    return extents.small && static_cast<uint64_t>(stride[0] | stride[1] | stride[2] | stride[3]) < uint64_t{1} << 28;
  }
  // No object is larger than a pointer difference.
  void add_any(const char* name, const void* data, const int64_t* stride, const Extents& extents, int64_t bytes, bool output) {
    int64_t before = 0, after = 1;
    bool outside = false;
    for (int k = 0; k < 4; ++k) {
      int64_t reach;
      outside |= __builtin_mul_overflow(stride[k], extents.n[k] - 1, &reach);
      outside |= __builtin_add_overflow(before, std::min<int64_t>(reach, 0), &before);
      outside |= __builtin_add_overflow(after, std::max<int64_t>(reach, 0), &after);
    }
    outside |= __builtin_mul_overflow(before, bytes, &before);
    outside |= __builtin_mul_overflow(after, bytes, &after);
    const uintptr_t start = reinterpret_cast<uintptr_t>(data);
    uintptr_t low, high;
    outside |= __builtin_sub_overflow(start, -static_cast<uintptr_t>(before), &low);
    outside |= __builtin_add_overflow(start, static_cast<uintptr_t>(after), &high);
    if (outside) fail_array(name, ".stride: elements outside the address space, must be within it");
    ranges_.add(name, low, high, output);
  }
  // No two elements of an output at one place: taken in ascending order, each stride steps over all that the smaller ones
  // reach. Where the last stride is the smallest, and so on, that order need not be found.
  void check_distinct(const char* name, const int64_t* stride, const Extents& extents) {
    int64_t reach = 0;
    bool distinct = plain(stride, extents);
    for (int k = 3; k >= 0 && distinct; --k) {
      distinct = (extents.n[k] == 1) | (stride[k] > reach);
      reach += stride[k] * (extents.n[k] - 1);
    }
    if (!distinct) check_distinct_sorted(name, stride, extents);
  }
  void check_distinct_sorted(const char* name, const int64_t* stride, const Extents& extents) {
    __extension__ typedef __int128 Wide;  // sums of products of strides and extents never overflow
    int order[4] = {0, 1, 2, 3};
    std::sort(order, order + 4, [&](int x, int y) { return stride[x] < stride[y]; });
    Wide reach = 0;
    for (const int k : order) {
      if (extents.n[k] == 1) continue;
      if (stride[k] <= reach)
        fail_array(name, ".stride[", text(k), "] is ", text(stride[k]), ", must be at least ",
                   text(static_cast<int64_t>(std::min<Wide>(reach + 1, INT64_MAX))), " so that no two elements share a place");
      reach += static_cast<Wide>(stride[k]) * (extents.n[k] - 1);
    }
  }

  const Plan& plan_;
  Ranges ranges_;
};

// Extents of arrays of positions: as planned, or packed, [1, heads, all positions, features].
class Positions {
 public:
  Positions(const Plan& plan, const int64_t* offsets) : packed_(offsets != nullptr), rows_(offsets ? offsets[plan.n] : 0) {}
  // Until the next call.
  const Extents& of(const Extents& planned) {
    return packed_ ? extents_ = Extents(1, planned.n[1], rows_, planned.n[3]) : planned;
  }

 private:
  bool packed_;
  int64_t rows_;
  Extents extents_;
};

// What both directions read.
void check_inputs(Checker& check, const Plan& p, const lamina_attention_arrays& a) {
  if (a.reserved != 0) fail_array("arrays.reserved", " is ", text(a.reserved), ", must be 0");
  check.offsets("query_offsets", a.query_offsets, p.L_q);
  check.offsets("key_offsets", a.key_offsets, p.L_k);
  Positions queries(p, a.query_offsets), keys(p, a.key_offsets);
  check.input("q", a.q, queries.of(p.of_q), true);
  check.input("k", a.k, keys.of(p.of_k), true);
  check.input("v", a.v, keys.of(p.of_v), true);
  check.planned("bias", a.bias.data, LAMINA_WITH_BIAS, "LAMINA_WITH_BIAS");
  if (p.has(LAMINA_WITH_BIAS)) check.input("bias", a.bias, p.of_pairs, true);
  check.planned("mask", a.mask.data, LAMINA_WITH_MASK, "LAMINA_WITH_MASK");
  if (p.has(LAMINA_WITH_MASK)) check.input("mask", a.mask, p.of_pairs, true, 1);
  check.lengths("query_lengths", a.query_lengths, p.L_q, a.query_offsets);
  check.lengths("key_lengths", a.key_lengths, p.L_k, a.key_offsets);
}

// Where d_bias is summed along an axis, it has one element there.
Extents extents_of_d_bias(const Plan& p, const lamina_attention_arrays& a) {
  Extents extents = {p.n, p.H, p.L_q, p.L_k};
  for (int k = 0; k < 4; ++k)
    if (a.d_bias.stride[k] == 0 && a.bias.stride[k] == 0) extents.n[k] = std::min<int64_t>(extents.n[k], 1);
  return extents;
}

}  // namespace

bool sums_bias(const Plan& p, const lamina_attention_arrays& a) {
  const int64_t extent[] = {p.n, p.H, p.L_q, p.L_k};
  bool sums = false;
  for (int k = 0; k < 4; ++k) sums |= a.d_bias.data && a.d_bias.stride[k] == 0 && extent[k] > 1;
  return sums;
}

void check_forward(const Plan& p, const lamina_attention_arrays& a, const void* workspace, size_t workspace_bytes) {
  if (is_usual_forward(p, a, workspace, workspace_bytes)) return;
  Checker check(p);
  check_inputs(check, p, a);
  Positions queries(p, a.query_offsets);
  check.output("o", a.o, queries.of(p.of_o), true);
  check.planned("lse", a.lse.data, LAMINA_WITH_LSE, "LAMINA_WITH_LSE");
  check.output("lse", a.lse, queries.of(p.of_lse), false);
  check.planned("weights", a.weights.data, LAMINA_WITH_WEIGHTS, "LAMINA_WITH_WEIGHTS");
  check.output("weights", a.weights, p.of_pairs, false);
  check.planned("scores", a.scores.data, LAMINA_WITH_SCORES, "LAMINA_WITH_SCORES");
  check.output("scores", a.scores, p.of_pairs, false);
  check.workspace(workspace, workspace_bytes, p.workspace(LAMINA_FORWARD));
  check.finish();
}

void check_backward(const Plan& p, const lamina_attention_arrays& a, const void* workspace, size_t workspace_bytes) {
  if (is_usual_backward(p, a, workspace, workspace_bytes)) return;
  Checker check(p);
  check_inputs(check, p, a);
  Positions queries(p, a.query_offsets), keys(p, a.key_offsets);
  check.input("d_o", a.d_o, queries.of(p.of_o), true);
  check.planned("d_lse", a.d_lse.data, LAMINA_WITH_LSE, "LAMINA_WITH_LSE");
  check.input("d_lse", a.d_lse, queries.of(p.of_lse), false);
  check.planned("d_weights", a.d_weights.data, LAMINA_WITH_WEIGHTS, "LAMINA_WITH_WEIGHTS");
  check.input("d_weights", a.d_weights, p.of_pairs, false);
  check.output("d_q", a.d_q, queries.of(p.of_q), false);
  check.output("d_k", a.d_k, keys.of(p.of_k), false);
  check.output("d_v", a.d_v, keys.of(p.of_v), false);
  check.planned("d_bias", a.d_bias.data, LAMINA_WITH_BIAS, "LAMINA_WITH_BIAS");
  check.output("d_bias", a.d_bias, extents_of_d_bias(p, a), false);
  check.number("d_scale", a.d_scale);
  check.workspace(workspace, workspace_bytes, p.workspace(LAMINA_BACKWARD));
  check.finish();
}

}  // namespace lamina::attention
