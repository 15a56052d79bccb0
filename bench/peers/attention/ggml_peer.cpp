// ggml's flash attention behind serve.hpp, forward only: float32 queries; keys and values of `method`, f32 or f16, converted
// before the clock runs. A causal call adds its mask, -inf above the diagonal; ggml has no other way to say it.
#include "serve.hpp"

#include <cmath>

#include <ggml-backend.h>
#include <ggml-cpu.h>
#include <ggml.h>

namespace {

class Attention : public Call {
 public:
  explicit Attention(const Request& request) {
    if (request.f64() || request.backward() || request.word("map") != "softmax")
      throw std::runtime_error("only softmax, float32, forward");
    const int64_t B = request.number("batch"), H = request.number("heads"), N = request.number("length"), D = request.number("width");
    const ggml_type kv = request.word("method") == "f16" ? GGML_TYPE_F16 : GGML_TYPE_F32;
    backend_.reset(ggml_backend_init_by_type(GGML_BACKEND_DEVICE_TYPE_CPU, nullptr));
    if (!backend_) throw std::runtime_error("no CPU backend found");
    set_threads(static_cast<int>(request.number("threads")));
    context_.reset(ggml_init({ggml_tensor_overhead() * 16 + ggml_graph_overhead(), nullptr, true}));
    ggml_tensor* q = ggml_new_tensor_4d(context_.get(), GGML_TYPE_F32, D, N, H, B);
    ggml_tensor* k = ggml_new_tensor_4d(context_.get(), kv, D, N, H, B);
    ggml_tensor* v = ggml_new_tensor_4d(context_.get(), kv, D, N, H, B);
    ggml_tensor* mask = request.causal() ? ggml_new_tensor_2d(context_.get(), GGML_TYPE_F16, N, N) : nullptr;
    o_ = ggml_flash_attn_ext(context_.get(), q, k, v, mask, 1 / std::sqrt(static_cast<float>(D)), 0, 0);
    if (!ggml_backend_supports_op(backend_.get(), o_)) throw std::runtime_error("ggml's CPU does not support this shape");
    graph_ = ggml_new_graph(context_.get());
    ggml_build_forward_expand(graph_, o_);
    buffer_.reset(ggml_backend_alloc_ctx_tensors(context_.get(), backend_.get()));
    set(q, request, "q"), set(k, request, "k"), set(v, request, "v");
    if (mask) {
      std::vector<ggml_fp16_t> bias(static_cast<size_t>(N * N));
      for (int64_t i = 0; i < N; ++i)
        for (int64_t j = 0; j < N; ++j) bias[static_cast<size_t>(i * N + j)] = ggml_fp32_to_fp16(j <= i ? 0 : -INFINITY);
      ggml_backend_tensor_set(mask, bias.data(), 0, bias.size() * sizeof bias[0]);
    }
  }

  void run() override {
    if (ggml_backend_graph_compute(backend_.get(), graph_) != GGML_STATUS_SUCCESS) throw std::runtime_error("graph_compute");
  }

  void write(const std::string& folder) override {  // [D, H, N, B] to [B, H, N, D]
    const int64_t D = o_->ne[0], H = o_->ne[1], N = o_->ne[2], B = o_->ne[3];
    std::vector<float> given(static_cast<size_t>(B * H * N * D));
    ggml_backend_tensor_get(o_, given.data(), 0, given.size() * 4);
    Buffer o(given.size() * 4);
    for (int64_t b = 0; b < B; ++b)
      for (int64_t h = 0; h < H; ++h)
        for (int64_t n = 0; n < N; ++n)
          std::copy_n(given.data() + ((b * N + n) * H + h) * D, D, o.data<float>() + ((b * H + h) * N + n) * D);
    o.write(folder + "/o");
  }

 private:
  void set_threads(int threads) {
    auto* registry = ggml_backend_dev_backend_reg(ggml_backend_get_device(backend_.get()));
    auto* set = reinterpret_cast<ggml_backend_set_n_threads_t>(
        ggml_backend_reg_get_proc_address(registry, "ggml_backend_set_n_threads"));
    if (!set) throw std::runtime_error("the number of threads cannot be set");
    set(backend_.get(), threads);
  }

  static void set(ggml_tensor* tensor, const Request& request, const char* name) {
    Buffer values(request.bytes());
    values.read(request.word("folder") + "/" + name);
    if (tensor->type == GGML_TYPE_F32) return ggml_backend_tensor_set(tensor, values.data<float>(), 0, values.bytes());
    std::vector<ggml_fp16_t> half(values.bytes() / 4);
    ggml_fp32_to_fp16_row(values.data<float>(), half.data(), static_cast<int64_t>(half.size()));
    ggml_backend_tensor_set(tensor, half.data(), 0, half.size() * sizeof half[0]);
  }

  std::unique_ptr<ggml_backend, decltype(&ggml_backend_free)> backend_{nullptr, ggml_backend_free};
  std::unique_ptr<ggml_context, decltype(&ggml_free)> context_{nullptr, ggml_free};
  std::unique_ptr<ggml_backend_buffer, decltype(&ggml_backend_buffer_free)> buffer_{nullptr, ggml_backend_buffer_free};
  ggml_tensor* o_ = nullptr;
  ggml_cgraph* graph_ = nullptr;
};

}  // namespace

int main() {
  ggml_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
  ggml_backend_load_all();
  return serve([](const Request& request) { return std::make_unique<Attention>(request); });
}
