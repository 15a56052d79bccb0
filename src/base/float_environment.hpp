// Puts the default floating-point environment in place for a scope, and the host's back at its end (MXCSR and the x87 control
// word on x86, FPCR on ARM): no rounding mode, flush-to-zero or sticky flag passes in either direction.
#pragma once
#include <cstdint>

namespace lamina {

class FloatEnvironment {
 public:
  FloatEnvironment();   // saves the caller's, sets the default
  ~FloatEnvironment();  // puts the caller's back
  FloatEnvironment(const FloatEnvironment&) = delete;
  FloatEnvironment& operator=(const FloatEnvironment&) = delete;

 private:
  uint64_t control_;
  uint16_t x87_ = 0;
};

}  // namespace lamina
