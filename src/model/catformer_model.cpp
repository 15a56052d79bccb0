// The disentangled transformer on blocks of prompts: products with A2 and W are of a whole block, all else is of one prompt.
#include "model/catformer_model.hpp"

#include <algorithm>

#include "base/memory.hpp"
#include "kernels/scalar_math.hpp"
#include "model/causal_base.hpp"
#include "model/logit_rows.hpp"

namespace lamina {
namespace {

// Rows i of the lower triangle of [T, T], one after the other.
constexpr int64_t triangle(int64_t i) { return i * (i + 1) / 2; }

class CatformerModel final : public CausalBase {
 public:
  CatformerModel(const CausalLaw& law, const Settings& settings, const kernels::InstructionSet& isa)
      : CausalBase(law, 0, settings, isa), d_(S_ + T_), block_(std::clamp<int64_t>((int64_t{1} << 16) / triangle(T_), 4, 64)) {
    if (settings.given("initial_scale") && settings.number("initial_scale") != 0)
      fail(LAMINA_E_OPTION, "initial_scale is " + settings.as_text("initial_scale") + ", must be 0 for variant=catformer, which starts from zero");
    const int64_t A1 = d_ * d_, A2 = 4 * A1, W = 4 * d_ * S_;
    tensors_ = {{"A1", {d_, d_}, 0, A1}, {"A2", {2 * d_, 2 * d_}, A1, A2}, {"W", {4 * d_, S_}, A1 + A2, W}};
    allocate("parameters", 8.0 * static_cast<double>(A1 + A2 + W), [&] { parameters_.assign(static_cast<size_t>(A1 + A2 + W), 0.0); });
  }

  std::unique_ptr<Model> clone() const override { return std::make_unique<CatformerModel>(*this); }
  Column loss_column() const override { return {"loss", "the objective descended: mean of -sum_y pi_y log f_y"}; }

  Loss loss_and_gradient(const CompiledPrompts& compiled, const Team& team, double* gradient, bool) const override {
    const auto& all = static_cast<const Sequences&>(compiled);
    const Transposed transposed = gradient ? transpose() : Transposed();
    const auto size = static_cast<int64_t>(parameters_.size());
    if (gradient) std::fill_n(gradient, size, 0.0);
    Loss sum;
    const int64_t blocks = (all.prompts.count + block_ - 1) / block_;
    struct Part {
      Loss loss;
      std::vector<double> gradient;
    };
    std::vector<Part> parts(static_cast<size_t>(std::min(blocks, wave)));
    for (int64_t first = 0; first < blocks; first += wave) {  // so many gradients in memory, added in ascending order
      const int64_t count = std::min(wave, blocks - first);
      team.for_each(count, [&](int64_t i, int) {
        Part& part = parts[static_cast<size_t>(i)];
        const Block block = block_of(all.prompts, first + i);
        Scratch at(*this, block.count);
        forward(block, at);
        part.loss = {};
        for (int64_t n = 0; n < block.count; ++n) {
          const double loss = all.weight[static_cast<size_t>(block.first + n)] * loss_at(block, n, at);
          part.loss.loss += loss, part.loss.excess += loss - all.baseline[static_cast<size_t>(block.first + n)];
        }
        if (!gradient) return;
        allocate("gradient", 8.0 * static_cast<double>(size), [&] { part.gradient.assign(static_cast<size_t>(size), 0.0); });
        backward(block, &all.weight[static_cast<size_t>(block.first)], transposed, at, part.gradient.data());
      });
      for (int64_t i = 0; i < count; ++i) {
        const Part& part = parts[static_cast<size_t>(i)];
        sum.loss += part.loss.loss, sum.excess += part.loss.excess;
        if (gradient)
          for (int64_t k = 0; k < size; ++k) gradient[k] += part.gradient[static_cast<size_t>(k)];
      }
    }
    return sum;
  }

  // mass_answer is the second layer's attention on the children of the query's copies, mass_parent the first's on the parent;
  // accuracy, the largest logit is of the likeliest token.
  Metrics measure(const CompiledPrompts& compiled, const Team& team) const override {
    const auto& all = static_cast<const Sequences&>(compiled);
    const int64_t blocks = (all.prompts.count + block_ - 1) / block_;
    const auto nodes = static_cast<double>(std::ranges::count_if(law_.parent, [](int32_t parent) { return parent >= 0; }));
    std::vector<Metrics> parts(static_cast<size_t>(blocks));
    team.for_each(blocks, [&](int64_t i, int) {
      Metrics& m = parts[static_cast<size_t>(i)];
      const Block block = block_of(all.prompts, i);
      Scratch at(*this, block.count);
      forward(block, at);
      for (int64_t n = 0; n < block.count; ++n) {
        const double weight = all.weight[static_cast<size_t>(block.first + n)], loss = weight * loss_at(block, n, at);
        m.loss.loss += loss, m.loss.excess += loss - all.baseline[static_cast<size_t>(block.first + n)];
        const double* x = &at.logits[n * S_];
        m.accuracy += weight * (std::max_element(x, x + S_) - x == all.prompts.answer[static_cast<size_t>(block.first + n)]);
        const auto row = all.prompts.row(block.first + n);
        const double *a = at.stream(n, 1) + S_, *P = &at.P[n * triangle(T_)];
        for (int64_t j = 0; j < T_; ++j) {
          (is_child(row, j) ? m.mass_answer : m.mass_other) += weight * a[j];
          if (j + 1 < T_ && law_.parent[static_cast<size_t>(j)] >= 0) m.mass_parent += weight / nodes * P[triangle(j) + law_.parent[static_cast<size_t>(j)]];
        }
      }
    });
    return sum_of(parts);
  }

  // Logits [count, S]; the feed-forward part is what W makes of x_T, attention the rest. weights [count, T] are the second layer's.
  void forward(const Prompts& prompts, LogitPart part, double* logits, double* weights) const override {
    for (int64_t i = 0; i * block_ < prompts.count; ++i) {
      const Block block = block_of(prompts, i);
      Scratch at(*this, block.count);
      forward(block, at);
      for (int64_t n = 0; n < block.count; ++n) {
        if (weights) std::copy_n(at.stream(n, 1) + S_, T_, weights + (block.first + n) * T_);
        if (!logits) continue;
        double* out = logits + (block.first + n) * S_;
        const auto row = prompts.row(block.first + n);
        for (int64_t y = 0; y < S_; ++y) {
          const double own = W()[row.back() * S_ + y] + W()[(d_ - 1) * S_ + y];
          out[y] = part == LogitPart::all ? at.logits[n * S_ + y] : part == LogitPart::feed_forward ? own : at.logits[n * S_ + y] - own;
        }
      }
    }
  }

 private:
  static constexpr int64_t wave = 16;  // blocks; with their length it fixes the order of summation

  struct Block {
    const Prompts& prompts;
    int64_t first, count;
    const int32_t* row(int64_t n) const { return prompts.row(first + n).data(); }
  };
  Block block_of(const Prompts& prompts, int64_t block) const {
    return {prompts, block * block_, std::min(block_, prompts.count - block * block_)};
  }

  struct Scratch {
    Scratch(const CatformerModel& m, int64_t count) : d(m.d_) {
      const double numbers = static_cast<double>(count * (triangle(m.T_) + 10 * d + 2 * m.T_ + 2 * m.S_) + 2 * d);
      allocate("attention of a block of prompts", 8 * numbers, [&] {
        P.resize(count * triangle(m.T_)), streams.resize(count * 3 * d), dstreams.resize(count * 3 * d);
        w.resize(count * 2 * d), dw.resize(count * 2 * d), u.resize(count * m.T_), Pu.resize(count * m.T_);
        logits.resize(count * m.S_), f.resize(count * m.S_), at_row.resize(2 * d);
      });
    }
    int64_t d;
    std::vector<double> P;                  // [count, T (T + 1) / 2]
    std::vector<double> streams, dstreams;  // [count, 3, d]: X p, X a, X b, and D of them
    std::vector<double> w, dw;              // [count, 2 d]
    std::vector<double> u, Pu;              // [count, T]
    std::vector<double> logits, f;          // [count, S]; after backward f holds the weighted r
    std::vector<double> at_row;             // [2 d]
    double* stream(int64_t n, int64_t which) { return &streams[(3 * n + which) * d]; }
    double* dstream(int64_t n, int64_t which) { return &dstreams[(3 * n + which) * d]; }
  };

  const double* A1() const { return parameters_.data(); }
  const double* A2() const { return A1() + d_ * d_; }
  const double* W() const { return A2() + 4 * d_ * d_; }

  // Transposes of what backward multiplies by: W without the rows of x_T [S, 3d], A2 without the rows of x_T [2d, d].
  struct Transposed {
    std::vector<double> W, A2;
  };
  Transposed transpose() const {
    Transposed out;
    out.W.resize(static_cast<size_t>(S_ * 3 * d_)), out.A2.resize(static_cast<size_t>(2 * d_ * d_));
    for (int64_t i = 0; i < 3 * d_; ++i)
      for (int64_t y = 0; y < S_; ++y) out.W[y * 3 * d_ + i] = W()[(d_ + i) * S_ + y];
    for (int64_t i = 0; i < d_; ++i)
      for (int64_t j = 0; j < 2 * d_; ++j) out.A2[j * d_ + i] = A2()[(d_ + i) * 2 * d_ + j];
    return out;
  }

  // <M, k> for every k < count.
  void look_up(const int32_t* x, const double* M, int64_t count, double* out) const {
    for (int64_t k = 0; k < count; ++k) out[k] = M[x[k]] + M[S_ + k];
  }
  // The token part of X g, whose position part holds g.
  void add_tokens(const int32_t* x, int64_t count, double* Xg) const {
    std::fill_n(Xg, S_, 0.0);
    for (int64_t k = 0; k < count; ++k) Xg[x[k]] += Xg[S_ + k];
  }
  // out = rows x_T of a matrix of `columns` columns, M[x_T] + M[last position].
  void own_rows(const double* M, int32_t token, int64_t columns, double* out) const {
    for (int64_t c = 0; c < columns; ++c) out[c] = M[token * columns + c] + M[(d_ - 1) * columns + c];
  }
  void add_own_rows(const double* of, int32_t token, int64_t columns, double* M) const {
    for (int64_t c = 0; c < columns; ++c) M[token * columns + c] += of[c], M[(d_ - 1) * columns + c] += of[c];
  }

  void forward(const Block& block, Scratch& at) const {
    const int64_t L = triangle(T_);
    for (int64_t n = 0; n < block.count; ++n) {  // the first layer
      const int32_t* x = block.row(n);
      double* P = &at.P[n * L];
      for (int64_t i = 0; i < T_; ++i) {
        double* row = at.at_row.data();
        const double *token = A1() + x[i] * d_, *position = A1() + (S_ + i) * d_;
        for (int64_t c = 0; c < S_ + i + 1; ++c) row[c] = token[c] + position[c];
        look_up(x, row, i + 1, P + triangle(i));
      }
      softmax(P, T_, [](int64_t i) { return i + 1; });
      std::copy_n(P + triangle(T_ - 1), T_, at.stream(n, 0) + S_);
      add_tokens(x, T_, at.stream(n, 0));
      own_rows(A2(), x[T_ - 1], 2 * d_, &at.w[n * 2 * d_]);
    }
    table_->gemm(block.count, 2 * d_, d_, at.streams.data(), 3 * d_, 1, A2() + d_ * 2 * d_, 2 * d_, at.w.data(), 2 * d_, true);
    for (int64_t n = 0; n < block.count; ++n) {  // the second
      const int32_t* x = block.row(n);
      const double *P = &at.P[n * L], *w = &at.w[n * 2 * d_];
      double *u = &at.u[n * T_], *Pu = &at.Pu[n * T_], *a = at.stream(n, 1) + S_, *b = at.stream(n, 2) + S_;
      look_up(x, w + d_, T_, u);
      look_up(x, w, T_, a);
      for (int64_t j = 0; j < T_; ++j) {
        Pu[j] = dot(j + 1, P + triangle(j), u);
        a[j] += Pu[j];
      }
      softmax(a, 1, [&](int64_t) { return T_; });
      std::fill_n(b, T_, 0.0);
      for (int64_t j = 0; j < T_; ++j) add(j + 1, a[j], P + triangle(j), b);
      add_tokens(x, T_, at.stream(n, 1));
      add_tokens(x, T_, at.stream(n, 2));
      own_rows(W(), x[T_ - 1], S_, &at.logits[n * S_]);
    }
    table_->gemm(block.count, S_, 3 * d_, at.streams.data(), 3 * d_, 1, W() + d_ * S_, S_, at.logits.data(), S_, true);
    std::ranges::copy(at.logits, at.f.begin());
    softmax(at.f.data(), block.count, [&](int64_t) { return S_; });
  }

  // log f_y by the logits, which do not underflow.
  double loss_at(const Block& block, int64_t n, const Scratch& at) const {
    const auto pi = block.prompts.values_of(block.first + n);
    const double* x = &at.logits[n * S_];
    const int64_t most = std::max_element(x, x + S_) - x;
    const double log_z = x[most] - kernels::log(at.f[n * S_ + most]);
    double loss = 0;
    for (int64_t y = 0; y < S_; ++y) loss += pi[static_cast<size_t>(y)] * (log_z - x[y]);
    return loss;
  }

  void backward(const Block& block, const double* weight, const Transposed& transposed, Scratch& at, double* gradient) const {
    const int64_t L = triangle(T_);
    double *dA1 = gradient, *dA2 = dA1 + d_ * d_, *dW = dA2 + 4 * d_ * d_;
    for (int64_t n = 0; n < block.count; ++n) {
      const auto pi = block.prompts.values_of(block.first + n);
      double *r = &at.f[n * S_], sum = 0;
      for (double p : pi) sum += p;
      for (int64_t y = 0; y < S_; ++y) r[y] = weight[n] * (sum * r[y] - pi[static_cast<size_t>(y)]);
      add_own_rows(r, block.row(n)[T_ - 1], S_, dW);
    }
    table_->gemm(3 * d_, S_, block.count, at.streams.data(), 1, 3 * d_, at.f.data(), S_, dW + d_ * S_, S_, true);
    table_->gemm(block.count, 3 * d_, S_, at.f.data(), S_, 1, transposed.W.data(), 3 * d_, at.dstreams.data(), 3 * d_, false);
    for (int64_t n = 0; n < block.count; ++n) {
      const int32_t* x = block.row(n);
      const double *P = &at.P[n * L], *a = at.stream(n, 1) + S_;
      double *Da = at.dstream(n, 1), *Db = at.dstream(n, 2), *dw = &at.dw[n * 2 * d_], *ds = dw + S_, *du = dw + d_ + S_;
      // What backward needs later stands where D was: db, and P db.
      double *db = Db + S_, *Pdb = Da + S_, *da = at.at_row.data();
      look_up(x, Da, T_, da);
      look_up(x, Db, T_, db);
      double mean = 0;
      for (int64_t j = 0; j < T_; ++j) {
        Pdb[j] = dot(j + 1, P + triangle(j), db);
        da[j] += Pdb[j];
        mean += a[j] * da[j];
      }
      std::fill_n(du, T_, 0.0);
      for (int64_t j = 0; j < T_; ++j) {
        ds[j] = a[j] * (da[j] - mean);
        add(j + 1, ds[j], P + triangle(j), du);
      }
      add_tokens(x, T_, dw);
      add_tokens(x, T_, dw + d_);
      add_own_rows(dw, x[T_ - 1], 2 * d_, dA2);
    }
    table_->gemm(d_, 2 * d_, block.count, at.streams.data(), 1, 3 * d_, at.dw.data(), 2 * d_, dA2 + d_ * 2 * d_, 2 * d_, true);
    table_->gemm(block.count, d_, 2 * d_, at.dw.data(), 2 * d_, 1, transposed.A2.data(), d_, at.dstreams.data(), 3 * d_, true);
    for (int64_t n = 0; n < block.count; ++n) {
      const int32_t* x = block.row(n);
      const double *P = &at.P[n * L], *a = at.stream(n, 1) + S_, *u = &at.u[n * T_], *Pu = &at.Pu[n * T_];
      const double *db = at.dstream(n, 2) + S_, *Pdb = at.dstream(n, 1) + S_, *ds = &at.dw[n * 2 * d_] + S_;
      double *dp = at.at_row.data(), *row = dp + d_;  // row: X dS_j
      look_up(x, at.dstream(n, 0), T_, dp);
      const double p_dp = dot(T_, P + triangle(T_ - 1), dp);
      for (int64_t j = 0; j < T_; ++j) {
        const double* Pj = P + triangle(j);
        const double mean = a[j] * Pdb[j] + ds[j] * Pu[j];
        for (int64_t k = 0; k <= j; ++k) row[S_ + k] = Pj[k] * (a[j] * db[k] + ds[j] * u[k] - mean);
        if (j == T_ - 1)
          for (int64_t k = 0; k <= j; ++k) row[S_ + k] += Pj[k] * (dp[k] - p_dp);
        add_tokens(x, j + 1, row);
        add(S_ + j + 1, 1, row, dA1 + x[j] * d_);
        add(S_ + j + 1, 1, row, dA1 + (S_ + j) * d_);
      }
    }
  }

  static double dot(int64_t n, const double* x, const double* y) {
    double sum = 0;
    for (int64_t i = 0; i < n; ++i) sum += x[i] * y[i];
    return sum;
  }
  static void add(int64_t n, double factor, const double* x, double* y) {
    for (int64_t i = 0; i < n; ++i) y[i] += factor * x[i];
  }

  int64_t d_, block_;
};

}  // namespace

std::unique_ptr<Model> make_catformer_model(const CausalLaw& law, const Settings& settings, const kernels::InstructionSet& isa) {
  return std::make_unique<CatformerModel>(law, settings, isa);
}

}  // namespace lamina
