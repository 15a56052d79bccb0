// The closed forms of rotating sequences as rows of the registry.
#include <array>
#include <cmath>

#include "base/error.hpp"
#include "theory/rotation_literal.hpp"
#include "theory/rotation_population.hpp"
#include "theory/theory.hpp"

namespace lamina {
namespace {

RotationPopulation population(const Task* task) { return RotationPopulation(*task->rotation()); }

// At c, or at W_PV and W_KQ, by their count; the slope, as many numbers, may be null.
double loss_and_slope(const Task* task, std::span<const double> in, double* slope) {
  const RotationLaw& law = *task->rotation();
  const int64_t literal = 12 * law.dimension * law.dimension;
  for (double x : in)
    if (!std::isfinite(x)) fail_argument("an argument", x, "finite");
  if (std::ssize(in) == literal) return RotationLiteralPopulation(law, *kernels::select(nullptr)->f64).loss_and_gradient(in, slope).loss;
  if (in.size() != 1)
    fail_argument("argument_count", static_cast<double>(in.size()),
                  "1: c, or " + std::to_string(literal) + ": the real and the imaginary parts of W_PV, then those of W_KQ");
  const RotationPopulation form(law);
  if (slope) slope[0] = form.slope(in[0]);
  return form.infimum + form.excess(in[0]);
}

constexpr std::array rows{
    TheoryRow{"mesa_step_size", "The a b to which training of the blocks tends: the step of gradient descent on in-context least squares.", "-> c",
              rotation_task, 0, 1, [](const Task* task, std::span<const double>, std::span<double> out) { out[0] = population(task).optimum(); }},
    TheoryRow{"mesa_loss",
              "The exact population loss of the blocks at c = a b, or at W_PV [d,2d] and W_KQ [2d,2d], each Re then Im, by rows.",
              "c | W_PV, W_KQ -> loss", rotation_task, -1, 1,
              [](const Task* task, std::span<const double> in, std::span<double> out) { out[0] = loss_and_slope(task, in, nullptr); },
              "--arguments 0.5"},
    TheoryRow{"mesa_gradient", "Its gradient by the same.", "c | W_PV, W_KQ -> gradient", rotation_task, -1, -1,
              [](const Task* task, std::span<const double> in, std::span<double> out) { loss_and_slope(task, in, out.data()); },
              "--arguments 0.5"},
    TheoryRow{"mesa_optimum", "The least loss of the blocks; with start=gaussian or sparse, or dimension=1, the infimum over all entries of W_PV and W_KQ too.", "-> loss", rotation_task, 0, 1,
              [](const Task* task, std::span<const double>, std::span<double> out) { out[0] = population(task).infimum; }},
    TheoryRow{"recovery", "The mean of prediction over truth of a coordinate that is not 0, trained: 1 is recovery.", "-> ratio", rotation_task, 0, 1,
              [](const Task* task, std::span<const double>, std::span<double> out) {
                out[0] = population(task).optimum() * population(task).square;
              }},
};

}  // namespace

std::span<const TheoryRow> rotation_forms() { return rows; }

}  // namespace lamina
