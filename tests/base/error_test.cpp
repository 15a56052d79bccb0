// Texts of errors: numbers as a person writes them, whatever the locale.
#include "base/error.hpp"

#include <gtest/gtest.h>

#include <clocale>
#include <cmath>
#include <cstdlib>
#include <limits>

namespace lamina {
namespace {

TEST(NumberText, IsShortAndReadsBackAsTheSameDouble) {
  EXPECT_EQ(number_text(60), "60");
  EXPECT_EQ(number_text(0.1), "0.1");
  EXPECT_EQ(number_text(-2.5e-7), "-2.5e-07");
  EXPECT_EQ(number_text(0x1p53), "9007199254740992");
  EXPECT_EQ(number_text(INFINITY), "inf");
  EXPECT_EQ(number_text(-INFINITY), "-inf");
  EXPECT_EQ(number_text(-NAN), "nan");
  for (const double x : {1.0 / 3, std::numeric_limits<double>::max(), std::numeric_limits<double>::denorm_min()})
    EXPECT_EQ(std::strtod(number_text(x).c_str(), nullptr), x);
}

TEST(NumberText, DoesNotFollowTheLocale) {
  if (!std::setlocale(LC_NUMERIC, "de_DE.UTF-8")) GTEST_SKIP() << "SKIPPED: no locale with a decimal comma is installed";
  const std::string text = number_text(0.5);
  std::setlocale(LC_NUMERIC, "C");
  EXPECT_EQ(text, "0.5");
}

TEST(FailArgument, SaysNameValueAndRange) {
  try {
    fail_argument("noise", 1.5, "in [0, 1)");
    FAIL() << "did not throw";
  } catch (const Error& error) {
    EXPECT_EQ(error.status(), LAMINA_E_ARGUMENT);
    EXPECT_STREQ(error.what(), "noise is 1.5, must be in [0, 1)");
  }
}

}  // namespace
}  // namespace lamina
