// The one exception of the engine. It never leaves the library: capi/guard.hpp turns it into a status and a text.
#pragma once
#include <exception>
#include <string>
#include <utility>

#include "lamina/lamina.h"

namespace lamina {

class Error : public std::exception {
 public:
  Error(lamina_status status, std::string text) : status_(status), text_(std::move(text)) {}
  lamina_status status() const { return status_; }
  const char* what() const noexcept override { return text_.c_str(); }

 private:
  lamina_status status_;
  std::string text_;
};

// A number as a person would write it: shortest text that reads back as the same double.
std::string number_text(double value);

// Throws "name is value, must be allowed" with LAMINA_E_ARGUMENT.
[[noreturn]] void fail_argument(const char* name, double value, const std::string& allowed);
[[noreturn]] void fail(lamina_status status, const std::string& text);

}  // namespace lamina
