// What every test of kernels shares: each instruction set of this build and CPU in turn, and arrays at odd addresses.
#pragma once
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "kernels/kernels.hpp"

namespace lamina::kernels {

// A test that runs for each available set; `set` is the one under test, chosen by its name as a user would.
class KernelTest : public ::testing::TestWithParam<int32_t> {
 protected:
  void SetUp() override {
    const std::string name = at(GetParam())->name;
    set = select(name.c_str());
    ASSERT_NE(set, nullptr);
    ASSERT_EQ(set->name, name);
    ASSERT_EQ(set, at(GetParam()));
    RecordProperty("instruction_set", set->name);
    reference = select("reference");
    ASSERT_STREQ(reference->name, "reference");
  }
  const InstructionSet* set = nullptr;
  const InstructionSet* reference = nullptr;
};

#define LAMINA_FOR_EACH_SET(fixture)                                                     \
  INSTANTIATE_TEST_SUITE_P(Sets, fixture, ::testing::Range(0, lamina::kernels::count()), \
                           [](const auto& test) { return std::string(lamina::kernels::at(test.param)->name); })

// n numbers that begin `offset` elements past a 64-byte boundary, between guards that must keep their value.
template <class T>
class Array {
 public:
  explicit Array(int64_t n, int64_t offset = 0, T fill = T(0)) : n_(n), store_(n + offset + 2 * guard + 16, canary()) {
    const auto address = reinterpret_cast<uintptr_t>(store_.data() + guard);
    data_ = store_.data() + guard + (64 - address % 64) % 64 / sizeof(T) + offset;
    for (int64_t i = 0; i < n; ++i) data_[i] = fill;
  }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;
  T* data() { return data_; }
  const T* data() const { return data_; }
  T& operator[](int64_t i) { return data_[i]; }
  const T& operator[](int64_t i) const { return data_[i]; }
  int64_t size() const { return n_; }
  bool guards_intact() const {
    for (const T* p = store_.data(); p < store_.data() + store_.size(); ++p)
      if ((p < data_ || p >= data_ + n_) && *p != canary()) return false;
    return true;
  }

 private:
  static constexpr int64_t guard = 32;
  static T canary() { return T(12345); }
  int64_t n_;
  std::vector<T> store_;
  T* data_;
};

template <class T>
bool same_bits(const Array<T>& x, const Array<T>& y) {
  return x.size() == y.size() && std::memcmp(x.data(), y.data(), x.size() * sizeof(T)) == 0;
}
template <class T>
bool same_bits(T x, T y) {
  return std::memcmp(&x, &y, sizeof(T)) == 0;
}

template <class T>
void fill_uniform(Array<T>& x, uint32_t seed, double low = -1, double high = 1) {
  std::mt19937 engine(seed);
  for (int64_t i = 0; i < x.size(); ++i) x[i] = static_cast<T>(low + (high - low) * (engine() / 4294967296.0));
}

template <class T>
inline constexpr double epsilon = static_cast<double>(std::numeric_limits<T>::epsilon());

}  // namespace lamina::kernels
