// Puts the default floating-point environment in place for a scope, and the host's back at its end (MXCSR and the x87 control
// word on x86, FPCR on ARM): no rounding mode, flush-to-zero or sticky flag passes in either direction.
#pragma once
#include <cstdint>

namespace lamina {

class FloatEnvironment {
 public:
  FloatEnvironment() { enter(); }
  ~FloatEnvironment() { leave(); }
  FloatEnvironment(const FloatEnvironment&) = delete;
  FloatEnvironment& operator=(const FloatEnvironment&) = delete;

  // The scope, interrupted around a call back into the host: leave() puts the host's environment back, enter() saves what the
  // host made of it and sets the default again.
  void enter();
  void leave();

 private:
  uint64_t control_ = 0;
  uint16_t x87_ = 0;
};

}  // namespace lamina
