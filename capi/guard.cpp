// The error text of a thread, and the one place where exceptions become statuses.
#include "capi/guard.hpp"

#include <cstring>
#include <new>

namespace lamina::capi {
namespace {

// Long enough for a list of all option keys; a longer text is cut at the end.
constexpr size_t capacity = 2048;
thread_local char text_of_last_error[capacity];
thread_local FloatEnvironment* environment_of_innermost_guard;

class Writer {
 public:
  Writer& operator<<(const char* text) {
    size_t n = std::strlen(text);
    if (n > capacity - 1 - used_) {
      n = capacity - 1 - used_;
      while (n > 0 && (text[n] & 0xc0) == 0x80) --n;  // not inside a UTF-8 character
    }
    std::memcpy(text_of_last_error + used_, text, n);
    used_ += n;
    text_of_last_error[used_] = 0;
    return *this;
  }

 private:
  size_t used_ = 0;
};

}  // namespace

const char* last_error() noexcept {
  return text_of_last_error;
}

FloatEnvironment*& current_environment() noexcept {
  return environment_of_innermost_guard;
}

lamina_status failed(const char* function) noexcept {
  Writer text;
  text << function << ": ";
  try {
    throw;
  } catch (const Error& error) {
    text << error.what();
    return error.status();
  } catch (const std::bad_alloc&) {
    text << "memory could not be allocated for what the call needs beside its arrays";
    return LAMINA_E_MEMORY;
  } catch (const std::exception& error) {
    text << "internal error: " << error.what();
    return LAMINA_E_INTERNAL;
  } catch (...) {
    text << "internal error: an unknown exception, thrown by lamina or through it by a callback";
    return LAMINA_E_INTERNAL;
  }
}

}  // namespace lamina::capi
