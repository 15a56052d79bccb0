// Options resolved against a table: parsing, bounds, defaults, and what the errors say.
#include "base/options.hpp"

#include <gtest/gtest.h>

#include <cmath>

namespace lamina {
namespace {

constexpr double infinite = INFINITY;
const OptionRow rows[] = {
    {"noise", OptionKind::number, "0.5", 0, 0.999, "", ""},
    {"step_size", OptionKind::number, "0.1", 0, infinite, "", ""},
    {"prompt_length", OptionKind::integer, "256", 3, infinite, "", ""},
    {"triggers", OptionKind::integer, "5", 1, 1000, "", ""},
    {"attention", OptionKind::word, "linear", 0, 0, "softmax|linear|relu", ""},
    {"file", OptionKind::text, "", 0, 0, "", ""},
    {"weights", OptionKind::array, "", 2, 4, "", ""},
    {"required", OptionKind::number, "", 0, 1, "", ""},
};

Settings with(const std::string& key, OptionValue value) {
  Options options;
  options.set(key, std::move(value));
  return Settings(rows, options);
}

std::string error_of(const std::string& key, OptionValue value) {
  try {
    with(key, std::move(value));
    return "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.status(), LAMINA_E_OPTION);
    return error.what();
  }
}

TEST(Settings, DefaultsAreTheRowsThenTheTasksThenTheUsers) {
  EXPECT_EQ(Settings(rows, {}).number("noise"), 0.5);
  const OptionDefault defaults[] = {{"noise", "0.25"}};
  EXPECT_EQ(Settings(rows, {}, defaults).number("noise"), 0.25);
  Options options;
  options.set("noise", 0.75);
  const Settings settings(rows, options, defaults);
  EXPECT_EQ(settings.number("noise"), 0.75);
  EXPECT_TRUE(settings.given("noise"));
  EXPECT_FALSE(settings.given("triggers"));
  EXPECT_EQ(settings.text("file"), "");
  EXPECT_TRUE(settings.array("weights").empty());
}

TEST(Settings, NumbersAreReadFromText) {
  EXPECT_EQ(with("step_size", "2.5e-3").number("step_size"), 2.5e-3);
  EXPECT_EQ(with("step_size", "+2").number("step_size"), 2);
  EXPECT_EQ(with("prompt_length", "64").integer("prompt_length"), 64);
  EXPECT_TRUE(std::isinf(with("prompt_length", "inf").number("prompt_length")));
  EXPECT_EQ(with("weights", "1,0.5,2").array("weights"), (std::vector<double>{1, 0.5, 2}));
  for (const char* bad : {"", " 1", "1 ", "0,5", "1x", "nan", "+-1", "--1", "0x10", "1e999"})
    EXPECT_EQ(error_of("step_size", bad), "step_size is \"" + std::string(bad) + "\", must be a number >= 0");
  for (const char* bad : {"1,,2", "1,2,", ",1", "1;2", "1,nan", "1,inf"})
    EXPECT_NE(error_of("weights", bad), "no error") << bad;
}

TEST(Settings, BoundsAreInclusiveAndNamedInErrors) {
  EXPECT_EQ(with("noise", 0.999).number("noise"), 0.999);
  EXPECT_EQ(error_of("noise", 1.0), "noise is 1, must be a number in [0, 0.999]");
  EXPECT_EQ(error_of("noise", -1e-300), "noise is -1e-300, must be a number in [0, 0.999]");
  EXPECT_EQ(error_of("noise", NAN), "noise is nan, must be a number in [0, 0.999]");
  EXPECT_EQ(error_of("triggers", 2.5), "triggers is 2.5, must be an integer in [1, 1000]");
  EXPECT_EQ(error_of("triggers", INFINITY), "triggers is inf, must be an integer in [1, 1000]");
  EXPECT_EQ(error_of("prompt_length", 0x1p54), "prompt_length is 18014398509481984, must be an integer >= 3 or inf");
  EXPECT_EQ(error_of("attention", "cosine"), "attention is \"cosine\", must be one of softmax, linear, relu");
  EXPECT_EQ(error_of("attention", "softmax|linear"), "attention is \"softmax|linear\", must be one of softmax, linear, relu");
  EXPECT_NE(error_of("attention", ""), "no error");
  EXPECT_EQ(error_of("weights", std::vector<double>{1}),
            "weights is an array of 1, must be finite numbers, their count in [2, 4]");
  EXPECT_EQ(error_of("weights", std::vector<double>{1, NAN}),
            "weights is an array whose element 1 is nan, must be finite numbers, their count in [2, 4]");
}

TEST(Settings, AnIntegerIsExactOrRefused) {
  const OptionRow seed[] = {{"seed", OptionKind::integer, "1", 0, 0x1p53, "", ""}};
  const auto read = [&](const char* text) -> std::string {
    Options options;
    options.set("seed", std::string(text));
    try {
      return std::to_string(Settings(seed, options).integer("seed"));
    } catch (const Error& error) {
      return error.what();
    }
  };
  EXPECT_EQ(read("9007199254740992"), "9007199254740992");
  EXPECT_EQ(read("9007199254740991"), "9007199254740991");
  for (const char* same : {"1e15", "1E15", "1e+15", "1000000000000000", "0.1e16", "1000000000000000.000", "10e14", "+1e15", "001e15"})
    EXPECT_EQ(read(same), "1000000000000000") << same;
  for (const char* zero : {"0", "0.0", "-0", "0e9", "000"}) EXPECT_EQ(read(zero), "0") << zero;
  for (const char* rounded : {"9007199254740993", "9007199254740991.6", "9007199254740992.0000000001", "0.99999999999999999999", "1e-400",
                              "18446744073709551616", "1e300"})
    EXPECT_EQ(read(rounded), "seed is \"" + std::string(rounded) + "\", must be an integer in [0, 9007199254740992]");
}

TEST(Settings, AKindIsNotAnother) {
  EXPECT_EQ(error_of("noise", std::vector<double>{0.5, 0.5}), "noise is an array of 2, must be a number in [0, 0.999]");
  EXPECT_EQ(error_of("attention", 1.0), "attention is 1, must be one of softmax, linear, relu");
  EXPECT_EQ(error_of("file", 1.0), "file is 1, must be a text");
  EXPECT_EQ(error_of("weights", 1.0), "weights is 1, must be finite numbers, their count in [2, 4]");
}

TEST(Settings, MissingAndInfiniteValuesAreErrorsWhereTheyAreRead) {
  const Settings settings(rows, {});
  EXPECT_THROW(settings.number("required"), Error);
  EXPECT_THROW(settings.number("unheard_of"), Error);
  EXPECT_THROW(with("prompt_length", INFINITY).integer("prompt_length"), Error);
}

TEST(Settings, AnotherTablesKeysAreLeftAlone) {
  Options options;
  options.set("of_another_table", 1.0);
  EXPECT_NO_THROW(Settings(rows, options));
}

}  // namespace
}  // namespace lamina
