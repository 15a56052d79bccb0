// exp, log, log1p, expm1 for single doubles with the bits of the kernels' own: for code outside the hot path, in place of libm,
// whose results depend on the CPU.
#pragma once

namespace lamina::kernels {

double exp(double x);
double log(double x);
double log1p(double x);
double expm1(double x);

}  // namespace lamina::kernels
