// Options and the catalogue through the C interface: what is listed is what is accepted, and what is refused is named.
#include <cmath>
#include <set>

#include "tests/capi/host.hpp"

namespace lamina::test {
namespace {

std::vector<lamina_catalogue_entry> list(const char* scope) {
  std::vector<lamina_catalogue_entry> entries(static_cast<size_t>(lamina_catalogue_count(scope)));
  for (size_t i = 0; i < entries.size(); ++i) {
    ok(lamina_catalogue_entry_init(&entries[i], sizeof entries[i]));
    ok(lamina_catalogue_describe(scope, static_cast<int64_t>(i), &entries[i]));
  }
  return entries;
}

std::set<std::string> split(const std::string& words) {
  std::set<std::string> result;
  for (size_t at = 0; at <= words.size();) {
    const size_t bar = std::min(words.find('|', at), words.size());
    result.insert(words.substr(at, bar - at));
    at = bar + 1;
  }
  return result;
}

// The create that reads options of this owner, for a task with all other options at their defaults.
lamina_status create(const std::string& owner, const lamina_options* options) {
  if (owner == "task") {
    lamina_task* task = nullptr;
    const lamina_status status = lamina_task_create("in_context_recall", options, &task);
    EXPECT_EQ(task != nullptr, status == LAMINA_OK);
    lamina_task_free(task);
    return status;
  }
  const TaskHandle task = make_task(nullptr);
  if (owner == "model") {
    lamina_model* model = nullptr;
    const lamina_status status = lamina_model_create(task.get(), options, &model);
    EXPECT_EQ(model != nullptr, status == LAMINA_OK);
    lamina_model_free(model);
    return status;
  }
  lamina_trainer* trainer = nullptr;
  const lamina_status status = lamina_trainer_create(task.get(), nullptr, options, &trainer);
  EXPECT_EQ(trainer != nullptr, status == LAMINA_OK);
  lamina_trainer_free(trainer);
  return status;
}

TEST(Catalogue, EveryEntrySaysWhatItIs) {
  std::vector<std::string> scopes{"tasks", "probes", "theory", "arrays", "callback"};
  for (const auto& task : list("tasks")) scopes.push_back(task.key);
  for (const std::string& scope : scopes) {
    std::set<std::string> keys;
    ASSERT_GT(lamina_catalogue_count(scope.c_str()), 0) << scope;
    for (const auto& entry : list(scope.c_str())) {
      EXPECT_TRUE(keys.insert(entry.key).second) << entry.key << " twice in " << scope;
      for (const char* text : {entry.owner, entry.fallback, entry.words, entry.description}) EXPECT_NE(text, nullptr);
      EXPECT_GT(std::strlen(entry.summary), 10u) << entry.key;
      EXPECT_EQ(std::strchr(entry.summary, '\n'), nullptr) << entry.key;
      const bool reads_task = scope == "theory" && entry.owner == std::string("task");
      EXPECT_EQ(entry.words[0] != 0, entry.kind == LAMINA_KIND_WORD || reads_task) << entry.key;
      if (entry.kind != LAMINA_KIND_NAME) {
        EXPECT_LE(entry.minimum, entry.maximum) << entry.key;
        EXPECT_TRUE((std::set<std::string>{"task", "model", "trainer"}).count(entry.owner)) << entry.key;
      }
      if (entry.kind == LAMINA_KIND_WORD) {
        EXPECT_TRUE(split(entry.words).count(entry.fallback)) << entry.key;
      }
    }
  }
  for (const auto& task : list("tasks")) EXPECT_GT(std::strlen(task.description), 100u);
}

TEST(Catalogue, NamesThatScriptsRelyOnExist) {
  std::set<std::string> keys;
  for (const auto& entry : list("in_context_recall")) keys.insert(entry.key);
  for (const char* key :
       {"vocabulary",     "triggers",     "outputs",       "prompt_length", "noise",     "occurrences",    "sampler",
        "unseen_outputs", "feed_forward", "initial_scale", "attention",     "variant",   "initialisation", "data",
        "samples",        "batch",        "optimiser",     "normalisation", "step_size", "steps",          "seed",
        "precision",      "threads",      "isa",           "record_every",  "dimension"})
    EXPECT_TRUE(keys.count(key)) << key;
}

TEST(Catalogue, TheDefaultsAreThoseOfTheReferenceRuns) {
  std::map<std::string, std::string> fallback;
  for (const auto& entry : list("in_context_recall")) fallback[entry.key] = entry.fallback;
  const std::map<std::string, std::string> expected{{"sampler", "s1"},
                                                    {"vocabulary", "60"},
                                                    {"triggers", "5"},
                                                    {"outputs", "25"},
                                                    {"unseen_outputs", "10"},
                                                    {"occurrences", "5"},
                                                    {"noise", "0.5"},
                                                    {"variant", "full"},
                                                    {"prompt_length", "256"},
                                                    {"attention", "linear"},
                                                    {"data", "fixed"},
                                                    {"samples", "2048"},
                                                    {"steps", "400"},
                                                    {"optimiser", "ngd"},
                                                    {"normalisation", "l2"},
                                                    {"step_size", "0.1"},
                                                    {"precision", "f64"},
                                                    {"threads", "0"},
                                                    {"feed_forward", "query_and_attention"}};
  for (const auto& [key, value] : expected) EXPECT_EQ(fallback[key], value) << key;
}

TEST(Options, ABoundIsAccuratelyTheOneOfTheCatalogue) {
  for (const auto& entry : list("in_context_recall")) {
    if (entry.kind != LAMINA_KIND_NUMBER && entry.kind != LAMINA_KIND_INTEGER) continue;
    for (const bool above : {false, true}) {
      const double bound = above ? entry.maximum : entry.minimum;
      if (std::isinf(bound)) continue;
      const double outside =
          entry.kind == LAMINA_KIND_INTEGER ? bound + (above ? 1 : -1) : std::nextafter(bound, above ? INFINITY : -INFINITY);
      if (outside == bound) continue;  // beyond 2^53
      const OptionsHandle options = make_options({});
      ok(lamina_options_set_number(options.get(), entry.key, outside));
      const std::string text = error_of(create(entry.owner, options.get()), LAMINA_E_OPTION);
      EXPECT_NE(text.find(std::string(": ") + entry.key + " is "), text.npos) << text;
      EXPECT_NE(text.find(", must be a"), text.npos) << text;
    }
  }
}

TEST(Options, EveryWordIsAcceptedAndNoOther) {
  for (const auto& entry : list("in_context_recall")) {
    if (entry.kind != LAMINA_KIND_WORD) continue;
    // Words may exclude each other, which is an error of its own: at least the text must not call the word unknown.
    for (const std::string& word : split(entry.words)) {
      const OptionsHandle options = make_options({{entry.key, word}, {"samples", "4"}});
      if (create(entry.owner, options.get()) != LAMINA_OK) {
        EXPECT_EQ(std::string(lamina_last_error()).find("must be one of " + std::string(entry.words).substr(0, 3)),
                  std::string::npos)
            << lamina_last_error();
      }
    }
    const OptionsHandle options = make_options({{entry.key, "unheard"}});
    const std::string text = error_of(create(entry.owner, options.get()), LAMINA_E_OPTION);
    EXPECT_NE(text.find(std::string(entry.key) + " is \"unheard\", must be one of "), text.npos) << text;
  }
}

TEST(Options, AKeyThatNoObjectHasFailsWhenItIsSet) {
  const OptionsHandle options = make_options({});
  for (const lamina_status status :
       {lamina_options_set_number(options.get(), "vocabulry", 3), lamina_options_set_text(options.get(), "vocabulry", "3"),
        lamina_options_set_array(options.get(), "vocabulry", nullptr, 0)}) {
    const std::string text = error_of(status, LAMINA_E_OPTION);
    EXPECT_NE(text.find(": \"vocabulry\" is not an option, must be one of vocabulary, "), text.npos) << text;  // the nearest first
  }
  const std::string part = error_of(lamina_options_set_number(options.get(), "record", 3), LAMINA_E_OPTION);
  EXPECT_NE(part.find("must be one of record_every, record_per_decade, "), part.npos) << part;  // what it is a part of
  EXPECT_EQ(lamina_options_set_number(options.get(), "noise", NAN), LAMINA_E_OPTION);
}

TEST(Options, AKeyOfAnotherTaskFailsAtEveryCreate) {
  const OptionsHandle options = make_options({{"file", "there-is-no-such-file"}});
  const std::string expected = ": \"file\" is not an option of task in_context_recall, must be one of ";
  for (const char* owner : {"task", "model", "trainer"}) {
    const std::string text = error_of(create(owner, options.get()), LAMINA_E_OPTION);
    EXPECT_NE(text.find(expected), text.npos) << text;
  }
}

TEST(Options, AnUnknownInstructionSetIsAnErrorAndTheOneAskedForRuns) {
  const OptionsHandle unknown = make_options({{"isa", "sse9"}});
  const std::string text = error_of(create("model", unknown.get()), LAMINA_E_UNSUPPORTED);
  EXPECT_NE(text.find("sse9"), text.npos);
  ASSERT_GE(lamina_isa_count(), 1);
  EXPECT_STREQ(lamina_isa_name(lamina_isa_count() - 1), "reference");
  EXPECT_EQ(lamina_isa_name(-1), nullptr);
  EXPECT_EQ(lamina_isa_name(lamina_isa_count()), nullptr);
  const TaskHandle task = make_task(nullptr);
  for (int32_t i = 0; i < lamina_isa_count(); ++i) {
    const OptionsHandle options = make_options({{"isa", lamina_isa_name(i)}});
    EXPECT_STREQ(lamina_model_isa(make_model(task.get(), options.get()).get()), lamina_isa_name(i));
  }
}

TEST(Options, LaterCallsReplaceEarlierOnesAndCreatesCopy) {
  OptionsHandle options = make_options({{"vocabulary", "1e3"}});
  ok(lamina_options_set_number(options.get(), "vocabulary", 70));
  const TaskHandle task = make_task(options.get());
  options.reset();
  lamina_task_shape shape;
  ok(lamina_task_shape_init(&shape, sizeof shape));
  ok(lamina_task_get_shape(task.get(), &shape));
  EXPECT_EQ(shape.vocabulary, 70);
  EXPECT_EQ(shape.outputs, 71);
  EXPECT_EQ(shape.length, 256);
  EXPECT_EQ(shape.width, 1);
  EXPECT_EQ(shape.target_width, 2);
}

TEST(Library, SaysWhatItIs) {
  EXPECT_STREQ(lamina_version(), LAMINA_TEST_VERSION);
  EXPECT_EQ(lamina_abi(), 0);
  EXPECT_NE(std::string(lamina_build_info()).find("lamina " LAMINA_TEST_VERSION "; "), std::string::npos);
  EXPECT_NE(std::string(lamina_build_info()).find("xsimd "), std::string::npos);
  EXPECT_STREQ(lamina_status_name(LAMINA_OK), "LAMINA_OK");
  EXPECT_STREQ(lamina_status_name(-99), "unknown status");
  std::set<std::string> names;
  for (lamina_status status = LAMINA_E_INTERNAL; status <= LAMINA_TIME_LIMIT; ++status)
    names.insert(lamina_status_name(status));
  EXPECT_EQ(names.size(), 14u);
  EXPECT_FALSE(names.count("unknown status"));
}

}  // namespace
}  // namespace lamina::test
