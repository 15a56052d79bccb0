// The task causal_structure: every sequence has a transition matrix of its own; its tokens follow it along a fixed graph of
// parents, and what comes after the last token is to be predicted as a law.
#include <algorithm>
#include <cmath>

#include "task/draw.hpp"
#include "task/option_check.hpp"
#include "task/prompt_form.hpp"
#include "task/registry.hpp"

namespace lamina {
namespace {

constexpr OptionRow option_rows[] = {
    {"vocabulary", OptionKind::integer, "10", 2, 256, "", "S: how many tokens there are"},
    {"prompt_length", OptionKind::integer, "20", 2, 512, "", "T: positions, the last of which holds a uniform token, the query"},
    {"graph", OptionKind::word, "chain", 0, 0, "chain|icl|random|given",
     "parents of positions 0 .. T-2: the position before; for odd positions the one before, even ones being roots; uniform among "
     "the positions before and none; or `parents` (given where that is set)"},
    {"parents", OptionKind::array, "-1,0,0,1,2", 0, 511, "",
     "with graph=given, the parent of each position 0 .. T-2, before it, or -1 for a root; sets prompt_length"},
    {"concentration", OptionKind::number, "0.1", 0.05, 1e6, "", "alpha: rows of the transition matrix are Dirichlet(alpha, .., alpha)"},
    {"smoothing", OptionKind::number, "0.001", 1e-12, 1, "", "epsilon of the loss -sum_y pi(y | query) log(f_y + epsilon), variant=reduced"},
    {"law_seed", OptionKind::integer, "1", 0, 9007199254740992.0, "", "seed of the random graph"},
};

constexpr OptionDefault default_rows[] = {
    {"data", "fresh"},          {"batch", "512"}, {"optimiser", "gd"},      {"step_size", "5"},       {"stage_one_step_size", "1000"},
    {"stage_one_steps", "120"}, {"steps", "320"}, {"attention", "softmax"}, {"initial_scale", "0.1"},
    {"variant", "reduced"},
    // As in the authors' code, but for the rows of the table.
    {"optimiser", "sgd", "variant", "catformer"},
    {"step_size", "1", "variant", "catformer"},
    {"step_size_schedule", "cosine", "variant", "catformer"},
    {"batch", "1024", "variant", "catformer"},
    {"steps", "131072", "variant", "catformer"},
    {"evaluation_samples", "65536", "variant", "catformer"},
    {"record_every", "1024", "variant", "catformer"},
};

constexpr const char* without[] = {"attention",         "feed_forward", "initialisation", "value_scale",
                                   "train_value_scale", "train_noise_logit", "suppression",  "embedding",      "dimension",
                                   "precision",         "estimate_noise"};

// The stationary law of the transition matrix P [S, S] by censoring one state after the other (Grassmann, Taksar, Heyman,
// Operations Research 33 (1985)): no subtraction, so that every entry has a small relative error. P is destroyed.
void stationary_law(std::vector<double>& P, std::span<double> law) {
  const size_t S = law.size();
  for (size_t n = S - 1; n > 0; --n) {
    double leaves = 0;
    for (size_t j = 0; j < n; ++j) leaves += P[n * S + j];
    for (size_t i = 0; i < n; ++i) P[i * S + n] /= leaves;
    for (size_t i = 0; i < n; ++i)
      for (size_t j = 0; j < n; ++j) P[i * S + j] += P[i * S + n] * P[n * S + j];
  }
  double sum = law[0] = 1;
  for (size_t n = 1; n < S; ++n) {
    law[n] = 0;
    for (size_t i = 0; i < n; ++i) law[n] += law[i] * P[i * S + n];
    sum += law[n];
  }
  for (double& p : law) p /= sum;
}

class CausalStructure final : public Task {
 public:
  explicit CausalStructure(const Settings& settings) : settings_(settings) {
    if (settings_.given("parents")) settings_.assume("graph", std::string("given"));
    const std::vector<double>& parents = settings_.array("parents");
    const bool given = settings_.is("graph", "given");
    const auto length = static_cast<int64_t>(parents.size()) + 1;
    if (given) settings_.assume("prompt_length", static_cast<double>(length));
    law_.vocabulary = settings_.integer("vocabulary"), law_.length = settings_.integer("prompt_length");
    law_.concentration = settings_.number("concentration"), law_.smoothing = settings_.number("smoothing");
    if (given && law_.length != length)
      fail_option("prompt_length", std::to_string(law_.length), "one more than the number of parents, " + std::to_string(length));
    Random random(static_cast<uint64_t>(settings_.integer("law_seed")), Purpose::construction, 0);
    for (int64_t i = 0; i + 1 < law_.length; ++i) {
      int64_t parent = i - 1;
      if (settings_.is("graph", "icl") && i % 2 == 0) parent = -1;
      if (settings_.is("graph", "random")) parent = random.below(i + 1) - 1;
      if (given) {
        const double number = parents[static_cast<size_t>(i)];
        if (!(number >= -1 && number < static_cast<double>(i) && std::floor(number) == number))
          fail_option("parents", number_text(number) + " at index " + std::to_string(i), "an integer from -1 to " + std::to_string(i - 1));
        parent = static_cast<int64_t>(number);
      }
      law_.parent.push_back(static_cast<int32_t>(parent));
    }
  }

  const char* name() const override { return "causal_structure"; }
  TaskKind kind() const override { return causal_task; }
  const CausalLaw* causal() const override { return &law_; }
  int64_t positions() const override { return law_.length; }
  int64_t values() const override { return law_.vocabulary; }
  std::shared_ptr<const PromptForm> form() const override;
  bool has(Split split) const override { return split != Split::unseen; }
  const Settings& settings() const override { return settings_; }
  std::string token_text(int32_t token) const override {
    if (token < 0 || token >= law_.vocabulary) fail_argument("token", token, "in [0, " + std::to_string(law_.vocabulary - 1) + "]");
    return "s" + std::to_string(token);
  }

  void sample(Split split, uint64_t seed, int64_t first, int64_t count, Prompts& out) const override {
    if (!has(split)) fail(LAMINA_E_UNSUPPORTED, "the unseen split cannot be drawn: every transition matrix is new");
    const auto S = static_cast<size_t>(law_.vocabulary);
    out.resize(count, law_.length);
    out.values.resize(static_cast<size_t>(count) * S);
    std::vector<double> pi(S * S), scratch, mu(S);
    for (int64_t i = 0; i < count; ++i) {
      Random random(seed, purpose_of(split), static_cast<uint64_t>(first + i));
      draw_dirichlet(random, law_.concentration, S, pi);
      scratch = pi;
      stationary_law(scratch, mu);
      const std::span<int32_t> row = out.row(i);
      for (size_t j = 0; j < law_.parent.size(); ++j) {
        const int32_t parent = law_.parent[j];
        row[j] = draw_token(random, parent < 0 ? std::span<const double>(mu) : std::span<const double>(pi).subspan(static_cast<size_t>(row[parent]) * S, S));
      }
      row.back() = static_cast<int32_t>(random.below(law_.vocabulary));
      std::ranges::copy(std::span(pi).subspan(static_cast<size_t>(row.back()) * S, S), out.values_of(i).begin());
      const auto likeliest = static_cast<int32_t>(std::ranges::max_element(out.values_of(i)) - out.values_of(i).begin());
      out.label[static_cast<size_t>(i)] = out.answer[static_cast<size_t>(i)] = likeliest;
    }
  }

 private:
  // By inversion; what rounding leaves of the sum goes to the last token with a probability.
  static int32_t draw_token(Random& random, std::span<const double> law) {
    double rest = random.uniform();
    int32_t last = 0;
    for (size_t s = 0; s < law.size(); ++s) {
      if (law[s] == 0) continue;
      last = static_cast<int32_t>(s);
      if (rest < law[s]) break;
      rest -= law[s];
    }
    return last;
  }

  Settings settings_;
  CausalLaw law_;
};

// Prompts of tokens; targets the law pi(. | query) of what follows.
class LawForm final : public TokenForm {
 public:
  explicit LawForm(const CausalLaw& law)
      : TokenForm({law.length, 1, law.vocabulary, law.vocabulary, law.vocabulary, law.vocabulary}), positions_(law.length) {}
  void give(const Prompts& drawn, double* prompts, double* targets) const override {
    std::ranges::copy(drawn.tokens, prompts);
    std::ranges::copy(drawn.values, targets);
  }
  Prompts take(const double* prompts, int64_t count, int64_t length) const override {
    if (length != positions_)
      fail_argument("length", static_cast<double>(length), "the task's " + std::to_string(positions_) + ": attention is by position");
    Prompts taken = TokenForm::take(prompts, count, length);
    taken.label.resize(static_cast<size_t>(count)), taken.answer.resize(static_cast<size_t>(count));
    return taken;
  }
  void take_targets(const double* targets, Prompts& prompts) const override {
    prompts.values.assign(targets, targets + prompts.count * shape_.target_width);
    for (double p : prompts.values)
      if (!(p >= 0 && p <= 1)) fail_argument("a probability in targets", p, "in [0, 1]");
  }

 private:
  int64_t positions_;
};

std::shared_ptr<const PromptForm> CausalStructure::form() const { return std::make_shared<LawForm>(law_); }

std::shared_ptr<const Task> create(const Settings& settings) { return std::make_shared<CausalStructure>(settings); }

}  // namespace

const TaskRow causal_structure_row = {
    "causal_structure",
    causal_task,
    "Learn which position is the parent of which, then predict from the children of the query's copies",
    "Nichani, Damian and Lee, arXiv 2402.14735 (How Transformers Learn Causal Structure with Gradient Descent, ICML 2024), and the "
    "authors' code. Stated there: for each sequence a transition matrix with rows Dirichlet(alpha, .., alpha) and its stationary law; "
    "a token follows the row of its parent's token, roots the stationary law; the last token is uniform, the target is its row, scored "
    "by cross-entropy; graphs chain, icl and random; S = 10, T = 20, alpha = 0.1. Remembered, not confirmed against the text: the "
    "reduced model f = X^T softmax(softmax(A1) X A2^T x_T), where A1 [T, T] attends by position, causal with itself, and A2 [S, S] by "
    "token, A2(0) = beta_0 I, A1 trained first, then A2, loss log(f + epsilon); the first gradient of A1 is ordered by the chi-square "
    "information between tokens, so that the parent wins. Derived here: gradients, the posterior mean from the children of the query's "
    "copies (`excess` is measured from it, with the same epsilon; it leaves out what roots say of the stationary law). Choices: gradient "
    "descent with one step size a stage, beta_0 = initial_scale = 0.1, the query among the keys, all step sizes and lengths; roots are no "
    "children of anything (in the code's baseline an index of -1 makes them the last context token's). With "
    "variant=catformer the trained model of the code. Stated there: one-hot token and position; two layers of one head each, scores "
    "x^T A x, causal with itself, whose outputs are appended to the stream; f = softmax(W^T stream) of the last position; A and W from "
    "zero; SGD, step size 1, cosine to 0, batches of 1024, 2^17 steps, 2^16 test sequences: its defaults. Derived: its gradients; that at "
    "zero only W moves, and first towards the token that is read. Choices: rows of A are the query's; the cosine falls by the update; its "
    "cross-entropy and that of the posterior mean have no epsilon, and roots stay nobody's children, so that its excess falls below 0 "
    "by what the other tokens say of the stationary law. Not here: more heads, and a population form: none is known in closed form. A Dirichlet row is made of gamma variables by "
    "exact rejection: Ahrens and Dieter (Computing 12, 1974) below alpha = 1, Marsaglia and Tsang (ACM Trans. Math. Software 26, 2000) from there.",
    option_rows,
    default_rows,
    without,
    create,
};

}  // namespace lamina
