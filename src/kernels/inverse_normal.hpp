// The inverse of the normal distribution function after M. J. Wichura, "Algorithm AS 241: The percentage points of the normal
// distribution", Applied Statistics 37 (1988), 477-484, routine PPND16: for p - 1/2 = q with |q| <= 0.425, and for the tails by
// r = sqrt(-log(tail)). Without fma, so that kernels and single draws have the same bits.
#pragma once
#include <cstdint>

namespace lamina::kernels {
namespace {

struct InverseNormal {
  static constexpr double central_half = 0.425;

  // An odd multiple of 2^-53: p, 1 - p and p - 1/2 are all exact, and neither tail is 0.
  static inline __attribute__((always_inline)) double probability(uint64_t word) {
    // m = word / 2^12 < 2^52 stands in the mantissa of 2^52 + m.
    const double m = __builtin_bit_cast(double, (word >> 12) | 0x4330000000000000u) - 0x1p52;
    return (2 * m + 1) * 0x1p-53;
  }
  // Of single numbers, or of registers with of(c) a register of constants.
  struct Single {
    constexpr double operator()(double c) const { return c; }
  };
  template <class X, class Constant = Single>
  static inline __attribute__((always_inline)) X central(X q, const Constant& of = {}) {
    const X r = of(0.180625) - q * q;
    return q * horner(central_a, r, of) / horner(central_b, r, of);
  }
  template <class X, class Constant = Single>
  static inline __attribute__((always_inline)) X middle(X r, const Constant& of = {}) {
    const X x = r - of(1.6);
    return horner(middle_a, x, of) / horner(middle_b, x, of);
  }
  static inline __attribute__((always_inline)) double beyond(double r) {  // r > 5
    return horner(far_a, r - 5, Single()) / horner(far_b, r - 5, Single());
  }

 private:
  template <class X, class Constant>
  static inline __attribute__((always_inline)) X horner(const double (&c)[8], X x, const Constant& of) {  // highest power first
    return ((((((of(c[0]) * x + of(c[1])) * x + of(c[2])) * x + of(c[3])) * x + of(c[4])) * x + of(c[5])) * x + of(c[6])) * x + of(c[7]);
  }
  static constexpr double central_a[] = {2.5090809287301226727e+3, 3.3430575583588128105e+4, 6.7265770927008700853e+4,
                                         4.5921953931549871457e+4, 1.3731693765509461125e+4, 1.9715909503065514427e+3,
                                         1.3314166789178437745e+2, 3.3871328727963666080e+0};
  static constexpr double central_b[] = {5.2264952788528545610e+3, 2.8729085735721942674e+4, 3.9307895800092710610e+4,
                                         2.1213794301586595867e+4, 5.3941960214247511077e+3, 6.8718700749205790830e+2,
                                         4.2313330701600911252e+1, 1.0};
  static constexpr double middle_a[] = {7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1,
                                        1.27045825245236838258e+0, 3.64784832476320460504e+0, 5.76949722146069140550e+0,
                                        4.63033784615654529590e+0, 1.42343711074968357734e+0};
  static constexpr double middle_b[] = {1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2,
                                        1.48103976427480074590e-1, 6.89767334985100004550e-1, 1.67638483018380384940e+0,
                                        2.05319162663775882187e+0, 1.0};
  static constexpr double far_a[] = {2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3,
                                     2.65321895265761230930e-2, 2.96560571828504891230e-1, 1.78482653991729133580e+0,
                                     5.46378491116411436990e+0, 6.65790464350110377720e+0};
  static constexpr double far_b[] = {2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5,
                                     7.86869131145613259100e-4,  1.48753612908506148525e-2, 1.36929880922735805310e-1,
                                     5.99832206555887937690e-1,  1.0};
};

}  // namespace
}  // namespace lamina::kernels
