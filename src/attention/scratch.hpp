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

// The workspace of one call: the caller's, or allocated here and released at the end.
class Workspace {
 public:
  Workspace(const lamina_allocator& allocator, void* given, size_t needed) : allocator_(allocator), memory_(given) {
    if (given || needed == 0) return;
    bytes_ = needed;
    memory_ = allocator_.allocate ? allocator_.allocate(allocator_.user, needed, alignment)
                                  : ::operator new(needed, std::align_val_t{alignment}, std::nothrow);
    if (!memory_) fail(LAMINA_E_MEMORY, "workspace of " + std::to_string(needed) + " bytes could not be allocated");
  }
  ~Workspace() {
    if (bytes_ == 0) return;
    if (allocator_.release)
      allocator_.release(allocator_.user, memory_, bytes_);
    else
      ::operator delete(memory_, std::align_val_t{alignment});
  }
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;
  void* memory() const { return memory_; }

 private:
  const lamina_allocator& allocator_;
  void* memory_;
  size_t bytes_ = 0;
};

}  // namespace lamina::attention
