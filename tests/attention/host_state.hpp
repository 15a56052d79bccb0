// The floating-point state of a host that is not the default one: set around a call, and compared after it.
#pragma once
#include <gtest/gtest.h>

#include <cerrno>
#include <cstdint>

namespace harness {

// Bits of MXCSR: flush to zero and denormals are zero; the rounding modes.
inline constexpr uint32_t flush_to_zero = 0x8040, round_down = 0x2000, round_up = 0x4000, round_to_zero = 0x6000;
inline constexpr uint32_t host_states[] = {0, flush_to_zero, round_down, round_up, round_to_zero, flush_to_zero | round_up};

// On x86 MXCSR and the x87 control word, elsewhere nothing but errno.
class HostState {
 public:
  explicit HostState(uint32_t bits) : errno_(errno) {
#if defined(__x86_64__)
    before_ = mxcsr();
    x87_before_ = x87();
    set((before_ & ~0x3fu) | bits, static_cast<uint16_t>(x87_before_ | (bits >> 3 & 0xc00)));
    during_ = mxcsr(), x87_during_ = x87();
#else
    (void)bits;
#endif
    errno = 77;
  }
  // Puts the state back, and fails the test unless the call left it as it was.
  ~HostState() {
    const int error = errno;
#if defined(__x86_64__)
    const uint32_t after = mxcsr();
    const uint16_t x87_after = x87();
    set(before_, x87_before_);
    EXPECT_EQ(after, during_) << "MXCSR";
    EXPECT_EQ(x87_after, x87_during_) << "x87 control word";
#endif
    EXPECT_EQ(error, 77) << "errno";
    errno = errno_;
  }
  HostState(const HostState&) = delete;
  HostState& operator=(const HostState&) = delete;

 private:
#if defined(__x86_64__)
  static uint32_t mxcsr() {
    uint32_t value;
    __asm__ volatile("stmxcsr %0" : "=m"(value));
    return value;
  }
  static uint16_t x87() {
    uint16_t value;
    __asm__ volatile("fnstcw %0" : "=m"(value));
    return value;
  }
  static void set(uint32_t csr, uint16_t control) {
    __asm__ volatile("ldmxcsr %0" : : "m"(csr));
    __asm__ volatile("fldcw %0" : : "m"(control));
  }
  uint32_t before_ = 0, during_ = 0;
  uint16_t x87_before_ = 0, x87_during_ = 0;
#endif
  int errno_;
};

}  // namespace harness
