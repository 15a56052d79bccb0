// What stands between C and the engine at every entry point: guard() stops exceptions, keeps the host's floating-point state
// and errno, and writes this thread's error text. Also: calling back into the host.
#pragma once
#include <cxxabi.h>

#include <cerrno>
#include <type_traits>
#include <utility>

#include "base/error.hpp"
#include "base/float_environment.hpp"
#include "lamina/lamina.h"

namespace lamina::capi {

// The text of this thread's last failure; a buffer of fixed size, so that running out of memory can still be reported.
const char* last_error() noexcept;

// Turns the exception under way into a status and the text "function: what". For the handlers of guard() alone.
lamina_status failed(const char* function) noexcept;

// Where this thread keeps the environment that its innermost guard saved; nullptr: none is under way.
FloatEnvironment*& current_environment() noexcept;

// One entry into the library. Everything the host may see changed is put back at its end.
class Entry {
 public:
  Entry() : errno_(errno), current_(current_environment()), outer_(std::exchange(current_, &environment_)) {}
  ~Entry() {
    current_ = outer_;
    errno = errno_;
  }
  Entry(const Entry&) = delete;
  Entry& operator=(const Entry&) = delete;

 private:
  int errno_;
  FloatEnvironment environment_;
  FloatEnvironment*& current_;
  FloatEnvironment* outer_;
};

// Runs body, which returns nothing or a status, as one entry point: `function` is its name in lamina.h.
template <class Body>
lamina_status guard(const char* function, Body&& body) {
  const Entry entry;
  try {
    if constexpr (std::is_void_v<std::invoke_result_t<Body>>) {
      body();
      return LAMINA_OK;
    } else {
      return body();
    }
  } catch (const abi::__forced_unwind&) {
    throw;  // the host cancels this thread while a callback or a system call of ours is on its stack: to stop it is to abort
  } catch (...) {
    return failed(function);
  }
}

// The reverse of Entry, around a call back into the host on the thread that called us: the host's own floating-point state.
class HostCall {
 public:
  HostCall() : environment_(std::exchange(current_environment(), nullptr)) {
    if (environment_) environment_->leave();
  }
  ~HostCall() {
    if (environment_) environment_->enter();
    current_environment() = environment_;
  }
  HostCall(const HostCall&) = delete;
  HostCall& operator=(const HostCall&) = delete;

 private:
  FloatEnvironment* environment_;
};

}  // namespace lamina::capi
