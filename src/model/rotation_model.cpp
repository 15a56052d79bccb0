// Sequences as what each parametrisation reads of them; the formulas are in the header.
#include "model/rotation_model.hpp"

#include <algorithm>
#include <cmath>

#include "model/chunked_loss.hpp"

namespace lamina {
namespace {

constexpr int64_t chunk_length = 32;  // prompts per chunk: fixes the order of summation

// Complex numbers as two arrays.
struct Complexes {
  explicit Complexes(int64_t n = 0) : re(static_cast<size_t>(n), 0.0), im(re) {}
  std::vector<double> re, im;
};

// out [rows] = A x, or A^H x, A [rows,columns] by rows at (re, im).
void times(const double* re, const double* im, int64_t rows, int64_t columns, const Complexes& x, Complexes& out) {
  for (int64_t i = 0; i < rows; ++i) {
    double sum_re = 0, sum_im = 0;
    for (int64_t j = 0; j < columns; ++j) {
      sum_re += re[i * columns + j] * x.re[j] - im[i * columns + j] * x.im[j];
      sum_im += re[i * columns + j] * x.im[j] + im[i * columns + j] * x.re[j];
    }
    out.re[i] = sum_re, out.im[i] = sum_im;
  }
}
void adjoint_times(const double* re, const double* im, int64_t rows, int64_t columns, const Complexes& x, Complexes& out) {
  std::ranges::fill(out.re, 0.0), std::ranges::fill(out.im, 0.0);
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < columns; ++j) {
      out.re[j] += re[i * columns + j] * x.re[i] + im[i * columns + j] * x.im[i];
      out.im[j] += re[i * columns + j] * x.im[i] - im[i * columns + j] * x.re[i];
    }
}
// A [rows,columns] += scale x y^H
void add_outer(double* re, double* im, int64_t rows, int64_t columns, double scale, const Complexes& x, const Complexes& y) {
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < columns; ++j) {
      re[i * columns + j] += scale * (x.re[i] * y.re[j] + x.im[i] * y.im[j]);
      im[i * columns + j] += scale * (x.im[i] * y.re[j] - x.re[i] * y.im[j]);
    }
}

class RotationPrompts final : public CompiledPrompts {
 public:
  Prompts prompts;                // of the literal model
  std::vector<double> A, B, C;    // of the blocks: sums over t of Re x_{t+1}^H g_t, |g_t|^2, |x_{t+1}|^2
  std::vector<double> weight;
};

class RotationModel : public Model {
 public:
  RotationModel(const RotationLaw& law, const Settings& settings, const kernels::InstructionSet& isa) : d_(law.dimension), D_(2 * law.dimension) {
    settings_ = settings, isa_ = &isa;
  }

  void require_law_of(const Task& task) const override {
    const int64_t given = task.rotation()->dimension;
    if (d_ != given) fail_other_law("dimension", static_cast<double>(d_), static_cast<double>(given));
  }
  Column loss_column() const override { return {"loss", "the objective descended: half the squared error, summed over the sequence"}; }
  Column excess_column() const override { return {"excess", "the loss minus the least population loss of the blocks a, b"}; }

  std::unique_ptr<CompiledPrompts> compile(const Prompts& prompts, std::span<const double> weights, const Team& team) const override {
    auto out = std::make_unique<RotationPrompts>();
    const int64_t count = prompts.count;
    out->weight.assign(static_cast<size_t>(count), 1 / static_cast<double>(std::max<int64_t>(1, count)));
    if (!weights.empty()) out->weight.assign(weights.begin(), weights.end());
    read(prompts, team, *out);
    return out;
  }

  Loss loss_and_gradient(const CompiledPrompts& compiled, const Team& team, double* gradient, bool) const override {
    const auto& all = static_cast<const RotationPrompts&>(compiled);
    const double loss = chunked_loss(static_cast<int64_t>(all.weight.size()), chunk_length, parameters_.size(), team, gradient,
                                     [&](int64_t first, int64_t last, double* slope) { return chunk_loss(all, first, last, slope); });
    return {loss, loss};
  }

  Metrics measure(const CompiledPrompts& compiled, const Team& team) const override {
    Metrics metrics;
    metrics.loss = loss_and_gradient(compiled, team, nullptr, false);
    return metrics;
  }

  // The vector after the last [count, 2d], Re and Im in turn; weights [count, length]: Re e_s^H W_KQ e_t / (t-1).
  void forward(const Prompts& prompts, LogitPart part, double* logits, double* weights) const override {
    const int64_t T = prompts.length;
    Complexes e(D_), key(D_), read(D_), yhat(d_);
    for (int64_t i = 0; i < prompts.count; ++i) {
      const double* x = prompts.values_of(i).data();
      token(x, T, e);
      key_of(e, key);
      std::ranges::fill(read.re, 0.0), std::ranges::fill(read.im, 0.0);
      for (int64_t s = 1; s <= T; ++s) {
        token(x, s, e);
        double re = 0, im = 0;  // e_s^H W_KQ e_T / (T-1)
        for (int64_t j = 0; j < D_; ++j) re += e.re[j] * key.re[j] + e.im[j] * key.im[j], im += e.re[j] * key.im[j] - e.im[j] * key.re[j];
        re /= static_cast<double>(T - 1), im /= static_cast<double>(T - 1);
        for (int64_t j = 0; j < D_; ++j) read.re[j] += re * e.re[j] - im * e.im[j], read.im[j] += re * e.im[j] + im * e.re[j];
        if (weights) weights[i * T + s - 1] = re;
      }
      if (!logits) continue;
      project(read, yhat);
      const double kept = part == LogitPart::feed_forward ? 0 : 1;
      for (int64_t j = 0; j < d_; ++j) logits[i * D_ + 2 * j] = kept * yhat.re[j], logits[i * D_ + 2 * j + 1] = kept * yhat.im[j];
    }
  }

 protected:
  virtual void read(const Prompts& prompts, const Team& team, RotationPrompts& out) const = 0;
  virtual double chunk_loss(const RotationPrompts& all, int64_t first, int64_t last, double* gradient) const = 0;
  virtual void key_of(const Complexes& e, Complexes& out) const = 0;      // W_KQ e
  virtual void project(const Complexes& read, Complexes& out) const = 0;  // W_PV read

  // e_t = (x_t, x_{t-1}), t from 1.
  void token(const double* x, int64_t t, Complexes& e) const {
    for (int64_t j = 0; j < D_; ++j) {
      const int64_t row = j < d_ ? t - 1 : t - 2, column = j < d_ ? j : j - d_;
      e.re[j] = row < 0 ? 0 : x[row * D_ + 2 * column], e.im[j] = row < 0 ? 0 : x[row * D_ + 2 * column + 1];
    }
  }

  int64_t d_, D_;
};

// variant=full: a, b.
class RotationBlocks final : public RotationModel {
 public:
  RotationBlocks(const RotationLaw& law, const Settings& settings, const kernels::InstructionSet& isa) : RotationModel(law, settings, isa) {
    tensors_ = {{"a", {1}, 0, 1, true}, {"b", {1}, 1, 1, true}};
    parameters_ = {settings.number("initial_scale"), settings.number("value_scale")};
  }
  std::unique_ptr<Model> clone() const override { return std::make_unique<RotationBlocks>(*this); }

 protected:
  void read(const Prompts& prompts, const Team& team, RotationPrompts& out) const override {
    for (auto* sums : {&out.A, &out.B, &out.C}) sums->assign(static_cast<size_t>(prompts.count), 0.0);
    team.for_each((prompts.count + chunk_length - 1) / chunk_length, [&](int64_t chunk, int) {
      Complexes S(d_ * d_), x(d_), next(d_), g(d_);
      for (int64_t i = chunk * chunk_length; i < std::min(prompts.count, (chunk + 1) * chunk_length); ++i) {
        const double* row = prompts.values_of(i).data();
        const auto vector = [&](int64_t t, Complexes& v) {
          for (int64_t j = 0; j < d_; ++j) v.re[j] = row[(t - 1) * D_ + 2 * j], v.im[j] = row[(t - 1) * D_ + 2 * j + 1];
        };
        std::ranges::fill(S.re, 0.0), std::ranges::fill(S.im, 0.0);
        vector(1, x);
        for (int64_t t = 2; t < prompts.length; ++t) {
          vector(t, next);
          add_outer(S.re.data(), S.im.data(), d_, d_, 1, next, x);  // S_t = sum_{s<t} x_{s+1} x_s^H
          std::swap(x, next);                                       // x = x_t
          vector(t + 1, next);
          times(S.re.data(), S.im.data(), d_, d_, x, g);
          const double part = 1 / static_cast<double>(t - 1);
          for (int64_t j = 0; j < d_; ++j) {
            out.A[i] += part * (next.re[j] * g.re[j] + next.im[j] * g.im[j]);
            out.B[i] += part * part * (g.re[j] * g.re[j] + g.im[j] * g.im[j]);
            out.C[i] += next.re[j] * next.re[j] + next.im[j] * next.im[j];
          }
        }
      }
    });
  }

  double chunk_loss(const RotationPrompts& all, int64_t first, int64_t last, double* gradient) const override {
    const double a = parameters_[0], b = parameters_[1], c = a * b;
    double loss = 0, slope = 0;
    for (int64_t i = first; i < last; ++i) {
      loss += 0.5 * all.weight[i] * (all.C[i] + c * (c * all.B[i] - 2 * all.A[i]));
      slope += all.weight[i] * (c * all.B[i] - all.A[i]);
    }
    if (gradient) gradient[0] = b * slope, gradient[1] = a * slope;
    return loss;
  }

  void key_of(const Complexes& e, Complexes& out) const override {
    for (int64_t j = 0; j < d_; ++j) {
      out.re[j] = out.im[j] = 0;
      out.re[d_ + j] = parameters_[0] * e.re[j], out.im[d_ + j] = parameters_[0] * e.im[j];
    }
  }
  void project(const Complexes& read, Complexes& out) const override {
    for (int64_t j = 0; j < d_; ++j) out.re[j] = parameters_[1] * read.re[j], out.im[j] = parameters_[1] * read.im[j];
  }
};

// variant=original: W_PV and W_KQ.
class RotationLiteral final : public RotationModel {
 public:
  RotationLiteral(const RotationLaw& law, const Settings& settings, const kernels::InstructionSet& isa) : RotationModel(law, settings, isa) {
    const int64_t p = d_ * D_, q = D_ * D_;
    tensors_ = {{"W_PV_re", {d_, D_}, 0, p, true},
                {"W_PV_im", {d_, D_}, p, p, true},
                {"W_KQ_re", {D_, D_}, 2 * p, q, true},
                {"W_KQ_im", {D_, D_}, 2 * p + q, q, true}};
    parameters_.assign(static_cast<size_t>(2 * (p + q)), 0.0);
    for (int64_t j = 0; j < d_; ++j) {
      parameters_[2 * p + (d_ + j) * D_ + j] = settings.number("initial_scale");
      parameters_[j * D_ + j] = settings.number("value_scale");
    }
  }
  std::unique_ptr<Model> clone() const override { return std::make_unique<RotationLiteral>(*this); }

 protected:
  void read(const Prompts& prompts, const Team&, RotationPrompts& out) const override { out.prompts = prompts; }

  double chunk_loss(const RotationPrompts& all, int64_t first, int64_t last, double* gradient) const override {
    const int64_t p = d_ * D_, q = D_ * D_;
    Complexes M(q), e(D_), key(D_), v(D_), r(d_), back(D_), pulled(D_);
    double loss = 0;
    for (int64_t i = first; i < last; ++i) {
      const double* x = all.prompts.values_of(i).data();
      std::ranges::fill(M.re, 0.0), std::ranges::fill(M.im, 0.0);
      for (int64_t t = 1; t < all.prompts.length; ++t) {
        // 1. M_t, v = M_t Q e_t / (t-1)
        token(x, t, e);
        add_outer(M.re.data(), M.im.data(), D_, D_, 1, e, e);
        if (t == 1) continue;
        const double part = 1 / static_cast<double>(t - 1);
        key_of(e, key);
        times(M.re.data(), M.im.data(), D_, D_, key, v);
        for (int64_t j = 0; j < D_; ++j) v.re[j] *= part, v.im[j] *= part;
        // 2. r = P v - x_{t+1}
        project(v, r);
        for (int64_t j = 0; j < d_; ++j) {
          r.re[j] -= x[t * D_ + 2 * j], r.im[j] -= x[t * D_ + 2 * j + 1];
          loss += 0.5 * all.weight[i] * (r.re[j] * r.re[j] + r.im[j] * r.im[j]);
        }
        if (!gradient) continue;
        // 2'. dP = r v^H   1'. dQ = M_t P^H r e_t^H / (t-1)
        add_outer(gradient, gradient + p, d_, D_, all.weight[i], r, v);
        adjoint_times(&parameters_[0], &parameters_[p], d_, D_, r, back);
        times(M.re.data(), M.im.data(), D_, D_, back, pulled);
        add_outer(gradient + 2 * p, gradient + 2 * p + q, D_, D_, all.weight[i] * part, pulled, e);
      }
    }
    return loss;
  }

  void key_of(const Complexes& e, Complexes& out) const override {
    const double* Q = &parameters_[2 * d_ * D_];
    times(Q, Q + D_ * D_, D_, D_, e, out);
  }
  void project(const Complexes& read, Complexes& out) const override { times(&parameters_[0], &parameters_[d_ * D_], d_, D_, read, out); }
};

}  // namespace

std::unique_ptr<Model> make_rotation_model(const Task& task, const Settings& settings, const kernels::InstructionSet& isa) {
  const RotationLaw& law = *task.rotation();
  if (settings.is("variant", "full")) return std::make_unique<RotationBlocks>(law, settings, isa);
  if (settings.is("variant", "original")) return std::make_unique<RotationLiteral>(law, settings, isa);
  fail(LAMINA_E_OPTION, "variant is " + settings.text("variant") + ", must be full or original for task " + std::string(task.name()));
}

}  // namespace lamina
