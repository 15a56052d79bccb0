// Compiled once per instruction set, as instruction_set.cpp.
#include "kernels/drawing.hpp"

#include "kernels/elementary.hpp"
#include "kernels/inverse_normal.hpp"

#if defined(LAMINA_X86)
#include "kernels/drawing_x86.hpp"
#endif

namespace lamina::kernels {
namespace {

using Number = Batch<double>;
constexpr int64_t most = 256, step = width<double>;  // numbers at once; of a register

LAMINA_INLINE Number sqrt(Number x) {
#if defined(LAMINA_X86)
  return {native_sqrt(reg(x))};
#else
  double part[step];
  store(part, x);
  for (double& y : part) y = __builtin_sqrt(y);
  return load(part);
#endif
}

// The elements of x where mask holds, one after the other from p on, and how many they are; what follows them, up to a register in all,
// is overwritten.
LAMINA_INLINE int64_t pack(Mask<double> mask, Bits<double> x, uint64_t* p) {
#if defined(LAMINA_X86)
  return native_pack(static_cast<typename NativeMask<double>::register_type>(mask.v), reg(batch(x)), p);
#else
  double part[step], kept[step];
  store(part, batch(x)), store(kept, select(mask, splat(1.0), splat(0.0)));
  int64_t count = 0;
  for (int64_t i = 0; i < step; ++i) p[count] = __builtin_bit_cast(uint64_t, part[i]), count += kept[i] > 0;
  return count;
#endif
}

// p - 1/2 of m = word / 2^12 < 2^52, which stands in the mantissa of 2^52 + m: every step is exact.
LAMINA_INLINE Number centred(Bits<double> m) {
  return ((batch(m) - splat(0x1.8p52)) + splat(0.5)) * splat(0x1p-52);
}

// Several registers side by side, so that a polynomial's chain of operations need not wait for itself.
struct Wide {
  static constexpr int64_t count = 4;
  Number v[count];
};
constexpr int64_t wide = Wide::count * step;
template <class Operation>
LAMINA_INLINE Wide each(const Operation& operation) {
  Wide y;
  unroll<Wide::count>([&](int i) LAMINA_INLINE_LAMBDA { y.v[i] = operation(i); });
  return y;
}
LAMINA_INLINE Wide operator+(const Wide& x, const Wide& y) {
  return each([&](int i) LAMINA_INLINE_LAMBDA { return x.v[i] + y.v[i]; });
}
LAMINA_INLINE Wide operator-(const Wide& x, const Wide& y) {
  return each([&](int i) LAMINA_INLINE_LAMBDA { return x.v[i] - y.v[i]; });
}
LAMINA_INLINE Wide operator*(const Wide& x, const Wide& y) {
  return each([&](int i) LAMINA_INLINE_LAMBDA { return x.v[i] * y.v[i]; });
}
LAMINA_INLINE Wide operator/(const Wide& x, const Wide& y) {
  return each([&](int i) LAMINA_INLINE_LAMBDA { return x.v[i] / y.v[i]; });
}
struct Constants {
  LAMINA_INLINE Wide operator()(double c) const {
    return each([c](int) LAMINA_INLINE_LAMBDA { return splat(c); });
  }
};

// y[i] of q[i] = p - 1/2, i < count <= most; q has room for `wide` numbers more. The central form for all; then the tails, three in
// twenty, side by side without a branch, which could not be foretold.
LAMINA_INLINE void invert(int64_t count, double* q, double* y) {
  const Bits<double> sign = splat_bits<double>(uint64_t{1} << 63), size = splat_bits<double>(~(uint64_t{1} << 63));
  double r[most + wide], z[most + wide];
  uint64_t tail[most + wide], place[most + wide], order[step];
  for (int64_t l = 0; l < step; ++l) order[l] = static_cast<uint64_t>(l);
  for (int64_t l = 0; l < wide; ++l) q[count + l] = 0;  // central
  Bits<double> at = load_bits<double>(order);
  int64_t tails = 0;
  for (int64_t i = 0; i < count; i += wide) {
    const Wide x = each([&](int g) LAMINA_INLINE_LAMBDA { return load(q + i + g * step); }), inner = InverseNormal::central(x, Constants());
    unroll<Wide::count>([&](int g) LAMINA_INLINE_LAMBDA {
      const int64_t first = i + g * step;
      if (first + step <= count) store(y + first, inner.v[g]);
      else if (first < count) store(y + first, inner.v[g], Tail<double>(count - first));
      const Mask<double> outer = batch(bits(x.v[g]) & size) > splat(InverseNormal::central_half);
      pack(outer, bits(x.v[g]), tail + tails);
      tails += pack(outer, at, place + tails);
      at = at + splat_bits<double>(step);
    });
  }
  for (int64_t l = 0; l < wide; ++l) tail[tails + l] = __builtin_bit_cast(uint64_t, 0.45);
  for (int64_t i = 0; i < tails; i += wide) {
    const Wide root = each([&](int g) LAMINA_INLINE_LAMBDA {
      const Number x = batch(load_bits<double>(tail + i + g * step));
      const Parts<double> p = split(splat(0.5) - batch(bits(x) & size));  // min(p, 1 - p), exactly, and not below 2^-53
      const Number root_of_log = sqrt(splat(0.0) - log_of_parts(p.k, p.m - splat(1.0), splat(0.0)));
      store(r + i + g * step, root_of_log);
      return root_of_log;
    });
    const Wide outer = InverseNormal::middle(root, Constants());
    unroll<Wide::count>([&](int g) LAMINA_INLINE_LAMBDA {
      const Bits<double> x = load_bits<double>(tail + i + g * step);
      store(z + i + g * step, batch((bits(outer.v[g]) & size) | (x & sign)));
    });
  }
  for (int64_t i = 0; i < tails; ++i) {
    if (r[i] > 5) z[i] = __builtin_copysign(InverseNormal::beyond(r[i]), z[i]);
    y[place[i]] = z[i];
  }
}

void normals(int64_t n, const uint64_t* words, double* x) {
  double q[most + wide];
  for (int64_t first = 0; first < n; first += most) {
    const int64_t count = n - first < most ? n - first : most;
    for (int64_t i = 0; i < count; ++i) q[i] = InverseNormal::probability(words[first + i]) - 0.5;
    invert(count, q, x + first);
  }
}

void normals_of_halves(int64_t n, const uint64_t* words, int64_t first, double* x) {
  constexpr int64_t rows = most / drawing_lanes, lanes = drawing_lanes;
  double q[most + wide];
  for (int64_t done = 0; done < n; done += rows) {
    const int64_t count = n - done < rows ? n - done : rows;
    for (int64_t i = 0; i < count; ++i) {
      const int64_t half = first + done + i;
      for (int64_t l = 0; l < lanes; l += step) {
        const Bits<double> word = load_bits<double>(words + half / 2 * lanes + l);
        const Bits<double> upper = half % 2 == 0 ? (word << 32) >> 12 : (word >> 12) & splat_bits<double>(~uint64_t{0xfffff});
        store(q + i * lanes + l, centred(upper | splat_bits<double>(0x4330000000080000u)));
      }
    }
    invert(count * lanes, q, x + done * lanes);
  }
}

// A draw from an alias table: the upper bits of a half are the column; what is left, in the upper bits of 32, is compared with the
// column's threshold there, whose lower bits hold the alias.
void halve(int64_t n, const Halving* halvings, int columns, const uint64_t* words, int64_t first, int32_t* counts) {
  for (int64_t i = 0; i < n; ++i) {
    const Halving& h = halvings[i];
    const int64_t half = first + h.half;
    const uint64_t* word = words + half / 2 * drawing_lanes;
    int32_t *lower = counts + h.lower * drawing_lanes, *upper = counts + h.upper * drawing_lanes;
#if defined(LAMINA_X86)
    native_halve(word, static_cast<int>(half % 2), h.laws, columns, lower, upper);
#else
    for (int64_t l = 0; l < drawing_lanes; ++l) {
      const auto count = static_cast<uint32_t>(lower[l]);
      const int used = count == 0 ? 0 : 32 - __builtin_clz(count);
      const uint64_t product = (word[l] >> half % 2 * 32 & 0xffffffffu) << used;
      const auto mask = (uint32_t{1} << used) - 1, column = static_cast<uint32_t>(product >> 32), rest = static_cast<uint32_t>(product) | mask;
      const uint32_t entry = h.laws[(count << columns) + column], alias = entry & mask;
      const uint32_t own = -static_cast<uint32_t>(rest < entry);  // no branch, which could not be foretold
      const auto drawn = static_cast<int32_t>(alias ^ ((alias ^ column) & own));
      upper[l] = lower[l] - drawn, lower[l] = drawn;
    }
#endif
  }
}

}  // namespace
}  // namespace lamina::kernels

namespace lamina::kernels::LAMINA_SET {

extern const Drawing drawing_table;
const Drawing drawing_table = {normals, normals_of_halves, halve};

}  // namespace lamina::kernels::LAMINA_SET
