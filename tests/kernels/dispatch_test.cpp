// The list of instruction sets and the choice among them; and that no kernel leaves vector registers dirty for its host.
#include <cstdlib>

#include "kernels_test.hpp"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace lamina::kernels {
namespace {

TEST(Dispatch, ReferenceIsLastAndNamesAreDistinct) {
  ASSERT_GE(count(), 1);
  EXPECT_STREQ(at(count() - 1)->name, "reference");
  for (int32_t i = 0; i < count(); ++i)
    for (int32_t j = 0; j < i; ++j) EXPECT_STRNE(at(i)->name, at(j)->name);
  EXPECT_EQ(at(-1), nullptr);
  EXPECT_EQ(at(count()), nullptr);
}

TEST(Dispatch, ByName) {
  for (int32_t i = 0; i < count(); ++i) EXPECT_EQ(select(at(i)->name), at(i));
  EXPECT_EQ(select("avx"), nullptr);
  EXPECT_EQ(select("AVX2"), nullptr);
  EXPECT_EQ(select("reference "), nullptr);
}

// Meson runs this again with LAMINA_ISA set, and with what that must lead to in LAMINA_EXPECTED_ISA.
TEST(Dispatch, Default) {
  const char* forced = std::getenv("LAMINA_ISA");
  const InstructionSet* expected = forced && *forced ? select(forced) : at(0);
  EXPECT_EQ(select(nullptr), expected);
  EXPECT_EQ(select(""), expected);
  if (const char* name = std::getenv("LAMINA_EXPECTED_ISA")) {
    if (std::string(name) == "none") {
      EXPECT_EQ(select(nullptr), nullptr);
    } else {
      ASSERT_NE(select(nullptr), nullptr);
      EXPECT_STREQ(select(nullptr)->name, name);
    }
  }
}

TEST(Dispatch, EnvironmentIsReadOnce) {
  const char* forced = std::getenv("LAMINA_ISA");
  const std::string value = forced ? forced : "";
  const InstructionSet* before = select(nullptr);
  setenv("LAMINA_ISA", "nonsense", 1);
  EXPECT_EQ(select(nullptr), before);
  setenv("LAMINA_ISA", value.c_str(), 1);
}

#if defined(__x86_64__)
// Whether the upper halves of ymm0..15 are in use, as the CPU tracks it (XGETBV with ECX = 1).
bool upper_halves_dirty() {
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(1));
  return low & 4;
}
bool can_tell() {
  uint32_t a, b, c, d;
  if (!__get_cpuid_count(13, 1, &a, &b, &c, &d) || !(a & 4) || !__builtin_cpu_supports("avx")) return false;
  __asm__ volatile("vpcmpeqd %%xmm0, %%xmm0, %%xmm0\n vinsertf128 $1, %%xmm0, %%ymm0, %%ymm0" ::: "xmm0");
  const bool dirty = upper_halves_dirty();
  __asm__ volatile("vzeroupper" ::: "memory");
  return dirty && !upper_halves_dirty();
}

class Registers : public KernelTest {
 protected:
  template <class T>
  void check() {
    const Table<T>& t = set->table<T>();
    constexpr int64_t rows = 3, n = 64;
    std::vector<T> x(n * n, T(0.5)), y(n * n, T(0.25)), z(n * n);
    std::vector<uint16_t> counts(rows * n, 1);
    std::vector<uint8_t> bytes(4 * rows * 16, 1);
    const auto clean_after = [](const char* what, auto call) {
      __asm__ volatile("vzeroupper" ::: "memory");
      call();
      EXPECT_FALSE(upper_halves_dirty()) << what << ", bytes " << sizeof(T);
    };
    for (const int64_t columns : {1, 5, 8, 16, 24, 32, 45, 64}) {
      clean_after("gemm", [&] { t.gemm(7, columns, 4, x.data(), 4, 1, y.data(), n, z.data(), n, false); });
      clean_after("gemm", [&] { t.gemm(1, columns, 4, x.data(), 4, 1, y.data(), n, z.data(), n, true); });
      clean_after("exp", [&] { t.exp(columns, x.data(), z.data()); });
      clean_after("log", [&] { t.log(columns, x.data(), z.data()); });
      clean_after("log1p", [&] { t.log1p(columns, x.data(), z.data()); });
      clean_after("expm1", [&] { t.expm1(columns, x.data(), z.data()); });
      clean_after("sum", [&] { z[0] = t.sum(columns, x.data()); });
      clean_after("cross_entropy", [&] { z[0] = t.cross_entropy(columns, x.data(), 0, y.data()); });
    }
    const PairGrid grid{3, bytes.data(), counts.data(), counts.data()};
    T *c = z.data(), *d = y.data();
    for (const Map map : {Map::softmax, Map::linear, Map::relu}) {
      clean_after("pair_forward", [&] { t.pair_forward(map, grid, d, d, x.data(), c, c + n); });
      clean_after("pair_backward", [&] { t.pair_backward(map, grid, d, d, x.data(), d, d, c, c + n); });
    }
    for (const int64_t count : {1, 8, 13, 16}) {
      clean_after("spread", [&] { t.spread(rows, d, 16 - count, count, c); });
      clean_after("collect", [&] { t.collect(rows, d, 16 - count, count, c); });
    }
    clean_after("cross_entropies", [&] { t.cross_entropies(rows, x.data(), z.data(), T(2), d, c, c + n); });
  }
};

TEST_P(Registers, LeftClean) {
  if (!can_tell()) GTEST_SKIP() << "SKIPPED: this CPU does not track the use of vector registers";
  check<double>();
  check<float>();
}

LAMINA_FOR_EACH_SET(Registers);
#endif

}  // namespace
}  // namespace lamina::kernels
