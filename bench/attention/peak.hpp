// The peak of fused multiply-adds of one thread, measured: the roof that attention is held to, by element type and instruction set.
// Twelve independent chains: more than latency x throughput (4 cycles, at most 2 an issue) asks for, fewer than there are registers.
#pragma once

#include <cstdint>
#include <cstring>
#include <ctime>

namespace peak {

constexpr int64_t rounds = 100000;  // about half a millisecond a call: short against a time slice
constexpr int chains = 12;

#if defined(__x86_64__)
template <class T, int bytes>
using vector [[gnu::vector_size(bytes)]] = T;

// x = x a + b, in every chain in turn; assembly, so that no compiler folds, reorders or spills it.
template <class T>
__attribute__((target("avx512f"), noinline)) void zmm() {
  vector<T, 64> x[chains] = {}, a = {}, b = {};
  for (int64_t i = 0; i < rounds; ++i)
#pragma GCC unroll 12
    for (auto& v : x)
      if constexpr (sizeof(T) == 4)
        __asm__ volatile("vfmadd213ps %2, %1, %0" : "+v"(v) : "v"(a), "v"(b));
      else
        __asm__ volatile("vfmadd213pd %2, %1, %0" : "+v"(v) : "v"(a), "v"(b));
}
template <class T>
__attribute__((target("avx2,fma"), noinline)) void ymm() {
  vector<T, 32> x[chains] = {}, a = {}, b = {};
  for (int64_t i = 0; i < rounds; ++i)
#pragma GCC unroll 12
    for (auto& v : x)
      if constexpr (sizeof(T) == 4)
        __asm__ volatile("vfmadd213ps %2, %1, %0" : "+x"(v) : "x"(a), "x"(b));
      else
        __asm__ volatile("vfmadd213pd %2, %1, %0" : "+x"(v) : "x"(a), "x"(b));
}
#endif

// One call of a chain, and the flops it does.
struct Kernel {
  void (*run)();
  double flops;
};

// {nullptr, 0} where no chain is written.
inline Kernel kernel(const char* isa, bool f64) {
#if defined(__x86_64__)
  constexpr double lane = 2.0 * chains * static_cast<double>(rounds);
  if (std::strcmp(isa, "avx512") == 0) return f64 ? Kernel{zmm<double>, 8 * lane} : Kernel{zmm<float>, 16 * lane};
  if (std::strcmp(isa, "avx2") == 0) return f64 ? Kernel{ymm<double>, 4 * lane} : Kernel{ymm<float>, 8 * lane};
#else
  (void)isa, (void)f64;
#endif
  return {nullptr, 0};
}

// Flops per second of this thread's own time, the best of so many tries; 0 where no chain is written.
inline double rate(const char* isa, bool f64, int tries = 16) {
  const Kernel chain = kernel(isa, f64);
  if (!chain.run) return 0;
  auto seconds = [] {
    timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
  };
  double best = 0;
  for (int attempt = 0; attempt < tries; ++attempt) {
    const double start = seconds();
    chain.run();
    const double flops_per_second = chain.flops / (seconds() - start);
    if (flops_per_second > best) best = flops_per_second;
  }
  return best;
}

}  // namespace peak
