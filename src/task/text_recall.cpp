// The task text_recall: noisy in-context recall on the bigram statistics of a text file. The most frequent tokens are triggers;
// in each prompt every trigger has an answer of its own.
#include <numeric>

#include "task/option_check.hpp"
#include "task/recall_chain.hpp"
#include "task/registry.hpp"
#include "task/text_statistics.hpp"

namespace lamina {
namespace {

constexpr double largest_vocabulary = 1 << 14, largest_length = 1 << 20, largest_hash = 0x1p53;

constexpr OptionRow option_rows[] = {
    {"file", OptionKind::text, "", 0, 0, "", "the text file: UTF-8, any size; it must be given"},
    {"unit", OptionKind::word, "characters", 0, 0, "characters|words",
     "what a token is: a code point (white space and line ends included), or what stands between white space"},
    {"vocabulary", OptionKind::integer, "64", 4, largest_vocabulary, "",
     "the most tokens there may be besides tau: if the file has more distinct units, or words longer than 64 bytes, the most "
     "frequent "
     "are kept and the rest share one token, <other>"},
    {"triggers", OptionKind::integer, "5", 1, largest_vocabulary, "",
     "k: the k most frequent tokens, <other> excepted, are triggers"},
    {"unseen_outputs", OptionKind::integer, "10", 0, largest_vocabulary, "",
     "how many tokens, spread evenly over the frequency ranks, are answers of the unseen split and never of training; they "
     "occur "
     "in the text of every split"},
    {"prompt_length", OptionKind::integer, "256", 4, largest_length, "",
     "H: tokens in a prompt, the queried trigger at its end included"},
    {"noise", OptionKind::number, "0.5", 0, 1 - 0x1p-53, "",
     "alpha: the probability that a trigger is followed by tau in place of its answer, and that the label is tau"},
    {"trigger_weights", OptionKind::array, "", 0, largest_vocabulary, "",
     "the law of the queried trigger up to a factor: one weight for each trigger; empty means uniform"},
    {"file_hash", OptionKind::integer, "0", 0, largest_hash, "",
     "if not 0: the hash that the file's tokens and counts must have, so that a run is continued on the same text only"},
};

constexpr OptionDefault default_rows[] = {
    {"variant", "full"},        {"attention", "linear"}, {"feed_forward", "query_and_attention"},
    {"initialisation", "zero"}, {"data", "fixed"},       {"samples", "2048"},
    {"optimiser", "ngd"},       {"normalisation", "l2"}, {"step_size", "0.1"},
    {"steps", "400"},
};

TextStatistics read_file(const Settings& settings) {
  if (settings.text("file").empty()) fail(LAMINA_E_OPTION, "file is not set, must be the path of a text file");
  TextStatistics text = read_text(settings.text("file"), settings.is("unit", "words") ? TextUnit::words : TextUnit::characters,
                                  settings.integer("vocabulary"));
  const int64_t expected = settings.integer("file_hash"), found = text.hash();
  if (expected != 0 && expected != found)
    fail(LAMINA_E_FORMAT, "file \"" + settings.text("file") + "\" has file_hash " + std::to_string(found) + ", must be " +
                              std::to_string(expected) +
                              ": its text is not the one of the earlier run, or unit or vocabulary differ");
  return text;
}

// The settings with the file's hash set, so that what is made from them again is the same or fails.
Settings with_hash(const Settings& settings, int64_t hash) {
  Options options;
  for (const auto& [key, value] : settings.values()) options.set(key, value);
  options.set("file_hash", static_cast<double>(hash));
  return Settings(option_rows, options);
}

class TextRecall final : public Task {
 public:
  TextRecall(const Settings& settings, TextStatistics text);
  const char* name() const override { return "text_recall"; }
  const RecallLaw* recall() const override { return &law_; }
  void sample(Split split, uint64_t seed, int64_t first, int64_t count, Prompts& out) const override;
  bool has(Split split) const override { return split != Split::unseen || !law_.unseen.empty(); }
  std::string token_text(int32_t token) const override;
  const Settings& settings() const override { return settings_; }

 private:
  void choose_tokens(const TextStatistics& text);
  RecallChain make_chain(const TextStatistics& text) const;

  Settings settings_;
  std::vector<std::string> token_text_;
  RecallLaw law_;
  AliasTables trigger_law_;
  std::unique_ptr<const RecallChain> chain_;
};

TextRecall::TextRecall(const Settings& settings, TextStatistics text) : settings_(with_hash(settings, text.hash())) {
  law_.vocabulary = text.vocabulary();
  law_.length = settings.integer("prompt_length");
  law_.noise = settings.number("noise");
  choose_tokens(text);
  chain_ = std::make_unique<const RecallChain>(make_chain(text));
  token_text_ = std::move(text.text);
  token_text_.push_back("<tau>");
}

void TextRecall::choose_tokens(const TextStatistics& text) {
  const int64_t triggers = settings_.integer("triggers"), unseen = settings_.integer("unseen_outputs");
  const int64_t usable = text.vocabulary() - (text.has_other ? 1 : 0), answers = usable - triggers;
  if (answers - unseen < 1)
    fail(LAMINA_E_OPTION, "triggers + unseen_outputs is " + std::to_string(triggers + unseen) + ", must be less than " +
                              std::to_string(usable) + ", the tokens of the file (vocabulary at most " +
                              std::to_string(settings_.integer("vocabulary")) + ") without <other>");
  for (int64_t token = 0; token < triggers; ++token) law_.triggers.push_back(static_cast<int32_t>(token));
  // Unseen outputs in the middle of `unseen` equal stretches of the ranks.
  for (int64_t i = 0, next = 0; i < answers; ++i) {
    const bool held_out = next < unseen && i == (2 * next + 1) * answers / (2 * unseen);
    (held_out ? law_.unseen : law_.outputs).push_back(static_cast<int32_t>(triggers + i));
    if (held_out) ++next;
  }
  law_.trigger_law = law_from_weights("trigger_weights", settings_.array("trigger_weights"), triggers);
  trigger_law_ = AliasTables(1, triggers);
  trigger_law_.set(0, law_.trigger_law);
}

RecallChain TextRecall::make_chain(const TextStatistics& text) const {
  const int64_t n = text.vocabulary(), triggers = std::ssize(law_.triggers);
  const std::vector<double> unigram(text.unigram.begin(), text.unigram.end());
  AliasTables first(1, n), next(n + 1, n);
  first.set(0, unigram);
  std::vector<double> row;
  for (int64_t token = triggers; token <= n; ++token) {
    row = unigram;  // after tau, and after a token that only ends the file
    if (token < n) {
      const auto counts = std::span(text.bigram).subspan(static_cast<size_t>(token * n), static_cast<size_t>(n));
      if (std::accumulate(counts.begin(), counts.end(), int64_t{0}) > 0) row.assign(counts.begin(), counts.end());
    }
    next.set(token, row);
  }
  return RecallChain(n, triggers, law_.noise, std::move(first), std::move(next));
}

void TextRecall::sample(Split split, uint64_t seed, int64_t first, int64_t count, Prompts& out) const {
  if (!has(split)) fail(LAMINA_E_UNSUPPORTED, "the unseen split cannot be drawn: unseen_outputs is 0, must be at least 1");
  out.resize(count, law_.length);
  const std::vector<int32_t>& pool = split == Split::unseen ? law_.unseen : law_.outputs;
  std::vector<int32_t> answers(law_.triggers.size());
  for (int64_t i = 0; i < count; ++i) {
    Random random(seed, purpose_of(split), static_cast<uint64_t>(first + i));
    const int32_t query = trigger_law_.draw(0, random);
    const bool noisy_label = random.bernoulli(law_.noise);
    for (int32_t& answer : answers) answer = pool[static_cast<size_t>(random.below(std::ssize(pool)))];
    chain_->draw(random, query, answers, out.row(i));
    const auto place = static_cast<size_t>(i);
    out.answer[place] = answers[static_cast<size_t>(query)];
    out.label[place] = noisy_label ? static_cast<int32_t>(law_.vocabulary) : out.answer[place];
  }
}

std::string TextRecall::token_text(int32_t token) const {
  if (token < 0 || token > law_.vocabulary) fail_argument("token", token, "in [0, " + std::to_string(law_.vocabulary) + "]");
  return token_text_[static_cast<size_t>(token)];
}

std::shared_ptr<const Task> create(const Settings& settings) {
  return std::make_shared<TextRecall>(settings, read_file(settings));
}

}  // namespace

const TaskRow text_recall_row = {
    "text_recall",
    recall_task,
    "Noisy in-context recall on the character or word statistics of a text file",
    "Chen, Bruna and Bietti, arXiv 2406.03068, as in their public code, which builds on Bietti et al., arXiv 2306.00802. From "
    "there: "
    "unigrams and bigrams of a text, the k most frequent units as triggers, in each sequence an answer of its own for every "
    "trigger, "
    "followed by it with probability 1-alpha and by a noise token with probability alpha, length 256, 65 characters. Choices, "
    "so "
    "that the Bayes risk is h(alpha) and the one-layer model applies: tau is a token of its own, after which the chain starts "
    "again from "
    "the unigrams; answers are drawn from the tokens that are no triggers, training and unseen ones apart; the prompt ends in "
    "a "
    "queried trigger and is drawn again until it shows that trigger with its answer and does not end in it twice; the label is "
    "at "
    "the last position. No population form: data=fresh or fixed.",
    option_rows,
    default_rows,
    without_stages,
    create,
};

}  // namespace lamina
