// The laws of the samplers: start positions, occurrences against CountLaw, fillers, triggers, outputs, the chain. CountLaw of
// S2 against the enumeration of every prompt.
#include <array>
#include <functional>

#include "task_test.hpp"
#include "theory/recall_law.hpp"

namespace lamina {
namespace {

Prompts draw(const Set& set, int64_t count, Split split = Split::train) {
  Prompts prompts;
  make_task("in_context_recall", set)->sample(split, 20, 0, count, prompts);
  return prompts;
}

// Admissible m-subsets of 1..last: distances >= 2.
void for_each_subset(int64_t m, int64_t last, const std::function<void(const std::vector<int64_t>&)>& body) {
  std::vector<int64_t> subset;
  const std::function<void(int64_t)> extend = [&](int64_t from) {
    if (std::ssize(subset) == m) return body(subset);
    for (int64_t p = from; p <= last; ++p) {
      subset.push_back(p);
      extend(p + 2);
      subset.pop_back();
    }
  };
  extend(1);
}

TEST(SamplerS1, StartPositionsAreUniformOverAdmissibleSubsets) {
  for (const auto& [length, occurrences] : {std::pair<int64_t, int64_t>{9, 3}, {7, 3}, {12, 2}, {3, 1}}) {
    constexpr int64_t count = 60000;
    const Prompts prompts =
        draw({{"prompt_length", static_cast<double>(length)}, {"occurrences", static_cast<double>(occurrences)}}, count);
    std::map<std::vector<int64_t>, double> observed;
    for (int64_t i = 0; i < count; ++i) {
      std::vector<int64_t> starts;
      for (int64_t h = 1; h < length; ++h)
        if (prompts.row(i)[static_cast<size_t>(h - 1)] < 5) starts.push_back(h);
      ++observed[starts];
    }
    std::vector<double> counts, expected;
    const double each = static_cast<double>(count) / static_cast<double>(occurrences);  // prompts with m occurrences
    for (int64_t m = 1; m <= occurrences; ++m) {
      double subsets = 0;
      for_each_subset(m, length - 2, [&](const std::vector<int64_t>&) { ++subsets; });
      for_each_subset(m, length - 2, [&](const std::vector<int64_t>& subset) {
        counts.push_back(observed[subset]);
        expected.push_back(each / subsets);
      });
    }
    double inside = 0;
    for (const double n : counts) inside += n;
    ASSERT_EQ(inside, count) << "an inadmissible set of starts";
    if (counts.size() > 1) {
      EXPECT_LT(chi_square(counts, expected), surely) << length;
    }
  }
}

TEST(SamplerS3, SlotsOfAllTriggersArePlacedTogether) {
  // Two triggers with one slot each, H = 7: 6 admissible pairs of starts, two orders, 3 * 2 pairs of triggers, all alike.
  constexpr int64_t count = 72000;
  const Prompts prompts = draw({{"sampler", "s3"},
                                {"triggers", 3.0},
                                {"triggers_per_prompt", 2.0},
                                {"occurrences", 1.0},
                                {"prompt_length", 7.0},
                                {"noise", 0.0},
                                {"outputs", 4.0},
                                {"unseen_outputs", 0.0},
                                {"vocabulary", 20.0}},
                               count);
  std::map<std::vector<int32_t>, double> placed, answered;
  for (int64_t i = 0; i < count; ++i) {
    const auto row = prompts.row(i);
    std::vector<int32_t> key = {row.back()}, answers;
    for (int32_t h = 0; h < 6; ++h)
      if (row[static_cast<size_t>(h)] < 3) key.push_back(h), key.push_back(row[static_cast<size_t>(h)]);
    ASSERT_EQ(key.size(), 5u);
    ASSERT_NE(key[2], key[4]);
    ASSERT_TRUE(key[2] == row.back() || key[4] == row.back());
    ++placed[key];
    // Distinct answers; the queried trigger's first.
    const bool first = key[2] == row.back();
    answers = {row[static_cast<size_t>(key[first ? 1 : 3]) + 1], row[static_cast<size_t>(key[first ? 3 : 1]) + 1]};
    ASSERT_NE(answers[0], answers[1]);
    ASSERT_EQ(answers[0], prompts.answer[static_cast<size_t>(i)]);
    ++answered[answers];
  }
  for (const auto& [counts, cells] : {std::pair(placed, 72u), std::pair(answered, 12u)}) {
    std::vector<double> observed;
    for (const auto& [_, n] : counts) observed.push_back(n);
    ASSERT_EQ(observed.size(), cells);
    EXPECT_LT(chi_square(observed, std::vector<double>(cells, static_cast<double>(count) / cells)), surely);
  }
}

// Chi-square of the joint counts (n_y, n_tau) of `count` prompts against count_law.
double occurrences_against_law(const Set& set, Split split) {
  constexpr int64_t count = 30000;
  const auto task = make_task("in_context_recall", set);
  const CountLaw law = count_law(task->law());
  Prompts prompts;
  task->sample(split, 77, 0, count, prompts);
  std::map<std::pair<int64_t, int64_t>, double> seen;
  for (int64_t i = 0; i < count; ++i) {
    const Counts counts =
        count_successors(prompts.row(i), prompts.answer[static_cast<size_t>(i)], static_cast<int32_t>(task->law().vocabulary));
    ++seen[{counts.answer, counts.noise}];
  }
  std::vector<double> observed, expected;
  double inside = 0, sum = 0;
  for (size_t i = 0; i < law.probability.size(); ++i) {
    observed.push_back(seen[{law.answer[i], law.noise[i]}]);
    expected.push_back(law.probability[i] * count);
    inside += observed.back();
    sum += law.probability[i];
  }
  EXPECT_EQ(inside, count) << "counts outside of the law";
  EXPECT_NEAR(sum, 1, 1e-13);
  return chi_square(observed, expected);
}

TEST(CountLaw, IsTheLawOfEverySampler) {
  for (const double noise : {0.0, 0.2, 0.5, 0.8})
    for (const Split split : {Split::train, Split::unseen}) {
      EXPECT_LT(occurrences_against_law({{"noise", noise}}, split), surely);
      EXPECT_LT(occurrences_against_law({{"noise", noise}, {"sampler", "s3"}, {"prompt_length", 64.0}}, split), surely);
      EXPECT_LT(occurrences_against_law({{"noise", noise}, {"sampler", "s2"}}, split), surely);
      EXPECT_LT(occurrences_against_law({{"noise", noise},
                                         {"sampler", "s2"},
                                         {"unseen_filler", "filler"},
                                         {"prompt_length", 24.0},
                                         {"vocabulary", 20.0},
                                         {"outputs", 6.0},
                                         {"unseen_outputs", 4.0}},
                                        split),
                surely);
    }
}

TEST(CountLaw, ClosedFormOfS1) {
  auto law = make_task("in_context_recall", {{"noise", 0.3}, {"occurrences", 2.0}, {"prompt_length", "inf"}})->law();
  const CountLaw counts = count_law(law);
  // m = 1: (1, 0). m = 2: (1, 1) unless both are answers.
  std::map<std::pair<int64_t, int64_t>, double> found;
  for (size_t i = 0; i < counts.probability.size(); ++i) found[{counts.answer[i], counts.noise[i]}] += counts.probability[i];
  ASSERT_EQ(found.size(), 3u);
  EXPECT_NEAR((found[{1, 0}]), 0.5, 1e-15);
  EXPECT_NEAR((found[{1, 1}]), 0.5 * 0.51, 1e-15);
  EXPECT_NEAR((found[{2, 0}]), 0.5 * 0.49, 1e-15);
}

TEST(CountLaw, S2AgainstTheEnumerationOfAllPrompts) {
  // Tokens 0, 1 triggers, 2 output, 3 neutral, 4 tau; z_1 = 3; every chain of 9 tokens with its probability.
  constexpr int64_t length = 9;
  constexpr double alpha = 0.3;
  const auto task = make_task("in_context_recall", {{"sampler", "s2"},
                                                    {"vocabulary", 4.0},
                                                    {"triggers", 2.0},
                                                    {"outputs", 1.0},
                                                    {"unseen_outputs", 0.0},
                                                    {"noise", alpha},
                                                    {"prompt_length", static_cast<double>(length)}});
  std::map<std::pair<int64_t, int64_t>, long double> exact;
  long double total = 0;
  std::array<int32_t, length> row{};
  row[0] = 3;
  row[length - 1] = 0;
  const std::function<void(size_t, long double)> extend = [&](size_t h, long double p) {
    if (h == length - 1) {
      const Counts counts = count_successors(row, 2, 4);
      if (counts.answer < 1 || row[length - 2] == 0) return;
      exact[{counts.answer, counts.noise}] += p;
      total += p;
      return;
    }
    const auto step = [&](int32_t token, long double q) {
      row[h] = token;
      extend(h + 1, p * q);
    };
    if (row[h - 1] < 2) {
      step(2, 1 - static_cast<long double>(alpha));
      step(4, alpha);
    } else {
      for (int32_t token = 0; token < 4; ++token) step(token, 0.25L);
    }
  };
  extend(1, 1);
  const CountLaw law = count_law(task->law());
  ASSERT_EQ(law.probability.size(), exact.size());
  for (size_t i = 0; i < law.probability.size(); ++i)
    EXPECT_NEAR(law.probability[i], static_cast<double>(exact[{law.answer[i], law.noise[i]}] / total), 1e-15);
}

TEST(CountLaw, LongPromptsAndManyOccurrencesStayNormalised) {
  for (const Set& set :
       {Set{{"sampler", "s2"}, {"prompt_length", 4096.0}}, Set{{"occurrences", 2000.0}, {"prompt_length", "inf"}}}) {
    const auto task = make_task("in_context_recall", set);
    const CountLaw law = count_law(task->law());
    double sum = 0;
    for (const double p : law.probability) sum += p;
    EXPECT_NEAR(sum, 1, 1e-11);
  }
}

TEST(CountLaw, SaysWhereThereIsNone) {
  const auto error = [](const Set& set) { return error_of([&] { count_law(make_task("in_context_recall", set)->law()); }); };
  expect_error(error({{"sampler", "s2"}, {"prompt_length", "inf"}}), LAMINA_E_UNSUPPORTED, {"data=fresh"});
  expect_error(error({{"sampler", "s2"}, {"bigram", std::vector<double>(3600, 1.0)}}), LAMINA_E_UNSUPPORTED, {"data=fresh"});
  expect_error(error({{"sampler", "s2"}, {"prompt_length", 70000.0}}), LAMINA_E_UNSUPPORTED, {"70000", "65536", "data=fresh"});
  expect_error(error_of([] { count_law(RecallLaw()); }), LAMINA_E_UNSUPPORTED, {"data=fresh"});
}

TEST(Samplers, FillersAreUniformNeutralTokens) {
  for (const char* filler : {"never", "filler"}) {
    const int32_t begin = std::string(filler) == "never" ? 40 : 30;
    const Prompts prompts = draw({{"unseen_filler", filler}, {"prompt_length", 64.0}}, 5000);
    std::vector<double> counts(static_cast<size_t>(60 - begin));
    double total = 0;
    for (int64_t i = 0; i < prompts.count; ++i)
      for (size_t h = 0; h + 1 < 64; ++h) {
        const bool free = prompts.row(i)[h] >= 5 && (h == 0 || prompts.row(i)[h - 1] >= 5);
        if (!free) continue;
        ASSERT_GE(prompts.row(i)[h], begin);
        ASSERT_LT(prompts.row(i)[h], 60);
        ++counts[static_cast<size_t>(prompts.row(i)[h] - begin)], ++total;
      }
    EXPECT_LT(chi_square(counts, std::vector<double>(counts.size(), total / static_cast<double>(counts.size()))), surely);
  }
}

TEST(Samplers, TriggersAndOutputsFollowTheirWeights) {
  const std::vector<double> triggers = {1, 2, 3, 4, 0};
  std::vector<double> outputs(125);
  for (size_t q = 0; q < 5; ++q)
    for (size_t o = 0; o < 25; ++o) outputs[q * 25 + o] = static_cast<double>(1 + (q + o) % 5);
  for (const char* sampler : {"s1", "s2"}) {
    const Prompts prompts = draw({{"sampler", sampler}, {"trigger_weights", triggers}, {"output_weights", outputs}}, 40000);
    std::vector<double> seen(5), expected(5), answers(25), expected_answers(25);
    for (int64_t i = 0; i < prompts.count; ++i) {
      const int32_t q = prompts.row(i).back();
      ++seen[static_cast<size_t>(q)];
      if (q == 3) ++answers[static_cast<size_t>(prompts.answer[static_cast<size_t>(i)] - 5)];
    }
    EXPECT_EQ(seen[4], 0);
    for (size_t q = 0; q < 5; ++q) expected[q] = triggers[q] / 10 * 40000;
    EXPECT_LT(chi_square({seen.begin(), seen.end() - 1}, {expected.begin(), expected.end() - 1}), surely);
    for (size_t o = 0; o < 25; ++o) expected_answers[o] = seen[3] * outputs[75 + o] / 75;
    EXPECT_LT(chi_square(answers, expected_answers), surely);
  }
}

// The label says nothing about the prompt beyond the answer: the same counts whatever the label.
TEST(Samplers, LabelIsIndependentOfSuccessors) {
  for (const char* sampler : {"s1", "s2", "s3"}) {
    const Prompts prompts = draw({{"sampler", sampler}, {"noise", 0.5}}, 40000);
    double sums[2] = {0, 0}, squares = 0, sizes[2] = {0, 0};
    for (int64_t i = 0; i < prompts.count; ++i) {
      const Counts counts = count_successors(prompts.row(i), prompts.answer[static_cast<size_t>(i)], 60);
      const size_t noisy = prompts.label[static_cast<size_t>(i)] == 60;
      const auto difference = static_cast<double>(counts.answer - counts.noise);
      sums[noisy] += difference, ++sizes[noisy], squares += difference * difference;
    }
    const double deviation = std::sqrt(squares / 40000 * (1 / sizes[0] + 1 / sizes[1]));
    EXPECT_LT(std::fabs(sums[0] / sizes[0] - sums[1] / sizes[1]), 4.75 * deviation) << sampler;
  }
}

// After a token that is no trigger, the tokens that are no triggers follow in the proportions of the bigram law: acceptance
// reads triggers and their successors alone.
TEST(SamplerS2, ChainFollowsItsBigramLaw) {
  constexpr size_t n = 12;
  const auto weight = [](size_t a, size_t b) { return static_cast<double>(1 + (7 * a + 3 * b) % 5); };
  for (const bool uniform : {true, false}) {
    Set set = {{"sampler", "s2"}, {"vocabulary", 12.0},    {"triggers", 2.0},
               {"outputs", 3.0},  {"unseen_outputs", 2.0}, {"prompt_length", 64.0}};
    // Tokens 5, 6 are unseen outputs and never occur; rows of triggers are not read. All other rows alike but for a shift, so
    // that a token's future does not depend on which token it is.
    std::vector<double> bigram((n + 1) * n), unigram(n);
    for (size_t a = 0; a <= n; ++a)
      for (size_t b = 0; b < n; ++b) bigram[a * n + b] = b < 2 ? 4 : weight(a, b);
    for (size_t b = 0; b < n; ++b) unigram[b] = static_cast<double>(b + 1);
    if (!uniform) {
      // Equal chances of a trigger from every row: scale the rest of each row to the same sum.
      for (size_t a = 0; a <= n; ++a) {
        double sum = 0;
        for (size_t b = 2; b < n; ++b) sum += b == 5 || b == 6 ? 0 : bigram[a * n + b];
        for (size_t b = 2; b < n; ++b) bigram[a * n + b] *= 30 / sum;
      }
      set["bigram"] = bigram;
      set["unigram"] = unigram;
    }
    const Prompts prompts = draw(set, 8000);
    std::vector<double> pairs((n + 1) * (n + 1)), first(n + 1);
    for (int64_t i = 0; i < prompts.count; ++i) {
      ++first[static_cast<size_t>(prompts.row(i)[0])];
      for (size_t h = 0; h + 2 < 64; ++h)
        ++pairs[static_cast<size_t>(prompts.row(i)[h]) * (n + 1) + static_cast<size_t>(prompts.row(i)[h + 1])];
    }
    for (size_t a = 2; a <= n; ++a) {
      if (a == 5 || a == 6) continue;
      std::vector<double> observed, expected;
      double total = 0, mass = 0;
      for (size_t b = 2; b < n; ++b) {
        const double count = pairs[a * (n + 1) + b], w = b == 5 || b == 6 ? 0 : uniform ? 1 : bigram[a * n + b];
        if (w == 0) {
          EXPECT_EQ(count, 0);
          continue;
        }
        observed.push_back(count), expected.push_back(w), total += count, mass += w;
      }
      for (double& e : expected) e *= total / mass;
      EXPECT_LT(chi_square(observed, expected), surely) << "after token " << a;
    }
    // First tokens: neutral ones alike, or as the unigram law says among those that are no triggers.
    std::vector<double> observed, expected;
    double total = 0, mass = 0;
    for (size_t b = 2; b < n; ++b) {
      const double w = b == 5 || b == 6 ? 0 : uniform ? b >= 7 : unigram[b];
      if (w == 0) {
        EXPECT_EQ(first[b], 0);
        continue;
      }
      observed.push_back(first[b]), expected.push_back(w), total += first[b], mass += w;
    }
    for (double& e : expected) e *= total / mass;
    EXPECT_LT(chi_square(observed, expected), surely);
    if (uniform) {
      EXPECT_EQ(total, 8000);
    }
  }
}

TEST(SamplerS2, EveryTriggerHasItsOwnAnswer) {
  const Prompts prompts = draw({{"sampler", "s2"}}, 2000);
  for (int64_t i = 0; i < prompts.count; ++i) {
    std::array<int32_t, 5> answer;
    answer.fill(-1);
    for (size_t h = 0; h + 2 < 256; ++h) {
      const int32_t q = prompts.row(i)[h], next = prompts.row(i)[h + 1];
      if (q >= 5 || next == 60) continue;
      int32_t& known = answer[static_cast<size_t>(q)];
      if (known < 0) known = next;
      ASSERT_EQ(known, next);
      ASSERT_TRUE(next >= 5 && next < 30);
    }
  }
}

}  // namespace
}  // namespace lamina
