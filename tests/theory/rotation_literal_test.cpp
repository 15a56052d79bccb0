// The exact population of linear attention on rotating sequences with every entry of W_PV and W_KQ: against a mean over a finite set of
// sequences that is exact for it, samples, differences, and the blocks a, b.
#include "theory/rotation_literal.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <random>

#include "support/clock.hpp"
#include "support/runs.hpp"
#include "theory/rotation_population.hpp"
#include "theory/theory.hpp"

namespace lamina {
namespace {

std::shared_ptr<const Task> task_for(const std::string& line) { return tests::task_of("mesa_optimisation", line); }
std::unique_ptr<Model> literal_model(const Task& task) {
  return make_model(task, Settings(model_options(), tests::options_of("variant=original"), find_task("mesa_optimisation").defaults));
}

std::vector<double> random_weights(int64_t d, double scale, std::mt19937_64& random) {
  std::normal_distribution<double> normal(0, scale);
  std::vector<double> x(static_cast<size_t>(12 * d * d));
  for (double& entry : x) entry = normal(random);
  return x;
}

// W_PV[:, :d] = b I, W_KQ[d:, :d] = a I.
std::vector<double> in_blocks(int64_t d, double a, double b) {
  std::vector<double> x(static_cast<size_t>(12 * d * d));
  for (int64_t j = 0; j < d; ++j) x[j * 2 * d + j] = b, x[4 * d * d + (d + j) * 2 * d + j] = a;
  return x;
}

RotationLiteralPopulation population_of(const Task& task) { return {*task.rotation(), *kernels::select(nullptr)->f64}; }

// Loss and gradient, the last entry the loss, of the form and of the sampled model.
std::vector<double> exact(const Task& task, const std::vector<double>& x) {
  std::vector<double> out(x.size() + 1);
  out.back() = population_of(task).loss_and_gradient(x, out.data()).loss;
  return out;
}
std::vector<double> sampled(const Model& model, const Prompts& prompts, std::span<const double> weights) {
  const Team team(1);
  std::vector<double> out(model.parameters().size() + 1);
  out.back() = model.loss_and_gradient(*model.compile(prompts, weights, team), team, out.data(), false).loss;
  return out;
}

// Every phase on the same grid of more points than a coordinate of the squared error turns, at most 3 (T - 2); every number of a Gaussian
// start one of the four nodes of Gauss and Hermite, exact to degree 7, where the squared error is of degree six.
std::vector<double> by_enumeration(const Task& task, const std::vector<double>& x) {
  const RotationLaw& law = *task.rotation();
  const auto d = static_cast<size_t>(law.dimension), T = static_cast<size_t>(law.length), grid = 3 * (T - 2) + 1;
  const double far = std::sqrt(3 + std::sqrt(6)), near = std::sqrt(3 - std::sqrt(6)), node[4] = {far, near, -near, -far};
  const double mass[4] = {(3 - std::sqrt(6)) / 12, (3 + std::sqrt(6)) / 12, (3 + std::sqrt(6)) / 12, (3 - std::sqrt(6)) / 12};
  size_t phases = 1, starts = law.start == RotationLaw::Start::sparse ? 2 * d : 1;
  for (size_t j = 0; j < d; ++j) phases *= grid, starts *= law.start == RotationLaw::Start::gaussian ? 4 : 1;
  const size_t count = phases * starts;
  Prompts prompts;
  prompts.resize(static_cast<int64_t>(count), law.length);
  prompts.values.resize(count * T * 2 * d);
  std::vector<double> weights(count, 1 / static_cast<double>(phases)), start(d);
  for (size_t code = 0; code < count; ++code) {
    size_t which = code / phases, angles = code % phases;
    for (size_t j = 0; j < d; ++j) start[j] = law.start == RotationLaw::Start::ones ? law.scale : 0;
    if (law.start == RotationLaw::Start::sparse) {
      start[which / 2] = which % 2 ? -law.scale : law.scale;
      weights[code] /= static_cast<double>(starts);
    } else if (law.start == RotationLaw::Start::gaussian) {
      for (size_t j = 0; j < d; ++j, which /= 4) start[j] = law.scale * node[which % 4], weights[code] *= mass[which % 4];
    }
    for (size_t j = 0; j < d; ++j, angles /= grid)
      for (size_t t = 0; t < T; ++t) {
        const double angle = 2 * M_PI * static_cast<double>(angles % grid * t % grid) / static_cast<double>(grid);
        double* at = &prompts.values[(code * T + t) * 2 * d + 2 * j];
        at[0] = start[j] * std::cos(angle), at[1] = start[j] * std::sin(angle);
      }
  }
  const auto model = literal_model(task);
  model->set_parameters(x);
  return sampled(*model, prompts, weights);
}

TEST(RotationLiteral, LossAndGradientAreThoseOfAFiniteSet) {
  std::mt19937_64 random(31);
  for (const char* line : {"start=gaussian dimension=1 prompt_length=3", "start=gaussian dimension=1 prompt_length=30 start_scale=0.8",
                           "start=gaussian dimension=2 prompt_length=3", "start=gaussian dimension=2 prompt_length=20",
                           "start=gaussian dimension=3 prompt_length=4", "start=gaussian dimension=3 prompt_length=6 start_scale=1.2",
                           "start=gaussian dimension=4 prompt_length=3", "start=sparse dimension=1 prompt_length=40",
                           "start=sparse dimension=3 prompt_length=4 start_scale=1.3", "start=ones dimension=1 prompt_length=25",
                           "start=ones dimension=2 prompt_length=20 start_scale=0.7", "start=ones dimension=3 prompt_length=14",
                           "start=ones dimension=4 prompt_length=5", "start=ones dimension=5 prompt_length=3",
                           "start=ones dimension=5 prompt_length=4", "start=ones dimension=6 prompt_length=3"}) {
    const auto task = task_for(line);
    const std::vector<double> x = random_weights(task->rotation()->dimension, 1, random);
    const std::vector<double> got = exact(*task, x), want = by_enumeration(*task, x);
    double scale = 0, most = 0;
    for (double entry : want) scale = std::max(scale, std::abs(entry));
    for (size_t i = 0; i < want.size(); ++i) {
      most = std::max(most, std::abs(got[i] - want[i]) / scale);
      EXPECT_NEAR(got[i], want[i], 1e-12 * scale) << line << " " << i;
    }
    std::printf("%s: largest relative difference %.1e\n", line, most);
  }
}

// Entries on three of many coordinates: of those the finite set of three, and of each other coordinate the target alone.
TEST(RotationLiteral, ThreeOfManyCoordinates) {
  std::mt19937_64 random(36);
  for (const char* start : {"gaussian", "sparse", "ones"})
    for (const int64_t d : {37, 70}) {
      const std::string line = std::string("start=") + start + " prompt_length=6 start_scale=1.2 dimension=";
      const auto small = task_for(line + "3"), large = task_for(line + std::to_string(d));
      const int64_t place[3] = {5, 17, d - 1};
      const std::vector<double> x = random_weights(3, 1, random);
      std::vector<double> want = by_enumeration(*small, x), y(static_cast<size_t>(12 * d * d));
      const auto index = [&](size_t i) {  // of P, Im P, Q, Im Q in turn
        const int64_t p = 18, at = static_cast<int64_t>(i), of_P = at < 2 * p, part = of_P ? at / p : (at - 2 * p) / (2 * p);
        const int64_t within = of_P ? at % p : (at - 2 * p) % (2 * p), row = within / 6, column = within % 6;
        const auto wide = [&](int64_t j) { return j / 3 * d + place[j % 3]; };
        return (of_P ? part * 2 * d * d : 4 * d * d + part * 4 * d * d) + wide(row) * 2 * d + wide(column);
      };
      for (size_t i = 0; i < x.size(); ++i) y[index(i)] = x[i];
      const std::vector<double> got = exact(*large, y);
      const bool sparse = large->rotation()->start == RotationLaw::Start::sparse;
      const double share = sparse ? 3 / static_cast<double>(d) : 1, rest = sparse ? 1 - share : static_cast<double>(d - 3);
      double scale = 0;
      for (double& entry : want) entry *= share, scale = std::max(scale, std::abs(entry));
      EXPECT_NEAR(got.back(), want.back() + rest * 0.5 * 4 * 1.44, 1e-12 * got.back()) << start << " " << d;
      for (size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(got[index(i)], want[i], 1e-12 * scale) << start << " " << d << " " << i;
    }
}

// All entries of many coordinates: another order of the coordinates is the same law.
TEST(RotationLiteral, CoordinatesMayBeExchanged) {
  std::mt19937_64 random(37);
  for (const char* start : {"gaussian", "sparse", "ones"})
    for (const int64_t d : {33, 50}) {
      const auto task = task_for(std::string("start=") + start + " prompt_length=40 dimension=" + std::to_string(d));
      const std::vector<double> x = random_weights(d, 1, random);
      std::vector<double> y(x.size());
      const auto moved = [&](size_t i) {
        const auto at = static_cast<int64_t>(i), row = at / (2 * d), column = at % (2 * d);
        const auto wide = [&](int64_t j) { return j / d * d + (j % d * 7 + 3) % d; };  // blocks of d rows and columns
        return static_cast<size_t>(wide(row) * 2 * d + wide(column));
      };
      for (size_t i = 0; i < x.size(); ++i) y[moved(i)] = x[i];
      const std::vector<double> one = exact(*task, x), other = exact(*task, y);
      double scale = 0;
      for (size_t i = 0; i < x.size(); ++i) scale = std::max(scale, std::abs(one[i]));
      EXPECT_NEAR(one.back(), other.back(), 1e-12 * one.back());
      for (size_t i = 0; i < x.size(); ++i) ASSERT_NEAR(one[i], other[moved(i)], 1e-11 * scale) << start << " " << d << " " << i;
    }
}

// With 34 complex products by R, 18 by the half of R that P^T conj(P0) fills and 34 by conj Q, a gradient is 392 real ones of matrices
// [d,d] with those of P: it takes no more than three times as long.
TEST(RotationLiteral, CostIsThatOfItsProducts) {
  const auto& table = *kernels::select(nullptr)->f64;
  constexpr int64_t d = 256;
  const auto task = task_for("start=gaussian prompt_length=100 dimension=256");
  std::mt19937_64 random(38);
  const std::vector<double> x = random_weights(d, 0.05, random);
  std::vector<double> gradient(x.size()), product(static_cast<size_t>(d * d));
  const RotationLiteralPopulation form = population_of(*task);
  double took = INFINITY, one = INFINITY;  // the least of rounds in turn, so that a stretch in which others use the caches slows both
  for (int round = 0; round < 6; ++round) {
    took = std::min(took, tests::least_seconds(1, [&] { form.loss_and_gradient(x, gradient.data()); }));
    one = std::min(one, tests::least_seconds(2, [&] { table.gemm(d, d, d, x.data(), d, 1, &x[d * d], d, product.data(), d, false); }));
  }
  std::printf("d = 256: one gradient in %.3f s on one core, of which %.3f s of products\n", took, 392 * one);
  EXPECT_LT(took, 3 * 392 * one);
}

TEST(RotationLiteral, SampledLossAndGradientAgreeInStandardErrors) {
  std::mt19937_64 random(32);
  for (const char* line : {"start=gaussian dimension=4 prompt_length=30", "start=sparse dimension=4 prompt_length=30 start_scale=1.2",
                           "start=ones dimension=6 prompt_length=12 start_scale=0.9"}) {
    const auto task = task_for(line);
    const std::vector<double> x = random_weights(task->rotation()->dimension, 0.3, random), want = exact(*task, x);
    const auto model = literal_model(*task);
    model->set_parameters(x);
    std::vector<double> sum(want.size()), squares(want.size());
    constexpr int sets = 64;
    double largest = 0, all = 0;
    for (int set = 0; set < sets; ++set) {
      Prompts prompts;
      task->sample(Split::train, 3, set * 400, 400, prompts);
      const std::vector<double> sample = sampled(*model, prompts, {});
      for (size_t i = 0; i < sample.size(); ++i) sum[i] += sample[i], squares[i] += sample[i] * sample[i];
    }
    for (double entry : want) all = std::max(all, std::abs(entry));
    for (size_t i = 0; i < want.size(); ++i) {
      const double mean = sum[i] / sets, error = std::sqrt(std::max(0.0, squares[i] / sets - mean * mean) / (sets - 1));
      if (error > 0) largest = std::max(largest, std::abs(mean - want[i]) / error);
      EXPECT_LT(std::abs(mean - want[i]), 4 * error + 1e-12 * all) << line << " " << i << ": " << mean << " " << want[i];
      EXPECT_LT(error, 0.05 * all) << line << ": a test that could not fail";
    }
    std::printf("%s: largest |z| of %zu numbers %.2f\n", line, want.size(), largest);
  }
}

TEST(RotationLiteral, GradientIsTheDifferenceOfLosses) {
  // The loss is of degree two in each real part: the central difference of step 1 is exact but for rounding.
  std::mt19937_64 random(33);
  for (const char* line : {"start=gaussian dimension=4 prompt_length=100", "start=sparse dimension=3 prompt_length=17",
                           "start=ones dimension=3 prompt_length=50"}) {
    const auto task = task_for(line);
    const RotationLiteralPopulation form = population_of(*task);
    const std::vector<double> x = random_weights(task->rotation()->dimension, 1, random);
    std::vector<double> gradient(x.size());
    const double loss = form.loss_and_gradient(x, gradient.data()).loss;
    EXPECT_EQ(form.loss_and_gradient(x, nullptr).loss, loss);
    for (size_t i = 0; i < x.size(); ++i) {
      std::vector<double> above = x, below = x;
      above[i] += 1, below[i] -= 1;
      const double difference = 0.5 * (form.loss_and_gradient(above, nullptr).loss - form.loss_and_gradient(below, nullptr).loss);
      EXPECT_NEAR(gradient[i], difference, 1e-12 * loss) << line << " " << i;
    }
  }
}

TEST(RotationLiteral, OnTheBlocksItIsTheirLossWhateverTheLength) {
  for (const std::string start : {"gaussian", "sparse", "ones"})
    for (const char* length : {"3", "9", "10", "11", "12", "100", "1000000"})
      for (const int64_t d : {1, 2, 5}) {
        const auto task = task_for("start=" + start + " start_scale=1.1 dimension=" + std::to_string(d) + " prompt_length=" + length);
        const RotationPopulation blocks(*task->rotation());
        const double a = 0.6, b = 0.9;
        const std::vector<double> x = in_blocks(d, a, b), got = exact(*task, x);
        const double loss = blocks.infimum + blocks.excess(a * b), part = blocks.slope(a * b) / static_cast<double>(d);
        EXPECT_NEAR(got.back(), loss, 1e-13 * loss) << start << " " << length << " " << d;
        // All coordinates alike; of starts whose signs are free no other entry is pulled.
        const double scale = 1e-13 * (loss + blocks.B);
        for (size_t i = 0; i < x.size(); ++i) {
          if (x[i] != 0) {
            EXPECT_NEAR(got[i], x[i] == a ? b * part : a * part, scale) << start << " " << length << " " << d << " " << i;
          } else if (start != "ones") {
            EXPECT_NEAR(got[i], 0, scale) << start << " " << length << " " << d << " " << i;
          }
        }
      }
}

TEST(RotationLiteral, ExcessKeepsItsDigitsNearTheBlocks) {
  // The loss is a quadratic form of P and, at the optimum of the blocks of starts whose signs are free, has no slope: moved by e N off
  // the blocks it rises by e^2 times a number that e = 1 gives.
  std::mt19937_64 random(35);
  for (const std::string start : {"gaussian", "sparse"}) {
    constexpr int64_t d = 3;
    const auto task = task_for("start=" + start + " start_scale=0.8 dimension=3 prompt_length=15");
    const RotationLiteralPopulation form = population_of(*task);
    const double c = RotationPopulation(*task->rotation()).optimum();
    const std::vector<double> blocks = in_blocks(d, c / 0.7, 0.7);
    std::vector<double> direction = random_weights(d, 1, random);
    for (size_t i = 0; i < direction.size(); ++i)
      if (i >= 4 * d * d || blocks[i] != 0) direction[i] = 0;
    const auto rise = [&](double e) {
      std::vector<double> x = blocks;
      for (size_t i = 0; i < x.size(); ++i) x[i] += e * direction[i];
      return form.loss_and_gradient(x, nullptr).excess / (e * e);
    };
    EXPECT_GT(rise(1), 0.1);
    for (const double e : {1e-3, 1e-6, 1e-9}) EXPECT_NEAR(rise(e) / rise(1), 1, 1e-14 / e) << start << " " << e;
    EXPECT_LT(std::abs(form.loss_and_gradient(blocks, nullptr).excess), 1e-28);
  }
}

// The least loss by P with Q as it is, then by Q, and so on: both are quadratic, and conjugate gradients reach it.
double least_excess(const RotationLiteralPopulation& form, std::vector<double> x, int rounds) {
  const size_t third = x.size() / 3;  // P: 4 d^2 numbers; Q: 8 d^2
  std::vector<double> gradient(x.size()), moved(x.size());
  for (int round = 0; round < 2 * rounds; ++round) {
    const size_t first = round % 2 ? third : 0, last = round % 2 ? x.size() : third;
    const auto dot = [&](const std::vector<double>& u, const std::vector<double>& v) {
      double sum = 0;
      for (size_t i = first; i < last; ++i) sum += u[i] * v[i];
      return sum;
    };
    form.loss_and_gradient(x, gradient.data());
    std::vector<double> residual(x.size()), direction;
    for (size_t i = first; i < last; ++i) residual[i] = -gradient[i];
    direction = residual;
    const double begin = dot(residual, residual);
    double size = begin;
    for (size_t i = 0; i < last - first && size > std::max(1e-26 * begin, 1e-30); ++i) {
      std::vector<double> y = x;
      for (size_t j = first; j < last; ++j) y[j] += direction[j];
      form.loss_and_gradient(x, gradient.data()), form.loss_and_gradient(y, moved.data());
      for (size_t j = 0; j < x.size(); ++j) moved[j] -= gradient[j];
      const double step = size / dot(direction, moved), old = size;
      for (size_t j = first; j < last; ++j) x[j] += step * direction[j], residual[j] -= step * moved[j];
      size = dot(residual, residual);
      for (size_t j = first; j < last; ++j) direction[j] = residual[j] + size / old * direction[j];
    }
  }
  return form.loss_and_gradient(x, nullptr).excess;
}

TEST(RotationLiteral, InfimumOfTheBlocksIsThatOfAllEntriesWhereSignsAreFree) {
  std::mt19937_64 random(39);
  for (const char* start : {"gaussian", "sparse", "ones"})
    for (const char* size : {" dimension=1 prompt_length=4", " dimension=2 prompt_length=3", " dimension=2 prompt_length=9", " dimension=3 prompt_length=5"}) {
      const auto task = task_for(std::string("start=") + start + " start_scale=0.9" + size);
      const RotationLiteralPopulation form = population_of(*task);
      const int64_t d = task->rotation()->dimension;
      const bool free = std::string(start) != "ones" || d == 1;
      // From the entries that the blocks fill, any on their diagonals and off them; and from all entries, where it takes long.
      std::vector<double> x = random_weights(d, 0.5, random), within(x.size());
      for (size_t i = 0; i < x.size(); ++i) {
        const auto at = static_cast<int64_t>(i), row = at % (4 * d * d) / (2 * d);
        if (at % (2 * d) < d && (at < 4 * d * d || row >= d)) within[i] = x[i];
      }
      const double least = least_excess(form, within, 40), from_all = least_excess(form, x, 10);
      std::printf("start=%s%s: least loss minus infimum of the blocks %.1e, from all entries %.1e\n", start, size, least, from_all);
      if (free) {
        EXPECT_NEAR(least, 0, 1e-12);
        EXPECT_GT(from_all, -1e-13);
        EXPECT_LT(from_all, 0.02);
      } else {
        EXPECT_LT(least, -0.1);
        EXPECT_LT(from_all, -0.1);
      }
    }
}

TEST(RotationLiteral, FormsSayHowManyNumbersTheyTake) {
  const auto task = task_for("dimension=2 prompt_length=7");
  const auto evaluate = [&](const char* name, const std::vector<double>& in, size_t results) {
    std::vector<double> out(results);
    find_theory(name).evaluate(task.get(), in, out);
    return out;
  };
  std::mt19937_64 random(34);
  const std::vector<double> x = random_weights(2, 1, random), want = exact(*task, x);
  EXPECT_EQ(evaluate("mesa_loss", x, 1)[0], want.back());
  EXPECT_EQ(evaluate("mesa_gradient", x, x.size()), std::vector<double>(want.begin(), want.end() - 1));
  const RotationPopulation blocks(*task->rotation());
  EXPECT_EQ(evaluate("mesa_loss", {0.3}, 1)[0], blocks.infimum + blocks.excess(0.3));
  EXPECT_EQ(evaluate("mesa_gradient", {0.3}, 1)[0], blocks.slope(0.3));
  EXPECT_THROW(evaluate("mesa_loss", {1, 2}, 1), Error);
  EXPECT_THROW(evaluate("mesa_loss", {NAN}, 1), Error);
}

}  // namespace
}  // namespace lamina
