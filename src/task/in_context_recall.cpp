// The task in_context_recall: a prompt ends in a trigger, and the token that followed this trigger earlier, or the noise token
// tau, is to be predicted. Samplers S1 (slots), S2 (Markov chain), S3 (slots of several triggers).
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>

#include "task/draw.hpp"
#include "task/option_check.hpp"
#include "task/recall_chain.hpp"
#include "task/registry.hpp"

namespace lamina {
namespace {

constexpr double largest_vocabulary = 1 << 20, largest_length = 1 << 20, infinite = std::numeric_limits<double>::infinity();
constexpr double below_one = 1 - 0x1p-53;

constexpr OptionRow option_rows[] = {
    {"vocabulary", OptionKind::integer, "60", 4, largest_vocabulary, "",
     "N: how many tokens there are besides the noise token tau, which is token N; neutral tokens are those that are neither "
     "triggers nor outputs nor unseen outputs"},
    {"triggers", OptionKind::integer, "5", 1, largest_vocabulary, "", "how many trigger tokens Q there are: tokens 0..|Q|-1"},
    {"outputs", OptionKind::integer, "25", 1, largest_vocabulary, "",
     "how many output tokens O can be the answer in the train and test splits"},
    {"unseen_outputs", OptionKind::integer, "10", 0, largest_vocabulary, "",
     "how many tokens O_test are the answers of the unseen split, and of no other"},
    {"unseen_filler", OptionKind::word, "never", 0, 0, "never|filler",
     "whether the unseen outputs never occur in training, or occur there as neutral filler and never as answers"},
    {"prompt_length", OptionKind::integer, "256", 3, infinite, "",
     "H: tokens in a prompt, the queried trigger at its end included; inf only with data=population"},
    {"occurrences", OptionKind::integer, "5", 1, 10000, "",
     "m_max: samplers s1 and s3 show a trigger m times before the end, m uniform on 1..m_max; s2 does not read it"},
    {"noise", OptionKind::number, "0.5", 0, below_one, "",
     "alpha: the probability that a trigger is followed by tau in place of its answer, and that the label is tau"},
    {"sampler", OptionKind::word, "s1", 0, 0, "s1|s2|s3",
     "how prompts are drawn: slots of the queried trigger, a Markov chain given that it shows the answer, slots of several "
     "triggers"},
    {"triggers_per_prompt", OptionKind::integer, "3", 1, largest_vocabulary, "",
     "t: how many distinct triggers, the queried one included, sampler s3 places in a prompt"},
    {"trigger_weights", OptionKind::array, "", 0, largest_vocabulary, "",
     "P_Q up to a factor: one weight for each trigger; empty means uniform"},
    {"output_weights", OptionKind::array, "", 0, largest_vocabulary, "",
     "P_O up to a factor, for the train and test splits of s1 and s2: one weight for each output, or for each (trigger, "
     "output), "
     "triggers outermost; empty means uniform"},
    {"unigram", OptionKind::array, "", 0, largest_vocabulary, "",
     "the law of the first token of sampler s2 up to a factor, one weight for each token; empty means uniform over the neutral "
     "ones"},
    {"bigram", OptionKind::array, "", 0, 0x1p26, "",
     "the bigram law of sampler s2: vocabulary rows of weights of the next token, and optionally one more row for what follows "
     "tau "
     "(else uniform); rows of triggers are not read; empty means uniform over the tokens that may occur"},
};

constexpr OptionDefault default_rows[] = {
    {"variant", "full"},        {"attention", "linear"}, {"feed_forward", "query_and_attention"},
    {"initialisation", "zero"}, {"data", "fixed"},       {"samples", "2048"},
    {"optimiser", "ngd"},       {"normalisation", "l2"}, {"step_size", "0.1"},
    {"steps", "400"},
};

std::vector<int32_t> token_range(int64_t begin, int64_t end) {
  std::vector<int32_t> tokens(static_cast<size_t>(end - begin));
  std::iota(tokens.begin(), tokens.end(), static_cast<int32_t>(begin));
  return tokens;
}

class InContextRecall final : public Task {
 public:
  explicit InContextRecall(const Settings& settings);
  const char* name() const override { return "in_context_recall"; }
  const RecallLaw* recall() const override { return &law_; }
  void sample(Split split, uint64_t seed, int64_t first, int64_t count, Prompts& out) const override;
  bool has(Split split) const override { return split != Split::unseen || !law_.unseen.empty(); }
  std::string token_text(int32_t token) const override;
  const Settings& settings() const override { return settings_; }

 private:
  // Memory of one call of sample.
  struct Scratch {
    PartialShuffle triggers, outputs;
    std::vector<int32_t> chosen, answers;  // of one prompt: its triggers, queried first, and their answers
    struct Slot {
      int32_t trigger, successor;
    };
    std::vector<Slot> slots;
    std::vector<int64_t> starts;
  };

  void check_sizes() const;
  void make_laws();
  void make_chain();
  int32_t draw_answer(Random& random, Split split, int32_t trigger) const;
  void draw_slots(Random& random, Split split, int32_t query, Scratch& scratch, std::span<int32_t> row) const;
  void draw_chain(Random& random, Split split, int32_t query, Scratch& scratch, std::span<int32_t> row) const;

  Settings settings_;
  RecallLaw law_;
  int64_t per_prompt_ = 1;  // triggers placed in a prompt of S1, S3
  int64_t neutral_begin_;   // first neutral token
  int64_t filler_begin_;    // filler is uniform on filler_begin_..N-1
  PackedUniform filler_;
  AliasTables trigger_law_, output_law_;
  std::optional<RecallChain> chain_;
};

InContextRecall::InContextRecall(const Settings& settings)
    : settings_(settings),
      neutral_begin_(settings.integer("triggers") + settings.integer("outputs") + settings.integer("unseen_outputs")),
      filler_begin_(neutral_begin_ - (settings.is("unseen_filler", "filler") ? settings.integer("unseen_outputs") : 0)),
      filler_(std::max<int64_t>(1, settings.integer("vocabulary") - filler_begin_)) {
  using Sampler = RecallLaw::Sampler;
  law_.sampler = settings.is("sampler", "s1") ? Sampler::s1 : settings.is("sampler", "s2") ? Sampler::s2 : Sampler::s3;
  law_.vocabulary = settings.integer("vocabulary");
  law_.length = std::isinf(settings.number("prompt_length")) ? -1 : settings.integer("prompt_length");
  law_.noise = settings.number("noise");
  law_.occurrences = settings.integer("occurrences");
  if (law_.sampler == Sampler::s3) per_prompt_ = settings.integer("triggers_per_prompt");
  check_sizes();
  const int64_t triggers = settings.integer("triggers"), outputs = settings.integer("outputs");
  law_.triggers = token_range(0, triggers);
  law_.outputs = token_range(triggers, triggers + outputs);
  law_.unseen = token_range(triggers + outputs, neutral_begin_);
  make_laws();
  if (law_.sampler == Sampler::s2) make_chain();
}

void InContextRecall::check_sizes() const {
  const std::string vocabulary = std::to_string(law_.vocabulary);
  if (neutral_begin_ >= law_.vocabulary)
    fail_option("vocabulary", vocabulary,
                "more than triggers + outputs + unseen_outputs = " + std::to_string(neutral_begin_) +
                    ", so that a neutral token is left");
  if (law_.length > largest_length)
    fail_option("prompt_length", std::to_string(law_.length), "at most " + number_text(largest_length) + ", or inf");
  const int64_t triggers = settings_.integer("triggers"), outputs = settings_.integer("outputs");
  const int64_t unseen = settings_.integer("unseen_outputs");
  if (law_.sampler == RecallLaw::Sampler::s3) {
    const std::string t = std::to_string(per_prompt_);
    if (per_prompt_ > triggers) fail_option("triggers_per_prompt", t, "at most triggers = " + std::to_string(triggers));
    if (per_prompt_ > outputs)
      fail_option("triggers_per_prompt", t,
                  "at most outputs = " + std::to_string(outputs) + ": triggers of a prompt have distinct answers");
    if (unseen > 0 && per_prompt_ > unseen)
      fail_option("unseen_outputs", std::to_string(unseen),
                  "0 or at least triggers_per_prompt = " + t + ": triggers of a prompt have distinct answers");
  }
  if (law_.length < 0) return;
  const bool chain = law_.sampler == RecallLaw::Sampler::s2;
  const int64_t slots = per_prompt_ * law_.occurrences;
  const int64_t shortest = chain ? (settings_.array("unigram").empty() ? 4 : 3) : 2 * slots + 1;
  if (law_.length < shortest)
    fail_option("prompt_length", std::to_string(law_.length),
                "at least " + std::to_string(shortest) +
                    (chain ? ": a token, the trigger, its answer, the trigger again"
                           : " = 2 * " + std::to_string(slots) + " + 1, so that every occurrence of a trigger has room"));
}

void InContextRecall::make_laws() {
  const auto triggers = static_cast<int64_t>(law_.triggers.size()), outputs = static_cast<int64_t>(law_.outputs.size());
  law_.trigger_law = law_from_weights("trigger_weights", settings_.array("trigger_weights"), triggers);
  trigger_law_ = AliasTables(1, triggers);
  trigger_law_.set(0, law_.trigger_law);

  const std::vector<double>& weights = settings_.array("output_weights");
  if (!weights.empty()) {
    if (law_.sampler == RecallLaw::Sampler::s3)
      fail_option("output_weights", "an array of " + std::to_string(weights.size()), "empty with sampler=s3");
    const bool shared = static_cast<int64_t>(weights.size()) == outputs;
    if (!shared && static_cast<int64_t>(weights.size()) != triggers * outputs)
      fail_option("output_weights", "an array of " + std::to_string(weights.size()),
                  "empty, or an array of outputs = " + std::to_string(outputs) +
                      " or triggers * outputs = " + std::to_string(triggers * outputs));
    output_law_ = AliasTables(triggers, outputs);
    for (int64_t q = 0; q < triggers; ++q) {
      const auto row = std::span(weights).subspan(static_cast<size_t>(shared ? 0 : q * outputs), static_cast<size_t>(outputs));
      const std::vector<double> law = law_from_weights("output_weights", row, outputs);
      output_law_.set(q, law);
      law_.output_law.insert(law_.output_law.end(), law.begin(), law.end());
    }
  }
  for (const char* key : {"unigram", "bigram"}) {
    if (law_.sampler != RecallLaw::Sampler::s2 && !settings_.array(key).empty())
      fail_option(key, "an array of " + std::to_string(settings_.array(key).size()), "empty unless sampler=s2");
  }
}

void InContextRecall::make_chain() {
  const int64_t n = law_.vocabulary, triggers = static_cast<int64_t>(law_.triggers.size());
  // Tokens of [gap_begin, gap_end) never occur in the chain.
  const int64_t gap_end = neutral_begin_, gap_begin = gap_end - (filler_begin_ == neutral_begin_ ? std::ssize(law_.unseen) : 0);
  const auto without_gap = [&](std::span<const double> weights, const char* key) {
    std::vector<double> row = law_from_weights(key, weights, n);
    std::fill(row.begin() + gap_begin, row.begin() + gap_end, 0.0);
    if (std::all_of(row.begin(), row.end(), [](double w) { return w == 0; }))
      fail_option(key, "a law on unseen outputs alone", "positive on another token with unseen_filler=never");
    return row;
  };
  std::vector<double> first(static_cast<size_t>(n), 0.0);
  std::fill(first.begin() + neutral_begin_, first.end(), 1.0);
  const std::vector<double>&unigram = settings_.array("unigram"), &bigram = settings_.array("bigram");
  if (!unigram.empty()) first = without_gap(unigram, "unigram");
  AliasTables first_table(1, n);
  first_table.set(0, first);
  if (bigram.empty()) {
    if (unigram.empty()) law_.chain_tokens = n - (gap_end - gap_begin);
    chain_.emplace(n, triggers, law_.noise, std::move(first_table), gap_begin, gap_end);
    return;
  }
  const auto size = static_cast<int64_t>(bigram.size());
  if (size != n * n && size != n * (n + 1))
    fail_option("bigram", "an array of " + std::to_string(size),
                "empty, or vocabulary^2 = " + std::to_string(n * n) +
                    " or vocabulary (vocabulary + 1) = " + std::to_string(n * (n + 1)) + " numbers");
  AliasTables next(n + 1, n);
  const std::vector<double> uniform(static_cast<size_t>(n), 1.0);
  for (int64_t token = 0; token <= n; ++token) {
    const bool given = token >= triggers && token * n < size;
    next.set(token, without_gap(given ? std::span(bigram).subspan(static_cast<size_t>(token * n), static_cast<size_t>(n))
                                      : std::span(uniform),
                                "bigram"));
  }
  chain_.emplace(n, triggers, law_.noise, std::move(first_table), std::move(next));
}

int32_t InContextRecall::draw_answer(Random& random, Split split, int32_t trigger) const {
  if (split != Split::unseen && !output_law_.empty())
    return law_.outputs[static_cast<size_t>(output_law_.draw(trigger, random))];
  const std::vector<int32_t>& pool = split == Split::unseen ? law_.unseen : law_.outputs;
  return pool[static_cast<size_t>(random.below(std::ssize(pool)))];
}

// S1 (one trigger) and S3: m ~ Unif{1..m_max} slots for each trigger; a slot is the trigger and what follows it, its answer or
// tau, the answer at least once. The starts s of all slots are uniform over the subsets of 1..H-2 with distances >= 2; the i-th
// of them (from 0) less i is a plain subset of 1..H-1-M, and this is a bijection.
void InContextRecall::draw_slots(Random& random, Split split, int32_t query, Scratch& scratch, std::span<int32_t> row) const {
  const auto tau = static_cast<int32_t>(law_.vocabulary);
  scratch.chosen[0] = query;
  if (per_prompt_ == 1) {
    scratch.answers[0] = draw_answer(random, split, query);
  } else {
    scratch.triggers.draw(random, query, scratch.chosen);
    scratch.outputs.draw(random, -1, scratch.answers);
  }
  scratch.slots.clear();
  for (size_t j = 0; j < scratch.chosen.size(); ++j) {
    const int64_t occurrences = 1 + random.below(law_.occurrences);
    bool answered = false;
    for (int64_t i = 0; i < occurrences; ++i) {
      const bool noisy = random.bernoulli(law_.noise);
      scratch.slots.push_back({scratch.chosen[j], noisy ? tau : scratch.answers[j]});
      answered |= !noisy;
    }
    if (!answered)
      scratch.slots[scratch.slots.size() - 1 - static_cast<size_t>(random.below(occurrences))].successor = scratch.answers[j];
  }
  const int64_t count = std::ssize(scratch.slots);
  if (per_prompt_ > 1) {
    for (int64_t i = count - 1; i > 0; --i)
      std::swap(scratch.slots[static_cast<size_t>(i)], scratch.slots[static_cast<size_t>(random.below(i + 1))]);
  }
  draw_subset(random, law_.length - 1 - count, count, scratch.starts);
  filler_.fill(random, static_cast<int32_t>(filler_begin_), row);
  for (size_t i = 0; i < scratch.slots.size(); ++i) {
    const size_t start = static_cast<size_t>(scratch.starts[i]) + i;
    row[start] = scratch.slots[i].trigger;
    row[start + 1] = scratch.slots[i].successor;
  }
  row.back() = query;
}

// S2: every trigger has its own answer; answers of different triggers may coincide.
void InContextRecall::draw_chain(Random& random, Split split, int32_t query, Scratch& scratch, std::span<int32_t> row) const {
  for (size_t q = 0; q < law_.triggers.size(); ++q) scratch.answers[q] = draw_answer(random, split, static_cast<int32_t>(q));
  chain_->draw(random, query, scratch.answers, row);
}

void InContextRecall::sample(Split split, uint64_t seed, int64_t first, int64_t count, Prompts& out) const {
  if (law_.length < 0)
    fail(LAMINA_E_UNSUPPORTED,
         "prompt_length is inf: prompts of infinite length cannot be drawn, only data=population is possible");
  if (!has(split)) fail(LAMINA_E_UNSUPPORTED, "the unseen split cannot be drawn: unseen_outputs is 0, must be at least 1");
  out.resize(count, law_.length);
  const auto tau = static_cast<int32_t>(law_.vocabulary);
  const size_t answers = chain_ ? law_.triggers.size() : static_cast<size_t>(per_prompt_);
  Scratch scratch{
      PartialShuffle(law_.triggers), PartialShuffle(split == Split::unseen ? law_.unseen : law_.outputs), {}, {}, {}, {}};
  scratch.chosen.resize(static_cast<size_t>(per_prompt_));
  scratch.answers.resize(answers);
  for (int64_t i = 0; i < count; ++i) {
    Random random(seed, purpose_of(split), static_cast<uint64_t>(first + i));
    const int32_t query = trigger_law_.draw(0, random);
    const bool noisy_label = random.bernoulli(law_.noise);
    if (chain_) {
      draw_chain(random, split, query, scratch, out.row(i));
    } else {
      draw_slots(random, split, query, scratch, out.row(i));
    }
    const auto place = static_cast<size_t>(i);
    out.answer[place] = scratch.answers[chain_ ? static_cast<size_t>(query) : 0];
    out.label[place] = noisy_label ? tau : out.answer[place];
  }
}

std::string InContextRecall::token_text(int32_t token) const {
  const auto outputs_begin = std::ssize(law_.triggers), unseen_begin = outputs_begin + std::ssize(law_.outputs);
  if (token == law_.vocabulary) return "tau";
  if (token < 0 || token > law_.vocabulary) fail_argument("token", token, "in [0, " + std::to_string(law_.vocabulary) + "]");
  const auto named = [token](char letter, int64_t begin) { return letter + std::to_string(token - begin); };
  if (token < outputs_begin) return named('q', 0);
  if (token < unseen_begin) return named('o', outputs_begin);
  if (token < neutral_begin_) return named('u', unseen_begin);
  return named('z', neutral_begin_);
}

std::shared_ptr<const Task> create(const Settings& settings) {
  return std::make_shared<InContextRecall>(settings);
}

}  // namespace

const TaskRow in_context_recall_row = {
    "in_context_recall",
    recall_task,
    "Predict the token that followed a trigger earlier in the prompt, or the noise token",
    "Nguyen and Nguyen-Tang, arXiv 2505.15009 (version 3: How Transformers Learn In-Context Recall Tasks). Stated there: "
    "trigger "
    "tokens, output tokens and one noise token tau; the prompt ends in a trigger q; the bigram (q, y) occurs at least once; "
    "any (q, x) "
    "has x in {y, tau}; settings without noise and with noise level alpha; N=60, d=128, H=256, alpha in {0.2, 0.5, 0.8}, 2048 "
    "training "
    "samples; tests on unseen output words. Reconstructed, as only the abstract, reviews and digests of the paper could be "
    "read: neutral "
    "tokens, the label law (y with probability 1-alpha, tau with alpha, independent of the prompt given q and y), the "
    "samplers. Choices: "
    "|Q|=5, 25 training and 10 unseen outputs, 1 to 5 occurrences, sampler S1 (slots at uniform places) and S3 (slots of "
    "several "
    "triggers with distinct answers; in the unseen split all of them are unseen outputs). S2 follows the data of Chen, Bruna "
    "and Bietti, "
    "arXiv 2406.03068, and Bietti et al., arXiv 2306.00802 (a bigram chain in which every trigger has an answer of its own), "
    "with two "
    "changes: tau is a token of its own, and a prompt is drawn again, given q and the answers, until it shows q with its "
    "answer and does "
    "not end in q q; what follows tau is uniform unless given. Derived: the Bayes risk is h(alpha) = -alpha ln alpha - "
    "(1-alpha) "
    "ln(1-alpha) for every sampler and every law of triggers and outputs.",
    option_rows,
    default_rows,
    without_stages,
    create,
};

}  // namespace lamina
