// oneDNN's Graph API behind serve.hpp, forward only, float32: the pattern of its manual's page on scaled dot-product attention,
// MatMul, Multiply, (causal mask), SoftMax, MatMul, as one compiled partition. `method`: how the causal mask is said, "implicit" (the
// manual's GenIndex, GreaterEqual, Select) or "added" (a tensor with -inf above the diagonal).
#include "serve.hpp"

#include <cmath>
#include <limits>

#include <oneapi/dnnl/dnnl_graph.hpp>

namespace {

using namespace dnnl::graph;
using Tensor = logical_tensor;
using Dims = Tensor::dims;

class Attention : public Call {
 public:
  explicit Attention(const Request& request)
      : engine_(make_engine_with_allocator(dnnl::engine::kind::cpu, 0, allocator())), stream_(engine_) {
    if (request.f64() || request.backward() || request.word("map") != "softmax")
      throw std::runtime_error("only softmax, float32, forward");
    const int64_t B = request.number("batch"), H = request.number("heads"), N = request.number("length"), D = request.number("width");
    const Dims wide{B, H, N, D}, square{B, H, N, N};
    Tensor q = tensor(wide), k = tensor(wide), v = tensor(wide), scale = tensor({1}), o = tensor(wide);
    Tensor products = inner(square), scores = inner(square), weights = inner(square);
    add(op::kind::MatMul, {q, k}, {products}).set_attr<bool>(op::attr::transpose_b, true);
    add(op::kind::Multiply, {products, scale}, {scores});
    bind(q, request, "q"), bind(k, request, "k"), bind(v, request, "v");
    fill(scale, {static_cast<float>(1 / std::sqrt(static_cast<double>(D)))});
    if (request.causal() && request.word("method") == "added") {
      Tensor mask = tensor({1, 1, N, N}), masked = inner(square);
      add(op::kind::Add, {scores, mask}, {masked});
      std::vector<float> values(static_cast<size_t>(N * N));
      for (int64_t i = 0; i < N; ++i)
        for (int64_t j = 0; j < N; ++j)
          values[static_cast<size_t>(i * N + j)] = j <= i ? 0 : -std::numeric_limits<float>::infinity();
      fill(mask, values);
      scores = masked;
    } else if (request.causal()) {
      Tensor rows = inner(square, Tensor::data_type::s32), columns = inner(square, Tensor::data_type::s32);
      Tensor visible = inner(square, Tensor::data_type::boolean), hidden = tensor({1}), masked = inner(square);
      add(op::kind::GenIndex, {scores}, {rows}).set_attr<int64_t>(op::attr::axis, 2);
      add(op::kind::GenIndex, {scores}, {columns}).set_attr<int64_t>(op::attr::axis, 3);
      add(op::kind::GreaterEqual, {rows, columns}, {visible});
      add(op::kind::Select, {visible, scores, hidden}, {masked});
      fill(hidden, {-std::numeric_limits<float>::infinity()});
      scores = masked;
    }
    add(op::kind::SoftMax, {scores}, {weights}).set_attr<int64_t>(op::attr::axis, -1).set_attr<std::string>(op::attr::mode, "inf_as_zero");
    add(op::kind::MatMul, {weights, v}, {o});
    bind(o, request, "");

    graph attention(dnnl::engine::kind::cpu);
    for (op& each : operations_) attention.add_op(each);
    attention.finalize();
    const std::vector<partition> parts = attention.get_partitions();
    if (parts.size() != 1 || !parts[0].is_supported()) throw std::runtime_error(std::to_string(parts.size()) + " partitions, not one");
    std::vector<Tensor> from = parts[0].get_input_ports(), to = parts[0].get_output_ports();
    for (Tensor& port : from) port = described_.at(port.get_id());
    for (Tensor& port : to) port = described_.at(port.get_id());
    compiled_ = parts[0].compile(from, to, engine_);
    for (const Tensor& port : from) from_.emplace_back(port, engine_, memory_.at(port.get_id())->data<void>());
    for (const Tensor& port : to) to_.emplace_back(port, engine_, memory_.at(port.get_id())->data<void>());
    o_ = o.get_id();
  }

  void run() override {
    compiled_.execute(stream_, from_, to_);
    stream_.wait();
  }

  void write(const std::string& folder) override { memory_.at(o_)->write(folder + "/o"); }

 private:
  Tensor tensor(const Dims& dims) {
    Tensor made(next_++, Tensor::data_type::f32, dims, Tensor::layout_type::strided);
    described_.emplace(made.get_id(), made);
    return made;
  }
  Tensor inner(const Dims& dims, Tensor::data_type type = Tensor::data_type::f32) {
    return Tensor(next_++, type, dims, Tensor::layout_type::strided);
  }
  op& add(op::kind kind, const std::vector<Tensor>& from, const std::vector<Tensor>& to) {
    const size_t id = next_++;
    operations_.emplace_back(id, kind, from, to, "op" + std::to_string(id));
    return operations_.back();
  }
  void bind(const Tensor& described, const Request& request, const std::string& name) {
    auto& memory = memory_[described.get_id()] = std::make_unique<Buffer>(request.bytes());
    if (!name.empty()) memory->read(request.word("folder") + "/" + name);
  }
  void fill(const Tensor& described, const std::vector<float>& values) {
    auto& memory = memory_[described.get_id()] = std::make_unique<Buffer>(values.size() * 4);
    std::copy(values.begin(), values.end(), memory->data<float>());
  }

  dnnl::engine engine_;
  dnnl::stream stream_;
  size_t next_ = 0, o_ = 0;
  std::vector<op> operations_;
  std::map<size_t, Tensor> described_;
  std::map<size_t, std::unique_ptr<Buffer>> memory_;
  compiled_partition compiled_;
  std::vector<dnnl::graph::tensor> from_, to_;
};

}  // namespace

int main() {
  return serve([](const Request& request) { return std::make_unique<Attention>(request); });
}
