// Memory that calls use again and again. By malloc alone glibc gives it back to the system after every training step, and taking it again
// page by page costs a third of the step.
#pragma once
#include <memory_resource>
#include <mutex>

namespace lamina {

// What one call returns the next one takes, on any thread; all is freed with the pool.
class Pool final : public std::pmr::memory_resource {
 public:
  Pool() = default;
  Pool(const Pool&) : Pool() {}  // a copy begins empty
  Pool& operator=(const Pool&) = delete;

 private:
  void* do_allocate(size_t bytes, size_t alignment) override {
    const std::lock_guard lock(mutex_);
    return blocks_.allocate(bytes, alignment);
  }
  void do_deallocate(void* memory, size_t bytes, size_t alignment) override {
    const std::lock_guard lock(mutex_);
    blocks_.deallocate(memory, bytes, alignment);
  }
  bool do_is_equal(const memory_resource& other) const noexcept override { return this == &other; }

  std::mutex mutex_;
  std::pmr::unsynchronized_pool_resource blocks_{{.max_blocks_per_chunk = 2, .largest_required_pool_block = 4 << 20}};
};

}  // namespace lamina
