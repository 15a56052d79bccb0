// exp and log of __float128 by series, without a library: 113 bits where long double's 64 are too few.
#pragma once

namespace oracle {

__extension__ typedef __float128 Quad;

// 2^-16 of x in a Taylor series, then squared 16 times: relative error below 2^-95 for |x| < 12000.
inline Quad exponential(Quad x) {
  if (x < -11000) return 0;
  const Quad small = x / 65536;
  Quad term = 1, sum = 0;  // of exp(small) - 1, so that squaring loses nothing: (1 + s)^2 - 1 = s (2 + s)
  for (int n = 1; n <= 24; ++n) term *= small / n, sum += term;
  for (int k = 0; k < 16; ++k) sum *= 2 + sum;
  return 1 + sum;
}

// Newton's iteration for exp(y) = x from the nearest double; the error is squared twice.
inline Quad logarithm(Quad x) {
  Quad y = __builtin_log(static_cast<double>(x));
  for (int k = 0; k < 3; ++k) y += x * exponential(-y) - 1;
  return y;
}

}  // namespace oracle
