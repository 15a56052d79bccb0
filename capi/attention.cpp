// lamina.h, section attention: plans, and forward and backward on the host's arrays.
#include <memory>

#include "attention/attention.hpp"
#include "capi/check.hpp"
#include "capi/guard.hpp"

using namespace lamina;
using namespace lamina::capi;

struct lamina_attention {
  std::shared_ptr<const attention::Plan> plan;  // also held while the host's allocator runs, which may free the handle
};

namespace {

// Memory of the host's own allocator for one call.
class HostWorkspace {
 public:
  HostWorkspace(const lamina_allocator& allocator, size_t bytes) : allocator_(allocator), bytes_(bytes) {
    const HostCall host;
    memory_ = allocator_.allocate(allocator_.user, bytes_, 64);
    if (!memory_) fail(LAMINA_E_MEMORY, "allocator.allocate returned NULL for " + std::to_string(bytes_) + " bytes of workspace");
  }
  ~HostWorkspace() {
    const HostCall host;
    allocator_.release(allocator_.user, memory_, bytes_);
  }
  HostWorkspace(const HostWorkspace&) = delete;
  HostWorkspace& operator=(const HostWorkspace&) = delete;
  void* memory() const { return memory_; }

 private:
  const lamina_allocator allocator_;
  const size_t bytes_;
  void* memory_;
};

using Direction = void (*)(const attention::Plan&, const lamina_attention_arrays&, void*, size_t);

void run(const lamina_attention* attention, const lamina_attention_arrays* arrays, void* workspace, size_t workspace_bytes,
         int32_t direction, Direction call) {
  require(attention, "attention");
  require(arrays, "arrays");
  if (arrays->struct_size != sizeof *arrays)  // the usual case costs nothing
    require_struct_size("arrays", arrays, arrays->struct_size, sizeof *arrays);
  const attention::Plan& plan = *attention->plan;
  const size_t needed = workspace || !plan.allocator.allocate ? 0 : plan.workspace(direction);
  if (needed == 0) return call(plan, *arrays, workspace, workspace_bytes);
  const std::shared_ptr<const attention::Plan> held = attention->plan;
  const HostWorkspace host(plan.allocator, needed);
  call(plan, *arrays, host.memory(), needed);
}

}  // namespace

lamina_status lamina_attention_spec_init(lamina_attention_spec* spec, uint32_t size) {
  return guard("lamina_attention_spec_init", [&] { init_struct("spec", spec, size); });
}

lamina_status lamina_attention_arrays_init(lamina_attention_arrays* arrays, uint32_t size) {
  return guard("lamina_attention_arrays_init", [&] { init_struct("arrays", arrays, size); });
}

lamina_status lamina_attention_create(const lamina_attention_spec* spec, lamina_attention** out) {
  return guard("lamina_attention_create", [&] {
    const lamina_attention_spec given = read_struct("spec", spec);
    require(out, "out");
    *out = new lamina_attention{std::make_shared<const attention::Plan>(given)};
  });
}

void lamina_attention_free(lamina_attention* attention) {
  guard("lamina_attention_free", [&] { delete attention; });
}

const char* lamina_attention_isa(const lamina_attention* attention) {
  return attention ? attention->plan->isa->name : nullptr;
}

lamina_status lamina_attention_workspace(const lamina_attention* attention, int32_t direction, size_t* bytes) {
  return guard("lamina_attention_workspace", [&] {
    require(attention, "attention");
    require(bytes, "bytes");
    *bytes = attention->plan->workspace(direction);
  });
}

lamina_status lamina_attention_forward(const lamina_attention* attention, const lamina_attention_arrays* arrays,
                                       void* workspace, size_t workspace_bytes) {
  return guard("lamina_attention_forward",
               [&] { run(attention, arrays, workspace, workspace_bytes, LAMINA_FORWARD, attention::forward); });
}

lamina_status lamina_attention_backward(const lamina_attention* attention, const lamina_attention_arrays* arrays,
                                        void* workspace, size_t workspace_bytes) {
  return guard("lamina_attention_backward",
               [&] { run(attention, arrays, workspace, workspace_bytes, LAMINA_BACKWARD, attention::backward); });
}
