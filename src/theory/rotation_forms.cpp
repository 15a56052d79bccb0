// The closed forms of rotating sequences as rows of the registry.
#include <array>

#include "theory/rotation_population.hpp"
#include "theory/theory.hpp"

namespace lamina {
namespace {

RotationPopulation population(const Task* task) { return RotationPopulation(*task->rotation()); }

constexpr std::array rows{
    TheoryRow{"mesa_step_size", "The a b to which training of the blocks tends: the step of gradient descent on in-context least squares.", "-> c",
              rotation_task, 0, 1, [](const Task* task, std::span<const double>, std::span<double> out) { out[0] = population(task).optimum(); }},
    TheoryRow{"mesa_loss", "The exact population loss of the blocks at c = a b.", "c -> loss", rotation_task, 1, 1,
              [](const Task* task, std::span<const double> in, std::span<double> out) {
                out[0] = population(task).infimum + population(task).excess(in[0]);
              }},
    TheoryRow{"mesa_optimum", "Its least value.", "-> loss", rotation_task, 0, 1,
              [](const Task* task, std::span<const double>, std::span<double> out) { out[0] = population(task).infimum; }},
    TheoryRow{"recovery", "The mean of prediction over truth of a coordinate that is not 0, trained: 1 is recovery.", "-> ratio", rotation_task, 0, 1,
              [](const Task* task, std::span<const double>, std::span<double> out) {
                out[0] = population(task).optimum() * population(task).square;
              }},
};

}  // namespace

std::span<const TheoryRow> rotation_forms() { return rows; }

}  // namespace lamina
