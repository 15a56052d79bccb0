// The task in_context_convergence: tokens are K orthonormal features drawn from a law p, labels are a fresh random function of
// them, and the label of a query feature is to be predicted from the prompt.
#include <algorithm>
#include <cmath>
#include <limits>
#include <mutex>
#include <numeric>
#include <optional>

#include "base/cholesky.hpp"
#include "kernels/scalar_math.hpp"
#include "task/counted_prompts.hpp"
#include "task/draw.hpp"
#include "task/option_check.hpp"
#include "task/registry.hpp"

namespace lamina {
namespace {

constexpr double largest_features = 4096, largest_length = 1e9, largest_sampled = 1 << 24, infinite = std::numeric_limits<double>::infinity();

constexpr OptionRow option_rows[] = {
    {"features", OptionKind::integer, "20", 2, largest_features, "", "K: how many orthonormal features there are; tokens are features"},
    {"dimension", OptionKind::integer, "0", 0, largest_features, "",
     "d >= K: Q is d by d, and feature k is the k-th basis vector; 0 means K"},
    {"prompt_length", OptionKind::integer, "1000", 1, infinite, "",
     "N: labelled tokens before the query; inf only with data=population"},
    {"feature_law", OptionKind::word, "balanced", 0, 0, "balanced|dominant|zipf|given",
     "p: 1/K each; feature 0 with probability `dominant` and the others alike; proportional to 1/(k+1)^zipf_exponent; or "
     "feature_weights (dominant or given where the option they read is set)"},
    {"dominant", OptionKind::number, "0.5", 0, 1 - 0x1p-53, "", "p_1, the probability of feature 0 under feature_law=dominant"},
    {"zipf_exponent", OptionKind::number, "1", 0, 16, "", "the exponent of feature_law=zipf"},
    {"feature_weights", OptionKind::array, "", 0, largest_features, "", "p up to a factor, one positive weight for each feature"},
    {"mask", OptionKind::word, "yes", 0, 0, "yes|no",
     "whether the query is left out of keys and values; if not, it attends to itself too, with label 0"},
    {"second_moments", OptionKind::array, "", 0, largest_features * largest_features, "",
     "Gm[m,n] = E f(v_m) f(v_n), K rows of K numbers, symmetric and positive semidefinite; empty means the identity: f linear "
     "with E w w^T = I"},
    {"watched", OptionKind::array, "", 0, largest_features, "",
     "the query features that probes follow, from 0; empty means one of each probability, at most four"},
};

constexpr OptionDefault default_rows[] = {
    {"attention", "softmax"}, {"data", "population"}, {"samples", "2048"}, {"optimiser", "gd"},
    {"step_size", "1"},       {"steps", "4000"},      {"batch", "0"},
};

constexpr const char* without[] = {"variant", "feed_forward", "initialisation", "initial_scale", "value_scale", "train_value_scale",
                                   "train_noise_logit", "suppression", "embedding", "precision", "estimate_noise", "evaluation_samples",
                                   "stage_one_steps", "stage_one_step_size"};

class InContextConvergence final : public Task {
 public:
  explicit InContextConvergence(const Settings& settings) : settings_(settings) {
    if (settings_.given("dominant")) settings_.assume("feature_law", std::string("dominant"));
    if (settings_.given("feature_weights")) settings_.assume("feature_law", std::string("given"));
    law_.features = settings_.integer("features");
    law_.dimension = settings_.integer("dimension") == 0 ? law_.features : settings_.integer("dimension");
    law_.length = std::isinf(settings_.number("prompt_length")) ? -1 : settings_.integer("prompt_length");
    law_.masked = settings_.is("mask", "yes");
    if (law_.dimension < law_.features)
      fail_option("dimension", std::to_string(law_.dimension), "0 or at least features = " + std::to_string(law_.features));
    if (static_cast<double>(law_.length) > largest_length)
      fail_option("prompt_length", std::to_string(law_.length), "at most " + number_text(largest_length) + ", or inf");
    make_probabilities();
    make_moments();
    make_watched();
  }

  const char* name() const override { return "in_context_convergence"; }
  const FeatureLaw* features() const override { return &law_; }
  TaskKind kind() const override { return feature_task; }
  int64_t positions() const override { return law_.length < 0 ? -1 : law_.length + 1; }
  int64_t values() const override { return positions(); }
  std::shared_ptr<const PromptForm> form() const override { return feature_form(law_); }
  bool has(Split split) const override { return split != Split::unseen; }
  const Settings& settings() const override { return settings_; }
  std::string token_text(int32_t token) const override {
    if (token < 0 || token >= law_.features) fail_argument("token", token, "in [0, " + std::to_string(law_.features - 1) + "]");
    return "v" + std::to_string(token);
  }

  void sample(Split split, uint64_t seed, int64_t first, int64_t count, Prompts& out) const override {
    require_drawn(split);
    out.resize(count, law_.length + 1);
    out.values.resize(out.tokens.size());
    if (const CountedPrompts* law = counted()) return write_counted(*law, split, seed, first, out);
    const auto K = static_cast<size_t>(law_.features);
    std::vector<double> f(K), normal(K);
    for (int64_t i = 0; i < count; ++i) {
      const std::span<int32_t> row = out.row(i);
      Random random(seed, purpose_of(split), static_cast<uint64_t>(first + i));
      draw_tokens(random, row);
      random.normals(normal);
      make_function(normal, f);
      write_labels(i, out, [&f](int32_t n) { return f[static_cast<size_t>(n)]; });
    }
  }

  // Where a prompt is longer than there are features, these are counted and put into order only for who asks for tokens.
  const CountedPrompts* counted() const override {
    if (law_.features > std::min(law_.length, Multinomial::most_features)) return nullptr;
    std::call_once(counted_made_, [&] { counted_ = std::make_unique<CountedPrompts>(law_, root_); });
    return counted_.get();
  }

  bool sample_counts(Split split, uint64_t seed, int64_t first, int64_t count, int64_t at, FeatureCounts& out) const override {
    require_drawn(split);
    const auto K = static_cast<size_t>(law_.features);
    if (const CountedPrompts* law = counted()) {
      by_eights(*law, purpose_of(split), seed, first, count, !out.label.empty(), [&](int64_t begin, const Eight& drawn) {
        const auto row = static_cast<size_t>(at + begin);
        for (size_t l = 0; l < drawn.filled; ++l) {
          out.query[row + l] = drawn.query[l];
          for (size_t n = 0; n < K; ++n) out.occurs[(row + l) * K + n] = drawn.occurs[n][l];
          for (size_t n = 0; n < drawn.label.size(); ++n) out.label[(row + l) * K + n] = drawn.label[n][l];
        }
      });
      return true;
    }
    constexpr size_t histograms = 4;  // so that a token need not wait for the last of the same feature
    std::vector<int32_t> tokens(static_cast<size_t>(law_.length + 1)), occurs(histograms * K);
    std::vector<uint64_t> words(static_cast<size_t>(count) * K);
    std::vector<double> normal(root_.empty() ? 0 : words.size());
    for (int64_t i = 0; i < count; ++i) {
      Random random(seed, purpose_of(split), static_cast<uint64_t>(first + i));
      draw_tokens(random, tokens);
      random.words(std::span(words).subspan(static_cast<size_t>(i) * K, K));
      out.query[static_cast<size_t>(at + i)] = tokens.back();
      std::ranges::fill(occurs, 0);
      const size_t length = tokens.size() - 1, whole = length - length % histograms;
      for (size_t j = 0; j < whole; j += histograms)
        for (size_t h = 0; h < histograms; ++h) ++occurs[h * K + static_cast<size_t>(tokens[j + h])];
      for (size_t j = whole; j < length; ++j) ++occurs[static_cast<size_t>(tokens[j])];
      double* row = out.occurs.data() + static_cast<size_t>(at + i) * K;
      for (size_t n = 0; n < K; ++n) row[n] = (occurs[n] + occurs[K + n]) + (occurs[2 * K + n] + occurs[3 * K + n]);
    }
    if (!out.label.empty()) write_functions(words, normal, std::span(out.label).subspan(static_cast<size_t>(at) * K, words.size()));
    return true;
  }

 private:
  void require_drawn(Split split) const {
    if (law_.length < 0)
      fail(LAMINA_E_UNSUPPORTED, "prompt_length is inf: prompts of infinite length cannot be drawn, only data=population is possible");
    if (static_cast<double>(law_.length) > largest_sampled)
      fail(LAMINA_E_UNSUPPORTED, "prompt_length is " + std::to_string(law_.length) + ", must be at most " + number_text(largest_sampled) +
                                     " to be drawn; or use data=population");
    if (!has(split)) fail(LAMINA_E_UNSUPPORTED, "the unseen split cannot be drawn: every feature occurs in training");
  }

  // Consecutive prompts from counts, eight at a time: visit(i, eight) of those from the i-th on.
  struct Eight {
    size_t filled = 0;
    std::array<uint64_t, CountedPrompts::lanes> index{};
    int32_t query[CountedPrompts::lanes] = {};
    std::vector<CountedPrompts::Lanes> occurs, label;  // label: empty where none are wanted
  };
  template <class Visit>
  void by_eights(const CountedPrompts& law, Purpose purpose, uint64_t seed, int64_t first, int64_t count, bool labelled,
                 const Visit& visit) const {
    constexpr int64_t lanes = CountedPrompts::lanes;
    Eight drawn;
    drawn.occurs.resize(static_cast<size_t>(law_.features)), drawn.label.resize(labelled ? drawn.occurs.size() : 0);
    CountedPrompts::Head head[lanes];
    const CountedPrompts::Head* heads[lanes];
    for (int64_t begin = 0; begin < count; begin += lanes) {
      drawn.filled = static_cast<size_t>(std::min(lanes, count - begin));
      law.queries(seed, purpose, first + begin, static_cast<int64_t>(drawn.filled), head, drawn.query);
      for (size_t l = 0; l < lanes; ++l) {
        const size_t of = l < drawn.filled ? l : 0;
        drawn.index[l] = static_cast<uint64_t>(first + begin) + of, heads[l] = head + of;
      }
      law.draw(seed, purpose, drawn.index, heads, static_cast<int64_t>(drawn.filled), drawn.occurs.data(),
               labelled ? drawn.label.data() : nullptr);
      visit(begin, drawn);
    }
  }

  // Their tokens in an order by what is left of a prompt's stream.
  void write_counted(const CountedPrompts& law, Split split, uint64_t seed, int64_t first, Prompts& out) const {
    by_eights(law, purpose_of(split), seed, first, out.count, true, [&](int64_t begin, const Eight& drawn) {
      for (size_t l = 0; l < drawn.filled; ++l) {
        const int64_t i = begin + static_cast<int64_t>(l);
        const std::span<int32_t> row = out.row(i);
        auto to = row.begin();
        for (size_t n = 0; n < drawn.occurs.size(); ++n)
          to = std::fill_n(to, static_cast<int64_t>(drawn.occurs[n][l]), static_cast<int32_t>(n));
        *to = drawn.query[l];
        Random random(seed, purpose_of(split), drawn.index[l]);
        random.skip(law.words());
        for (size_t j = row.size() - 1; j > 1; --j) std::swap(row[j - 1], row[static_cast<size_t>(random.below(static_cast<int64_t>(j)))]);
        write_labels(i, out, [&](int32_t n) { return drawn.label[static_cast<size_t>(n)][l]; });
      }
    });
  }

  // The labels of prompt i, by its tokens.
  template <class Function>
  static void write_labels(int64_t i, Prompts& out, const Function& f) {
    const std::span<const int32_t> row = out.row(i);
    std::ranges::transform(row, out.values_of(i).begin(), f);
    out.label[static_cast<size_t>(i)] = out.answer[static_cast<size_t>(i)] = row.back();
  }

  // Of words [prompts, features]; normal is memory for as many, or empty where the function is its normal numbers.
  void write_functions(std::span<const uint64_t> words, std::span<double> normal, std::span<double> labels) const {
    if (root_.empty()) return normals_of(words, labels);
    const size_t K = static_cast<size_t>(law_.features);
    normals_of(words, normal.first(labels.size()));
    for (size_t i = 0; i < labels.size(); i += K) make_function(normal.subspan(i, K), labels.subspan(i, K));
  }

  void draw_tokens(Random& random, std::span<int32_t> row) const {
    if (uniform_) uniform_->fill(random, 0, row);
    else table_.fill(0, random, row);
  }

  void make_probabilities() {
    const int64_t K = law_.features;
    const std::string& form = settings_.text("feature_law");
    for (const auto& [key, law] : {std::pair("dominant", "dominant"), std::pair("zipf_exponent", "zipf")})
      if (settings_.given(key) && form != law) fail_option(key, settings_.as_text(key), std::string("left out unless feature_law=") + law);
    const std::vector<double>& given = settings_.array("feature_weights");
    if (form != "given" && !given.empty())
      fail_option("feature_weights", "an array of " + std::to_string(given.size()), "empty unless feature_law=given");
    if (form == "given" && given.empty()) fail_option("feature_weights", "empty", "an array of features numbers with feature_law=given");
    std::vector<double> weights(static_cast<size_t>(K), 1.0);
    if (form == "dominant") {
      const double p = settings_.number("dominant");
      if (!(p > 0)) fail_option("dominant", number_text(p), "positive");
      std::ranges::fill(weights, (1 - p) / static_cast<double>(K - 1));
      weights[0] = p;
      law_.probability = weights;  // as given: no rounding of a sum in between
    } else if (form == "zipf") {
      const double exponent = settings_.number("zipf_exponent");
      for (int64_t k = 0; k < K; ++k) weights[static_cast<size_t>(k)] = kernels::exp(-exponent * kernels::log(static_cast<double>(k + 1)));
    } else if (form == "given") {
      weights = given;
    }
    if (law_.probability.empty()) law_.probability = law_from_weights("feature_weights", weights, K);
    for (size_t k = 0; k < law_.probability.size(); ++k)
      if (!(law_.probability[k] > 0)) fail_option("feature_weights", "0 at index " + std::to_string(k), "positive everywhere");
    table_ = AliasTables(1, K);
    table_.set(0, law_.probability);
    if (std::ranges::count(law_.probability, law_.probability[0]) == K) uniform_ = PackedUniform(K);
  }

  void make_moments() {
    const auto K = static_cast<size_t>(law_.features);
    law_.moments = settings_.array("second_moments");
    if (law_.moments.empty()) return;
    if (law_.moments.size() != K * K)
      fail_option("second_moments", "an array of " + std::to_string(law_.moments.size()), "empty or features^2 = " + std::to_string(K * K) + " numbers");
    for (size_t m = 0; m < K; ++m)
      for (size_t n = 0; n < m; ++n)
        if (law_.moments[m * K + n] != law_.moments[n * K + m])
          fail_option("second_moments", "not symmetric at row " + std::to_string(m) + ", column " + std::to_string(n), "symmetric");
    std::vector<int64_t> all(K);
    std::iota(all.begin(), all.end(), int64_t{0});
    double largest = 0;
    for (size_t m = 0; m < K; ++m) largest = std::max(largest, law_.moments[m * K + m]);
    Cholesky made = cholesky(law_.moments, law_.features, all, 1e-12 * largest, 1e-6 * largest);
    if (made.negative >= 0)
      fail_option("second_moments", "a matrix with a negative direction at row " + std::to_string(made.negative), "positive semidefinite");
    root_ = std::move(made.factor);
  }

  // One query of each probability, in the order of the features, at most four.
  void make_watched() {
    for (double k : settings_.array("watched")) {
      if (!(k >= 0 && k < static_cast<double>(law_.features) && std::floor(k) == k))
        fail_option("watched", number_text(k), "features in [0, " + std::to_string(law_.features - 1) + "]");
      if (std::ranges::count(law_.watched, static_cast<int64_t>(k))) fail_option("watched", number_text(k) + " twice", "different features");
      law_.watched.push_back(static_cast<int64_t>(k));
    }
    if (!law_.watched.empty()) return;
    std::vector<double> seen;
    for (int64_t k = 0; k < law_.features && law_.watched.size() < 4; ++k) {
      const double p = law_.probability[static_cast<size_t>(k)];
      if (std::ranges::find(seen, p) != seen.end()) continue;
      seen.push_back(p);
      law_.watched.push_back(k);
    }
  }

  // f ~ N(0, Gm) of standard normal numbers.
  void make_function(std::span<const double> normal, std::span<double> f) const {
    if (root_.empty()) return static_cast<void>(std::ranges::copy(normal, f.begin()));
    const size_t K = f.size();
    for (size_t m = 0; m < K; ++m) {
      f[m] = 0;
      for (size_t l = 0; l <= m; ++l) f[m] += root_[m * K + l] * normal[l];
    }
  }

  Settings settings_;
  FeatureLaw law_;
  AliasTables table_;
  std::optional<PackedUniform> uniform_;  // of a balanced law, in place of the table: several features a word
  mutable std::once_flag counted_made_;
  mutable std::unique_ptr<const CountedPrompts> counted_;  // made when prompts are first counted
  std::vector<double> root_;  // Cholesky factor of Gm; empty: the identity
};

std::shared_ptr<const Task> create(const Settings& settings) { return std::make_shared<InContextConvergence>(settings); }

}  // namespace

const TaskRow in_context_convergence_row = {
    "in_context_convergence",
    feature_task,
    "Learn to predict the label of a feature from its labelled copies in the prompt: softmax attention on orthonormal features",
    "Huang, Cheng and Liang, arXiv 2310.05249 (In-Context Convergence of Transformers, ICML 2024). Stated there: K orthonormal "
    "features, tokens i.i.d. with P(x = v_k) = p_k, balanced (p_k of order 1/K) or with one dominant feature; labels y = <w, x> "
    "with w fresh for each prompt; one layer of one softmax head without residual; value entry fixed at 1, key and query merged "
    "into Q; gradient descent on the expected squared error; near-zero error for both laws, with two, one and four phases. "
    "Remembered and not confirmed against its text: Q(0) = 0, the mask that leaves the query out of the keys, the factor 1/2 of "
    "the loss, E w w^T = I, the bounds on the training time. Derived here and checked against enumeration, to rounding: the exact population "
    "loss and gradient for every p, N, Q and class of functions as a one-dimensional integral of positive terms, its limit at "
    "N = infinity, the floors at finite N, the training times without unknown constants, the signals of the phases. Choices: "
    "p_k = 1/K exactly; p_1 = dominant and the rest alike; w Gaussian; feature k is the k-th basis vector of R^d; linear and relu "
    "attention are divided by N; relu'(0) = 1. data=averaged is fresh prompts with the expectation over w taken exactly.",
    option_rows,
    default_rows,
    without,
    create,
};

}  // namespace lamina
