// The floating-point environment by raw registers: a few nanoseconds, where fenv.h takes a hundred. On a CPU without a branch
// below nothing is saved or set, and the host's environment holds inside the library too.
#include "base/float_environment.hpp"

#if defined(__x86_64__) || defined(__i386__)
#include <xmmintrin.h>
#endif

namespace lamina {

#if defined(__x86_64__) || defined(__i386__)

namespace {

// Round to nearest, all exceptions masked, no flag raised, no flush to zero; for x87 also extended precision.
constexpr uint32_t default_mxcsr = 0x1f80;
constexpr uint16_t default_x87 = 0x037f;

void load_x87(uint16_t control) {
  __asm__ volatile("fldcw %0" : : "m"(control));
}

}  // namespace

void FloatEnvironment::enter() {
  control_ = _mm_getcsr();
  __asm__ volatile("fnstcw %0" : "=m"(x87_));
  _mm_setcsr(default_mxcsr);
  if (x87_ != default_x87) load_x87(default_x87);
}

void FloatEnvironment::leave() {
  // Also puts back the flags, which arithmetic in between has raised.
  _mm_setcsr(static_cast<uint32_t>(control_));
  if (x87_ != default_x87) load_x87(x87_);
}

#elif defined(__aarch64__)

// x87_ is unused; control_ holds FPCR below and FPSR (the flags) above.
void FloatEnvironment::enter() {
  uint64_t control, flags;
  __asm__ volatile("mrs %0, fpcr" : "=r"(control));
  __asm__ volatile("mrs %0, fpsr" : "=r"(flags));
  control_ = (control & 0xffffffffu) | flags << 32;
  __asm__ volatile("msr fpcr, %0" : : "r"(uint64_t{0}));
}

void FloatEnvironment::leave() {
  __asm__ volatile("msr fpcr, %0" : : "r"(control_ & 0xffffffffu));
  __asm__ volatile("msr fpsr, %0" : : "r"(control_ >> 32));
}

#else

void FloatEnvironment::enter() {}
void FloatEnvironment::leave() {}

#endif

}  // namespace lamina
