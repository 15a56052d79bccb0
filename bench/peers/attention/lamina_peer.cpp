// lamina behind serve.hpp: a plan, a workspace, two calls. Also the peak: `peak ISA ELEMENT` answers flops a second of one thread.
#include "serve.hpp"

#include "lamina/lamina.h"
#include "peak.hpp"

namespace {

void check(lamina_status status) {
  if (status != LAMINA_OK) throw std::runtime_error(lamina_last_error());
}

class Attention : public Call {
 public:
  explicit Attention(const Request& request) : backward_(request.backward()) {
    lamina_attention_spec spec;
    check(lamina_attention_spec_init(&spec, sizeof spec));
    spec.element = request.f64() ? LAMINA_F64 : LAMINA_F32;
    spec.map = request.word("map") == "softmax" ? LAMINA_SOFTMAX : request.word("map") == "linear" ? LAMINA_LINEAR : LAMINA_RELU;
    spec.causal = request.causal() ? LAMINA_CAUSAL_TOP_LEFT : LAMINA_CAUSAL_NONE;
    spec.threads = static_cast<int32_t>(request.number("threads"));
    spec.batch = request.number("batch"), spec.heads = request.number("heads");
    spec.queries = spec.keys = request.number("length"), spec.width = request.number("width");
    spec.isa = request.word("isa").c_str();
    lamina_attention* plan = nullptr;
    check(lamina_attention_create(&spec, &plan));
    plan_.reset(plan);
    check(lamina_attention_workspace(plan, LAMINA_FORWARD, &forward_bytes_));
    check(lamina_attention_workspace(plan, LAMINA_BACKWARD, &backward_bytes_));
    if (!backward_) backward_bytes_ = 0;
    workspace_ = std::make_unique<Buffer>(std::max(forward_bytes_, backward_bytes_));

    const int64_t N = spec.queries, D = spec.width, stride[4] = {spec.heads * N * D, N * D, D, 1};
    check(lamina_attention_arrays_init(&arrays_, sizeof arrays_));
    lamina_input* inputs[] = {&arrays_.q, &arrays_.k, &arrays_.v, &arrays_.d_o};
    lamina_output* outputs[] = {&arrays_.o, &arrays_.d_q, &arrays_.d_k, &arrays_.d_v};
    const char* names[] = {"q", "k", "v", "d_o"};
    for (int i = 0; i < 4; ++i) {
      if (i == 3 && !backward_) break;
      in_.emplace_back(request.bytes());
      in_.back().read(request.word("folder") + "/" + names[i]);
      inputs[i]->data = in_.back().data<void>();
      std::copy(stride, stride + 4, inputs[i]->stride);
    }
    for (int i = 0; i < (backward_ ? 4 : 1); ++i) {
      out_.emplace_back(request.bytes());
      outputs[i]->data = out_.back().data<void>();
      std::copy(stride, stride + 4, outputs[i]->stride);
    }
  }

  void run() override {
    check(lamina_attention_forward(plan_.get(), &arrays_, workspace_->data<void>(), forward_bytes_));
    if (backward_) check(lamina_attention_backward(plan_.get(), &arrays_, workspace_->data<void>(), backward_bytes_));
  }

  void write(const std::string& folder) override {
    const char* names[] = {"o", "d_q", "d_k", "d_v"};
    for (size_t i = 0; i < out_.size(); ++i) out_[i].write(folder + "/" + names[i]);
  }

  std::string note() const override {
    return std::string(lamina_attention_isa(plan_.get())) + ", workspace " + std::to_string(workspace_->bytes());
  }

 private:
  bool backward_;
  std::unique_ptr<lamina_attention, void (*)(lamina_attention*)> plan_{nullptr, lamina_attention_free};
  size_t forward_bytes_ = 0, backward_bytes_ = 0;
  std::unique_ptr<Buffer> workspace_;
  lamina_attention_arrays arrays_;
  std::vector<Buffer> in_, out_;
};

std::string other(const std::string& verb, const std::string& isa, std::istringstream& rest) {
  std::string element;
  rest >> element;
  if (verb != "peak") throw std::runtime_error("unknown verb " + verb);
  return std::to_string(peak::rate(isa.c_str(), element == "f64"));
}

}  // namespace

int main() {
  return serve([](const Request& request) { return std::make_unique<Attention>(request); }, other);
}
