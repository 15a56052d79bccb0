// The normal transform: the inverse of the normal distribution function after M. J. Wichura, "Algorithm AS 241: The percentage
// points of the normal distribution", Applied Statistics 37 (1988), 477-484, routine PPND16.
#include "base/random.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/own_set.hpp"
#include "kernels/scalar_math.hpp"

namespace lamina {
namespace {

// Numerators and denominators, highest power first: |q| <= 0.425 in r = 0.180625 - q^2; then in r = sqrt(-log(tail)),
// shifted by 1.6 up to r = 5, by 5 beyond.
constexpr double central_a[] = {2.5090809287301226727e+3, 3.3430575583588128105e+4, 6.7265770927008700853e+4,
                                4.5921953931549871457e+4, 1.3731693765509461125e+4, 1.9715909503065514427e+3,
                                1.3314166789178437745e+2, 3.3871328727963666080e+0};
constexpr double central_b[] = {
    5.2264952788528545610e+3, 2.8729085735721942674e+4, 3.9307895800092710610e+4, 2.1213794301586595867e+4,
    5.3941960214247511077e+3, 6.8718700749205790830e+2, 4.2313330701600911252e+1, 1.0};
constexpr double middle_a[] = {7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1,
                               1.27045825245236838258e+0, 3.64784832476320460504e+0, 5.76949722146069140550e+0,
                               4.63033784615654529590e+0, 1.42343711074968357734e+0};
constexpr double middle_b[] = {
    1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2, 1.48103976427480074590e-1,
    6.89767334985100004550e-1, 1.67638483018380384940e+0, 2.05319162663775882187e+0, 1.0};
constexpr double far_a[] = {2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3,
                            2.65321895265761230930e-2, 2.96560571828504891230e-1, 1.78482653991729133580e+0,
                            5.46378491116411436990e+0, 6.65790464350110377720e+0};
constexpr double far_b[] = {
    2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5, 7.86869131145613259100e-4,
    1.48753612908506148525e-2,  1.36929880922735805310e-1, 5.99832206555887937690e-1, 1.0};

double horner(const double (&coefficients)[8], double x) {
  double sum = coefficients[0];
  for (int i = 1; i < 8; ++i) sum = sum * x + coefficients[i];
  return sum;
}

// An odd multiple of 2^-53: p, 1 - p and p - 1/2 are all exact, and neither tail is 0.
double probability(uint64_t word) { return static_cast<double>((word >> 12) * 2 + 1) * 0x1p-53; }

double central(double q) {
  const double r = 0.180625 - q * q;
  return q * horner(central_a, r) / horner(central_b, r);
}

double beyond(double r) {
  return horner(far_a, r - 5) / horner(far_b, r - 5);
}

double inverse_of_tail(double p) {
  const double q = p - 0.5, r = std::sqrt(-kernels::log(q < 0 ? p : 1 - p));
  const double x = r <= 5 ? horner(middle_a, r - 1.6) / horner(middle_b, r - 1.6) : beyond(r);
  return q < 0 ? -x : x;
}

constexpr double central_half = 0.425;

}  // namespace

double Random::normal() {
  const double p = probability(word()), q = p - 0.5;
  return std::fabs(q) <= central_half ? central(q) : inverse_of_tail(p);
}

void Random::normals(std::span<double> out) {
  constexpr size_t most = 64;
  uint64_t word[most];
  for (size_t first = 0; first < out.size(); first += most) {
    const std::span<double> part = out.subspan(first, std::min(most, out.size() - first));
    words({word, part.size()});
    normals_of({word, part.size()}, part);
  }
}

// The central form for all, which a compiler makes vectors of; then the tails, three in twenty, gathered without a branch, which could
// not be foretold.
void normals_of(std::span<const uint64_t> words, std::span<double> out) {
  const kernels::Table<double>& table = *kernels::own_set().f64;
  constexpr size_t most = 256;
  double p[most], tail[most], r[most], x[most];
  uint32_t place[most];
  for (size_t first = 0; first < out.size(); first += most) {
    const size_t count = std::min(most, out.size() - first);
    double* y = out.data() + first;
    for (size_t i = 0; i < count; ++i) p[i] = probability(words[first + i]);
    for (size_t i = 0; i < count; ++i) y[i] = central(p[i] - 0.5);
    size_t tails = 0;
    for (size_t i = 0; i < count; ++i) {
      place[tails] = static_cast<uint32_t>(i), tail[tails] = std::min(p[i], 1 - p[i]);
      tails += std::fabs(p[i] - 0.5) > central_half;
    }
    table.log(static_cast<int64_t>(tails), tail, r);
    for (size_t i = 0; i < tails; ++i) r[i] = std::sqrt(-r[i]);
    for (size_t i = 0; i < tails; ++i) x[i] = horner(middle_a, r[i] - 1.6) / horner(middle_b, r[i] - 1.6);
    for (size_t i = 0; i < tails; ++i) {
      if (r[i] > 5) x[i] = beyond(r[i]);
      y[place[i]] = std::copysign(x[i], p[place[i]] - 0.5);
    }
  }
}

}  // namespace lamina
