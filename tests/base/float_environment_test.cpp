// The floating-point environment of the host neither enters nor is changed, and the engine's does not leave.
#include "base/float_environment.hpp"

#include <gtest/gtest.h>

#include <cfenv>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace lamina {
namespace {

volatile double one = 1, three = 3, tiny = 0x1p-1022;

#if defined(__x86_64__)

constexpr unsigned flush_to_zero = 0x8000, denormals_are_zero = 0x0040, rounds_up = 0x4000, default_mxcsr = 0x1f80;

uint16_t x87_control() {
  uint16_t control;
  __asm__ volatile("fnstcw %0" : "=m"(control));
  return control;
}

class FloatEnvironmentTest : public ::testing::Test {
 protected:
  void TearDown() override { std::fesetenv(FE_DFL_ENV); }
};

TEST_F(FloatEnvironmentTest, InsideIsDefaultAndOutsideIsBack) {
  std::fesetround(FE_DOWNWARD);  // sets both units
  const unsigned host = _mm_getcsr() | flush_to_zero | denormals_are_zero;
  _mm_setcsr(host);
  const uint16_t host_x87 = x87_control();
  {
    const FloatEnvironment environment;
    EXPECT_EQ(_mm_getcsr(), default_mxcsr);
    EXPECT_EQ(x87_control(), 0x037f);
    EXPECT_GT(tiny / 4, 0);
    EXPECT_EQ(one / three, 0x1.5555555555555p-2);
  }
  EXPECT_EQ(_mm_getcsr(), host);
  EXPECT_EQ(x87_control(), host_x87);
}

TEST_F(FloatEnvironmentTest, FlagsRaisedInsideDoNotLeave) {
  std::feclearexcept(FE_ALL_EXCEPT);
  {
    const FloatEnvironment environment;
    volatile double third = one / three;
    (void)third;
    EXPECT_TRUE(std::fetestexcept(FE_INEXACT));
  }
  EXPECT_FALSE(std::fetestexcept(FE_INEXACT));
}

TEST_F(FloatEnvironmentTest, AnInterruptedScopeIsTheHostsAndKeepsWhatTheHostMadeOfIt) {
  FloatEnvironment environment;
  const unsigned inside = _mm_getcsr();
  environment.leave();
  const unsigned host = _mm_getcsr();
  _mm_setcsr(host | rounds_up);
  environment.enter();
  EXPECT_EQ(_mm_getcsr(), inside);
  environment.leave();
  EXPECT_EQ(_mm_getcsr(), host | rounds_up);
  environment.enter();
}

#else

TEST(FloatEnvironment, RoundingOfTheHostDoesNotEnter) {
#if !defined(__aarch64__)
  GTEST_SKIP() << "SKIPPED: no code for this CPU";
#endif
  std::fesetround(FE_UPWARD);
  double inside;
  {
    const FloatEnvironment environment;
    inside = one / three;
  }
  EXPECT_EQ(std::fegetround(), FE_UPWARD);
  std::fesetround(FE_TONEAREST);
  EXPECT_EQ(inside, 0x1.5555555555555p-2);
}

#endif

}  // namespace
}  // namespace lamina
