// The task mesa_optimisation: sequences x_{t+1} = W x_t of complex vectors with a fresh unitary diagonal W; each next vector is to be
// predicted from those before it.
#include <algorithm>
#include <cmath>

#include "task/draw.hpp"
#include "task/option_check.hpp"
#include "task/registry.hpp"

namespace lamina {
namespace {

constexpr double largest_dimension = 256, largest_length = 1e9, largest_sampled = 1 << 24;

constexpr OptionRow option_rows[] = {
    {"dimension", OptionKind::integer, "5", 1, largest_dimension, "", "d: tokens are vectors of C^d"},
    {"prompt_length", OptionKind::integer, "100", 3, largest_length, "", "T: vectors of a sequence; x_3 .. x_T are predicted"},
    {"start", OptionKind::word, "gaussian", 0, 0, "gaussian|sparse|ones",
     "x_1: real N(0, start_scale^2 I); +-start_scale on one random coordinate, 0 elsewhere; or start_scale on all"},
    {"start_scale", OptionKind::number, "1", 1e-6, 1e6, "", "the scale of x_1"},
};

constexpr OptionDefault default_rows[] = {
    {"data", "population"}, {"optimiser", "gd"},   {"step_size", "1e-4"}, {"steps", "200"}, {"initial_scale", "0.1"},
    {"value_scale", "0.1"}, {"batch", "0"},
};

constexpr const char* without[] = {"attention", "feed_forward", "initialisation", "train_value_scale", "train_noise_logit",
                                   "suppression", "embedding", "precision", "estimate_noise", "evaluation_samples",
                                   "stage_one_steps", "stage_one_step_size"};

// Each vector as Re, Im of its coordinates; the sequence is its own target, so targets are 0.
class SequenceForm final : public PromptForm {
 public:
  explicit SequenceForm(const RotationLaw& law) : width_(2 * law.dimension), length_(law.length) {}

  PromptShape shape() const override { return {length_ * width_, 1, 2, 0, width_, 0}; }

  void give(const Prompts& drawn, double* prompts, double* targets) const override {
    std::ranges::copy(drawn.values, prompts);
    std::fill_n(targets, 2 * drawn.count, 0.0);
  }

  Prompts take(const double* prompts, int64_t count, int64_t length) const override {
    if (length % width_ != 0 || length < 2 * width_)
      fail_argument("length", static_cast<double>(length), "a multiple of 2 d = " + std::to_string(width_) + ", of at least two vectors");
    for (int64_t i = 0; i < count * length; ++i)
      if (!std::isfinite(prompts[i])) fail_argument("a number in prompts", prompts[i], "finite");
    Prompts taken;
    taken.resize(count, length / width_);
    taken.values.assign(prompts, prompts + count * length);
    return taken;
  }

  void take_targets(const double*, Prompts&) const override {}

 private:
  int64_t width_, length_;
};

class MesaOptimisation final : public Task {
 public:
  explicit MesaOptimisation(const Settings& settings) : settings_(settings) {
    law_.dimension = settings_.integer("dimension");
    law_.length = settings_.integer("prompt_length");
    law_.scale = settings_.number("start_scale");
    law_.start = settings_.is("start", "gaussian") ? RotationLaw::Start::gaussian
                 : settings_.is("start", "sparse") ? RotationLaw::Start::sparse
                                                   : RotationLaw::Start::ones;
  }

  const char* name() const override { return "mesa_optimisation"; }
  TaskKind kind() const override { return rotation_task; }
  const RotationLaw* rotation() const override { return &law_; }
  int64_t positions() const override { return law_.length; }
  int64_t values() const override { return law_.length * 2 * law_.dimension; }
  std::shared_ptr<const PromptForm> form() const override { return std::make_shared<SequenceForm>(law_); }
  bool has(Split split) const override { return split != Split::unseen; }
  const Settings& settings() const override { return settings_; }
  std::string token_text(int32_t) const override {
    fail(LAMINA_E_UNSUPPORTED, "task is mesa_optimisation, whose tokens are vectors without a text");
  }

  void sample(Split split, uint64_t seed, int64_t first, int64_t count, Prompts& out) const override {
    if (static_cast<double>(values()) > largest_sampled)
      fail(LAMINA_E_UNSUPPORTED, "a prompt has " + std::to_string(values()) + " numbers, must have at most " + number_text(largest_sampled) +
                                     " to be drawn; or use data=population");
    if (!has(split)) fail(LAMINA_E_UNSUPPORTED, "the unseen split cannot be drawn: sequences have no labels");
    out.resize(count, law_.length);
    allocate("prompts", 8.0 * static_cast<double>(count) * static_cast<double>(values()),
             [&] { out.values.resize(static_cast<size_t>(count * values())); });
    const auto d = static_cast<size_t>(law_.dimension);
    std::vector<double> W(2 * d);
    for (int64_t i = 0; i < count; ++i) {
      Random random(seed, purpose_of(split), static_cast<uint64_t>(first + i));
      for (size_t j = 0; j < d; ++j) draw_unit(random, &W[2 * j]);
      double* x = out.values_of(i).data();
      draw_start(random, x);
      for (int64_t t = 1; t < law_.length; ++t, x += 2 * d)
        for (size_t j = 0; j < 2 * d; j += 2) {
          x[2 * d + j] = W[j] * x[j] - W[j + 1] * x[j + 1];
          x[2 * d + j + 1] = W[j] * x[j + 1] + W[j + 1] * x[j];
        }
    }
  }

 private:
  // e^{i theta}, theta uniform: the direction of a uniform point of the disc.
  static void draw_unit(Random& random, double* out) {
    for (;;) {
      const double x = 2 * random.uniform() - 1, y = 2 * random.uniform() - 1, square = x * x + y * y;
      if (square > 1 || square < 1e-12) continue;
      const double length = std::sqrt(square);
      out[0] = x / length, out[1] = y / length;
      return;
    }
  }

  void draw_start(Random& random, double* x) const {
    const bool sparse = law_.start == RotationLaw::Start::sparse;
    const int64_t chosen = sparse ? random.below(law_.dimension) : -1;
    for (int64_t j = 0; j < law_.dimension; ++j) {
      x[2 * j] = law_.start == RotationLaw::Start::gaussian ? law_.scale * random.normal() : sparse && j != chosen ? 0 : law_.scale;
      x[2 * j + 1] = 0;
    }
    if (sparse && random.bernoulli(0.5)) x[2 * chosen] = -law_.scale;
  }

  Settings settings_;
  RotationLaw law_;
};

std::shared_ptr<const Task> create(const Settings& settings) { return std::make_shared<MesaOptimisation>(settings); }

}  // namespace

const TaskRow mesa_optimisation_row = {
    "mesa_optimisation",
    rotation_task,
    "Learn to predict the next vector of a rotating sequence: does linear attention take a step of gradient descent in context",
    "Zheng et al., arXiv 2405.16845 (On Mesa-Optimization in Autoregressively Trained Transformers, NeurIPS 2024). Stated there, in its code and "
    "captions: x_{t+1} = W x_t with W = diag(e^{i theta_j}), theta uniform; x_1 Gaussian, sparse or all ones; tokens e_t = (x_t, x_{t-1}); one "
    "layer of linear attention yhat_t = W_PV E_t E_t^H W_KQ e_t / (t - 1); W_KQ[d:, :d] = a I, W_PV[:, :d] = b I and 0 elsewhere at the "
    "start; loss 1/2 sum_{t=2}^{T-1} |yhat_t - x_{t+1}|^2; full-batch gradient descent; Gaussian starts fail to recover the sequence, sparse "
    "ones recover it, all-ones starts leave the block form. Remembered and not confirmed: a b -> 1/(5 sigma^2) for Gaussian starts and "
    "1/scale^2 for sparse ones, the constant at finite T. Derived here: the exact loss of (a, b) and its least value for every start and T, "
    "the exact loss of every entry and its gradient, "
    "a b -> k1 / (k2 + k3 H_{T-2} / (T - 2)), its logistic course under gradient flow from a = b, and the mean "
    "ratio of prediction to truth, a b E|x_j|^2. variant=full trains a and b alone, "
    "variant=original the complex matrices, from the same start or a host's model. Choices: a = initial_scale, b = value_scale; the mean "
    "over sequences, the sum over t.",
    option_rows,
    default_rows,
    without,
    create,
};

}  // namespace lamina
