// Tables of an ensemble against the members' trajectories read one by one: the tidy table, quantiles, times, exponents; and exponents
// against the laws of in-context convergence.
#include <algorithm>
#include <cmath>
#include <map>

#include "ensemble/ensembles.hpp"
#include "ensemble/statistics.hpp"

namespace lamina::tests {
namespace {

TEST(Table, HasEveryRowOfEveryMember) {
  const auto ensemble = ensemble_of("in_context_recall", "samples=100 evaluation_samples=50 steps=6 record_every=2 noise=0.3",
                                    {{"variant", "original,full"}, {"seed", "3,5"}});
  ASSERT_EQ(ensemble->run(), LAMINA_OK);
  const Table table = table_of(*ensemble);
  EXPECT_EQ(table->columns()[1].name, "variant");
  EXPECT_EQ(table->columns()[1].definition, "option variant: 0 = original, 1 = full");
  int64_t row = 0;
  for (int64_t i = 0; i < 4; ++i) {
    const Trajectory& member = *ensemble->member(i).trajectory;
    for (int64_t r = 0; r < member.rows(); ++r, ++row) {
      EXPECT_EQ(at(*table, row, "member"), i);
      EXPECT_EQ(at(*table, row, "variant"), i / 2);
      EXPECT_EQ(at(*table, row, "seed"), i % 2 ? 5 : 3);
      EXPECT_EQ(at(*table, row, "status"), 0);
      size_t numbers = 0, expected = 0;
      for (const Column& column : member.columns()) {
        const double value = at(member, r, column.name);
        EXPECT_TRUE(at(*table, row, column.name) == value || std::isnan(value)) << column.name;
        expected += !std::isnan(value);
      }
      for (size_t c = 4; c < table->columns().size(); ++c) numbers += !std::isnan(table->at(row, static_cast<int64_t>(c)));
      EXPECT_EQ(numbers, expected);
    }
  }
  EXPECT_EQ(row, table->rows());
}

TEST(Summary, IsTheNaiveSortOfTheMembersThatAgreeOnTheRest) {
  const auto ensemble = ensemble_of("in_context_convergence", "data=fresh batch=16 prompt_length=20 features=4 steps=81 record_every=20 attention=linear",
                                    {{"seed", "0..6"}, {"step_size", "0.5,1,1e6"}, {"mask", "yes,no"}});
  ASSERT_EQ(ensemble->run(), LAMINA_OK);
  const std::vector<double> quantiles{0.1, 0.5, 0.9};
  const Table table = summary_of(*ensemble, {"excess", "seed"}, quantiles);
  std::map<std::tuple<std::string, std::string, double>, std::vector<double>> values;
  std::map<std::tuple<std::string, std::string, double>, int64_t> rows;
  for (int64_t i = 0; i < ensemble->count(); ++i) {
    const Trajectory& member = *ensemble->member(i).trajectory;
    for (int64_t r = 0; r < member.rows(); ++r) {
      const auto key = std::tuple(ensemble->option(i, "step_size"), ensemble->option(i, "mask"), at(member, r, "step"));
      values[key].push_back(at(member, r, "excess")), ++rows[key];
    }
  }
  // Not the rows that some runs alone have: where those of step size 1e6 diverged, each at its own step.
  std::erase_if(values, [&](const auto& entry) {
    const auto& [step_size, mask, step] = entry.first;
    int64_t going_on = 0;
    for (int64_t i = 0; i < ensemble->count(); ++i) {
      const Trajectory& member = *ensemble->member(i).trajectory;
      going_on += ensemble->option(i, "step_size") == step_size && ensemble->option(i, "mask") == mask && at(member, member.rows() - 1, "step") >= step;
    }
    return rows.at(entry.first) < going_on;
  });
  const char* const masks[] = {"yes", "no"};
  ASSERT_EQ(table->rows(), static_cast<int64_t>(values.size()));
  for (int64_t r = 0; r < table->rows(); ++r) {
    std::vector<double> those = values.at({number_text(at(*table, r, "step_size")), masks[static_cast<int>(at(*table, r, "mask"))], at(*table, r, "step")});
    std::erase_if(those, [](double v) { return std::isnan(v); });
    EXPECT_EQ(at(*table, r, "members"), those.size());
    EXPECT_EQ(at(*table, r, "ended"), 0);
    double mean = 0;
    for (double v : those) mean += v / static_cast<double>(those.size());
    std::sort(those.begin(), those.end());
    if (those.empty()) continue;
    EXPECT_TRUE(std::abs(at(*table, r, "mean") - mean) <= 1e-14 * std::abs(mean) || std::isinf(mean));
    EXPECT_EQ(at(*table, r, "q0.1"), quantile(those, 0.1));
    EXPECT_EQ(at(*table, r, "q0.5"), those.size() % 2 ? those[those.size() / 2] : quantile(those, 0.5));
    EXPECT_EQ(at(*table, r, "q0.9"), quantile(those, 0.9));
  }
  EXPECT_EQ(summary_of(*ensemble, {"excess", "seed,mask"}, {})->columns()[0].name, "step_size");
  EXPECT_EQ(summary_of(*ensemble, {"excess", "seed,mask,step_size"}, {})->columns()[0].name, "step");
}

// Crossings and targets add rows in one run each: no quantile of one run stands between those of five, and runs at their target stay.
TEST(Summary, IsOverTheSameRunsAtEveryStep) {
  const auto ensemble = ensemble_of("in_context_convergence", "data=fresh batch=16 prompt_length=200 features=6 step_size=2 steps=400 record_every=10 "
                                    "probes=none crossings=loss=0.3,loss=0.2 loss_target=0.1",
                                    {{"seed", "0..4"}});
  ASSERT_EQ(ensemble->run(), LAMINA_OK);
  double first_end = 1e9, last_end = 0;
  size_t lonely = 0;
  for (int64_t i = 0; i < ensemble->count(); ++i) {
    ASSERT_EQ(ensemble->member(i).status, LAMINA_TARGET_REACHED);
    const Trajectory& member = *ensemble->member(i).trajectory;
    first_end = std::min(first_end, member.at(member.rows() - 1, 0)), last_end = std::max(last_end, member.at(member.rows() - 1, 0));
    for (int64_t r = 0; r < member.rows(); ++r) lonely += std::fmod(member.at(r, 0), 10) != 0;
  }
  ASSERT_GT(lonely, 5u);
  ASSERT_GT(last_end, first_end + 10);
  const Table table = summary_of(*ensemble, {"loss", "seed"}, std::vector<double>{0, 0.5, 1});
  int64_t after = 0;
  for (int64_t row = 0; row < table->rows(); ++row) {
    const double step = at(*table, row, "step");
    std::vector<double> those;
    double ended = 0;
    for (int64_t i = 0; i < ensemble->count(); ++i) {
      const Trajectory& member = *ensemble->member(i).trajectory;
      int64_t r = member.rows() - 1;
      ended += member.at(r, 0) < step;
      while (member.at(r, 0) > step) --r;
      ASSERT_TRUE(member.at(r, 0) == step || r == member.rows() - 1) << "a step that a run did not record";
      those.push_back(member.at(r, 1));
    }
    std::sort(those.begin(), those.end());
    EXPECT_EQ(at(*table, row, "members"), 5);
    EXPECT_EQ(at(*table, row, "ended"), ended);
    EXPECT_EQ(at(*table, row, "q0"), those[0]);
    EXPECT_EQ(at(*table, row, "q0.5"), those[2]);
    EXPECT_EQ(at(*table, row, "q1"), those[4]);
    after += ended > 0;
  }
  EXPECT_GT(after, 0);
  EXPECT_EQ(at(*table, table->rows() - 1, "step"), last_end);
  // Every common step is there.
  for (double step = 0, row = 0; step <= first_end; step += 10, ++row) EXPECT_EQ(at(*table, static_cast<int64_t>(row), "step"), step);
}

TEST(Summary, ARunWithFewerStepsLeaves) {
  const auto ensemble = ensemble_of("in_context_convergence", "prompt_length=20 features=4 record_every=5 probes=none", {{"steps", "10,20"}});
  ASSERT_EQ(ensemble->run(), LAMINA_OK);
  const Table table = summary_of(*ensemble, {"loss", "steps"}, {});
  ASSERT_EQ(table->rows(), 5);
  for (int64_t r = 0; r < 5; ++r) {
    EXPECT_EQ(at(*table, r, "step"), 5 * static_cast<double>(r));
    EXPECT_EQ(at(*table, r, "members"), r <= 2 ? 2 : 1);
    EXPECT_EQ(at(*table, r, "ended"), 0);
  }
}

// F5 of in-context convergence: steps to a loss, exact to the step where every step is recorded.
TEST(Times, AreTheFirstRowsBeyondTheLevel) {
  const auto ensemble = ensemble_of("in_context_convergence", "prompt_length=inf steps=3000 probes=increments watched=0", {{"features", "10,20"}});
  ASSERT_EQ(ensemble->run(), LAMINA_OK);
  const std::vector<double> levels{0.1, 0.01, 1e-3};
  const Table table = times_of(*ensemble, "loss_0", levels);
  const double expected[] = {166, 493, 2809, 586, 1288, NAN};
  ASSERT_EQ(table->rows(), 6);
  for (int64_t r = 0; r < 6; ++r) {
    EXPECT_EQ(at(*table, r, "features"), r < 3 ? 10 : 20);
    EXPECT_EQ(at(*table, r, "level"), levels[static_cast<size_t>(r % 3)]);
    const double time = at(*table, r, "time");
    EXPECT_TRUE(time == expected[r] || (std::isnan(time) && std::isnan(expected[r]))) << time;
  }
}

TEST(Times, OfARisingColumnToo) {
  const auto ensemble = ensemble_of("in_context_convergence", "prompt_length=inf steps=700 features=20 probes=attention", {});
  ASSERT_EQ(ensemble->run(), LAMINA_OK);
  const Trajectory& run = *ensemble->member(0).trajectory;
  const std::string column = run.columns()[3].name;
  const Table table = times_of(*ensemble, column, std::vector<double>{0.5, at(run, 0, column), 2});
  EXPECT_EQ(at(*table, 0, "time"), 546) << column;  // F4
  EXPECT_EQ(at(*table, 1, "time"), 0);
  EXPECT_TRUE(std::isnan(at(*table, 2, "time")));
}

TEST(Times, AreExactBetweenRowsForCrossings) {
  const auto ensemble = ensemble_of("in_context_convergence", "prompt_length=inf steps=3000 probes=none record_every=1000000 crossings=loss=0.1,loss_0=0.01,loss=1e-3",
                                    {{"features", "10,20"}});
  ASSERT_EQ(ensemble->run(), LAMINA_OK);
  const Table table = times_of(*ensemble, "loss", {});
  const double expected[] = {166, 2809, 586, NAN};
  ASSERT_EQ(table->rows(), 4);
  for (int64_t r = 0; r < 4; ++r) {
    EXPECT_EQ(at(*table, r, "level"), r % 2 ? 1e-3 : 0.1);
    EXPECT_TRUE(at(*table, r, "time") == expected[r] || (std::isnan(at(*table, r, "time")) && std::isnan(expected[r])));
  }
  EXPECT_EQ(at(*times_of(*ensemble, "loss_0", {}), 0, "time"), 493);  // a column that no trajectory has
  EXPECT_THROW(times_of(*ensemble, "excess", {}), Error);
}

// F6: between K = 160 and 320 the slope of log T is 1.94 at 0.1; a line through two points has no interval.
TEST(Exponents, OfTimeByFeaturesAreThoseOfTheLaw) {
  const auto ensemble = ensemble_of("in_context_convergence", "prompt_length=inf steps=180000 threads=2 record_every=1000000 probes=none crossings=loss=0.1,loss=0.01",
                                    {{"features", "160,320"}});
  ASSERT_EQ(ensemble->run(), LAMINA_OK);
  const Table two = exponents_of(*ensemble, {"loss", ""}, "features", {}, 0.95);
  ASSERT_EQ(two->rows(), 2);
  EXPECT_NEAR(at(*two, 0, "exponent"), 1.94, 0.006);
  EXPECT_NEAR(at(*two, 1, "exponent"), 1.82, 0.006);
  EXPECT_TRUE(std::isnan(at(*two, 0, "error")));
  EXPECT_EQ(at(*two, 0, "points"), 2);
  EXPECT_EQ(at(*two, 0, "missing"), 0);
}

// T ~ K^2 at a fixed level for large K: the exponent approaches 2 from below, and its interval is narrow.
TEST(Exponents, TendToTwoAsFeaturesGrow) {
  const auto ensemble = ensemble_of("in_context_convergence", "prompt_length=inf steps=300000 record_every=1000000 step_size=40 probes=none threads=2 loss_target=0.1 crossings=loss=0.1",
                                    {{"features", "1000,1400,2000,2800"}});
  ASSERT_EQ(ensemble->run(), LAMINA_OK);
  const Table table = exponents_of(*ensemble, {"loss", ""}, "features", std::vector<double>{0.1}, 0.95);
  EXPECT_EQ(at(*table, 0, "points"), 4);
  EXPECT_GT(at(*table, 0, "lower"), 1.97);
  EXPECT_LT(at(*table, 0, "upper"), 2.0);
  EXPECT_GT(at(*table, 0, "r_squared"), 0.9999);
}

// F6: d log T / d log 1/eps at K = 10 is .97 between eps = 1e-3 and 1e-4, and tends to 1.
TEST(Exponents, OfTimeByLevelAreThoseOfTheLaw) {
  const auto ensemble = ensemble_of("in_context_convergence", "prompt_length=inf steps=250000 record_every=1 features=10 probes=none", {});
  ASSERT_EQ(ensemble->run(), LAMINA_OK);
  const Table far = exponents_of(*ensemble, {"loss", ""}, "level", std::vector<double>{1.2e-3, 1.1e-3, 1e-3, 9e-4, 8e-4}, 0.9);
  EXPECT_EQ(far->columns()[0].name, "exponent");
  EXPECT_NEAR(at(*far, 0, "exponent"), 0.87, 0.01);
  const Table near = exponents_of(*ensemble, {"loss", ""}, "level", std::vector<double>{3e-5, 2e-5, 1.5e-5, 1e-5, 1e-7}, 0.9);
  EXPECT_NEAR(at(*near, 0, "exponent"), 0.99, 0.01);
  EXPECT_EQ(at(*near, 0, "points"), 4);
  EXPECT_EQ(at(*near, 0, "missing"), 1);
}

TEST(Exponents, AreFittedForEachGroupOverSeeds) {
  const auto ensemble = ensemble_of("in_context_convergence", "data=fresh batch=64 prompt_length=200 steps=400 threads=2 probes=none",
                                    {{"seed", "0..3"}, {"step_size", "2,4"}, {"features", "4,6,9"}});
  ASSERT_EQ(ensemble->run(), LAMINA_OK);
  const Table table = exponents_of(*ensemble, {"loss", "seed"}, "features", std::vector<double>{0.2}, 0.9);
  ASSERT_EQ(table->rows(), 2);
  for (int64_t r = 0; r < 2; ++r) {
    EXPECT_EQ(at(*table, r, "step_size"), r ? 4 : 2);
    EXPECT_EQ(at(*table, r, "points"), 12);
    // By hand from the times.
    std::vector<double> x, y;
    const Table times = times_of(*ensemble, "loss", std::vector<double>{0.2});
    for (int64_t t = 0; t < times->rows(); ++t)
      if (at(*times, t, "step_size") == at(*table, r, "step_size")) x.push_back(std::log(at(*times, t, "features"))), y.push_back(std::log(at(*times, t, "time")));
    const Line line = fit_line(x, y, 0.9);
    EXPECT_NEAR(at(*table, r, "exponent"), line.slope, 1e-12);
    EXPECT_NEAR(at(*table, r, "lower"), line.lower, 1e-12);
    EXPECT_NEAR(at(*table, r, "upper"), line.upper, 1e-12);
  }
}

// Where nothing is random a seed is no independent point: the line and its interval are those of one seed.
TEST(Exponents, SeedsThatChangeNothingCountOnce) {
  const std::string line = "data=population prompt_length=200 steps=400 threads=2 probes=none";
  const auto one = ensemble_of("in_context_convergence", line, {{"features", "4,6,9"}}),
             seeds = ensemble_of("in_context_convergence", line, {{"seed", "0..3"}, {"features", "4,6,9"}});
  ASSERT_EQ(one->run(), LAMINA_OK);
  ASSERT_EQ(seeds->run(), LAMINA_OK);
  const Table alone = exponents_of(*one, {"loss", ""}, "features", std::vector<double>{0.2, 1e-9}, 0.9),
              many = exponents_of(*seeds, {"loss", "seed"}, "features", std::vector<double>{0.2, 1e-9}, 0.9);
  EXPECT_EQ(at(*many, 0, "points"), 3);
  EXPECT_EQ(at(*many, 1, "missing"), 3);
  for (const char* column : {"exponent", "error", "lower", "upper", "intercept", "r_squared", "points", "missing"})
    EXPECT_EQ(at(*many, 0, column), at(*alone, 0, column)) << column;
}

}  // namespace
}  // namespace lamina::tests
