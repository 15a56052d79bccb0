// Moments of the three starts.
#include "theory/rotation_population.hpp"

#include "kernels/scalar_math.hpp"

namespace lamina {

RotationPopulation::RotationPopulation(const RotationLaw& law) {
  const double d = static_cast<double>(law.dimension), q = law.scale * law.scale, steps = static_cast<double>(law.length - 2);
  double harmonic = 0;  // sum_{t=2}^{T-1} 1 / (t - 1), small terms first
  for (int64_t n = law.length - 2; n >= 1; --n) harmonic += 1 / static_cast<double>(n);
  const bool gaussian = law.start == RotationLaw::Start::gaussian, sparse = law.start == RotationLaw::Start::sparse;
  // E sum q, E sum q^2, E sum q^3, E sum_{r != j} q_j q_r^2
  const double coordinates = sparse ? 1 : d, second = gaussian ? 3 : 1, third = gaussian ? 15 : 1;
  const double mixed = sparse ? 0 : d * (d - 1) * second;
  const double C = steps * coordinates * q;
  A = steps * coordinates * second * q * q;
  B = (steps * coordinates * third + harmonic * mixed) * q * q * q;
  // C B - A^2 without cancellation: 0 for sparse starts.
  infimum = 0.5 * C * (coordinates * steps * (third - second * second) + harmonic * mixed) * q * q * q / B;
  square = q;
}

double RotationPopulation::flow(double start, double time) const {
  return optimum() / (1 + (optimum() / start - 1) * kernels::exp(-2 * A * time));
}

}  // namespace lamina
