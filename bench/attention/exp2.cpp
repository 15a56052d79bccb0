// exp2 of lamina's kernels beside xsimd's own, on the range that softmax uses: numbers a second of one thread, from and to the
// nearest cache, and the ratio. Rounds of the two alternate; of each the fastest counts.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <vector>

#include "kernels/kernels.hpp"

// SETS: f(name) of each set that xsimd was compiled for (meson.build).
#define DECLARE(set) \
  namespace xsimd_exp2::set { \
  template <class T> \
  void row(int64_t n, const T* x, T* y); \
  }
SETS(DECLARE)

namespace {

constexpr int64_t numbers = 1024;
constexpr int repeats = 2000, rounds = 50;

template <class T>
using Row = void (*)(int64_t, const T*, T*);

template <class T>
Row<T> of_xsimd(const char* name) {
#define CHOOSE(set) \
  if (std::strcmp(name, #set) == 0) return xsimd_exp2::set::row<T>;
  SETS(CHOOSE)
  return nullptr;
}

template <class T>
double seconds(Row<T> row, const std::vector<T>& x, std::vector<T>& y) {
  const auto begin = std::chrono::steady_clock::now();
  for (int k = 0; k < repeats; ++k) row(numbers, x.data(), y.data());
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

template <class T>
void compare(const char* set, const char* type, Row<T> ours) {
  const Row<T> theirs = of_xsimd<T>(set);
  if (!theirs) return;
  std::vector<T> x(numbers), y(numbers), z(numbers);
  for (int64_t i = 0; i < numbers; ++i) x[i] = T(-20) * static_cast<T>(i) / numbers;
  double least = 1e9, least_of_xsimd = 1e9;
  for (int round = 0; round < rounds; ++round) {
    least = std::min(least, seconds(ours, x, y));
    least_of_xsimd = std::min(least_of_xsimd, seconds(theirs, x, z));
  }
  double apart = 0;
  for (int64_t i = 0; i < numbers; ++i) apart = std::max(apart, static_cast<double>(std::abs(y[i] - z[i]) / z[i]));
  const double count = 1e-9 * static_cast<double>(numbers) * repeats;
  std::printf("%-8s %s  lamina %6.2f G/s  xsimd %6.2f G/s  ratio %.2f  (largest relative difference %.1e)\n", set, type,
              count / least, count / least_of_xsimd, least_of_xsimd / least, apart);
}

}  // namespace

int main() {
  for (int32_t i = 0; i < lamina::kernels::count(); ++i) {
    const lamina::kernels::InstructionSet& set = *lamina::kernels::at(i);
    compare<float>(set.name, "f32", set.table<float>().exp2);
    compare<double>(set.name, "f64", set.table<double>().exp2);
  }
}
