// The task text_recall: its tokens, the conditions of its prompts, its chain against the file's bigrams, making it again,
// errors.
#include <set>

#include "task/text_statistics.hpp"
#include "task_test.hpp"

namespace lamina {
namespace {

// About 40000 characters in which the letters e, t, a and the space are frequent, and b is followed by c alone.
std::string some_text() {
  std::string text;
  uint64_t state = 1;
  for (int i = 0; i < 30000; ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    const auto r = static_cast<size_t>(state >> 33);
    text += " eeettaaonihsrdlumwcfgypvkjxqz\u03b1\u03b2\u4e16"[r % 29];
    if (r % 11 == 0) text += "bc";
    if (r % 5 == 0) text += ' ';
  }
  return text;
}

TEST(TextRecall, TokensByFrequency) {
  const TemporaryFile file(some_text());
  const auto task =
      make_task("text_recall", {{"file", file.path()}, {"vocabulary", 25.0}, {"triggers", 3.0}, {"unseen_outputs", 4.0}});
  const RecallLaw& law = task->law();
  const TextStatistics text = read_text(file.path(), TextUnit::characters, 25);
  ASSERT_EQ(law.vocabulary, 25);
  ASSERT_TRUE(text.has_other);
  EXPECT_EQ(law.triggers, (std::vector<int32_t>{0, 1, 2}));
  EXPECT_EQ(task->token_text(0), " ");
  EXPECT_EQ(task->token_text(24), "<other>");
  EXPECT_EQ(task->token_text(25), "<tau>");
  // 21 candidates: 4 unseen, spread over the ranks, the rest for training; neither triggers nor <other>.
  EXPECT_EQ(law.unseen.size(), 4u);
  EXPECT_EQ(law.outputs.size(), 17u);
  std::set<int32_t> all(law.outputs.begin(), law.outputs.end());
  all.insert(law.unseen.begin(), law.unseen.end());
  EXPECT_EQ(all.size(), 21u);
  EXPECT_EQ(*all.begin(), 3);
  EXPECT_EQ(*all.rbegin(), 23);
  EXPECT_LE(law.unseen.front(), 3 + 21 / 4);
  EXPECT_GE(law.unseen.back(), 23 - 21 / 4);
  for (const int64_t unseen : {0, 1, 5, 20}) {
    const auto other = make_task(
        "text_recall",
        {{"file", file.path()}, {"vocabulary", 25.0}, {"triggers", 3.0}, {"unseen_outputs", static_cast<double>(unseen)}});
    EXPECT_EQ(std::ssize(other->law().unseen), unseen);
    EXPECT_EQ(std::ssize(other->law().outputs), 21 - unseen);
    EXPECT_EQ(other->has(Split::unseen), unseen > 0);
  }
}

TEST(TextRecall, EveryPromptMeetsTheConditions) {
  const TemporaryFile file(some_text());
  for (const char* unit : {"characters", "words"})
    for (const double alpha : {0.0, 0.5})
      for (const Split split : {Split::train, Split::test, Split::unseen}) {
        const auto task = make_task(
            "text_recall",
            {{"file", file.path()}, {"unit", unit}, {"noise", alpha}, {"vocabulary", 200.0}, {"unseen_outputs", 5.0}});
        const auto tau = static_cast<int32_t>(task->law().vocabulary);
        const std::vector<int32_t>& pool = split == Split::unseen ? task->law().unseen : task->law().outputs;
        const std::set<int32_t> answers(pool.begin(), pool.end());
        Prompts prompts;
        constexpr int64_t count = 3000;
        task->sample(split, 3, 0, count, prompts);
        double noisy = 0;
        for (int64_t i = 0; i < count; ++i) {
          const int32_t answer = prompts.answer[static_cast<size_t>(i)], label = prompts.label[static_cast<size_t>(i)];
          ASSERT_LT(prompts.row(i).back(), 5);
          ASSERT_TRUE(answers.count(answer));
          ASSERT_TRUE(label == answer || label == tau);
          const Counts counts = count_successors(prompts.row(i), answer, tau);
          ASSERT_GE(counts.answer, 1);
          if (alpha == 0) {
            ASSERT_EQ(counts.noise, 0);
          }
          noisy += label == tau;
        }
        EXPECT_LE(std::fabs(noisy / count - alpha), 4 * std::sqrt(alpha * (1 - alpha) / count));
      }
}

TEST(TextRecall, TheChainHasTheBigramsOfTheFile) {
  // Acceptance reads triggers and what follows them. Of the successors of a token, those that are no triggers are compared, and
  // the prompts are so long that one token more or less changes nothing that 10^6 draws could show.
  const TemporaryFile file(some_text());
  const auto task =
      make_task("text_recall",
                {{"file", file.path()}, {"vocabulary", 64.0}, {"triggers", 1.0}, {"noise", 0.2}, {"prompt_length", 2048.0}});
  const TextStatistics text = read_text(file.path(), TextUnit::characters, 64);
  const auto n = static_cast<size_t>(text.vocabulary());
  Prompts prompts;
  task->sample(Split::train, 1, 0, 500, prompts);
  std::vector<double> pairs((n + 1) * (n + 1));
  for (int64_t i = 0; i < prompts.count; ++i)
    for (size_t h = 0; h + 2 < 2048; ++h)
      ++pairs[static_cast<size_t>(prompts.row(i)[h]) * (n + 1) + static_cast<size_t>(prompts.row(i)[h + 1])];
  for (size_t a = 1; a <= n; ++a) {
    std::vector<double> observed, expected;
    double total = 0, mass = 0;
    for (size_t b = 1; b < n; ++b) {
      const auto weight = static_cast<double>(a == n ? text.unigram[b] : text.bigram[a * n + b]);
      const double count = pairs[a * (n + 1) + b];
      if (weight == 0) {
        ASSERT_EQ(count, 0) << text.text[b] << " never follows";
        continue;
      }
      observed.push_back(count), expected.push_back(weight), total += count, mass += weight;
    }
    for (double& e : expected) e *= total / mass;
    if (observed.size() > 1) {
      EXPECT_LT(chi_square(observed, expected), surely) << (a < n ? text.text[a] : "tau");
    }
  }
}

TEST(TextRecall, APromptIsAFunctionOfSeedSplitAndIndex) {
  const TemporaryFile file(some_text());
  const auto task = make_task("text_recall", {{"file", file.path()}});
  std::set<std::vector<int32_t>> rows;
  for (const Split split : {Split::train, Split::test, Split::unseen})
    for (const uint64_t seed : {1, 2}) {
      Prompts all, part;
      task->sample(split, seed, 0, 60, all);
      task->sample(split, seed, 41, 7, part);
      for (int64_t i = 0; i < 7; ++i) EXPECT_TRUE(std::ranges::equal(part.row(i), all.row(41 + i)));
      for (int64_t i = 0; i < 60; ++i) rows.emplace(all.row(i).begin(), all.row(i).end());
    }
  EXPECT_EQ(rows.size(), 360u);
}

TEST(TextRecall, ItsSettingsMakeItAgainFromTheSameTextOnly) {
  const TemporaryFile file(some_text());
  const auto task = make_task("text_recall", {{"file", file.path()}, {"vocabulary", 30.0}});
  EXPECT_GT(task->settings().number("file_hash"), 0);
  Options options;
  for (const auto& [key, value] : task->settings().values()) options.set(key, value);
  const TaskRow& row = find_task("text_recall");
  Prompts before, after;
  task->sample(Split::train, 1, 0, 50, before);
  row.create(Settings(row.options, options))->sample(Split::train, 1, 0, 50, after);
  EXPECT_EQ(before.tokens, after.tokens);
  EXPECT_EQ(before.label, after.label);
  std::ofstream(file.path(), std::ios::app) << "!";
  expect_error(error_of([&] { row.create(Settings(row.options, options)); }), LAMINA_E_FORMAT, {"file_hash", "must be"});
}

TEST(TextRecall, ErrorsNameOptionValueAndRange) {
  const TemporaryFile file(some_text()), tiny("abracadabra");
  const auto error = [](const Set& set) { return error_of([&] { make_task("text_recall", set); }); };
  expect_error(error({}), LAMINA_E_OPTION, {"file is not set"});
  expect_error(error({{"file", file.path()}, {"unit", "lines"}}), LAMINA_E_OPTION, {"unit is \"lines\"", "characters, words"});
  expect_error(error({{"file", file.path()}, {"vocabulary", 16385.0}}), LAMINA_E_OPTION, {"vocabulary is 16385", "16384"});
  expect_error(error({{"file", file.path()}, {"prompt_length", "inf"}}), LAMINA_E_OPTION, {"prompt_length is \"inf\""});
  expect_error(error({{"file", tiny.path()}}), LAMINA_E_OPTION, {"triggers + unseen_outputs is 15", "less than 5"});
  EXPECT_EQ(error({{"file", tiny.path()}, {"triggers", 1.0}, {"unseen_outputs", 3.0}}), "");
  expect_error(error({{"file", tiny.path()}, {"triggers", 1.0}, {"unseen_outputs", 4.0}}), LAMINA_E_OPTION,
               {"is 5", "less than 5"});
  expect_error(error({{"file", file.path()}, {"trigger_weights", std::vector<double>{1}}}), LAMINA_E_OPTION, {"an array of 5"});
  expect_error(error({{"file", "missing.txt"}}), LAMINA_E_FILE, {"missing.txt", "does not exist"});
  // A text in which no trigger comes back: one word in a row.
  const TemporaryFile once("a b c d e f");
  const auto task = make_task("text_recall", {{"file", once.path()},
                                              {"unit", "words"},
                                              {"triggers", 1.0},
                                              {"unseen_outputs", 1.0},
                                              {"noise", 0.9},
                                              {"prompt_length", 4.0}});
  Prompts prompts;
  EXPECT_EQ(error_of([&] { task->sample(Split::train, 1, 0, 5, prompts); }), "");
}

}  // namespace
}  // namespace lamina
