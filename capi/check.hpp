// Checks of arguments, before anything is written, and the protocol of structs that carry their size. Every failure names the
// argument, its value and the allowed range.
#pragma once
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "task/task.hpp"

namespace lamina::capi {

// Seeds are integers that a double can carry.
inline constexpr uint64_t largest_seed = uint64_t{1} << 53;
// No array crosses with more elements: counts of bytes and of doubles then stay far from overflow.
inline constexpr int64_t largest_count = int64_t{1} << 48;
// No struct is ever larger; a larger struct_size was never initialised.
inline constexpr uint32_t largest_struct = 4096;

// Fails if the environment's LAMINA_ISA forces a set that is unknown or cannot run here: at every create, so at the first.
void require_isa();
void require(const void* pointer, const char* name);
void require_range(const char* name, int64_t value, int64_t minimum, int64_t maximum);
// a * b elements, both >= 0: fails if that is more than largest_count.
int64_t require_product(const char* a_name, int64_t a, const char* b_name, int64_t b);
void require_finite(const char* name, std::span<const double> values);
// Outputs overlap nothing.
void require_disjoint(const char* a_name, const void* a, int64_t a_bytes, const char* b_name, const void* b, int64_t b_bytes);

void require_struct_size(const char* name, const void* given, uint32_t size, uint32_t current);

// An input struct as this version knows it. Released sizes: the current one; or larger, for a host built against a later
// version, if it uses nothing of what came later.
template <class T>
T read_struct(const char* name, const T* given) {
  require(given, name);
  require_struct_size(name, given, given->struct_size, sizeof(T));
  return *given;
}

// lamina_x_init.
template <class T>
void init_struct(const char* name, T* given, uint32_t size) {
  require(given, name);
  require_range("size", size, sizeof(T), largest_struct);
  std::memset(given, 0, size);
  given->struct_size = size;
}

// An output struct: `value` without the caller's struct_size.
template <class T>
void write_struct(T* out, T value) {
  value.struct_size = out->struct_size;
  *out = value;
}

}  // namespace lamina::capi
