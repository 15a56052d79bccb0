// Figures of linear attention on rotating sequences (arXiv 2405.16845): the learnt step c = a b, recovery of the sequence, the form of
// the matrices. Expected numbers are those of an independent program.
#include <gtest/gtest.h>

#include <cmath>

#include "support/runs.hpp"
#include "theory/theory.hpp"

namespace lamina {
namespace {

using tests::Experiment;

constexpr const char* name = "mesa_optimisation";

double form(const std::string& which, const std::string& line) {
  double out = 0;
  find_theory(which).evaluate(tests::task_of(name, line).get(), {}, {&out, 1});
  return out;
}

TEST(MesaFigures, StepOfEveryStartInTheory) {
  // k1 / (k2 + k3 / (T-2) sum_{t=2}^{T-1} 1/(t-1)); d = 5, T = 100 unless said.
  const struct {
    const char* line;
    double c;
  } figures[] = {{"", .19191}, {"start_scale=2", .04798}, {"start_scale=0.5", .7676},         {"start=sparse start_scale=0.5", 4},
                 {"start=sparse", 1}, {"start=sparse start_scale=2", .25}, {"start=ones", .82583}, {"dimension=2 prompt_length=20", .19252},
                 {"prompt_length=100000000", .2}};
  for (const auto& f : figures) EXPECT_NEAR(form("mesa_step_size", f.line), f.c, 6e-6 * std::max(1.0, 10 * f.c)) << f.line;
}

TEST(MesaFigures, DescentReachesThatStepFromEveryStart) {
  const struct {
    const char* line;
    double c, ratio;
  } figures[] = {{"step_size=2e-4 steps=200", .19191, .19191},
                 {"start_scale=2 step_size=4e-6 steps=400", .04798, 4 * .04798},
                 {"start=sparse start_scale=0.5 step_size=3e-2 steps=600", 4, 1},
                 {"start=sparse step_size=3e-3 steps=400", 1, 1},
                 {"start=sparse start_scale=2 step_size=2e-4 steps=400", .25, 1},
                 {"start=ones step_size=5e-4 steps=400", .82583, .82583},
                 {"dimension=2 prompt_length=20 step_size=3e-3 steps=400", .19252, .19252}};
  for (const auto& f : figures)
    for (const std::string start : {"", " initial_scale=0.5 value_scale=1.5 optimiser=flow"}) {
      const Experiment run(f.line + start + " record_every=1000", name);
      ASSERT_EQ(run.status, LAMINA_OK);
      EXPECT_NEAR(run.last("c"), f.c, 1e-5 * std::max(1.0, 10 * f.c)) << f.line << start;
      EXPECT_NEAR(run.last("recovery_ratio"), f.ratio, 0.02) << f.line << start;
      if (start.empty()) {
        EXPECT_EQ(run.last("a"), run.last("b")) << "descent keeps a = b: " << f.line;
      }
    }
}

TEST(MesaFigures, FlowIsLogistic) {
  for (const char* line : {"step_size=1e-5", "start=sparse step_size=1e-4", "start=ones step_size=1e-5 initial_scale=1.2 value_scale=1.2"}) {
    const Experiment run(std::string("optimiser=flow probes=predicted steps=300 relative_tolerance=1e-12 ") + line, name);
    for (int64_t row = 0; row < run.table->rows(); ++row) {
      const auto distance = [&](const char* column) { return std::sqrt(run.table->at(row, run.column(column))); };
      EXPECT_NEAR(distance("excess"), distance("predicted"), 1e-9 * (1 + distance("predicted"))) << line << " " << row;
    }
  }
}

TEST(MesaFigures, ExactRunsOfSequencesTooLongToDraw) {
  const Experiment run("prompt_length=100000000 step_size=1e-10 steps=400", name);
  ASSERT_EQ(run.status, LAMINA_OK);
  EXPECT_NEAR(run.last("c"), .2, 1e-6);
  EXPECT_THROW(run.column("recovery_ratio"), std::runtime_error);
}

TEST(MesaFigures, SampledSequencesGiveTheSameStep) {
  // Least squares of 4000 samples by the other program: .19271 (sigma 1), .04654 (2), .7172 (0.5), .82565 (ones), .19335 (d = 2, T = 20).
  // Of Gaussian starts the sixth moments decide: 15 +- sqrt(10395 - 15^2) for each of d times 8000 coordinates.
  const double six = std::sqrt(10395.0 - 225) / 15;
  const struct {
    const char* line;
    double c, error;
  } figures[] = {{"step_size=2e-4 steps=200", .19191, six / std::sqrt(5 * 8000)},
                 {"start_scale=2 step_size=4e-6 steps=400", .04798, six / std::sqrt(5 * 8000)},
                 {"start=ones step_size=5e-4 steps=400", .82583, .001},
                 {"dimension=2 prompt_length=20 step_size=3e-3 steps=400", .19252, six / std::sqrt(2 * 8000)}};
  for (const auto& f : figures) {
    const Experiment run(std::string("data=fixed samples=8000 record_every=1000 ") + f.line, name);
    EXPECT_NEAR(run.last("c") / f.c, 1, 3 * f.error) << f.line;
  }
}

TEST(MesaFigures, SparseStartsAreRecoveredExactly) {
  for (const std::string line : {"start_scale=0.5 step_size=3e-2 steps=1500", "start_scale=1 step_size=3e-3 steps=800", "start_scale=2 step_size=2e-4 steps=800"}) {
    const Experiment run("data=fixed samples=500 start=sparse record_every=1500 " + line, name);
    EXPECT_LT(std::abs(run.last("loss")), 1e-10) << line;
    EXPECT_NEAR(run.last("recovery_ratio"), 1, 1e-6) << line;
  }
  EXPECT_EQ(form("mesa_optimum", "start=sparse"), 0);
  EXPECT_GT(form("mesa_optimum", ""), 1);
}

TEST(MesaFigures, FullMatricesKeepTheBlocksForSparseStartsAndLeaveThemForOnes) {
  const std::string common = "variant=original data=fixed samples=400 dimension=3 prompt_length=20 record_every=1000 ";
  const Experiment sparse(common + "start=sparse step_size=1e-2 steps=300", name), gaussian(common + "step_size=1e-3 steps=200", name),
      ones(common + "start=ones step_size=3e-3 steps=600", name);
  EXPECT_NEAR(sparse.last("recovery_ratio"), 1, 1e-3);
  EXPECT_LT(sparse.last("loss"), 1e-5);
  EXPECT_NEAR(sparse.last("c"), 1, 1e-3);
  EXPECT_LT(sparse.last("off_diagonal"), 0.01);
  EXPECT_NEAR(gaussian.last("recovery_ratio"), form("mesa_step_size", "dimension=3 prompt_length=20"), 0.05);  // not recovered
  EXPECT_GT(ones.last("off_diagonal"), 0.08);
  EXPECT_LT(ones.last("excess"), -1);  // below what any a, b reach
}

}  // namespace
}  // namespace lamina
