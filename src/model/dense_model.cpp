// What the other models compute from counts, computed from vectors x_h = E(z_h) + Et(z_{h-1}) in R^d for any orthonormal
// embeddings: one query row of attention per prompt, keys and values x_h, and the matrices one after the other. A chunk of
// prompts is one unit of work, and chunk gradients are added in ascending order, so that the bits do not depend on threads.
#include "model/dense_model.hpp"

#include "attention/attention.hpp"
#include "model/logit_rows.hpp"
#include "model/parametrisation.hpp"

namespace lamina {
namespace {

constexpr int64_t chunk_length = 128;  // prompts
constexpr int64_t wave_length = 32;    // chunks whose gradients are in memory at once

class DensePrompts final : public CompiledPrompts {
 public:
  Prompts prompts;
  std::vector<double> weight;
};

struct alignas(64) CacheLine {
  std::byte bytes[64];
};

// The matrices in the type and orientation that the passes read: Xt is the transpose of X.
template <class T>
struct Weights {
  std::vector<T> W, V, Vt, U, Ut, F, Ft;
};

template <class T>
std::vector<T> transposed(const std::vector<double>& M, int64_t rows, int64_t columns) {
  std::vector<T> out(M.size());
  for (int64_t i = 0; i < rows && !M.empty(); ++i)
    for (int64_t j = 0; j < columns; ++j) out[j * rows + i] = static_cast<T>(M[i * columns + j]);
  return out;
}

template <class T>
class DenseModel final : public Model {
 public:
  DenseModel(const RecallLaw& law, const Settings& settings, const kernels::InstructionSet& isa)
      : table_(isa.table<T>()), form_(law, settings), K_(form_.logit_count()), d_(form_.width()),
        columns_(transposed<T>(form_.embedding(), d_, 2 * K_)) {
    law_ = law, settings_ = settings, isa_ = &isa;
    tensors_ = form_.tensors();
    parameters_ = form_.initial();
  }

  std::unique_ptr<Model> clone() const override { return std::make_unique<DenseModel>(*this); }

  std::unique_ptr<CompiledPrompts> compile(const Prompts& prompts, std::span<const double> weights, const Team&) const override {
    auto out = std::make_unique<DensePrompts>();
    out->prompts = prompts;
    out->weight.assign(prompts.count, 1.0 / static_cast<double>(std::max<int64_t>(1, prompts.count)));
    if (!weights.empty()) out->weight.assign(weights.begin(), weights.end());
    return out;
  }

  Loss loss_and_gradient(const CompiledPrompts& compiled, const Team& team, double* gradient, bool with_excess) const override {
    const auto& all = static_cast<const DensePrompts&>(compiled);
    const Weights<T> weights = read_weights();
    const Layout at(*this);
    const int64_t chunks = (all.prompts.count + chunk_length - 1) / chunk_length;
    std::vector<std::unique_ptr<Scratch>> slots(team.threads());
    std::vector<T> partial(std::min(chunks, wave_length) * at.size);
    std::vector<double> sum(at.size, 0.0);
    std::vector<Loss> losses(chunks);
    for (int64_t wave = 0; wave < chunks; wave += wave_length) {
      const int64_t count = std::min(wave_length, chunks - wave);
      team.for_each(count, [&](int64_t chunk, int slot) {
        if (!slots[slot]) slots[slot] = std::make_unique<Scratch>(*this, all.prompts.length);
        const int64_t first = (wave + chunk) * chunk_length, length = std::min(chunk_length, all.prompts.count - first);
        Scratch& s = *slots[slot];
        forward_chunk(all, weights, first, length, s, false);
        losses[wave + chunk] = cross_entropy(all, first, length, s, with_excess);
        if (!gradient) return;
        T* d = &partial[chunk * at.size];
        std::fill_n(d, at.size, T(0));
        backward_chunk(weights, length, s, at, d);
      });
      for (int64_t chunk = 0; gradient && chunk < count; ++chunk)
        for (int64_t i = 0; i < at.size; ++i) sum[i] += static_cast<double>(partial[chunk * at.size + i]);
    }
    Loss total;
    for (const Loss& loss : losses) total.loss += loss.loss, total.excess += loss.excess;
    if (gradient) write_gradient(at, sum, gradient);
    return total;
  }

  Metrics measure(const CompiledPrompts& compiled, const Team& team) const override {
    const auto& all = static_cast<const DensePrompts&>(compiled);
    const Weights<T> weights = read_weights();
    const int64_t chunks = (all.prompts.count + chunk_length - 1) / chunk_length;
    std::vector<std::unique_ptr<Scratch>> slots(team.threads());
    std::vector<Metrics> parts(chunks);
    team.for_each(chunks, [&](int64_t chunk, int slot) {
      if (!slots[slot]) slots[slot] = std::make_unique<Scratch>(*this, all.prompts.length);
      const int64_t first = chunk * chunk_length, length = std::min(chunk_length, all.prompts.count - first);
      forward_chunk(all, weights, first, length, *slots[slot], true);
      add_metrics(all, weights, first, length, *slots[slot], parts[chunk]);
    });
    return sum_of(parts);
  }

  void forward(const Prompts& prompts, LogitPart part, double* logits, double* weights) const override {
    form_.forward(parameters_, prompts, part, logits, weights);
  }

 private:
  // Rows are prompts of a chunk: x [., H, d]; query x_H, w = W^T x_H, c, phi, ff = F g, o and their cotangents [., d]; xi, r [., K].
  struct Scratch {
    Scratch(const DenseModel& m, int64_t length) : H(length), x(chunk_length * H * m.d_), a(chunk_length * H) {
      for (auto* row : {&query, &w, &c, &phi, &ff, &o, &d_w, &d_c, &d_phi, &d_o}) row->resize(chunk_length * m.d_);
      xi.resize(chunk_length * m.K_), r.resize(chunk_length * m.K_);
    }
    int64_t H;
    std::vector<T> x, a, query, w, c, phi, ff, o, d_w, d_c, d_phi, d_o, xi, r;
    std::unique_ptr<attention::Plan> plan;
    int64_t planned = 0;
    std::vector<CacheLine> workspace;
  };

  // Where the chunk gradients stand: dW, dV, dU, and dF^T if there is a feed-forward part.
  struct Layout {
    explicit Layout(const DenseModel& m)
        : V(m.d_ * m.d_), U(2 * V), Ft(U + m.K_ * m.d_), size(Ft + (m.form_.has_feed_forward() ? m.d_ * m.d_ : 0)) {}
    int64_t V, U, Ft, size;
  };

  Weights<T> read_weights() const {
    const Matrices m = form_.matrices(parameters_);
    const auto rounded = [](const std::vector<double>& M) { return std::vector<T>(M.begin(), M.end()); };
    return {rounded(m.W), rounded(m.V), transposed<T>(m.V, d_, d_), rounded(m.U), transposed<T>(m.U, K_, d_), rounded(m.F),
            transposed<T>(m.F, d_, d_)};
  }

  // C [m, n] (+)= A [m, k] B [k, n]
  void product(int64_t m, int64_t n, int64_t k, const std::vector<T>& A, const std::vector<T>& B, std::vector<T>& C,
               bool accumulate = false) const {
    table_.gemm(m, n, k, A.data(), k, 1, B.data(), n, C.data(), n, accumulate);
  }
  // C [m, n] += A^T B, A [k, m], B [k, n]
  void outer(int64_t m, int64_t n, int64_t k, const std::vector<T>& A, const std::vector<T>& B, T* C) const {
    table_.gemm(m, n, k, A.data(), 1, m, B.data(), n, C, n, true);
  }

  void read_prompts(const Prompts& prompts, int64_t first, int64_t count, Scratch& s) const {
    for (int64_t n = 0; n < count; ++n) {
      const std::span<const int32_t> z = prompts.row(first + n);
      for (int64_t h = 0; h < s.H; ++h) {
        T* x = &s.x[(n * s.H + h) * d_];
        const T *own = &columns_[z[h] * d_], *before = h > 0 ? &columns_[(K_ + z[h - 1]) * d_] : nullptr;
        for (int64_t i = 0; i < d_; ++i) x[i] = before ? own[i] + before[i] : own[i];
      }
      std::copy_n(&s.x[(n * s.H + s.H - 1) * d_], d_, &s.query[n * d_]);
    }
    if (s.planned == count) return;
    lamina_attention_spec spec{};
    spec.struct_size = sizeof spec;
    spec.element = sizeof(T) == 8 ? LAMINA_F64 : LAMINA_F32;
    spec.map = static_cast<int32_t>(form_.map());
    spec.threads = 1, spec.flags = LAMINA_WITH_WEIGHTS;
    spec.batch = count, spec.heads = spec.kv_heads = spec.queries = 1, spec.keys = s.H, spec.width = spec.value_width = d_;
    spec.scale = 1, spec.relu_at_zero = 1;
    spec.isa = isa_->name;
    s.plan = std::make_unique<attention::Plan>(spec);
    const size_t bytes = std::max(s.plan->workspace(LAMINA_FORWARD), s.plan->workspace(LAMINA_BACKWARD));
    s.workspace.resize((bytes + sizeof(CacheLine) - 1) / sizeof(CacheLine));
    s.planned = count;
  }

  lamina_attention_arrays inputs(const Scratch& s) const {
    lamina_attention_arrays arrays{};
    arrays.struct_size = sizeof arrays;
    arrays.q = {s.w.data(), {d_, d_, d_, 1}};
    arrays.k = arrays.v = {s.x.data(), {s.H * d_, s.H * d_, d_, 1}};
    return arrays;
  }

  void forward_chunk(const DensePrompts& all, const Weights<T>& m, int64_t first, int64_t count, Scratch& s, bool with_weights) const {
    // 1. w = W^T x_H, c = sum_h a_h x_h
    read_prompts(all.prompts, first, count, s);
    product(count, d_, d_, s.query, m.W, s.w);
    lamina_attention_arrays arrays = inputs(s);
    arrays.o = {s.c.data(), {d_, d_, d_, 1}};
    if (with_weights) arrays.weights = {s.a.data(), {s.H, s.H, s.H, 1}};
    attention::forward(*s.plan, arrays, s.workspace.data(), s.workspace.size() * sizeof(CacheLine));
    // 2. phi = V c
    product(count, d_, d_, s.c, m.Vt, s.phi);
    // 3. o = phi + F g,  g = x_H (+ phi)
    if (form_.has_feed_forward()) {
      product(count, d_, d_, s.query, m.Ft, s.ff);
      if (form_.reads_attention()) product(count, d_, d_, s.phi, m.Ft, s.ff, true);
    }
    for (int64_t i = 0; i < count * d_; ++i) s.o[i] = s.phi[i] + s.ff[i];
    // 4. xi = U o
    product(count, K_, d_, s.o, m.Ut, s.xi);
  }

  // 5. r = weight dL/dxi, and the losses
  Loss cross_entropy(const DensePrompts& all, int64_t first, int64_t count, Scratch& s, bool with_excess) const {
    Loss sum;
    for (int64_t n = 0; n < count; ++n) {
      const T* x = &s.xi[n * K_];
      T* r = &s.r[n * K_];
      const int32_t label = all.prompts.label[first + n], answer = all.prompts.answer[first + n];
      const double weight = all.weight[first + n], loss = table_.cross_entropy(K_, x, label, r);
      sum.loss += weight * loss;
      if (with_excess) sum.excess += weight * excess_from_residual(K_, 1, x, r, 1.0, label, answer, K_ - 1, 0.0, loss, law_.noise);
      for (int64_t j = 0; j < K_; ++j) r[j] *= static_cast<T>(weight);
    }
    return sum;
  }

  void backward_chunk(const Weights<T>& m, int64_t count, Scratch& s, const Layout& at, T* d) const {
    // 4'. do = U^T r, dU = r^T o
    product(count, d_, K_, s.r, m.U, s.d_o);
    outer(K_, d_, count, s.r, s.o, d + at.U);
    // 3'. dphi = do (+ F^T do), dF^T = g^T do
    std::copy_n(s.d_o.data(), count * d_, s.d_phi.data());
    if (form_.has_feed_forward()) {
      outer(d_, d_, count, s.query, s.d_o, d + at.Ft);
      if (form_.reads_attention()) {
        outer(d_, d_, count, s.phi, s.d_o, d + at.Ft);
        product(count, d_, d_, s.d_o, m.F, s.d_phi, true);
      }
    }
    // 2'. dc = V^T dphi, dV = dphi^T c
    product(count, d_, d_, s.d_phi, m.V, s.d_c);
    outer(d_, d_, count, s.d_phi, s.c, d + at.V);
    // 1'. dW = x_H^T dw
    lamina_attention_arrays arrays = inputs(s);
    arrays.d_o = {s.d_c.data(), {d_, d_, d_, 1}};
    arrays.d_q = {s.d_w.data(), {d_, d_, d_, 1}};
    attention::backward(*s.plan, arrays, s.workspace.data(), s.workspace.size() * sizeof(CacheLine));
    outer(d_, d_, count, s.query, s.d_w, d);
  }

  void write_gradient(const Layout& at, const std::vector<double>& sum, double* gradient) const {
    std::fill_n(gradient, parameters_.size(), 0.0);
    const auto part = [&](int64_t from, int64_t to) { return std::vector<double>(sum.begin() + from, sum.begin() + to); };
    const Matrices d{part(0, at.V), part(at.V, at.U), part(at.U, at.Ft), transposed<double>(part(at.Ft, at.size), d_, d_)};
    const auto put = [&](bool free, char name, const std::vector<double>& M) {
      if (free) std::copy(M.begin(), M.end(), gradient + form_.offset(name));
    };
    put(form_.w_free(), 'W', d.W), put(form_.v_free(), 'V', d.V), put(form_.u_free(), 'U', d.U), put(form_.f_free(), 'F', d.F);
    form_.pull_back(parameters_, d, gradient);
    form_.hold_fixed(gradient);
  }

  void add_metrics(const DensePrompts& all, const Weights<T>& w, int64_t first, int64_t count, const Scratch& s, Metrics& m) const {
    std::vector<T> attention(count * K_), feed_forward(count * K_), r(K_);
    product(count, K_, d_, s.phi, w.Ut, attention), product(count, K_, d_, s.ff, w.Ut, feed_forward);
    for (int64_t n = 0; n < count; ++n) {
      const std::span<const int32_t> z = all.prompts.row(first + n);
      const int32_t label = all.prompts.label[first + n], answer = all.prompts.answer[first + n];
      const double weight = all.weight[first + n], loss = table_.cross_entropy(K_, &s.xi[n * K_], label, r.data());
      add_logit_metrics(K_, &s.xi[n * K_], r.data(), &attention[n * K_], &feed_forward[n * K_], loss, weight, label, answer, law_.noise, m);
      for (size_t h = 0; h < z.size(); ++h) {
        const bool after = h > 0 && z[h - 1] == z.back();
        (after && z[h] == answer ? m.mass_answer : after && z[h] == K_ - 1 ? m.mass_noise : m.mass_other) += weight * s.a[n * s.H + h];
      }
    }
  }

  const kernels::Table<T>& table_;
  Parametrisation form_;
  int64_t K_, d_;
  std::vector<T> columns_;  // [D, d]: row k is the embedding of basis vector k
};

}  // namespace

std::unique_ptr<Model> make_dense_model(const RecallLaw& law, const Settings& settings, const kernels::InstructionSet& isa) {
  if (settings.is("precision", "f32")) return std::make_unique<DenseModel<float>>(law, settings, isa);
  return std::make_unique<DenseModel<double>>(law, settings, isa);
}

}  // namespace lamina
