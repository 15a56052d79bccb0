// The front over dense vectors: x_h = E(z_h) + Et(z_{h-1}) in R^d, and one query row of attention per prompt with keys and
// values x_h. What the token front computes from pairs, computed the long way, for any orthonormal embeddings.
#include <algorithm>

#include "attention/attention.hpp"
#include "model/front.hpp"

namespace lamina {
namespace {

class DensePrompts final : public FrontPrompts {
 public:
  Prompts prompts;
};

struct alignas(64) CacheLine {
  std::byte bytes[64];
};

template <class T>
class DenseScratch final : public FrontScratch {
 public:
  std::unique_ptr<attention::Plan> plan;
  int64_t count = 0, length = 0;
  std::vector<T> x, query, w, dw, weights;  // [count, H, d], [count, d] three times, [count, H]
  std::vector<CacheLine> workspace;
};

template <class T>
class DenseFront final : public Front<T> {
 public:
  DenseFront(const Parametrisation& form, const kernels::InstructionSet& isa)
      : d_(form.width()), K_(form.logit_count()), map_(form.map()), isa_(isa), table_(isa.table<T>()) {
    const int64_t D = 2 * K_;
    columns_.resize(D * d_);
    for (int64_t k = 0; k < D; ++k)
      for (int64_t i = 0; i < d_; ++i) columns_[k * d_ + i] = static_cast<T>(form.embedding()[i * D + k]);
  }

  std::unique_ptr<Front<T>> clone() const override { return std::make_unique<DenseFront>(*this); }
  std::unique_ptr<FrontScratch> scratch(int64_t) const override { return std::make_unique<DenseScratch<T>>(); }

  std::unique_ptr<FrontPrompts> compile(const Prompts& prompts) const override {
    auto out = std::make_unique<DensePrompts>();
    out->prompts = prompts;
    return out;
  }

  void forward(const FrontPrompts& front, int64_t first, int64_t count, const T* W, T* c, double* masses,
               FrontScratch& memory) const override {
    const Prompts& all = static_cast<const DensePrompts&>(front).prompts;
    auto& m = static_cast<DenseScratch<T>&>(memory);
    prepare(all, first, count, m);
    table_.gemm(count, d_, d_, m.query.data(), d_, 1, W, d_, m.w.data(), d_, false);  // w = W^T x_H
    lamina_attention_arrays arrays = inputs(m);
    arrays.o = {c, {d_, d_, d_, 1}};
    if (masses) arrays.weights = {m.weights.data(), {m.length, m.length, m.length, 1}};
    attention::forward(*m.plan, arrays, m.workspace.data(), m.workspace.size() * sizeof(CacheLine));
    if (masses)
      for (int64_t n = 0; n < count; ++n) read_masses(all, first + n, &m.weights[n * m.length], masses + 3 * n);
  }

  void backward(const FrontPrompts&, int64_t, int64_t count, const T* dc, T* dW, FrontScratch& memory) const override {
    auto& m = static_cast<DenseScratch<T>&>(memory);
    lamina_attention_arrays arrays = inputs(m);
    arrays.d_o = {dc, {d_, d_, d_, 1}};
    arrays.d_q = {m.dw.data(), {d_, d_, d_, 1}};
    attention::backward(*m.plan, arrays, m.workspace.data(), m.workspace.size() * sizeof(CacheLine));
    table_.gemm(d_, d_, count, m.query.data(), 1, d_, m.dw.data(), d_, dW, d_, true);  // dW += x_H^T dw
  }

  void query_times(const FrontPrompts&, int64_t, int64_t count, const T* M, int64_t n, T* out,
                   FrontScratch& memory) const override {
    const auto& m = static_cast<const DenseScratch<T>&>(memory);
    table_.gemm(count, n, d_, m.query.data(), d_, 1, M, n, out, n, true);
  }

  void query_outer(const FrontPrompts&, int64_t, int64_t count, const T* r, int64_t n, T* dM, FrontScratch& memory) const override {
    const auto& m = static_cast<const DenseScratch<T>&>(memory);
    table_.gemm(d_, n, count, m.query.data(), 1, d_, r, n, dM, n, true);
  }

 private:
  void prepare(const Prompts& all, int64_t first, int64_t count, DenseScratch<T>& m) const {
    const int64_t H = all.length;
    if (!m.plan || m.count != count || m.length != H) {
      lamina_attention_spec spec{};
      spec.struct_size = sizeof spec;
      spec.element = sizeof(T) == 8 ? LAMINA_F64 : LAMINA_F32;
      spec.map = static_cast<int32_t>(map_);
      spec.threads = 1, spec.flags = LAMINA_WITH_WEIGHTS;
      spec.batch = count, spec.heads = spec.kv_heads = spec.queries = 1, spec.keys = H, spec.width = spec.value_width = d_;
      spec.scale = 1, spec.relu_at_zero = 1;
      spec.isa = isa_.name;
      m.plan = std::make_unique<attention::Plan>(spec);
      const size_t bytes = std::max(m.plan->workspace(LAMINA_FORWARD), m.plan->workspace(LAMINA_BACKWARD));
      m.workspace.resize((bytes + sizeof(CacheLine) - 1) / sizeof(CacheLine));
      m.count = count, m.length = H;
      m.x.resize(count * H * d_), m.weights.resize(count * H);
      m.query.resize(count * d_), m.w.resize(count * d_), m.dw.resize(count * d_);
    }
    for (int64_t n = 0; n < count; ++n) {
      const std::span<const int32_t> z = all.row(first + n);
      for (int64_t h = 0; h < H; ++h) {
        T* x = &m.x[(n * H + h) * d_];
        const T *own = &columns_[z[h] * d_], *before = h > 0 ? &columns_[(K_ + z[h - 1]) * d_] : nullptr;
        for (int64_t i = 0; i < d_; ++i) x[i] = before ? own[i] + before[i] : own[i];
      }
      std::copy_n(&m.x[(n * H + H - 1) * d_], d_, &m.query[n * d_]);
    }
  }

  lamina_attention_arrays inputs(const DenseScratch<T>& m) const {
    lamina_attention_arrays arrays{};
    arrays.struct_size = sizeof arrays;
    arrays.q = {m.w.data(), {d_, d_, d_, 1}};
    arrays.k = arrays.v = {m.x.data(), {m.length * d_, m.length * d_, d_, 1}};
    return arrays;
  }

  void read_masses(const Prompts& all, int64_t n, const T* a, double* out) const {
    const std::span<const int32_t> z = all.row(n);
    out[0] = out[1] = out[2] = 0;
    for (size_t h = 0; h < z.size(); ++h) {
      const bool after = h > 0 && z[h - 1] == z.back();
      out[after && z[h] == all.answer[n] ? 0 : after && z[h] == K_ - 1 ? 1 : 2] += a[h];
    }
  }

  int64_t d_, K_;
  kernels::Map map_;
  const kernels::InstructionSet& isa_;
  const kernels::Table<T>& table_;
  std::vector<T> columns_;  // [D, d]: row k is the embedding of basis vector k
};

}  // namespace

template <class T>
std::unique_ptr<Front<T>> make_dense_front(const Parametrisation& form, const kernels::InstructionSet& isa) {
  return std::make_unique<DenseFront<T>>(form, isa);
}
template std::unique_ptr<Front<float>> make_dense_front(const Parametrisation&, const kernels::InstructionSet&);
template std::unique_ptr<Front<double>> make_dense_front(const Parametrisation&, const kernels::InstructionSet&);

}  // namespace lamina
