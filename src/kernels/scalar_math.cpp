// The elementary functions of single doubles: the reference's, which has the bits of every set.
#include "kernels/scalar_math.hpp"

#include "kernels/elementary.hpp"

namespace lamina::kernels {

double exp(double x) {
  return exp(Batch<double>{x}).v;
}
double log(double x) {
  return log(Batch<double>{x}).v;
}
double log1p(double x) {
  return log1p(Batch<double>{x}).v;
}
double expm1(double x) {
  return expm1(Batch<double>{x}).v;
}

}  // namespace lamina::kernels
