// The task in_context_recall: figure A1, the conditions that every prompt meets, streams, unseen outputs, errors.
#include <set>

#include "task_test.hpp"
#include "theory/recall_law.hpp"

namespace lamina {
namespace {

constexpr Split splits[] = {Split::train, Split::test, Split::unseen};
const char* const samplers[] = {"s1", "s2", "s3"};

// A1: z_H = q; n_y >= 1; successors of q in {y} or {y, tau}; label tau with frequency alpha.
TEST(InContextRecall, A1ConditionsAndLabels) {
  for (const char* sampler : samplers)
    for (const double alpha : {0.0, 0.2, 0.5, 0.8})
      for (const Split split : splits) {
        const auto task = make_task("in_context_recall", {{"sampler", sampler}, {"noise", alpha}});
        const RecallLaw& law = task->law();
        Prompts prompts;
        constexpr int64_t count = 10000;
        task->sample(split, 7, 0, count, prompts);
        ASSERT_EQ(prompts.length, 256);
        const std::vector<int32_t>& pool = split == Split::unseen ? law.unseen : law.outputs;
        const std::set<int32_t> answers(pool.begin(), pool.end());
        double noisy = 0;
        for (int64_t i = 0; i < count; ++i) {
          const int32_t answer = prompts.answer[static_cast<size_t>(i)], label = prompts.label[static_cast<size_t>(i)];
          const auto row = prompts.row(i);
          ASSERT_LT(row.back(), 5);
          ASSERT_TRUE(answers.count(answer));
          ASSERT_TRUE(label == answer || label == 60);
          const Counts counts = count_successors(row, answer, 60);
          ASSERT_GE(counts.answer, 1) << sampler;
          if (alpha == 0) {
            ASSERT_EQ(counts.noise, 0);
          }
          for (const int32_t token : row) ASSERT_TRUE(token >= 0 && token <= 60);
          noisy += label == 60;
        }
        EXPECT_LE(std::fabs(noisy / count - alpha), 4 * std::sqrt(alpha * (1 - alpha) / count)) << sampler;
      }
}

// A1: S1 at alpha = 0.5 has E n_y = 1.69375 and E n_tau = 1.30625.
TEST(InContextRecall, A1MeanOccurrences) {
  const auto task = make_task("in_context_recall", {});
  Prompts prompts;
  constexpr int64_t count = 100000;
  task->sample(Split::train, 3, 0, count, prompts);
  double answer = 0, noise = 0, answer_squares = 0, noise_squares = 0;
  for (int64_t i = 0; i < count; ++i) {
    const Counts counts = count_successors(prompts.row(i), prompts.answer[static_cast<size_t>(i)], 60);
    const auto y = static_cast<double>(counts.answer), tau = static_cast<double>(counts.noise);
    answer += y, noise += tau, answer_squares += y * y, noise_squares += tau * tau;
  }
  answer /= count, noise /= count;
  EXPECT_NEAR(answer, 1.69375, 4 * std::sqrt((answer_squares / count - answer * answer) / count));
  EXPECT_NEAR(noise, 1.30625, 4 * std::sqrt((noise_squares / count - noise * noise) / count));
  double exact_answer = 0, exact_noise = 0;
  const CountLaw law = count_law(task->law());
  for (size_t i = 0; i < law.probability.size(); ++i) {
    exact_answer += law.probability[i] * static_cast<double>(law.answer[i]);
    exact_noise += law.probability[i] * static_cast<double>(law.noise[i]);
  }
  EXPECT_NEAR(exact_answer, 1.69375, 1e-14);
  EXPECT_NEAR(exact_noise, 1.30625, 1e-14);
}

TEST(InContextRecall, APromptIsAFunctionOfSeedSplitAndIndex) {
  for (const char* sampler : samplers)
    for (const Split split : splits) {
      const auto task = make_task("in_context_recall", {{"sampler", sampler}});
      Prompts all, part;
      task->sample(split, 5, 0, 100, all);
      for (const auto& [first, count] : {std::pair<int64_t, int64_t>{0, 1}, {37, 5}, {99, 1}, {50, 50}}) {
        task->sample(split, 5, first, count, part);
        for (int64_t i = 0; i < count; ++i) {
          EXPECT_TRUE(std::ranges::equal(part.row(i), all.row(first + i)));
          EXPECT_EQ(part.label[static_cast<size_t>(i)], all.label[static_cast<size_t>(first + i)]);
          EXPECT_EQ(part.answer[static_cast<size_t>(i)], all.answer[static_cast<size_t>(first + i)]);
        }
      }
    }
}

TEST(InContextRecall, SeedsSplitsAndIndicesShareNoPrompt) {
  for (const char* sampler : samplers) {
    const auto task = make_task("in_context_recall", {{"sampler", sampler}});
    std::set<std::vector<int32_t>> rows;
    Prompts prompts;
    for (const uint64_t seed : {uint64_t{0}, uint64_t{1}, uint64_t{2}, uint64_t{1} << 53})
      for (const Split split : splits) {
        task->sample(split, seed, 0, 500, prompts);
        for (int64_t i = 0; i < 500; ++i) rows.emplace(prompts.row(i).begin(), prompts.row(i).end());
      }
    EXPECT_EQ(rows.size(), 4u * 3u * 500u);
  }
}

// Where tokens of class [begin, end) stand in prompts: as answer, as filler.
std::pair<int64_t, int64_t> uses(const Prompts& prompts, int32_t begin, int32_t end) {
  int64_t answers = 0, tokens = 0;
  for (int64_t i = 0; i < prompts.count; ++i) {
    for (const int32_t token : prompts.row(i)) tokens += token >= begin && token < end;
    const int32_t answer = prompts.answer[static_cast<size_t>(i)];
    answers += answer >= begin && answer < end;
  }
  return {answers, tokens};
}

TEST(InContextRecall, UnseenOutputsNeverOccurOrOnlyAsFiller) {
  for (const char* sampler : samplers)
    for (const char* filler : {"never", "filler"}) {
      const auto task = make_task("in_context_recall", {{"sampler", sampler}, {"unseen_filler", filler}});
      const int32_t begin = task->law().unseen.front(), end = task->law().unseen.back() + 1;
      ASSERT_EQ(end - begin, 10);
      for (const Split split : splits) {
        Prompts prompts;
        task->sample(split, 1, 0, 2000, prompts);
        const auto [answers, tokens] = uses(prompts, begin, end);
        EXPECT_EQ(answers, split == Split::unseen ? 2000 : 0);
        if (std::string(filler) == "filler") {
          // 10 of 30 fillers in S1, S3; 10 of 60 tokens in S2.
          EXPECT_GT(tokens, 2000 * 256 / 10);
        } else if (split != Split::unseen) {
          EXPECT_EQ(tokens, 0);
        } else {
          // After triggers only.
          for (int64_t i = 0; i < prompts.count; ++i)
            for (size_t h = 0; h < 256; ++h)
              if (prompts.row(i)[h] >= begin && prompts.row(i)[h] < end) {
                ASSERT_TRUE(h > 0 && prompts.row(i)[h - 1] < 5);
              }
        }
      }
    }
}

TEST(InContextRecall, ClassesOfTokens) {
  const auto task = make_task("in_context_recall", {});
  EXPECT_EQ(task->law().vocabulary, 60);
  EXPECT_EQ(task->law().triggers.size(), 5u);
  EXPECT_EQ(task->law().outputs.size(), 25u);
  EXPECT_EQ(task->law().unseen.size(), 10u);
  EXPECT_EQ(task->token_text(0), "q0");
  EXPECT_EQ(task->token_text(5), "o0");
  EXPECT_EQ(task->token_text(29), "o24");
  EXPECT_EQ(task->token_text(30), "u0");
  EXPECT_EQ(task->token_text(40), "z0");
  EXPECT_EQ(task->token_text(59), "z19");
  EXPECT_EQ(task->token_text(60), "tau");
  expect_error(error_of([&] { task->token_text(61); }), LAMINA_E_ARGUMENT, {"token is 61", "[0, 60]"});
}

TEST(InContextRecall, AnInfinitePromptHasALawAndNoSample) {
  const auto task = make_task("in_context_recall", {{"prompt_length", "inf"}});
  EXPECT_EQ(task->law().length, -1);
  Prompts prompts;
  expect_error(error_of([&] { task->sample(Split::train, 1, 0, 1, prompts); }), LAMINA_E_UNSUPPORTED,
               {"inf", "data=population"});
  EXPECT_EQ(prompts.count, 0);
}

TEST(InContextRecall, NoUnseenOutputsNoUnseenSplit) {
  const auto task = make_task("in_context_recall", {{"unseen_outputs", 0.0}});
  EXPECT_FALSE(task->has(Split::unseen));
  EXPECT_TRUE(task->has(Split::test));
  Prompts prompts;
  expect_error(error_of([&] { task->sample(Split::unseen, 1, 0, 1, prompts); }), LAMINA_E_UNSUPPORTED, {"unseen_outputs is 0"});
}

TEST(InContextRecall, ErrorsNameOptionValueAndRange) {
  const auto error = [](const Set& set) { return error_of([&] { make_task("in_context_recall", set); }); };
  const auto expect = [&](const Set& set, std::initializer_list<const char*> parts) {
    expect_error(error(set), LAMINA_E_OPTION, parts);
  };
  expect({{"vocabulary", 40.0}}, {"vocabulary is 40", "more than", "= 40"});
  EXPECT_EQ(error({{"vocabulary", 41.0}}), "");
  expect({{"vocabulary", 3.0}}, {"vocabulary is 3", "[4, 1048576]"});
  expect({{"noise", 1.0}}, {"noise is 1", "[0, 0.99"});
  expect({{"noise", -0.1}}, {"noise is -0.1"});
  expect({{"prompt_length", 10.0}}, {"prompt_length is 10", "at least 11", "2 * 5 + 1"});
  EXPECT_EQ(error({{"prompt_length", 11.0}}), "");
  expect({{"prompt_length", 3.0}, {"sampler", "s2"}}, {"prompt_length is 3", "at least 4"});
  EXPECT_EQ(error({{"prompt_length", 4.0}, {"sampler", "s2"}}), "");
  expect({{"prompt_length", 2e6}}, {"prompt_length is 2000000", "1048576"});
  expect({{"prompt_length", 30.0}, {"sampler", "s3"}}, {"prompt_length is 30", "at least 31"});
  expect({{"triggers_per_prompt", 6.0}, {"sampler", "s3"}}, {"triggers_per_prompt is 6", "triggers = 5"});
  expect({{"outputs", 2.0}, {"sampler", "s3"}}, {"triggers_per_prompt is 3", "outputs = 2"});
  expect({{"unseen_outputs", 2.0}, {"sampler", "s3"}}, {"unseen_outputs is 2", "0 or at least triggers_per_prompt = 3"});
  expect({{"occurrences", 0.0}}, {"occurrences is 0"});
  expect({{"sampler", "s4"}}, {"sampler is \"s4\"", "s1, s2, s3"});
  expect({{"trigger_weights", std::vector<double>{1, 2}}}, {"trigger_weights is an array of 2", "an array of 5"});
  expect({{"trigger_weights", std::vector<double>{1, 2, -1, 0, 0}}}, {"trigger_weights is -1 at index 2", ">= 0"});
  expect({{"trigger_weights", std::vector<double>(5, 0.0)}}, {"trigger_weights is an array with sum 0", "positive"});
  expect({{"output_weights", std::vector<double>(26, 1.0)}}, {"output_weights is an array of 26", "25", "125"});
  expect({{"output_weights", std::vector<double>(25, 1.0)}, {"sampler", "s3"}}, {"output_weights", "empty with sampler=s3"});
  expect({{"bigram", std::vector<double>(3600, 1.0)}}, {"bigram", "empty unless sampler=s2"});
  expect({{"bigram", std::vector<double>(59, 1.0)}, {"sampler", "s2"}}, {"bigram is an array of 59", "3600", "3660"});
  std::vector<double> only_unseen(60, 0.0);
  only_unseen[30] = 1;
  expect({{"unigram", only_unseen}, {"sampler", "s2"}}, {"unigram is a law on unseen outputs alone", "unseen_filler=never"});
  expect_error(error_of([] { find_task("nothing"); }), LAMINA_E_ARGUMENT, {"\"nothing\"", "in_context_recall", "text_recall"});
}

TEST(InContextRecall, AChainThatCannotShowTheAnswerEndsWithAnError) {
  // After every token comes neutral token 59: no trigger ever occurs.
  std::vector<double> bigram(3600, 0.0);
  for (size_t token = 0; token < 60; ++token) bigram[token * 60 + 59] = 1;
  const auto task = make_task("in_context_recall", {{"sampler", "s2"}, {"bigram", bigram}, {"prompt_length", 100000.0}});
  Prompts prompts;
  expect_error(error_of([&] { task->sample(Split::train, 1, 0, 1, prompts); }), LAMINA_E_UNSUPPORTED,
               {"1000 tries", "prompt_length"});
  // Where the chance is small but not 0, the tries are bounded too: of 256 tokens 10000, some 5 ms.
  const auto noisy = make_task("in_context_recall", {{"sampler", "s2"}, {"noise", 1 - 1e-6}});
  expect_error(error_of([&] { noisy->sample(Split::train, 1, 0, 64, prompts); }), LAMINA_E_UNSUPPORTED,
               {"10000 tries", "sampler=s2", "noise lower"});
}

TEST(InContextRecall, TheRowsOfTheRegistryAreWellFormed) {
  for (const TaskRow& row : task_registry()) {
    EXPECT_EQ(&find_task(row.name), &row);
    EXPECT_NE(std::string(row.description).find("arXiv"), std::string::npos);
    EXPECT_NO_THROW(Settings(row.options, Options(), row.defaults));
    for (const OptionRow& option : row.options) EXPECT_FALSE(std::string(option.summary).empty()) << option.key;
  }
}

}  // namespace
}  // namespace lamina
