// Forward and backward of the network of matrices, in numbered passes; a chunk of prompts is one unit of work, and chunk
// gradients are added in ascending order, so that the bits do not depend on threads.
#include "model/matrix_model.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/scalar_math.hpp"
#include "model/front.hpp"
#include "model/soft_loss.hpp"

namespace lamina {
namespace {

constexpr int64_t chunk_length = 128;  // prompts: about 1 MB of activations in f64 at D = 122
constexpr int64_t wave_length = 32;    // chunks whose gradients are in memory at once

class MatrixPrompts final : public CompiledPrompts {
 public:
  int64_t count = 0;
  std::vector<int32_t> label, answer;
  std::vector<double> weight;
  std::unique_ptr<FrontPrompts> front;
};

// The matrices in the type and orientation that the passes read: X_t is the transpose of X.
template <class T>
struct Weights {
  std::vector<T> W, V, Vt, U, Ut, F, Ft;
};

template <class T>
std::vector<T> rounded(const std::vector<double>& M) { return {M.begin(), M.end()}; }

template <class T>
std::vector<T> transposed(const std::vector<double>& M, int64_t rows, int64_t columns) {
  std::vector<T> out(M.size());
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < columns; ++j) out[j * rows + i] = static_cast<T>(M[i * columns + j]);
  return out;
}

template <class T>
class MatrixModel final : public Model {
 public:
  MatrixModel(const RecallLaw& law, const Settings& settings, const kernels::InstructionSet& isa)
      : table_(isa.table<T>()), form_(law, settings), K_(form_.logit_count()), d_(form_.width()) {
    law_ = law, settings_ = settings, isa_ = &isa;
    tensors_ = form_.tensors();
    parameters_ = form_.initial();
    own_basis_ = form_.embedding().empty();
    front_ = own_basis_ ? make_token_front<T>(K_, form_.map(), table_) : make_dense_front<T>(form_, isa);
  }
  MatrixModel(const MatrixModel& other)
      : Model(other), table_(other.table_), form_(other.form_), K_(other.K_), d_(other.d_), own_basis_(other.own_basis_),
        front_(other.front_->clone()) {}

  std::unique_ptr<Model> clone() const override { return std::make_unique<MatrixModel>(*this); }

  std::unique_ptr<CompiledPrompts> compile(const Prompts& prompts, std::span<const double> weights, const Team&) const override {
    auto out = std::make_unique<MatrixPrompts>();
    out->count = prompts.count;
    out->label = prompts.label, out->answer = prompts.answer;
    out->weight.assign(prompts.count, 1.0 / static_cast<double>(std::max<int64_t>(1, prompts.count)));
    if (!weights.empty()) out->weight.assign(weights.begin(), weights.end());
    out->front = front_->compile(prompts);
    return out;
  }

  Loss loss_and_gradient(const CompiledPrompts& compiled, const Team& team, double* gradient, bool with_excess) const override {
    const auto& prompts = static_cast<const MatrixPrompts&>(compiled);
    const Weights<T> weights = read_weights();
    const Layout layout(*this);
    const int64_t chunks = (prompts.count + chunk_length - 1) / chunk_length;
    std::vector<std::unique_ptr<Scratch>> slots(team.threads());
    std::vector<T> partial(std::min(chunks, wave_length) * layout.size);
    std::vector<double> sum(layout.size, 0.0);
    std::vector<Loss> losses(chunks);
    for (int64_t wave = 0; wave < chunks; wave += wave_length) {
      const int64_t count = std::min(wave_length, chunks - wave);
      team.for_each(count, [&](int64_t chunk, int slot) {
        if (!slots[slot]) slots[slot] = std::make_unique<Scratch>(*this);
        const int64_t first = (wave + chunk) * chunk_length, length = std::min(chunk_length, prompts.count - first);
        Scratch& s = *slots[slot];
        forward_chunk(prompts, weights, first, length, s, nullptr);
        losses[wave + chunk] = cross_entropy(prompts, first, length, s, with_excess);
        if (!gradient) return;
        T* d = &partial[chunk * layout.size];
        std::fill_n(d, layout.size, T(0));
        backward_chunk(prompts, weights, first, length, s, layout, d);
      });
      if (!gradient) continue;
      // Columns in parallel, chunks in ascending order within each.
      constexpr int64_t stripe = 4096;
      team.for_each((layout.size + stripe - 1) / stripe, [&](int64_t part, int) {
        const int64_t from = part * stripe, to = std::min(layout.size, from + stripe);
        for (int64_t chunk = 0; chunk < count; ++chunk)
          for (int64_t i = from; i < to; ++i) sum[i] += static_cast<double>(partial[chunk * layout.size + i]);
      });
    }
    Loss total;
    for (const Loss& loss : losses) total.loss += loss.loss, total.excess += loss.excess;
    if (gradient) write_gradient(layout, sum, gradient);
    return total;
  }

  Metrics measure(const CompiledPrompts& compiled, const Team& team) const override {
    const auto& prompts = static_cast<const MatrixPrompts&>(compiled);
    const Weights<T> weights = read_weights();
    const int64_t chunks = (prompts.count + chunk_length - 1) / chunk_length;
    std::vector<std::unique_ptr<Scratch>> slots(team.threads());
    std::vector<Metrics> parts(chunks);
    team.for_each(chunks, [&](int64_t chunk, int slot) {
      if (!slots[slot]) slots[slot] = std::make_unique<Scratch>(*this);
      const int64_t first = chunk * chunk_length, length = std::min(chunk_length, prompts.count - first);
      std::vector<double> masses(3 * length);
      forward_chunk(prompts, weights, first, length, *slots[slot], masses.data());
      parts[chunk] = chunk_metrics(prompts, weights, first, length, *slots[slot], masses);
    });
    Metrics sum;
    for (const Metrics& part : parts) {
      const double* from = reinterpret_cast<const double*>(&part);
      double* to = reinterpret_cast<double*>(&sum);
      static_assert(sizeof(Metrics) % sizeof(double) == 0);
      for (size_t i = 0; i < sizeof(Metrics) / sizeof(double); ++i) to[i] += from[i];
    }
    return sum;
  }

  void forward(const Prompts& prompts, LogitPart part, double* logits, double* weights) const override {
    form_.forward(parameters_, prompts, part, logits, weights);
  }

 private:
  // Rows are prompts of a chunk: c, phi, o [., d], ff = F g [., d], xi, r [., logit_stride], and cotangents. Where a matrix is held
  // at the identity, two names point to the same rows: nothing is copied.
  struct Scratch {
    explicit Scratch(const MatrixModel& m) : front(m.front_->scratch(chunk_length)) {
      const int64_t size = chunk_length * m.d_;
      c = add(size), d_o = add(size);
      phi = m.identity_v() ? c : add(size);
      ff = m.form_.has_feed_forward() ? add(size) : nullptr;
      o = ff ? add(size) : phi;
      xi = m.held_u() ? o : add(chunk_length * m.K_);
      r = m.held_u() ? d_o : add(chunk_length * m.K_);
      d_phi = ff ? add(size) : d_o;
      d_c = m.identity_v() ? d_phi : add(size);
    }
    T *c, *phi, *ff, *o, *xi, *r, *d_o, *d_phi, *d_c;
    std::unique_ptr<FrontScratch> front;

   private:
    T* add(int64_t size) { return buffers.emplace_back(size).data(); }
    std::vector<std::vector<T>> buffers;
  };

  // Where the chunk gradients stand: dW, dV, dU, dF^T, and one number for the value scale of a held V.
  struct Layout {
    explicit Layout(const MatrixModel& m) {
      const Parametrisation& f = m.form_;
      const bool dense = !m.own_basis_;
      const auto place = [&](bool wanted, int64_t count) {
        if (!wanted) return int64_t{-1};
        size += count;
        return size - count;
      };
      W = place(true, m.d_ * m.d_);
      V = place(f.v_free() || dense, m.d_ * m.d_);
      U = place(f.u_free(), m.K_ * m.d_);
      Ft = place(f.has_feed_forward(), m.d_ * m.d_);
      scale = place(!f.v_free() && !dense && f.scale_trained(), 1);
    }
    int64_t size = 0, W, V, U, Ft, scale;
  };

  bool held_v() const { return own_basis_ && !form_.v_free(); }
  bool held_u() const { return own_basis_ && !form_.u_free(); }
  bool identity_v() const {
    return held_v() && !form_.construction().value_skips_tau && !form_.scale_trained() && form_.value_scale(parameters_) == 1;
  }
  int64_t logit_stride() const { return held_u() ? d_ : K_; }

  Weights<T> read_weights() const {
    const Matrices m = form_.matrices(parameters_);
    Weights<T> w;
    w.W = rounded<T>(m.W);
    if (!held_v()) w.V = rounded<T>(m.V), w.Vt = transposed<T>(m.V, d_, d_);
    if (!held_u()) w.U = rounded<T>(m.U), w.Ut = transposed<T>(m.U, K_, d_);
    if (!m.F.empty()) w.F = rounded<T>(m.F), w.Ft = transposed<T>(m.F, d_, d_);
    return w;
  }

  // C [m, n] (+)= A [m, k] B [k, n], all contiguous.
  void product(int64_t m, int64_t n, int64_t k, const T* A, const T* B, T* C, bool accumulate) const {
    table_.gemm(m, n, k, A, k, 1, B, n, C, n, accumulate);
  }
  // C [m, n] += A^T B, A [k, m], B [k, n].
  void outer(int64_t m, int64_t n, int64_t k, const T* A, const T* B, T* C) const {
    table_.gemm(m, n, k, A, 1, m, B, n, C, n, true);
  }
  // out = V in for the held V of the own basis: scaled, without tau where the construction skips it.
  void apply_held_v(int64_t count, const T* in, T* out) const {
    if (in == out) return;  // the identity
    const T s = static_cast<T>(form_.value_scale(parameters_));
    for (int64_t i = 0; i < count * d_; ++i) out[i] = s * in[i];
    if (form_.construction().value_skips_tau)
      for (int64_t n = 0; n < count; ++n) out[n * d_ + K_ - 1] = 0;
  }

  void forward_chunk(const MatrixPrompts& prompts, const Weights<T>& w, int64_t first, int64_t count, Scratch& s,
                     double* masses) const {
    // 1. c = sum_h a_h x_h
    front_->forward(*prompts.front, first, count, w.W.data(), s.c, masses, *s.front);
    // 2. phi = V c
    if (held_v())
      apply_held_v(count, s.c, s.phi);
    else
      product(count, d_, d_, s.c, w.Vt.data(), s.phi, false);
    // 3. o = phi + F g,  g = x_H (+ phi)
    if (s.ff) {
      if (form_.reads_attention())
        product(count, d_, d_, s.phi, w.Ft.data(), s.ff, false);
      else
        std::fill_n(s.ff, count * d_, T(0));
      front_->query_times(*prompts.front, first, count, w.Ft.data(), d_, s.ff, *s.front);
      for (int64_t i = 0; i < count * d_; ++i) s.o[i] = s.phi[i] + s.ff[i];
    }
    // 4. xi = U o; a held U reads the first K entries
    if (!held_u()) product(count, K_, d_, s.o, w.Ut.data(), s.xi, false);
  }

  void read_out(int64_t count, const Weights<T>& w, const T* o, T* xi) const {
    if (!held_u()) return product(count, K_, d_, o, w.Ut.data(), xi, false);
    for (int64_t n = 0; n < count; ++n) std::copy_n(o + n * d_, K_, xi + n * K_);
  }

  // 5. r = weight dL/dxi, and the losses
  Loss cross_entropy(const MatrixPrompts& prompts, int64_t first, int64_t count, Scratch& s, bool with_excess) const {
    Loss sum;
    for (int64_t n = 0; n < count; ++n) {
      const T* x = s.xi + n * logit_stride();
      T* r = s.r + n * logit_stride();
      const int32_t label = prompts.label[first + n];
      const double weight = prompts.weight[first + n];
      const double loss = table_.cross_entropy(K_, x, label, r);
      sum.loss += weight * loss;
      if (with_excess) sum.excess += weight * excess(x, r, label, prompts.answer[first + n], loss);
      for (int64_t j = 0; j < K_; ++j) r[j] *= static_cast<T>(weight);
    }
    return sum;
  }

  // From the residual r = p - unit(label) of one row.
  double excess(const T* x, const T* r, int32_t label, int32_t answer, double loss) const {
    const int32_t tau = static_cast<int32_t>(K_ - 1);
    const double log_z = loss + x[label];
    const double alpha = answer == tau ? 0.0 : law_.noise;
    if (alpha == 0 && label == answer) return loss;
    double rest = 0;
    for (int32_t j = 0; j < K_; ++j)
      if (j != answer && j != tau && j != label) rest += r[j];
    const auto p = [&](int32_t j) { return j == label ? kernels::exp(x[j] - log_z) : static_cast<double>(r[j]); };
    if (label != answer && label != tau) rest += p(label);
    return excess_of({x[answer] - log_z, answer == tau ? 0.0 : x[tau] - log_z, p(answer), answer == tau ? 0.0 : p(tau), rest, 0.0},
                     alpha);
  }

  void backward_chunk(const MatrixPrompts& prompts, const Weights<T>& w, int64_t first, int64_t count, Scratch& s,
                      const Layout& at, T* d) const {
    // 4'. do = U^T r, dU = r^T o
    if (held_u())
      for (int64_t n = 0; n < count; ++n) std::fill_n(s.d_o + n * d_ + K_, d_ - K_, T(0));
    else
      product(count, d_, K_, s.r, w.U.data(), s.d_o, false);
    if (at.U >= 0) outer(K_, d_, count, s.r, s.o, d + at.U);
    // 3'. dphi = do (+ F^T do), dF^T = g^T do
    if (s.ff) {
      std::copy_n(s.d_o, count * d_, s.d_phi);
      front_->query_outer(*prompts.front, first, count, s.d_o, d_, d + at.Ft, *s.front);
      if (form_.reads_attention()) {
        outer(d_, d_, count, s.phi, s.d_o, d + at.Ft);
        product(count, d_, d_, s.d_o, w.F.data(), s.d_phi, true);
      }
    }
    // 2'. dc = V^T dphi, dV = dphi^T c
    if (held_v()) {
      apply_held_v(count, s.d_phi, s.d_c);
      const int64_t skipped = form_.construction().value_skips_tau ? K_ - 1 : -1;
      for (int64_t n = 0; at.scale >= 0 && n < count; ++n)
        for (int64_t i = 0; i < d_; ++i)
          if (i != skipped) d[at.scale] += s.d_phi[n * d_ + i] * s.c[n * d_ + i];
    } else {
      product(count, d_, d_, s.d_phi, w.V.data(), s.d_c, false);
      outer(d_, d_, count, s.d_phi, s.c, d + at.V);
    }
    // 1'. dW
    front_->backward(*prompts.front, first, count, s.d_c, d + at.W, *s.front);
  }

  void write_gradient(const Layout& at, const std::vector<double>& sum, double* gradient) const {
    std::fill_n(gradient, parameters_.size(), 0.0);
    const auto part = [&](int64_t offset, int64_t count) {
      return offset < 0 ? std::vector<double>{} : std::vector<double>(sum.begin() + offset, sum.begin() + offset + count);
    };
    Matrices d{part(at.W, d_ * d_), part(at.V, d_ * d_), part(at.U, K_ * d_), {}};
    if (at.Ft >= 0) d.F = transposed<double>(part(at.Ft, d_ * d_), d_, d_);
    const auto put = [&](char name, const std::vector<double>& M) { std::copy(M.begin(), M.end(), gradient + form_.free_tensor(name).offset); };
    if (form_.w_free()) put('W', d.W);
    if (form_.v_free()) put('V', d.V);
    if (form_.u_free()) put('U', d.U);
    if (form_.f_free()) put('F', d.F);
    if (form_.v_free()) d.V.clear();
    form_.pull_back(parameters_, d, gradient);
    if (at.scale >= 0) gradient[form_.scale_offset()] += sum[at.scale];
    form_.hold_fixed(gradient);
  }

  Metrics chunk_metrics(const MatrixPrompts& prompts, const Weights<T>& w, int64_t first, int64_t count, Scratch& s,
                        const std::vector<double>& masses) const {
    Metrics m;
    m.loss = cross_entropy(prompts, first, count, s, true);
    std::vector<T> attention(count * K_), feed_forward(count * K_, T(0));
    read_out(count, w, s.phi, attention.data());
    if (s.ff) read_out(count, w, s.ff, feed_forward.data());
    for (int64_t n = 0; n < count; ++n) {
      const double weight = prompts.weight[first + n];
      const int32_t answer = prompts.answer[first + n];
      const T *x = s.xi + n * logit_stride(), *xa = &attention[n * K_], *xf = &feed_forward[n * K_];
      const double log_z = prompt_log_z(x);
      m.accuracy += weight * (std::max_element(x, x + K_ - 1) - x == answer);
      m.attention_accuracy += weight * (std::max_element(xa, xa + K_) - xa == answer);
      m.feed_forward_noise += weight * (std::max_element(xf, xf + K_) - xf == K_ - 1);
      m.answer_probability += weight * kernels::exp(x[answer] - log_z);
      m.noise_probability += weight * kernels::exp(x[K_ - 1] - log_z);
      m.mass_answer += weight * masses[3 * n], m.mass_noise += weight * masses[3 * n + 1];
      m.mass_other += weight * masses[3 * n + 2];
    }
    return m;
  }

  double prompt_log_z(const T* x) const { return static_cast<double>(x[0]) + table_.cross_entropy(K_, x, 0, nullptr); }

  const kernels::Table<T>& table_;
  Parametrisation form_;
  int64_t K_, d_;
  bool own_basis_;
  std::unique_ptr<Front<T>> front_;
};

}  // namespace

std::unique_ptr<Model> make_matrix_model(const RecallLaw& law, const Settings& settings, const kernels::InstructionSet& isa) {
  if (settings.is("precision", "f32")) return std::make_unique<MatrixModel<float>>(law, settings, isa);
  return std::make_unique<MatrixModel<double>>(law, settings, isa);
}

}  // namespace lamina
