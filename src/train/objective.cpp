// The three objectives: a fixed training set, fresh samples, the exact law.
#include "train/objective.hpp"

#include <algorithm>
#include <numeric>

#include "base/random.hpp"
#include "model/construction.hpp"
#include "theory/recall_law.hpp"

namespace lamina {
namespace {

// A fixed set: whole at every step, or in minibatches of a new random order every epoch.
class FixedSet final : public Objective {
 public:
  FixedSet(const Task& task, const Model& model, const Settings& settings, const Team& team, const Objective* twin)
      : team_(team), seed_(static_cast<uint64_t>(settings.integer("seed"))), batch_(settings.integer("batch")) {
    if (const auto* other = dynamic_cast<const FixedSet*>(twin)) {
      set_ = other->set_;
    } else {
      auto set = std::make_shared<Set>();
      task.sample(Split::train, seed_, 0, settings.integer("samples"), set->prompts);
      set->compiled = model.compile(set->prompts, {}, team_);
      set_ = std::move(set);
    }
    if (batch_ >= set_->prompts.count) batch_ = 0;
  }

  Loss loss_and_gradient(const Model& model, int64_t step, double* gradient, bool with_excess) override {
    if (batch_ == 0) return model.loss_and_gradient(*set_->compiled, team_, gradient, with_excess);
    return model.loss_and_gradient(*model.compile(minibatch(step), {}, team_), team_, gradient, with_excess);
  }

  Metrics measure(const Model& model, int64_t) override { return model.measure(*set_->compiled, team_); }

 private:
  struct Set {
    Prompts prompts;
    std::unique_ptr<CompiledPrompts> compiled;
  };

  // Batch number `step`: consecutive rows of the epoch's order; the rest of an epoch that fills no batch is left out.
  Prompts minibatch(int64_t step) {
    const Prompts& prompts = set_->prompts;
    const int64_t batches = prompts.count / batch_, epoch = step / batches;
    if (epoch != epoch_) {
      order_.resize(prompts.count);
      std::iota(order_.begin(), order_.end(), int64_t{0});
      Random random(seed_, Purpose::shuffle, static_cast<uint64_t>(epoch));
      for (int64_t i = prompts.count - 1; i > 0; --i) std::swap(order_[i], order_[random.below(i + 1)]);
      epoch_ = epoch;
    }
    Prompts batch;
    batch.resize(batch_, prompts.length);
    batch.values.resize(static_cast<size_t>(batch_) * prompts.width());
    for (int64_t i = 0; i < batch_; ++i) {
      batch.copy_row(i, prompts, order_[step % batches * batch_ + i]);
    }
    return batch;
  }

  const Team& team_;
  uint64_t seed_;
  int64_t batch_, epoch_ = -1;
  std::shared_ptr<const Set> set_;
  std::vector<int64_t> order_;
};

// New prompts at every step: step t reads prompts t * batch .. (t + 1) * batch - 1 of the training stream. With data=averaged the
// model is given no labels, and takes the expectation over them.
class FreshSamples final : public Objective {
 public:
  FreshSamples(std::shared_ptr<const Task> task, const Settings& settings, const Team& team, const Objective* twin)
      : task_(std::move(task)), team_(team), seed_(static_cast<uint64_t>(settings.integer("seed"))),
        batch_(settings.integer("batch") > 0 ? settings.integer("batch") : settings.integer("samples")),
        averaged_(settings.is("data", "averaged")) {
    const auto* other = dynamic_cast<const FreshSamples*>(twin);
    drawn_ = other ? other->drawn_ : std::make_shared<Draw>();
  }

  Loss loss_and_gradient(const Model& model, int64_t step, double* gradient, bool with_excess) override {
    return model.loss_and_gradient(compiled(model, step), team_, gradient, with_excess);
  }

  Metrics measure(const Model& model, int64_t step) override { return model.measure(compiled(model, step), team_); }

 private:
  struct Draw {  // the prompts of the last step asked for
    int64_t step = -1;
    Prompts prompts;  // memory of those that were compiled
    std::unique_ptr<CompiledPrompts> compiled;
  };

  const CompiledPrompts& compiled(const Model& model, int64_t step) {
    if (step != drawn_->step) {
      drawn_->step = -1;
      drawn_->compiled = model.draw(*task_, {seed_, step * batch_, batch_, averaged_}, team_, drawn_->prompts, std::move(drawn_->compiled));
      drawn_->step = step;
    }
    return *drawn_->compiled;
  }

  std::shared_ptr<const Task> task_;
  const Team& team_;
  uint64_t seed_;
  int64_t batch_;
  bool averaged_;
  std::shared_ptr<Draw> drawn_;
};

constexpr double largest_population = 1e8;  // tokens of all representative prompts

// The exact law of a tied model with linear or relu attention: its loss depends on a prompt through (q, n_y, n_tau) alone, so
// the population is a finite weighted set of representative prompts.
class Population final : public Objective {
 public:
  Population(const Task& task, const Model& model, const Team& team) : team_(team) {
    const RecallLaw& law = task.law();
    require_exact(task, model);
    const CountLaw counts = count_law(law);
    const int32_t tau = static_cast<int32_t>(law.vocabulary), filler = filler_token(law);
    const int64_t most = std::ranges::max(counts.answer) + std::ranges::max(counts.noise);
    const double tokens = 2.0 * static_cast<double>(law.triggers.size() * counts.probability.size()) * static_cast<double>(2 * most + 2);
    if (tokens > largest_population)
      fail(LAMINA_E_UNSUPPORTED, "data is population, but its law has " + number_text(tokens) + " tokens to enumerate, must be at most " +
                                     number_text(largest_population) + ": fewer occurrences or triggers, or a shorter prompt; or use data=fresh");
    Prompts prompts;
    std::vector<double> weights;
    prompts.resize(static_cast<int64_t>(law.triggers.size() * counts.probability.size() * 2), 2 * most + 2);
    int64_t i = 0;
    for (size_t t = 0; t < law.triggers.size(); ++t)
      for (size_t n = 0; n < counts.probability.size(); ++n)
        for (const bool noisy : {false, true}) {
          const std::span<int32_t> row = prompts.row(i);
          std::ranges::fill(row, filler);
          for (int64_t k = 0; k < counts.answer[n] + counts.noise[n]; ++k) {
            row[2 * k] = law.triggers[t];
            row[2 * k + 1] = k < counts.answer[n] ? law.outputs[0] : tau;
          }
          row.back() = law.triggers[t];
          prompts.answer[i] = law.outputs[0], prompts.label[i] = noisy ? tau : law.outputs[0];
          weights.push_back(law.trigger_law[t] * counts.probability[n] * (noisy ? law.noise : 1 - law.noise));
          ++i;
        }
    compiled_ = model.compile(prompts, weights, team_);
  }

  Loss loss_and_gradient(const Model& model, int64_t, double* gradient, bool with_excess) override {
    return model.loss_and_gradient(*compiled_, team_, gradient, with_excess);
  }

  Metrics measure(const Model& model, int64_t) override { return model.measure(*compiled_, team_); }

 private:
  static void require_exact(const Task& task, const Model& model) {
    const Settings& m = model.settings();
    const RecallLaw& law = task.law();
    const auto refuse = [](const std::string& why) {
      fail(LAMINA_E_UNSUPPORTED, "data is population, but " + why + "; use data=fresh");
    };
    if (!m.is("variant", "full")) refuse("an exact form is built in for variant=full only");
    if (m.is("attention", "softmax")) refuse("an exact form is built in for linear and relu attention only");
    if (law.sampler == RecallLaw::Sampler::other) refuse("task " + std::string(task.name()) + " has no exact law built in");
    // Elsewhere tau and previous triggers must not be read: true of S1; of the others unless W or F has entries there.
    const bool reads_others =
        m.is("initialisation", "relu_selector") || m.is("initialisation", "n2") || m.number("suppression") != 0;
    if (reads_others && law.sampler != RecallLaw::Sampler::s1) refuse("this construction reads tau after other triggers");
    if (m.is("initialisation", "n1_prime") && law.sampler == RecallLaw::Sampler::s2)
      refuse("n1_prime reads the token before the query");
  }

  // A token that is neither a trigger nor the answer nor tau.
  static int32_t filler_token(const RecallLaw& law) {
    for (int32_t token = 0; token < law.vocabulary; ++token)
      if (token != law.outputs[0] && !std::ranges::count(law.triggers, token)) return token;
    fail(LAMINA_E_UNSUPPORTED, "data is population, but every token is a trigger or an output; use data=fresh");
  }

  const Team& team_;
  std::unique_ptr<CompiledPrompts> compiled_;
};

}  // namespace

std::unique_ptr<Objective> make_exact(const Task& task, const Model& model, const Settings& settings, const Team& team) {
  if (const FeatureLaw* law = task.features()) return make_feature_population(*law, model, team, settings.is("data", "population"));
  if (const RegressionLaw* law = task.regression()) return make_regression_population(*law, model);
  if (const RotationLaw* law = task.rotation()) return make_rotation_population(*law, model);
  return nullptr;
}

std::unique_ptr<Objective> make_objective(std::shared_ptr<const Task> task, const Model& model, const Settings& settings,
                                          const Team& team, const Objective* twin) {
  if (settings.is("data", "population")) {
    if (auto exact = make_exact(*task, model, settings, team)) return exact;
    if (!task->recall()) fail(LAMINA_E_UNSUPPORTED, "data is population, but task " + std::string(task->name()) + " has no exact law built in; use data=fresh");
    return std::make_unique<Population>(*task, model, team);
  }
  if (settings.is("data", "averaged") && !task->features())
    fail(LAMINA_E_UNSUPPORTED, "data is averaged, but task " + std::string(task->name()) + " has no labels to average over; use data=fresh");
  if (task->positions() < 0)
    fail(LAMINA_E_OPTION, "prompt_length is inf, must be finite with data=" + settings.text("data") + "; or use data=population");
  std::unique_ptr<Objective> samples;
  if (settings.is("data", "fixed"))
    samples = std::make_unique<FixedSet>(*task, model, settings, team, samples_of(twin));
  else
    samples = std::make_unique<FreshSamples>(task, settings, team, samples_of(twin));
  if (!is_staged(model) && settings.given("stage_one_steps") && settings.integer("stage_one_steps") > 0)
    fail(LAMINA_E_OPTION, "stage_one_steps is " + settings.as_text("stage_one_steps") + ", must be 0 for a model that is trained in one stage");
  return is_staged(model) ? make_staged(*task, model, settings, team, std::move(samples)) : std::move(samples);
}

}  // namespace lamina
