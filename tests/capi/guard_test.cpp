// The guard itself, compiled into this test: every exception becomes a status and a text, and what the host may see changed is
// put back.
#include "capi/guard.hpp"

#include <gtest/gtest.h>

#include <cerrno>
#include <cfenv>
#include <functional>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>

namespace lamina::capi {
namespace {

std::string text_of(lamina_status expected, const std::function<void()>& body) {
  EXPECT_EQ(guard("lamina_f", body), expected);
  return last_error();
}

TEST(Guard, TurnsEveryExceptionIntoAStatusAndAText) {
  EXPECT_EQ(text_of(LAMINA_E_OPTION, [] { fail(LAMINA_E_OPTION, "noise is 2, must be less"); }),
            "lamina_f: noise is 2, must be less");
  EXPECT_EQ(text_of(LAMINA_E_MEMORY, [] { throw std::bad_alloc(); }), "lamina_f: memory could not be allocated for what the call needs beside its arrays");
  EXPECT_EQ(text_of(LAMINA_E_MEMORY, [] { throw std::bad_array_new_length(); }), "lamina_f: memory could not be allocated for what the call needs beside its arrays");
  EXPECT_EQ(text_of(LAMINA_E_INTERNAL, [] { throw std::logic_error("oops"); }), "lamina_f: internal error: oops");
  EXPECT_EQ(text_of(LAMINA_E_INTERNAL, [] { throw 3; }).substr(0, 26), "lamina_f: internal error: ");
}

TEST(Guard, PassesStatusesThroughAndKeepsTheTextOnSuccess) {
  text_of(LAMINA_E_STATE, [] { fail(LAMINA_E_STATE, "first"); });
  EXPECT_EQ(guard("lamina_f", []() -> lamina_status { return LAMINA_STOPPED; }), LAMINA_STOPPED);
  EXPECT_EQ(guard("lamina_f", [] {}), LAMINA_OK);
  EXPECT_STREQ(last_error(), "lamina_f: first");
}

TEST(Guard, ALongTextIsCutAtTheEndOfACharacter) {
  for (int shift = 0; shift < 3; ++shift) {
    std::string text(static_cast<size_t>(shift), 'x');
    for (int i = 0; i < 2000; ++i) text += "\xe2\x82\xac";
    const std::string kept = text_of(LAMINA_E_STATE, [&] { fail(LAMINA_E_STATE, text); });
    EXPECT_GT(kept.size(), 2040u);
    EXPECT_LT(kept.size(), 2048u);
    EXPECT_EQ((kept.size() - std::string("lamina_f: ").size() - static_cast<size_t>(shift)) % 3, 0u);
    EXPECT_EQ("lamina_f: " + text.substr(0, kept.size() - 10), kept);
  }
}

TEST(Guard, EachThreadHasItsOwnText) {
  text_of(LAMINA_E_STATE, [] { fail(LAMINA_E_STATE, "mine"); });
  std::thread([] {
    EXPECT_STREQ(last_error(), "");
    text_of(LAMINA_E_STATE, [] { fail(LAMINA_E_STATE, "yours"); });
  }).join();
  EXPECT_STREQ(last_error(), "lamina_f: mine");
}

TEST(Guard, KeepsErrnoAndTheFloatingPointState) {
  errno = 1234;
  std::fesetround(FE_UPWARD);
  int inside = -1;
  guard("lamina_f", [&] {
    inside = std::fegetround();
    errno = 1;
    throw 1;
  });
  EXPECT_EQ(std::fegetround(), FE_UPWARD);
  std::fesetround(FE_TONEAREST);
  EXPECT_EQ(inside, FE_TONEAREST);
  EXPECT_EQ(errno, 1234);
}

TEST(HostCall, IsTheHostsStateAndKeepsWhatTheHostMadeOfIt) {
  std::fesetround(FE_UPWARD);
  int before = -1, in_callback = -1, nested = -1, after = -1;
  guard("lamina_f", [&] {
    before = std::fegetround();
    {
      const HostCall host;
      in_callback = std::fegetround();
      guard("lamina_g", [&] { nested = std::fegetround(); });
      std::fesetround(FE_DOWNWARD);
    }
    after = std::fegetround();
  });
  const int outside = std::fegetround();
  std::fesetround(FE_TONEAREST);
  EXPECT_EQ(before, FE_TONEAREST);
  EXPECT_EQ(in_callback, FE_UPWARD);
  EXPECT_EQ(nested, FE_TONEAREST);
  EXPECT_EQ(after, FE_TONEAREST);
  EXPECT_EQ(outside, FE_DOWNWARD);
}

}  // namespace
}  // namespace lamina::capi
