// Scratch memory: one block of bytes, from which every array of a call is cut in the same order when it is measured (at the
// plan) and when it is used, so that what was asked for is what is needed.
#pragma once
#include <cstddef>
#include <cstdint>
#include <new>

#include "base/error.hpp"

namespace lamina::attention {

inline constexpr size_t alignment = 64;

class Carver {
 public:
  explicit Carver(void* memory = nullptr) : memory_(static_cast<char*>(memory)) {}  // nullptr: measures

  // `rows` x `cols` elements, aligned; nullptr while measuring.
  template <class T>
  T* take(int64_t rows, int64_t cols = 1) {
    size_t count, bytes;
    if (__builtin_mul_overflow(static_cast<size_t>(rows), static_cast<size_t>(cols), &count) ||
        __builtin_mul_overflow(count, sizeof(T), &bytes) || bytes > limit - bytes_)
      fail(LAMINA_E_ARGUMENT, "width, value_width, queries, keys: scratch memory of more than 2^62 bytes, must be less");
    T* taken = memory_ ? reinterpret_cast<T*>(memory_ + bytes_) : nullptr;
    bytes_ += (bytes + alignment - 1) / alignment * alignment;
    return taken;
  }
  size_t bytes() const { return bytes_; }

 private:
  static constexpr size_t limit = size_t{1} << 62;
  char* memory_;
  size_t bytes_ = 0;
};

// Of a struct that carves its arrays, Memory(shape .., carver).
template <class Memory, class... Shape>
size_t bytes_of(const Shape&... shape) {
  Carver carver;
  Memory(shape..., carver);
  return carver.bytes();
}

// The workspace of one call: the caller's, or allocated here and released at the end.
class Workspace {
 public:
  Workspace(void* given, size_t needed) : memory_(given), own_(!given && needed > 0) {
    if (own_) memory_ = ::operator new (needed, std::align_val_t{alignment}, std::nothrow);
    if (own_ && !memory_) fail(LAMINA_E_MEMORY, "workspace of " + std::to_string(needed) + " bytes could not be allocated");
  }
  ~Workspace() {
    if (own_) ::operator delete (memory_, std::align_val_t{alignment});
  }
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;
  char* memory() const { return static_cast<char*>(memory_); }

 private:
  void* memory_;
  bool own_;
};

}  // namespace lamina::attention
