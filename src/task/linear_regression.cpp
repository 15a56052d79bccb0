// The task linear_regression: tokens are Gaussian vectors, labels a fresh linear function of them, and the label of a query vector is
// to be predicted from the prompt.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "kernels/scalar_math.hpp"
#include "task/draw.hpp"
#include "task/option_check.hpp"
#include "task/registry.hpp"
#include "task/symmetric.hpp"

namespace lamina {
namespace {

constexpr double largest_dimension = 1024, largest_length = 1e9, largest_sampled = 1 << 24, infinite = std::numeric_limits<double>::infinity();

constexpr OptionRow option_rows[] = {
    {"dimension", OptionKind::integer, "5", 1, largest_dimension, "", "d: tokens are vectors of R^d; as many as eigenvalues are given, unless set"},
    {"prompt_length", OptionKind::integer, "20", 1, infinite, "", "N: labelled tokens before the query; inf only with data=population"},
    {"covariance", OptionKind::array, "", 0, largest_dimension * largest_dimension, "",
     "Lambda of x ~ N(0, Lambda): d eigenvalues along the axes, or a symmetric matrix of d rows of d numbers; 4, 9, 16 .. numbers "
     "may be either and need dimension; empty means the identity"},
    {"covariance_law", OptionKind::word, "fixed", 0, 0, "fixed|exponential",
     "whether all prompts have this covariance, or each one eigenvalues of its own: these times independent exponential numbers of mean 1"},
};

constexpr OptionDefault default_rows[] = {
    {"data", "population"}, {"optimiser", "flow"},        {"step_size", "0.01"},
    {"steps", "400"},       {"initialisation", "identity"}, {"batch", "0"},
};

constexpr const char* without[] = {"attention", "feed_forward", "value_scale", "train_value_scale", "train_noise_logit",
                                   "suppression", "embedding", "precision", "estimate_noise", "evaluation_samples",
                                   "stage_one_steps", "stage_one_step_size"};

// x_1, y_1, .., x_N, y_N, x_query as one row of numbers; targets (y_query, <w, x_query>), which are equal, for labels have no noise.
class RegressionForm final : public PromptForm {
 public:
  explicit RegressionForm(const RegressionLaw& law) : d_(law.dimension), length_(law.length) {}

  PromptShape shape() const override { return {length_ < 0 ? -1 : length_ * (d_ + 1) + d_, 1, 2, 0, 1, 0}; }

  void give(const Prompts& drawn, double* prompts, double* targets) const override {
    for (int64_t i = 0; i < drawn.count; ++i) {
      const auto row = drawn.values_of(i);
      prompts = std::copy(row.begin(), row.end() - 1, prompts);
      *targets++ = row.back(), *targets++ = row.back();
    }
  }

  Prompts take(const double* prompts, int64_t count, int64_t length) const override {
    const int64_t positions = (length + 1) / (d_ + 1);
    if (positions < 2 || length + 1 != positions * (d_ + 1))
      fail_argument("length", static_cast<double>(length),
                    "N (d + 1) + d with d = " + std::to_string(d_) + " for N >= 1 labelled tokens");
    Prompts taken;
    taken.resize(count, positions);
    taken.values.reserve(static_cast<size_t>(count * (length + 1)));
    for (int64_t i = 0; i < count; ++i) {
      for (int64_t j = 0; j < length; ++j) {
        if (!std::isfinite(prompts[j])) fail_argument("a number in prompts", prompts[j], "finite");
        taken.values.push_back(prompts[j]);
      }
      taken.values.push_back(0);
      prompts += length;
    }
    return taken;
  }

  void take_targets(const double* targets, Prompts& prompts) const override {
    for (int64_t i = 0; i < prompts.count; ++i) {
      if (!std::isfinite(targets[2 * i])) fail_argument("a label in targets", targets[2 * i], "finite");
      prompts.values_of(i).back() = targets[2 * i];
    }
  }

 private:
  int64_t d_, length_;
};

class LinearRegression final : public Task {
 public:
  explicit LinearRegression(const Settings& settings) : settings_(settings) {
    const std::vector<double>& given = settings_.array("covariance");
    const auto root = static_cast<size_t>(std::lround(std::sqrt(static_cast<double>(given.size()))));
    if (given.size() > 1 && root * root == given.size() && !settings_.given("dimension"))
      fail_option("covariance", "an array of " + std::to_string(given.size()) + " without dimension",
                  "given with dimension=" + std::to_string(given.size()) + " for eigenvalues, or dimension=" + std::to_string(root) + " for a matrix");
    if (!given.empty()) settings_.assume("dimension", static_cast<double>(given.size()));
    law_.dimension = settings_.integer("dimension");
    law_.length = std::isinf(settings_.number("prompt_length")) ? -1 : settings_.integer("prompt_length");
    law_.random = settings_.is("covariance_law", "exponential");
    if (static_cast<double>(law_.length) > largest_length)
      fail_option("prompt_length", std::to_string(law_.length), "at most " + number_text(largest_length) + ", or inf");
    if (static_cast<double>(law_.dimension) > largest_dimension)
      fail_option("covariance", "an array of " + std::to_string(given.size()), "of at most " + number_text(largest_dimension) +
                                                                                   " eigenvalues, or a matrix with dimension set");
    read_covariance(given);
  }

  const char* name() const override { return "linear_regression"; }
  TaskKind kind() const override { return regression_task; }
  const RegressionLaw* regression() const override { return &law_; }
  int64_t positions() const override { return law_.length < 0 ? -1 : law_.length + 1; }
  int64_t values() const override { return positions() * (law_.dimension + 1); }
  std::shared_ptr<const PromptForm> form() const override { return std::make_shared<RegressionForm>(law_); }
  bool has(Split split) const override { return split != Split::unseen; }
  const Settings& settings() const override { return settings_; }
  std::string token_text(int32_t) const override { fail(LAMINA_E_UNSUPPORTED, "task is linear_regression, whose tokens are vectors without a text"); }

  void sample(Split split, uint64_t seed, int64_t first, int64_t count, Prompts& out) const override {
    if (law_.length < 0)
      fail(LAMINA_E_UNSUPPORTED, "prompt_length is inf: prompts of infinite length cannot be drawn, only data=population is possible");
    if (static_cast<double>(values()) > largest_sampled)
      fail(LAMINA_E_UNSUPPORTED, "a prompt has " + std::to_string(values()) + " numbers, must have at most " + number_text(largest_sampled) +
                                     " to be drawn; or use data=population");
    if (!has(split)) fail(LAMINA_E_UNSUPPORTED, "the unseen split cannot be drawn: labels are numbers");
    out.resize(count, positions());
    allocate("prompts", 8.0 * static_cast<double>(count) * static_cast<double>(values()),
             [&] { out.values.resize(static_cast<size_t>(count * values())); });
    const auto d = static_cast<size_t>(law_.dimension);
    std::vector<double> root(d), w(d), z(d);
    for (int64_t i = 0; i < count; ++i) {
      Random random(seed, purpose_of(split), static_cast<uint64_t>(first + i));
      for (size_t j = 0; j < d; ++j)
        root[j] = std::sqrt(law_.random ? -law_.eigenvalues[j] * kernels::log1p(-random.uniform()) : law_.eigenvalues[j]);
      for (double& entry : w) entry = random.normal();
      double* x = out.values_of(i).data();
      for (int64_t n = 0; n < positions(); ++n, x += d + 1) {
        for (size_t j = 0; j < d; ++j) z[j] = root[j] * random.normal();
        turn(z, x);
        x[d] = 0;
        for (size_t j = 0; j < d; ++j) x[d] += w[j] * x[j];
      }
    }
  }

 private:
  void read_covariance(const std::vector<double>& given) {
    const auto d = static_cast<size_t>(law_.dimension);
    law_.eigenvalues = given.empty() ? std::vector<double>(d, 1.0) : given;
    if (given.size() == d * d && d > 1) {
      for (size_t i = 0; i < d; ++i)
        for (size_t j = 0; j < i; ++j)
          if (given[i * d + j] != given[j * d + i])
            fail_option("covariance", "not symmetric at row " + std::to_string(i) + ", column " + std::to_string(j), "symmetric");
      Eigensystem system = eigensystem(given, law_.dimension);
      law_.eigenvalues = std::move(system.values), law_.basis = std::move(system.basis);
    } else if (!given.empty() && given.size() != d) {
      fail_option("covariance", "an array of " + std::to_string(given.size()), "empty, or of dimension = " + std::to_string(d) +
                                                                                   " eigenvalues, or of as many rows of as many numbers");
    }
    for (double value : law_.eigenvalues)
      if (!(value > 0 && std::isfinite(value))) fail_option("covariance", "one with eigenvalue " + number_text(value), "positive definite");
  }

  // out = basis z
  void turn(const std::vector<double>& z, double* out) const {
    if (law_.basis.empty()) {
      std::ranges::copy(z, out);
      return;
    }
    const size_t d = z.size();
    for (size_t i = 0; i < d; ++i) {
      out[i] = 0;
      for (size_t j = 0; j < d; ++j) out[i] += law_.basis[i * d + j] * z[j];
    }
  }

  Settings settings_;
  RegressionLaw law_;
};

std::shared_ptr<const Task> create(const Settings& settings) { return std::make_shared<LinearRegression>(settings); }

}  // namespace

double RegressionLaw::small_scale() const {
  const double part = length < 0 ? 0 : 1 / static_cast<double>(length);
  const double gamma = (1 + part) * std::ranges::max(eigenvalues) + part * std::accumulate(eigenvalues.begin(), eigenvalues.end(), 0.0);
  return std::sqrt(0.5 / (gamma * std::sqrt(static_cast<double>(dimension))));
}

const TaskRow linear_regression_row = {
    "linear_regression",
    regression_task,
    "Learn to predict a linear function of Gaussian vectors from labelled ones in the prompt: linear attention with a covariance",
    "Zhang, Frei and Bartlett, arXiv 2306.09927 (Trained Transformers Learn Linear Models In-Context, JMLR 2024). Stated there: "
    "x ~ N(0, Lambda), y = <w, x>, w ~ N(0, I) fresh for each prompt; one layer of linear attention f = E + W_PV E E^T W_KQ E / N whose "
    "last entry is the prediction; gradient flow of the population loss from small block matrices converges to u = "
    "tr(Gamma^-2)^(1/4), U = tr(Gamma^-2)^(-1/4) Gamma^-1, Gamma = (1 + 1/N) Lambda + tr(Lambda)/N; shifts of task "
    "and query are tolerated, one of the covariates is not; covariances of their own for each prompt leave an error. Remembered and not "
    "confirmed against its text: the start W_PV = sigma e e^T, W_KQ = sigma Theta Theta^T, the condition "
    "sigma^2 |Gamma| sqrt(d) < 2, the risk at another test length. Derived here and checked against "
    "samples: the loss and its gradient for every covariance, fixed or exponential, in u and U and in every entry of W_PV and W_KQ, the "
    "infimum (of both the same), the conserved u^2 - |U|^2 and the limit from every start that reaches the optimum, all risks, the "
    "logistic course of the isotropic case. variant=full trains u and U alone (gradient flow never leaves these blocks), variant=original "
    "every entry, from the same start or a host's model. Choices: Theta Theta^T is "
    "I / sqrt(d) (initialisation=identity) or M M^T of Gaussian M (gaussian); sigma is such that sigma^2 |Gamma| sqrt(d) = 1/2.",
    option_rows,
    default_rows,
    without,
    create,
};

}  // namespace lamina
