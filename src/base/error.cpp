// The texts of errors.
#include "base/error.hpp"

#include <charconv>
#include <cmath>

namespace lamina {

std::string number_text(double value) {
  if (std::isnan(value)) return "nan";
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, value).ptr;
  return {text, end};
}

void fail(lamina_status status, const std::string& text) {
  throw Error(status, text);
}

void fail_argument(const char* name, double value, const std::string& allowed) {
  fail(LAMINA_E_ARGUMENT, std::string(name) + " is " + number_text(value) + ", must be " + allowed);
}

}  // namespace lamina
