// The moments of crossings under gradient flow: against closed flows, whatever the stretch of a step; and the search alone, on ways
// whose crossings are known.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <functional>
#include <numbers>

#include "support/runs.hpp"
#include "theory/feature_forms.hpp"
#include "theory/regression_population.hpp"
#include "theory/rotation_population.hpp"
#include "theory/theory.hpp"
#include "train/tensor_file.hpp"

namespace lamina::tests {
namespace {

const std::string tight = " optimiser=flow probes=none record_every=1000000 relative_tolerance=1e-12 absolute_tolerance=1e-15 ";
// Steps of this size until that time.
std::string steps_to(double time, double step_size) {
  return tight + "step_size=" + number_text(step_size) + " steps=" + std::to_string(static_cast<int>(time / step_size)) + " ";
}

// From far shorter to far longer than the integrator's own steps.
TEST(Moments, OfSoftmaxAttentionAreThoseOfItsClosedFlow) {
  const auto law = convergence_task("features=10 prompt_length=inf");
  const auto time = [&](const char* form, double value) {
    double out = 0;
    find_theory(form).evaluate(law.get(), std::span(&value, 1), std::span(&out, 1));
    return out;
  };
  for (const double step_size : {0.21, 3.0, 45.0, 700.0}) {
    const std::string line = "features=10 prompt_length=inf " + steps_to(1400, step_size);
    const Experiment run(line + "crossings=attention_0=0.5,loss=0.1,loss_0=0.01,excess=0.3,attention_0=0.2,loss=1e-9",
                         "in_context_convergence");
    const double want[] = {time("flow_time", 0.5), time("flow_time_to_loss", 0.1), time("flow_time_to_loss", 0.01),
                           time("flow_time_to_loss", 0.3), time("flow_time", 0.2)};
    const std::vector<Crossing>& found = run.trainer->crossings();
    for (size_t i = 0; i < std::size(want); ++i) {
      EXPECT_NEAR(found[i].time * step_size / want[i], 1, 1e-8) << found[i].signal << " " << step_size;
      EXPECT_EQ(std::ceil(found[i].time), static_cast<double>(found[i].step));
      EXPECT_TRUE((found[i].before < found[i].value) != (found[i].after < found[i].value));
    }
    EXPECT_TRUE(std::isnan(found[5].time));
    // Looking back changes nothing of the run.
    const Experiment plain(line, "in_context_convergence");
    EXPECT_EQ(run.trainer->model().parameters(), plain.trainer->model().parameters());
    EXPECT_EQ(run.at(found[1].step, "loss"), found[1].after);
  }
}

TEST(Moments, OfLinearAttentionAreThoseOfItsLogisticFlow) {
  const std::string rotating = "dimension=4 prompt_length=12 ";
  const auto begun = trainer_of(rotating, "mesa_optimisation");
  const RotationPopulation form(*begun->task()->rotation());
  const double start = begun->model().settings().number("initial_scale"), first = form.excess(start * start);
  for (const double part : {0.003, 0.4}) {
    const double step_size = part / form.A;
    std::string crossings = " crossings=";
    for (const double left : {0.9, 0.5, 1e-2, 1e-5}) crossings += (left < 0.9 ? ",excess=" : "excess=") + number_text(left * first);
    const Experiment run(rotating + steps_to(12 / form.A, step_size) + crossings, "mesa_optimisation");
    for (const Crossing& found : run.trainer->crossings()) {
      ASSERT_GT(found.step, 0) << found.value;
      EXPECT_NEAR(form.excess(form.flow(start * start, step_size * found.time)) / found.value, 1, 1e-7) << step_size;
    }
  }
  for (const double step_size : {0.02, 1.7}) {
    const Experiment run("dimension=4 prompt_length=20 crossings=excess=0.4,excess=1e-3" + steps_to(60, step_size),
                         "linear_regression");
    const RegressionLaw& law = *run.trainer->task()->regression();
    const double scale = law.small_scale();
    for (const Crossing& found : run.trainer->crossings()) {
      ASSERT_GT(found.step, 0) << found.value;
      EXPECT_NEAR(isotropic_excess(law, scale * scale / 2, step_size * found.time) / found.value, 1, 1e-7) << step_size;
    }
  }
}

TEST(Moments, OfTheExactLawAndOfPhases) {
  // population_excess is the excess where the law is what is descended; a phase has no value between steps, a prediction neither.
  const Experiment run("features=6 dominant=0.5 prompt_length=inf steps=300 step_size=7 optimiser=flow probes=none record_every=1000 "
                       "crossings=population_excess=0.05,excess=0.05,phase_1=4,predicted=0.05",
                       "in_context_convergence");
  const std::vector<Crossing>& found = run.trainer->crossings();
  EXPECT_EQ(found[0].time, found[1].time);
  EXPECT_NE(found[0].time, static_cast<double>(found[0].step));
  for (const size_t i : {2, 3}) EXPECT_EQ(found[i].time, static_cast<double>(found[i].step)) << found[i].signal;
}

TEST(Moments, OfDescentAreItsSteps) {
  const Experiment run("features=6 steps=300 crossings=loss=0.2,loss=1e-9", "in_context_convergence");
  EXPECT_EQ(run.trainer->crossings()[0].time, static_cast<double>(run.trainer->crossings()[0].step));
  EXPECT_TRUE(std::isnan(run.trainer->crossings()[1].time));
}

TEST(Moments, OfARunInPartsAreTheWhole) {
  const std::string path = "moment_test_" + std::to_string(getpid()) + ".safetensors";
  for (const auto& [task, line] : {std::pair{"in_context_convergence", "features=5 dominant=0.4 prompt_length=30 step_size=20 steps=40 "
                                                                      "crossings=loss=0.2,A_1=1,loss=0.1,attention_1=0.5,beta_1_2=0"},
                                   std::pair{"in_context_recall", "data=fixed samples=64 step_size=9 steps=30 noise=0.2 triggers=2 outputs=4 "
                                                                  "unseen_outputs=2 vocabulary=12 prompt_length=32 "
                                                                  "crossings=loss=1.5,excess=0.3,lambda_0=1,p_answer=0.5"}}) {
    const std::string all = std::string(line) + " optimiser=flow probes=none";
    const Experiment whole(all, task);
    auto parts = trainer_of(all, task);
    while (parts->step() < parts->steps()) {
      parts->run(1);
      parts->save(path);
      parts = Trainer::load(path, nullptr);
    }
    unlink(path.c_str());
    EXPECT_EQ(parts->model().parameters(), whole.trainer->model().parameters());
    int found = 0;
    for (size_t i = 0; i < parts->crossings().size(); ++i) {
      const Crossing &a = whole.trainer->crossings()[i], &b = parts->crossings()[i];
      EXPECT_TRUE(a.step == b.step && (a.time == b.time || a.step < 0)) << a.signal << " " << a.time << " " << b.time;
      found += a.time < static_cast<double>(a.step);
    }
    EXPECT_GE(found, 2) << line;
  }
}

// Checkpoints of versions that had steps alone.
TEST(Moments, OfAFileWithoutThemAreItsSteps) {
  const std::string path = "moment_test_old_" + std::to_string(getpid()) + ".safetensors";
  const Experiment run("features=5 prompt_length=inf step_size=20 steps=40 optimiser=flow probes=none crossings=loss=0.2,loss=1e-9",
                       "in_context_convergence");
  run.trainer->save(path);
  Tensors tensors;
  const Json content = read_tensor_file(path, "lamina-checkpoint-1", tensors);
  ASSERT_EQ(tensors.erase("crossing_times"), 1u);
  write_tensor_file(path, "lamina-checkpoint-1", content, tensors);
  const auto old = Trainer::load(path, nullptr);
  unlink(path.c_str());
  EXPECT_LT(run.trainer->crossings()[0].time, static_cast<double>(run.trainer->crossings()[0].step));
  EXPECT_EQ(old->crossings()[0].time, static_cast<double>(run.trainer->crossings()[0].step));
  EXPECT_TRUE(std::isnan(old->crossings()[1].time));
}

// A way of given pieces on which the loss is a given function of the time in steps.
class Course final : public Moments {
 public:
  Course(std::function<double(double)> loss, std::vector<double> ends) : loss_(std::move(loss)), ends_(std::move(ends)) {}
  void reach(int64_t step) { step_ = step, moment_ = 1; }
  double loss() override { return ++measured, loss_(static_cast<double>(step_) - 1 + moment_); }
  double excess() override { return 0; }
  const ProbeState& state() override { throw std::logic_error("no probe is watched"); }
  bool turn_back() override { return piece_ = -1, !ends_.empty(); }
  bool next() override {
    if (stopped) throw std::runtime_error("stopped");
    return ++piece_ < static_cast<int64_t>(ends_.size());
  }
  double end() const override { return ends_[static_cast<size_t>(piece_)]; }
  void go_to(double moment) override {
    const double begin = piece_ > 0 ? ends_[static_cast<size_t>(piece_) - 1] : 0;
    EXPECT_TRUE(moment >= begin && moment <= end()) << moment << " " << begin << " " << end();
    moment_ = moment;
  }
  int measured = 0;
  bool stopped = false;

 private:
  std::function<double(double)> loss_;
  std::vector<double> ends_;
  int64_t step_ = 0, piece_ = -1;
  double moment_ = 1;
};

Crossings watching(const std::string& text) {
  const auto task = convergence_task("features=3");
  return Crossings(text, *model_of(*task, ""), *task, [](const ProbeRow&) { return false; });
}

std::vector<double> times_on(Course course, const std::string& text, int64_t steps, int* measured = nullptr) {
  Crossings crossings = watching(text);
  for (int64_t step = 0; step <= steps; ++step) course.reach(step), crossings.look(step, course);
  std::vector<double> times;
  for (const Crossing& crossing : crossings.all()) times.push_back(crossing.time);
  if (measured) *measured = course.measured;
  return times;
}

TEST(Search, FindsSmoothAndBrokenSignals) {
  const auto decay = [](double t) { return std::exp(-t / 3); };
  for (const std::vector<double>& ends : {std::vector<double>{1}, {0.25, 0.5, 1}, {1e-6, 1 - 1e-6, 1}}) {
    int measured = 0;
    const std::vector<double> times = times_on(Course(decay, ends), "loss=0.5,loss=0.49,loss=0.1,loss=1e-3", 30, &measured);
    const double levels[] = {0.5, 0.49, 0.1, 1e-3};
    for (size_t i = 0; i < times.size(); ++i) EXPECT_NEAR(times[i], -3 * std::log(levels[i]), 4 * Crossings::resolution) << i;
    EXPECT_LE(measured, 22 + 4 * 12);
  }
  // A jump, a part without value, an infinite one.
  const double undefined = std::nan(""), infinite = std::numeric_limits<double>::infinity();
  EXPECT_NEAR(times_on(Course([](double t) { return t < 2.3 ? 1.0 : 0.0; }, {1}), "loss=0.5", 4)[0], 2.3, 4e-12);
  const auto lost = [&](double t) { return t < 1.5 ? 1.0 : t < 1.7 ? undefined : 2 - t; };
  EXPECT_NEAR(times_on(Course(lost, {0.6, 1}), "loss=0.5", 4)[0], 1.7, 4e-12);
  EXPECT_NEAR(times_on(Course([&](double t) { return t < 2.25 ? infinite : -infinite; }, {1}), "loss=3", 4)[0], 2.25, 4e-12);
}

TEST(Search, TakesTheFirstPieceAtWhoseEndTheValueIsReached) {
  EXPECT_NEAR(times_on(Course([](double t) { return std::cos(t); }, {1}), "loss=0", 3)[0], std::numbers::pi / 2, 4e-12);
  // Three zeros in the first step: 0.3, 0.6, 0.9.
  const auto thrice = [](double t) { return (0.3 - t) * (0.6 - t) * (0.9 - t); };
  EXPECT_NEAR(times_on(Course(thrice, {0.5, 0.7, 1}), "loss=0", 1)[0], 0.3, 4e-12);
  const double one = times_on(Course(thrice, {1}), "loss=0", 1)[0];
  EXPECT_NEAR(thrice(one), 0, 1e-12);
  // Back at the end of the step: not seen.
  EXPECT_TRUE(std::isnan(times_on(Course([](double t) { return (t - 0.3) * (t - 0.6); }, {0.5, 1}), "loss=0", 1)[0]));
}

TEST(Search, WithoutAWayTimesAreSteps) {
  EXPECT_EQ(times_on(Course([](double t) { return 1 - t / 2.5; }, {}), "loss=0,loss=1", 4), (std::vector<double>{3, 0}));
}

TEST(Search, AStopLeavesTheStepToBeLookedAtAgain) {
  Crossings crossings = watching("loss=0.5,loss=0.1");
  Course course([](double t) { return std::exp(-t); }, {0.5, 1});
  crossings.look(0, course);
  course.reach(1);
  const std::vector<double> before = crossings.state();
  course.stopped = true;
  EXPECT_THROW(crossings.look(1, course), std::runtime_error);
  const auto bits = [](const std::vector<double>& x) { return std::string(reinterpret_cast<const char*>(x.data()), 8 * x.size()); };
  EXPECT_EQ(bits(crossings.state()), bits(before));
  EXPECT_TRUE(crossings.open());
  course.stopped = false, course.reach(1);
  EXPECT_TRUE(crossings.look(1, course));
  EXPECT_NEAR(crossings.all()[0].time, std::log(2), 4e-12);
}

}  // namespace
}  // namespace lamina::tests
