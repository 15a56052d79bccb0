// The file of an ensemble: what ended is kept, the rest goes on to the same bits; broken files are refused.
#include <fstream>

#include "ensemble/ensembles.hpp"

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
