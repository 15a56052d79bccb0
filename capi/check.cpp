// Checks of arguments.
#include "capi/check.hpp"

#include <cmath>

#include "base/memory.hpp"
#include "kernels/kernels.hpp"

namespace lamina::capi {
namespace {

std::string range_text(int64_t minimum, int64_t maximum) {
  return "in [" + std::to_string(minimum) + ", " + std::to_string(maximum) + "]";
}

}  // namespace

void require_isa() {
  if (kernels::select(nullptr)) return;
  std::string known;
  for (int32_t i = 0; i < kernels::count(); ++i) known += (i ? ", " : "") + std::string(kernels::at(i)->name);
  fail(LAMINA_E_UNSUPPORTED, "the environment's LAMINA_ISA names no instruction set that runs here, must be one of " + known);
}

void require(const void* pointer, const char* name) {
  if (!pointer) fail(LAMINA_E_ARGUMENT, std::string(name) + " is NULL, must be given");
}

void require_range(const char* name, int64_t value, int64_t minimum, int64_t maximum) {
  if (value >= minimum && value <= maximum) return;
  fail(LAMINA_E_ARGUMENT, std::string(name) + " is " + std::to_string(value) + ", must be " + range_text(minimum, maximum));
}

int64_t require_product(const char* a_name, int64_t a, const char* b_name, int64_t b) {
  if (a == 0 || b <= largest_count / a) return a * b;
  fail(LAMINA_E_ARGUMENT, std::string(a_name) + " is " + std::to_string(a) + " and " + b_name + " is " + std::to_string(b) +
                              ", their product must be at most " + std::to_string(largest_count));
}

void require_finite(const char* name, std::span<const double> values) {
  for (size_t i = 0; i < values.size(); ++i)
    if (!std::isfinite(values[i]))
      fail(LAMINA_E_ARGUMENT,
           std::string(name) + "[" + std::to_string(i) + "] is " + number_text(values[i]) + ", must be finite");
}

void require_disjoint(const char* a_name, const void* a, int64_t a_bytes, const char* b_name, const void* b, int64_t b_bytes) {
  const auto a_first = reinterpret_cast<uintptr_t>(a), b_first = reinterpret_cast<uintptr_t>(b);
  if (!a || !b || a_bytes == 0 || b_bytes == 0) return;
  if (a_first + static_cast<uintptr_t>(a_bytes) <= b_first || b_first + static_cast<uintptr_t>(b_bytes) <= a_first) return;
  fail(LAMINA_E_ARGUMENT, std::string(a_name) + " overlaps " + b_name + ", must be memory of its own");
}

void require_struct_size(const char* name, const void* given, uint32_t size, uint32_t current) {
  const std::string field = std::string(name) + "->struct_size";
  require_range(field.c_str(), size, current, largest_struct);
  const auto* bytes = static_cast<const unsigned char*>(given);
  for (uint32_t i = current; i < size; ++i)
    if (bytes[i] != 0)
      fail(LAMINA_E_ARGUMENT, field + " is " + std::to_string(size) + " and byte " + std::to_string(i) +
                                  " is not 0, must be: this version knows " + std::to_string(current) + " bytes");
}

}  // namespace lamina::capi
