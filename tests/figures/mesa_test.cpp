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

// Standard deviation of the recovery ratio: a mean over 512 sequences and d coordinates of c times x_j^2 + sum_{r != j} x_r^2 Re D_jr,
// where D is a mean of n = T - 2 uniform phases, E D = 0, E (Re D)^2 = 1 / (2n), and D_rj = D_jr^*, so that one pair contributes
// (x_j^2 + x_r^2) Re D. In units of the start: x_j^2 has variance 2 and (x_j^2 + x_r^2)^2 mean 8 (Gaussian), 0 and 4 (ones), and of a
// sparse start every ratio is c.
double deviation_of_recovery(const RotationLaw& law, double c) {
  const bool gaussian = law.start == RotationLaw::Start::gaussian;
  if (law.start == RotationLaw::Start::sparse) return 0;
  const auto d = static_cast<double>(law.dimension), n = static_cast<double>(law.length - 2);
  const double own = gaussian ? 2 / d : 0, pairs = (d - 1) / (2 * d) * (gaussian ? 8 : 4) / (2 * n);
  return c * law.scale * law.scale * std::sqrt((own + pairs) / 512);
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
      const double deviation = deviation_of_recovery(*run.trainer->task()->rotation(), f.c);
      EXPECT_NEAR(run.last("recovery_ratio"), f.ratio, 4 * deviation + 1e-5 * std::max(1.0, f.ratio)) << f.line << start;
      if (start.empty()) std::printf("%-58s ratio %.5f, expected %.5f, z = %.2f\n", f.line, run.last("recovery_ratio"), f.ratio, deviation > 0 ? (run.last("recovery_ratio") - f.ratio) / deviation : 0.0);
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

// Sparse starts with angles on a grid of 64 at T = 20: the mean of e^{i k theta} over the grid is 0 for 0 < |k| < 64, as over the
// uniform law, so that what leaves the blocks is 0 within rounding at every step; of samples it is what their means are off.
TEST(MesaFigures, SparseStartsLeaveTheBlocksBySamplingErrorAlone) {
  constexpr int64_t d = 3, T = 20, grid = 64;
  const auto task = tests::task_of(name, "start=sparse dimension=3 prompt_length=20");
  Prompts prompts;
  prompts.resize(d * grid, T);
  prompts.values.assign(static_cast<size_t>(d * grid * T * 2 * d), 0.0);
  for (int64_t j = 0; j < d; ++j)
    for (int64_t g = 0; g < grid; ++g)
      for (int64_t t = 0; t < T; ++t) {
        double* x = &prompts.values[static_cast<size_t>(((j * grid + g) * T + t) * 2 * d + 2 * j)];
        const double angle = 2 * M_PI * static_cast<double>(g * t % grid) / grid;
        x[0] = std::cos(angle), x[1] = std::sin(angle);
      }
  const auto trainer = tests::trainer_of("variant=original start=sparse dimension=3 prompt_length=20 data=fixed samples=1", name);
  const auto model = trainer->model().clone();
  const Team team(1);
  const auto compiled = model->compile(prompts, {}, team);
  std::vector<double> gradient(model->parameters().size());
  double off = 0;
  for (int t = 0; t < 300; ++t) {
    model->loss_and_gradient(*compiled, team, gradient.data(), false);
    for (size_t i = 0; i < gradient.size(); ++i) model->mutable_parameters()[i] -= 1e-2 * gradient[i];
  }
  const std::vector<double>& x = model->parameters();
  constexpr int64_t D = 2 * d, p = d * D;
  for (int64_t i = 0; i < std::ssize(x); ++i) {
    const bool value = i < p, key = i >= 2 * p && i < 2 * p + D * D;
    const int64_t row = value ? i / D : (i - 2 * p) / D, column = i % D;
    if (!(value && row == column) && !(key && row == d + column)) off = std::max(off, std::abs(x[i]));
  }
  EXPECT_LT(off, 1e-13);
  EXPECT_NEAR(x[0] * x[2 * p + d * D], 1, 1e-6);  // c
  double last = 1;
  for (const int samples : {100, 400, 1600}) {
    double most = 0;
    for (int seed = 1; seed <= 3; ++seed) {
      const Experiment run("variant=original data=fixed dimension=3 prompt_length=20 record_every=1000 start=sparse step_size=1e-2 steps=300 samples=" +
                               std::to_string(samples) + " seed=" + std::to_string(seed),
                           name);
      most = std::max(most, run.last("off_diagonal"));
    }
    std::printf("sparse, grid %.1e; %d samples: largest entry off the blocks of three seeds %.1e\n", off, samples, most);
    EXPECT_LT(most, last / 2) << samples;  // M^-1/2 at least
    last = most;
  }
}

// On the exact population each of d equal diagonal entries is pulled by a d-th of the slope of its block: every entry at a step size
// goes as the blocks at a d-th of it, and nothing leaves them, for starts whose signs are free.
TEST(MesaFigures, EveryEntryFreeFollowsTheBlocksOnThePopulation) {
  const struct {
    const char *line, *step, *of_blocks;
  } cases[] = {{"steps=400", "step_size=2e-4", "step_size=4e-5"},
               {"steps=800 start_scale=2 initial_scale=0.05", "step_size=4e-6", "step_size=8e-7"},
               {"steps=400 start=sparse", "step_size=3e-3", "step_size=6e-4"},
               {"steps=400 optimiser=flow relative_tolerance=1e-12 dimension=2 prompt_length=20", "step_size=2e-3", "step_size=1e-3"}};
  for (const auto& c : cases) {
    const std::string common = std::string(c.line) + " record_every=20 variant=";
    const Experiment every(common + "original " + c.step, name), blocks(common + "full " + c.of_blocks, name);
    ASSERT_EQ(every.status, LAMINA_OK);
    ASSERT_EQ(every.table->rows(), blocks.table->rows());
    for (int64_t row = 0; row < every.table->rows(); ++row) {
      for (const char* column : {"a", "b", "c"})
        EXPECT_NEAR(every.table->at(row, every.column(column)), blocks.table->at(row, blocks.column(column)), 1e-9) << c.line << " " << row;
      const double loss = blocks.table->at(row, blocks.column("loss"));
      EXPECT_NEAR(every.table->at(row, every.column("loss")), loss, 1e-9 * (1 + loss)) << c.line << " " << row;
    }
    EXPECT_LT(every.last("off_diagonal"), 1e-12) << c.line;
    EXPECT_NEAR(every.last("c"), form("mesa_step_size", c.line), 1e-9) << c.line;
    EXPECT_LT(std::abs(every.last("excess")), 1e-16) << c.line;
  }
}

// All ones: E x_j is not 0, the other entries are pulled, and the minimum lies below that of any a, b. A fixed set is fitted below the
// population's minimum, by matrices that are above it on the population.
TEST(MesaFigures, OnesLeaveTheBlocksOnThePopulation) {
  const std::string common = "start=ones dimension=3 prompt_length=20 variant=original ";
  const Experiment run(common + "step_size=3e-3 steps=600 record_every=1000", name),
      drawn(common + "data=fixed samples=400 step_size=3e-3 steps=600 record_every=1000", name);
  const double least = run.last("loss");
  EXPECT_LT(run.last("excess"), -1.2);
  EXPECT_GT(run.last("off_diagonal"), 0.08);
  const std::vector<double>& end = run.trainer->model().parameters();
  std::vector<double> slope(end.size());
  find_theory("mesa_gradient").evaluate(run.trainer->task().get(), end, slope);
  for (double entry : slope) EXPECT_NEAR(entry, 0, 1e-9);
  const std::vector<double>& x = drawn.trainer->model().parameters();
  double on_population = 0;
  find_theory("mesa_loss").evaluate(run.trainer->task().get(), x, {&on_population, 1});
  std::printf("ones: population %.6f; fitted to 400: %.6f, on the population %.6f\n", least, drawn.last("loss"), on_population);
  EXPECT_LT(drawn.last("loss"), least - 0.05);
  EXPECT_GT(on_population, least);
  EXPECT_LT(on_population, least + 0.5);
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
