// The task next_token: a sentence has one optimal token under the order that its last token (the query) puts on tokens; what
// follows is that token's collocation.
#include <algorithm>
#include <numeric>

#include "task/draw.hpp"
#include "task/option_check.hpp"
#include "task/prompt_form.hpp"
#include "task/registry.hpp"

namespace lamina {
namespace {

constexpr double largest_vocabulary = 2048;

constexpr OptionRow option_rows[] = {
    {"vocabulary", OptionKind::integer, "12", 3, largest_vocabulary, "", "V: how many tokens there are"},
    {"prompt_length", OptionKind::integer, "4", 2, 1 << 20, "", "L: tokens of a sentence, the query (the last) included"},
    {"collocation", OptionKind::word, "random", 0, 0, "random|shift",
     "n, the one-to-one map from a token to the one that follows it: a random permutation, or n(x) = x + 1 mod V"},
    {"collocation_weights", OptionKind::array, "", 0, largest_vocabulary, "",
     "weights of the collocations in the loss of the first stage, V positive numbers; empty means equal"},
    {"orders", OptionKind::word, "partial", 0, 0, "partial|total",
     "for each query: a random set of optimal_tokens tokens above one of other_tokens, the rest never seen with that query; or a "
     "random order of all tokens"},
    {"optimal_tokens", OptionKind::integer, "3", 1, largest_vocabulary, "", "tokens above, for each query, with orders=partial"},
    {"other_tokens", OptionKind::integer, "4", 1, largest_vocabulary, "",
     "tokens below, the query itself among them, with orders=partial"},
    {"law_seed", OptionKind::integer, "1", 0, 9007199254740992.0, "", "seed of the map n and of the orders"},
};

constexpr OptionDefault default_rows[] = {
    {"samples", "2048"}, {"optimiser", "ngd"}, {"step_size", "0.5"}, {"steps", "400"}, {"stage_one_steps", "150"}, {"attention", "softmax"},
};

constexpr const char* without[] = {"variant",           "attention",         "feed_forward", "initialisation", "initial_scale", "value_scale",
                                   "train_value_scale", "train_noise_logit", "suppression",  "embedding",      "dimension",     "precision",
                                   "estimate_noise"};

class NextToken final : public Task {
 public:
  explicit NextToken(const Settings& settings) : settings_(settings) {
    const int64_t V = settings_.integer("vocabulary");
    const auto seed = static_cast<uint64_t>(settings_.integer("law_seed"));
    law_.vocabulary = V, law_.length = settings_.integer("prompt_length");
    law_.collocation_law = law_from_weights("collocation_weights", settings_.array("collocation_weights"), V);
    for (size_t x = 0; x < law_.collocation_law.size(); ++x)
      if (!(law_.collocation_law[x] > 0)) fail_option("collocation_weights", "0 at index " + std::to_string(x), "positive everywhere");
    std::vector<int32_t> tokens(static_cast<size_t>(V));
    std::iota(tokens.begin(), tokens.end(), 0);
    PartialShuffle shuffle(tokens);
    law_.next.resize(tokens.size());
    Random of_next(seed, Purpose::construction, 0);
    if (settings_.is("collocation", "random")) shuffle.draw(of_next, -1, law_.next);
    else std::ranges::rotate_copy(tokens, tokens.begin() + 1, law_.next.begin());
    total_ = settings_.is("orders", "total");
    top_ = total_ ? V - 1 : settings_.integer("optimal_tokens");
    below_ = total_ ? V : settings_.integer("other_tokens");
    if (!total_ && top_ + below_ > V)
      fail_option("other_tokens", std::to_string(below_), "at most vocabulary - optimal_tokens = " + std::to_string(V - top_));
    if (total_ && law_.length < 3) fail_option("prompt_length", std::to_string(law_.length), "at least 3 with orders=total");
    law_.level.assign(static_cast<size_t>(V * V), -1);
    ranked_.resize(static_cast<size_t>(V * V));
    for (int64_t q = 0; q < V; ++q) {
      Random random(seed, Purpose::construction, static_cast<uint64_t>(1 + q));
      const std::span<int32_t> ranked = std::span(ranked_).subspan(static_cast<size_t>(q * V), static_cast<size_t>(V));
      total_ ? rank_all(random, shuffle, q, ranked) : rank_some(random, shuffle, q, ranked);
    }
  }

  const char* name() const override { return "next_token"; }
  TaskKind kind() const override { return next_token_task; }
  const NextTokenLaw* next_token() const override { return &law_; }
  int64_t positions() const override { return law_.length; }
  std::shared_ptr<const PromptForm> form() const override {
    return std::make_shared<TokenForm>(PromptShape{law_.length, 1, 2, law_.vocabulary, law_.vocabulary, law_.vocabulary});
  }
  bool has(Split split) const override { return split != Split::unseen || (!total_ && top_ + below_ < law_.vocabulary && law_.length > 2); }
  const Settings& settings() const override { return settings_; }
  std::string token_text(int32_t token) const override {
    if (token < 0 || token >= law_.vocabulary) fail_argument("token", token, "in [0, " + std::to_string(law_.vocabulary - 1) + "]");
    return "x" + std::to_string(token);
  }

  bool first_stage(Prompts& prompts, std::vector<double>& weights) const override {
    prompts.resize(law_.vocabulary, 1);
    std::iota(prompts.tokens.begin(), prompts.tokens.end(), 0);
    prompts.answer = prompts.tokens, prompts.label = law_.next;
    weights = law_.collocation_law;
    return true;
  }

  void sample(Split split, uint64_t seed, int64_t first, int64_t count, Prompts& out) const override {
    if (!has(split)) fail(LAMINA_E_UNSUPPORTED, "the unseen split cannot be drawn: it needs tokens never seen with a query, and three places");
    out.resize(count, law_.length);
    for (int64_t i = 0; i < count; ++i) {
      Random random(seed, purpose_of(split), static_cast<uint64_t>(first + i));
      const auto q = static_cast<int32_t>(random.below(law_.vocabulary));
      const std::span<int32_t> row = out.row(i);
      const int32_t optimal = total_ ? draw_any(random, q, row) : draw_around(random, split, q, row);
      out.answer[static_cast<size_t>(i)] = optimal, out.label[static_cast<size_t>(i)] = law_.next[static_cast<size_t>(optimal)];
    }
  }

 private:
  int32_t& level(int64_t q, int64_t x) { return law_.level[static_cast<size_t>(q * law_.vocabulary + x)]; }
  int32_t ranked(int32_t q, int64_t place) const { return ranked_[static_cast<size_t>(q * law_.vocabulary + place)]; }

  // A random order of all tokens. The query is in every sentence, so what is below it is never optimal: one level together.
  void rank_all(Random& random, PartialShuffle& shuffle, int64_t q, std::span<int32_t> ranked) {
    shuffle.draw(random, -1, ranked);
    const auto own = std::ranges::find(ranked, static_cast<int32_t>(q)) - ranked.begin();  // ranked[0] is on top
    const auto V = static_cast<int64_t>(ranked.size());
    for (int64_t place = 0; place < V; ++place)
      level(q, ranked[static_cast<size_t>(place)]) = static_cast<int32_t>(std::max<int64_t>(own - place, -1) + (own + 1 < V));
  }

  // ranked: optimal tokens, then the query and the others below them, then those without a level.
  void rank_some(Random& random, PartialShuffle& shuffle, int64_t q, std::span<int32_t> ranked) {
    shuffle.draw(random, q, ranked);  // the query comes first
    std::swap(ranked[0], ranked[static_cast<size_t>(top_)]);
    for (int64_t place = 0; place < top_ + below_; ++place) level(q, ranked[static_cast<size_t>(place)]) = place < top_;
  }

  int32_t draw_any(Random& random, int32_t q, std::span<int32_t> row) const {
    PackedUniform(law_.vocabulary).fill(random, 0, row.first(row.size() - 1));
    row.back() = q;
    const int32_t* levels = &law_.level[static_cast<size_t>(q * law_.vocabulary)];
    return *std::ranges::max_element(row, {}, [&](int32_t x) { return levels[x]; });
  }

  // One token above at a uniform place before the query; at every other it again or a token below, uniformly. In the unseen
  // split tokens never seen with this query stand in between: below the optimal one, or optimal above the others.
  int32_t draw_around(Random& random, Split split, int32_t q, std::span<int32_t> row) const {
    const int64_t fresh = law_.vocabulary - top_ - below_;
    const bool extended = split == Split::unseen, fresh_on_top = extended && random.below(2) == 1;
    const int32_t optimal = fresh_on_top ? ranked(q, top_ + below_ + random.below(fresh)) : ranked(q, random.below(top_));
    const int64_t range = 1 + below_ + (extended && !fresh_on_top ? fresh : 0);
    for (int32_t& token : row) {
      const int64_t draw = random.below(range);
      token = draw == 0 ? optimal : ranked(q, top_ + draw - 1);
    }
    const auto before = static_cast<int64_t>(row.size()) - 1;
    const int64_t place = random.below(before);
    row[static_cast<size_t>(place)] = optimal;
    if (extended && !fresh_on_top)  // at least one token that was never seen with the query
      row[static_cast<size_t>((place + 1 + random.below(before - 1)) % before)] = ranked(q, top_ + below_ + random.below(fresh));
    row.back() = q;
    return optimal;
  }

  Settings settings_;
  NextTokenLaw law_;
  bool total_ = false;
  int64_t top_ = 0, below_ = 0;
  std::vector<int32_t> ranked_;  // [query, place]
};

std::shared_ptr<const Task> create(const Settings& settings) { return std::make_shared<NextToken>(settings); }

}  // namespace

const TaskRow next_token_row = {
    "next_token",
    next_token_task,
    "Predict the collocation of a sentence's optimal token: feed-forward part and attention trained one after the other",
    "Huang, Liang and Yang, arXiv 2409.17335 (Non-asymptotic Convergence of Training Transformers for Next-token Prediction, NeurIPS "
    "2024). Stated there (abstract and summaries): realisable data given by collocations, which map a token to the one that follows it, "
    "and by partial orders that depend on the query, the sentence's last token; what follows a sentence is the collocation of its "
    "optimal token; one layer of self-attention, then a feed-forward (value and output) matrix; normalised gradient descent in two "
    "stages, the feed-forward part on the collocations, then the attention; each converges in direction to its max-margin solution, at "
    "a sub-linear rate; the cross-entropy converges linearly; the trained model predicts sentences under extended orders. Remembered, "
    "not confirmed against its text: logits = W_ov X softmax(X^T W_kq x_L). Derived here: both max-margin matrices in closed form; "
    "from zero and with equal weights the first stage moves along its own from the first step on, with loss log(1 + (V-1) "
    "exp(-eta t / sqrt(V-1))); a token never seen with a query keeps the score 0, between those above and below; the second stage "
    "leaves the loss of the collocations at W_ov, so `excess` is measured from there, and its slope tends to -eta m / |W_kq*| for a "
    "margin m of 1. Choices: "
    "one-hot tokens, W_ov = W_kq = 0 at the start, all sizes, the laws of sentences and orders, the query below the optimal tokens "
    "under partial orders. No figure of the paper is claimed.",
    option_rows,
    default_rows,
    without,
    create,
};

}  // namespace lamina
