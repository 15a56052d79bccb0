// The closed forms of linear regression in context as rows of the registry.
#include <algorithm>
#include <array>
#include <cmath>

#include "base/error.hpp"
#include "theory/regression_population.hpp"
#include "theory/theory.hpp"

namespace lamina {
namespace {

using Arguments = std::span<const double>;
using Results = std::span<double>;
using Matrix = std::vector<double>;

const RegressionLaw& law_of(const Task* task) { return *task->regression(); }

RegressionPopulation population(const Task* task, int64_t length) {
  return RegressionPopulation(law_of(task), length, *kernels::select(nullptr)->f64);
}
RegressionPopulation population(const Task* task) { return population(task, law_of(task).length); }

void require_count(Arguments in, int64_t wanted, const char* what) {
  if (std::ssize(in) != wanted) fail_argument("argument_count", static_cast<double>(in.size()), std::to_string(wanted) + ": " + what);
}

Arguments finite(Arguments in) {
  for (double x : in)
    if (!std::isfinite(x)) fail_argument("an entry of the parameters", x, "finite");
  return in;
}

Arguments parameters(const Task* task, Arguments in) {
  const int64_t d = law_of(task).dimension;
  require_count(in, 1 + d * d, "u and the dimension^2 entries of U");
  return finite(in);
}

// M, at least 1, first among the arguments.
double test_length(Arguments in) {
  if (!(in[0] >= 1)) fail_argument("M", in[0], "at least 1");
  return in[0];
}

Matrix diagonal(const RegressionPopulation& form, const Matrix& values) {
  Matrix M(values.size() * values.size());
  for (size_t i = 0; i < values.size(); ++i) M[i * values.size() + i] = values[i];
  return form.from_basis(M);
}

// d eigenvalues along the axes, or d rows of d numbers.
Matrix covariance(int64_t d, Arguments in) {
  Matrix M(static_cast<size_t>(d * d));
  if (std::ssize(in) == d * d)
    std::ranges::copy(in, M.begin());
  else if (std::ssize(in) == d)
    for (int64_t i = 0; i < d; ++i) M[i * d + i] = in[i];
  else
    fail_argument("argument_count", static_cast<double>(in.size() + 1), "1 + d or 1 + d^2: M and a covariance");
  for (int64_t i = 0; i < d; ++i)
    for (int64_t j = 0; j <= i; ++j)
      if (!std::isfinite(M[i * d + j]) || M[i * d + j] != M[j * d + i]) fail(LAMINA_E_ARGUMENT, "the covariance is not finite and symmetric");
  return M;
}

// The optimum m = u U and the covariance that it was trained on.
struct Trained {
  int64_t d;
  Matrix m, covariance;
};
Trained trained(const Task* task) {
  const RegressionLaw& law = law_of(task);
  if (law.random) fail(LAMINA_E_UNSUPPORTED, "covariance_law is exponential, must be fixed for the risk under a shift");
  const RegressionPopulation form = population(task);
  return {law.dimension, diagonal(form, form.optimum()), diagonal(form, law.eigenvalues)};
}

// At u, U or at W_PV, W_KQ, by their count.
RegressionPopulation::Value loss_and_gradient(const Task* task, Arguments in, double* gradient) {
  const int64_t d = law_of(task).dimension, literal = 2 * (d + 1) * (d + 1);
  if (std::ssize(in) == literal) return population(task).literal_loss_and_gradient(finite(in), gradient);
  if (std::ssize(in) != 1 + d * d)
    fail_argument("argument_count", static_cast<double>(in.size()),
                  std::to_string(1 + d * d) + ": u and the entries of U, or " + std::to_string(literal) + ": those of W_PV and of W_KQ");
  return population(task).loss_and_gradient(finite(in), gradient);
}

constexpr std::array rows{
    TheoryRow{"regression_loss", "The exact population loss of linear attention at u and U [d,d], or at W_PV and W_KQ [d+1,d+1], by rows.",
              "u, U | W_PV, W_KQ -> loss", regression_task, -1, 1,
              [](const Task* task, Arguments in, Results out) { out[0] = loss_and_gradient(task, in, nullptr).loss; }},
    TheoryRow{"regression_gradient", "Its gradient by the same.", "u, U | W_PV, W_KQ -> gradient", regression_task, -1, -1,
              [](const Task* task, Arguments in, Results out) { loss_and_gradient(task, in, out.data()); }},
    TheoryRow{"regression_optimum", "The least population loss of linear attention: (tr Lambda - tr Lambda^2 Gamma^-1) / 2 for one covariance.", "-> loss",
              regression_task, 0, 1, [](const Task* task, Arguments, Results out) { out[0] = population(task).infimum(); }},
    TheoryRow{"limit_matrices", "Where gradient flow from u, U ends if it reaches the optimum.", "u, U -> u, U", regression_task, -1, -1,
              [](const Task* task, Arguments in, Results out) { std::ranges::copy(population(task).limit(parameters(task, in)), out.begin()); }},
    TheoryRow{"conserved_quantity", "u^2 - |U|_F^2, which gradient flow conserves.", "u, U -> difference", regression_task, -1, 1,
              [](const Task* task, Arguments in, Results out) { out[0] = conserved_quantity(parameters(task, in)); }},
    TheoryRow{"risk_at_length", "E(yhat - y)^2 of the trained model on prompts of M labelled tokens.", "M -> risk", regression_task, 1, 1,
              [](const Task* task, Arguments in, Results out) {
                const RegressionPopulation form = population(task);
                Matrix x{1};
                const Matrix m = diagonal(form, form.optimum());
                x.insert(x.end(), m.begin(), m.end());
                const double M = test_length(in);
                if (std::isfinite(M) && std::floor(M) != M) fail_argument("M", M, "an integer, or inf");
                const int64_t length = M < 9e15 ? static_cast<int64_t>(M) : -1;
                out[0] = 2 * population(task, length).loss_and_gradient(x, nullptr).loss;
              }},
    TheoryRow{"task_shift_risk", "The same for the one task y = <w, x>.", "M, w -> risk", regression_task, -1, 1,
              [](const Task* task, Arguments in, Results out) {
                const Trained t = trained(task);
                require_count(in, 1 + t.d, "M and the dimension numbers of w");
                Matrix moments;
                for (double a : in.subspan(1))
                  for (double b : in.subspan(1)) moments.push_back(a * b);
                out[0] = shifted_risk(t.d, t.m, t.covariance, t.covariance, moments, test_length(in));
              }},
    TheoryRow{"query_shift_risk", "The same for a query of another covariance: d eigenvalues, or d rows.", "M, covariance -> risk", regression_task, -1, 1,
              [](const Task* task, Arguments in, Results out) {
                const Trained t = trained(task);
                if (in.empty()) require_count(in, 1 + t.d, "M and a covariance");
                out[0] = shifted_risk(t.d, t.m, t.covariance, covariance(t.d, in.subspan(1)), {}, test_length(in));
              }},
    TheoryRow{"covariate_shift_risk", "The same for tokens and query of another covariance.", "M, covariance -> risk", regression_task, -1, 1,
              [](const Task* task, Arguments in, Results out) {
                const Trained t = trained(task);
                if (in.empty()) require_count(in, 1 + t.d, "M and a covariance");
                const Matrix other = covariance(t.d, in.subspan(1));
                out[0] = shifted_risk(t.d, t.m, other, other, {}, test_length(in));
              }},
};

}  // namespace

std::span<const TheoryRow> regression_forms() { return rows; }

}  // namespace lamina
