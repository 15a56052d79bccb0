// next_token: every condition of the definition over many sentences, the law of what is drawn, the errors.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "task_test.hpp"

namespace lamina {
namespace {

std::shared_ptr<const Task> next_token(const Options& options) {
  const TaskRow& row = find_task("next_token");
  return row.create(Settings(row.options, options));
}

Options set(std::initializer_list<std::pair<const char*, OptionValue>> pairs) {
  Options options;
  for (const auto& [key, value] : pairs) options.set(key, value);
  return options;
}

// The optimal token is the only one of its level, above all others that have one, and the label is its collocation.
void expect_sentences(const Task& task, Split split, int64_t count) {
  const NextTokenLaw& law = *task.next_token();
  Prompts prompts;
  task.sample(split, 3, 0, count, prompts);
  for (int64_t i = 0; i < count; ++i) {
    const auto row = prompts.row(i);
    const int32_t optimal = prompts.answer[i], q = row.back();
    ASSERT_TRUE(std::ranges::count(row, optimal) > 0);
    ASSERT_EQ(prompts.label[i], law.next[optimal]);
    // Twice the level; a token never seen with the query is between the two levels of a partial order.
    const auto height = [&](int32_t x) { return law.level[q * law.vocabulary + x] < 0 ? 1 : 2 * law.level[q * law.vocabulary + x]; };
    bool fresh = false;
    for (int32_t x : row) {
      ASSERT_TRUE(x == optimal || height(x) < height(optimal)) << i;
      fresh = fresh || law.level[q * law.vocabulary + x] < 0;
    }
    ASSERT_EQ(fresh, split == Split::unseen) << i;
  }
}

TEST(NextToken, ConditionsOfTheDefinition) {
  for (const Options& options : {set({}), set({{"orders", "total"}}), set({{"orders", "total"}, {"vocabulary", 5.0}, {"prompt_length", 9.0}}),
                                 set({{"vocabulary", 30.0}, {"optimal_tokens", 1.0}, {"other_tokens", 1.0}, {"prompt_length", 3.0}})}) {
    const auto task = next_token(options);
    const NextTokenLaw& law = *task->next_token();
    std::vector<int32_t> next = law.next;
    std::ranges::sort(next);
    for (size_t x = 0; x < next.size(); ++x) EXPECT_EQ(next[x], static_cast<int32_t>(x));  // one to one
    for (const Split split : {Split::train, Split::test, Split::unseen})
      if (task->has(split)) expect_sentences(*task, split, 10000);
  }
  EXPECT_FALSE(next_token(set({{"orders", "total"}}))->has(Split::unseen));
  EXPECT_TRUE(next_token(set({}))->has(Split::unseen));
}

TEST(NextToken, LawOfQueriesAndOptimalTokens) {
  const auto task = next_token(set({}));
  const NextTokenLaw& law = *task->next_token();
  Prompts prompts;
  task->sample(Split::train, 1, 0, 36000, prompts);
  std::vector<int64_t> counts(144, 0);
  for (int64_t i = 0; i < prompts.count; ++i) ++counts[prompts.row(i).back() * 12 + prompts.answer[i]];
  double chi_square = 0;
  int cells = 0;
  for (int q = 0; q < 12; ++q)
    for (int x = 0; x < 12; ++x) {
      const double expected = law.level[q * 12 + x] == 1 ? 1000 : 0;
      if (expected == 0) {
        EXPECT_EQ(counts[q * 12 + x], 0);
        continue;
      }
      ++cells;
      chi_square += (counts[q * 12 + x] - expected) * (counts[q * 12 + x] - expected) / expected;
    }
  EXPECT_EQ(cells, 36);
  EXPECT_LT(chi_square, 35 + 4 * std::sqrt(70));
}

TEST(NextToken, PromptsAreFunctionsOfTheirNumber) {
  const auto task = next_token(set({}));
  Prompts all, some;
  task->sample(Split::unseen, 5, 0, 100, all);
  task->sample(Split::unseen, 5, 40, 10, some);
  for (int64_t i = 0; i < 10; ++i) EXPECT_TRUE(std::ranges::equal(all.row(40 + i), some.row(i)));
}

TEST(NextToken, Errors) {
  EXPECT_THROW(next_token(set({{"optimal_tokens", 9.0}})), Error);
  EXPECT_THROW(next_token(set({{"orders", "total"}, {"prompt_length", 2.0}})), Error);
  EXPECT_THROW(next_token(set({{"collocation_weights", std::vector<double>{1, 2}}})), Error);
  EXPECT_THROW(next_token(set({{"collocation_weights", std::vector<double>(12, 0.0)}})), Error);
  const auto task = next_token(set({{"orders", "total"}}));
  Prompts prompts;
  EXPECT_THROW(task->sample(Split::unseen, 1, 0, 1, prompts), Error);
  EXPECT_THROW(task->token_text(12), Error);
  EXPECT_EQ(task->token_text(11), "x11");
}

}  // namespace
}  // namespace lamina
