// The file of an ensemble: what ended is kept, the rest goes on to the same bits; broken files are refused.
#include <fstream>

#include "ensemble/ensembles.hpp"
#include "train/tensor_file.hpp"

namespace lamina::tests {
namespace {

std::unique_ptr<Ensemble> small() {
  return ensemble_of("in_context_convergence", "data=fresh batch=8 prompt_length=12 features=3 steps=40 threads=2 crossings=loss=0.3,alpha_0=0.1",
                     {{"seed", "0..4"}, {"dimension", "0,2"}, {"step_size", "0.5,1"}, {"second_moments", ";1,0,0,0,1,0,0,0,2"}});
}

std::string content(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

TEST(EnsembleFile, KeepsWhatEndedAndTheRestGoesOnToTheSameBits) {
  const auto whole = small();
  ASSERT_EQ(whole->run(), LAMINA_OK);
  auto ensemble = small();
  int64_t rounds = 0;
  for (lamina_status status = LAMINA_STOPPED; status == LAMINA_STOPPED; ++rounds) {
    int64_t stop_at = 7 * (rounds + 1);
    ensemble->on_progress([&](const EnsembleProgress& at) { return at.ended < stop_at; }, 0);
    status = ensemble->run();
    ensemble->save("ensemble.safetensors");
    auto read = Ensemble::load("ensemble.safetensors", nullptr);
    EXPECT_EQ(read->progress().ended, ensemble->progress().ended);
    EXPECT_EQ(read->progress().failed, ensemble->progress().failed);
    EXPECT_EQ(read->progress().seconds, ensemble->progress().seconds);
    expect_same_bits(*table_of(*read), *table_of(*ensemble), "table");
    ensemble = std::move(read);
  }
  EXPECT_EQ(ensemble->progress().failed, 20);
  EXPECT_NE(ensemble->member(4).text.find("dimension is 2"), std::string::npos) << ensemble->member(4).text;
  expect_same_bits(*table_of(*whole), *table_of(*ensemble), "whole and resumed");
  for (const char* column : {"loss", "alpha_0"}) expect_same_bits(*times_of(*whole, column, {}), *times_of(*ensemble, column, {}), column);
}

TEST(EnsembleFile, HasMomentsOfFlowAndInFilesWithoutThemSteps) {
  const auto flow = ensemble_of("in_context_convergence", "features=5 prompt_length=inf optimiser=flow probes=none crossings=loss=0.2,loss=1e-9 steps=40",
                                {{"step_size", "10,20"}});
  ASSERT_EQ(flow->run(), LAMINA_OK);
  flow->save("moments.safetensors");
  const auto times = [](const Ensemble& ensemble) { return times_of(ensemble, "loss", {}); };
  expect_same_bits(*times(*flow), *times(*Ensemble::load("moments.safetensors", nullptr)), "saved");
  Tensors tensors;
  const Json run = read_tensor_file("moments.safetensors", "lamina-ensemble-1", tensors);
  ASSERT_EQ(tensors.erase("crossing_times_0") + tensors.erase("crossing_times_1"), 2u);
  write_tensor_file("moments.safetensors", "lamina-ensemble-1", run, tensors);
  const auto old = Ensemble::load("moments.safetensors", nullptr);
  for (int64_t i = 0; i < 2; ++i) {
    const Crossing &with = flow->member(i).crossings[0], &without = old->member(i).crossings[0];
    EXPECT_LT(with.time, static_cast<double>(with.step));
    EXPECT_EQ(without.time, static_cast<double>(with.step));
    EXPECT_TRUE(std::isnan(old->member(i).crossings[1].time));
  }
}

// Stopped again and again before any member has ended, each time saved and read: only from where they were can they get to the end.
TEST(EnsembleFile, MembersUnderWayGoOnFromWhereTheyWere) {
  const struct {
    const char *task, *line;
    Axes axes;
  } cases[] = {
      {"in_context_convergence", "data=fresh batch=32 prompt_length=30 steps=300 record_every=7 crossings=loss=0.3,loss=0.2", {{"step_size", "0.5,1,2"}, {"seed", "0..1"}}},
      {"in_context_convergence", "features=6 dominant=0.5 steps=60000 record_per_decade=5 optimiser=momentum", {{"prompt_length", "30,inf"}}},
      {"in_context_recall", "vocabulary=20 triggers=3 outputs=6 unseen_outputs=3 prompt_length=40 samples=100 evaluation_samples=20 steps=1500 optimiser=adam batch=20 record_every=50", {{"steps", "1500,1700"}, {"noise", "0,0.2"}}},
      {"linear_regression", "dimension=3 steps=60000 optimiser=flow record_every=4", {{"step_size", "0.01,0.02"}}},
      {"next_token", "vocabulary=40 samples=400 steps=20000 stage_one_steps=1000 record_every=100", {{"seed", "1..2"}}},
  };
  for (const auto& c : cases) {
    const auto whole = ensemble_of(c.task, c.line + std::string(" threads=3"), c.axes);
    ASSERT_EQ(whole->run(), LAMINA_OK);
    auto ensemble = ensemble_of(c.task, c.line + std::string(" threads=2"), c.axes);
    int64_t stops = 0;
    for (lamina_status status = LAMINA_STOPPED; status == LAMINA_STOPPED; ++stops) {
      const double before = ensemble->progress().steps;
      ensemble->on_progress(
          [&](const EnsembleProgress& at) {
            EXPECT_GE(at.steps, before);
            return at.steps < before + 1;
          },
          0);
      status = ensemble->run();
      ensemble->save("begun.safetensors");
      auto read = Ensemble::load("begun.safetensors", nullptr);
      EXPECT_EQ(read->progress().steps, ensemble->progress().steps);
      read->save("again.safetensors");  // read and not gone on with: it stays
      EXPECT_EQ(content("again.safetensors"), content("begun.safetensors"));
      ensemble = std::move(read);
      ASSERT_LT(stops, 1000) << c.line;
    }
    EXPECT_GT(stops, 1) << c.line;
    EXPECT_EQ(ensemble->progress().steps, ensemble->progress().all_steps);
    expect_same_bits(*table_of(*whole), *table_of(*ensemble), c.line);
  }
}

// Out of time again and again, with and without a file between: from where they were, to the bits of an uninterrupted ensemble.
TEST(EnsembleFile, MembersThatTimeLimitEndedGoOn) {
  const std::string line = "data=fresh batch=64 prompt_length=50 features=5 steps=1500 record_every=100 crossings=loss=0.3 threads=2 ";
  const Axes axes{{"seed", "0..1"}, {"step_size", "0.5,1"}};
  const auto whole = ensemble_of("in_context_convergence", line, axes);
  ASSERT_EQ(whole->run(), LAMINA_OK);
  auto ensemble = ensemble_of("in_context_convergence", line + "time_limit=0.004", axes);
  const auto out_of_time = [&] {
    int64_t count = 0;
    for (int64_t i = 0; i < ensemble->count(); ++i) count += ensemble->member(i).status == LAMINA_TIME_LIMIT;
    return count;
  };
  int64_t runs = 0;
  do {
    ASSERT_EQ(ensemble->run(), LAMINA_OK);
    if (runs % 2 == 0) {
      ensemble->save("late.safetensors");
      ensemble = Ensemble::load("late.safetensors", nullptr);
      EXPECT_EQ(ensemble->progress().ended, 4);
    }
    ASSERT_LT(++runs, 10000);
  } while (out_of_time() > 0);
  EXPECT_GT(runs, 2);
  for (int64_t i = 0; i < 4; ++i) {
    EXPECT_EQ(ensemble->member(i).status, LAMINA_OK);
    expect_same_bits(*whole->member(i).trajectory, *ensemble->member(i).trajectory, "member " + std::to_string(i));
  }
  expect_same_bits(*times_of(*whole, "loss", {}), *times_of(*ensemble, "loss", {}), "times");
}

TEST(EnsembleFile, AMemberWhoseStateIsNotItsOwnFailsAndThenBeginsAnew) {
  auto ensemble = ensemble_of("in_context_convergence", "data=fresh batch=64 prompt_length=50 features=4 steps=100000 record_every=100000 threads=1", {{"seed", "0..1"}});
  ensemble->on_progress([](const EnsembleProgress& at) { return at.steps < 10; }, 0);
  ASSERT_EQ(ensemble->run(), LAMINA_STOPPED);
  ensemble->save("begun.safetensors");
  std::string bytes = content("begun.safetensors");
  const size_t at = bytes.find("_parameters");
  ASSERT_NE(at, bytes.npos);
  bytes[at + 1] = 'q';  // one tensor has another name
  std::ofstream("begun.safetensors", std::ios::binary) << bytes;
  const auto read = Ensemble::load("begun.safetensors", nullptr);
  read->on_progress([](const EnsembleProgress& now) { return now.failed == 0; }, 0);
  EXPECT_EQ(read->run(), LAMINA_STOPPED);
  EXPECT_EQ(read->member(0).status, LAMINA_E_FORMAT);
  EXPECT_NE(read->member(0).text.find("cannot go on from its file"), std::string::npos) << read->member(0).text;
  read->on_progress([](const EnsembleProgress& now) { return now.failed > 0 || now.steps == 0; }, 0);
  EXPECT_EQ(read->run(), LAMINA_STOPPED);
  EXPECT_EQ(read->member(0).status, LAMINA_STOPPED);  // under way
}

TEST(EnsembleFile, EveryTruncationAndManyChangesAreRefusedOrHarmless) {
  auto ensemble = ensemble_of("in_context_convergence", "data=fresh batch=4 prompt_length=5 features=2 steps=2 probes=none", {{"seed", "0..1"}});
  ASSERT_EQ(ensemble->run(), LAMINA_OK);
  ensemble->save("small.safetensors");
  const std::string good = content("small.safetensors");
  const auto load = [](const std::string& bytes) {
    std::ofstream("broken.safetensors", std::ios::binary) << bytes;
    return Ensemble::load("broken.safetensors", nullptr);
  };
  for (size_t length = 0; length < good.size(); ++length) EXPECT_THROW(load(good.substr(0, length)), Error) << length;
  for (size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ (1 << i % 8));
    try {
      load(bad);
    } catch (const Error&) {
    }
  }
}

TEST(EnsembleFile, ACheckpointIsNoEnsemble) {
  const auto trainer = trainer_of("steps=2 samples=20 evaluation_samples=20");
  trainer->save("checkpoint.safetensors");
  try {
    Ensemble::load("checkpoint.safetensors", nullptr);
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.status(), LAMINA_E_FORMAT);
    EXPECT_NE(std::string(error.what()).find("lamina-checkpoint-1"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace lamina::tests
