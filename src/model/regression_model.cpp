// Prompts of real vectors as what each parametrisation reads of them; the formulas are in the header.
#include "model/regression_model.hpp"

#include <algorithm>
#include <cmath>

#include "base/random.hpp"
#include "model/chunked_loss.hpp"

namespace lamina {
namespace {

constexpr int64_t chunk_length = 256;  // prompts per chunk: fixes the order of summation

// h [count, d] (blocks) or G [count, d+1, d+1] (literally), x_q [count, d], y_q and weight [count].
class RegressionPrompts final : public CompiledPrompts {
 public:
  std::vector<double> context, query, target, weight;
};

double dot(const double* a, const double* b, int64_t n) { return std::inner_product(a, a + n, b, 0.0); }

class RegressionModel : public Model {
 public:
  RegressionModel(const RegressionLaw& law, const Settings& settings, const kernels::InstructionSet& isa)
      : law_(law), d_(law.dimension), table_(isa.f64) {
    settings_ = settings, isa_ = &isa;
  }

  void require_law_of(const Task& task) const override {
    const int64_t given = task.regression()->dimension;
    if (d_ != given) fail_other_law("dimension", static_cast<double>(d_), static_cast<double>(given));
  }
  Column loss_column() const override { return {"loss", "the objective descended: half the mean squared error"}; }
  Column excess_column() const override { return {"excess", "the loss minus the least population loss at this prompt length"}; }

  std::unique_ptr<CompiledPrompts> compile(const Prompts& prompts, std::span<const double> weights, const Team& team) const override {
    auto out = std::make_unique<RegressionPrompts>();
    const int64_t count = prompts.count, size = context_size();
    allocate("prompts", 8.0 * static_cast<double>(count) * static_cast<double>(size + d_),
             [&] { out->context.resize(count * size), out->query.resize(count * d_); });
    out->target.resize(count);
    out->weight.assign(count, 1 / static_cast<double>(std::max<int64_t>(1, count)));
    if (!weights.empty()) out->weight.assign(weights.begin(), weights.end());
    team.for_each((count + chunk_length - 1) / chunk_length, [&](int64_t chunk, int) {
      for (int64_t i = chunk * chunk_length; i < std::min(count, (chunk + 1) * chunk_length); ++i) {
        const auto values = prompts.values_of(i);
        std::copy_n(values.end() - d_ - 1, d_, &out->query[i * d_]);
        out->target[i] = values.back();
        read_context(values, prompts.length - 1, &out->context[i * size]);
      }
    });
    return out;
  }

  Loss loss_and_gradient(const CompiledPrompts& compiled, const Team& team, double* gradient, bool) const override {
    const auto& all = static_cast<const RegressionPrompts&>(compiled);
    const double loss = chunked_loss(static_cast<int64_t>(all.target.size()), chunk_length, parameters_.size(), team, gradient,
                                     [&](int64_t first, int64_t last, double* slope) { return chunk_loss(all, first, last - first, slope); });
    return {loss, loss};
  }

  Metrics measure(const CompiledPrompts& compiled, const Team& team) const override {
    Metrics metrics;
    metrics.loss = loss_and_gradient(compiled, team, nullptr, false);
    return metrics;
  }

  // yhat [count]; weights [count, length]: the scores e_n^T W_KQ e_q / N, the last one the query's own.
  void forward(const Prompts& prompts, LogitPart part, double* logits, double* weights) const override {
    const int64_t N = prompts.length - 1, size = context_size();
    std::vector<double> context(static_cast<size_t>(size)), key(static_cast<size_t>(d_ + 1));
    for (int64_t i = 0; i < prompts.count; ++i) {
      const auto values = prompts.values_of(i);
      const double* query = values.data() + N * (d_ + 1);
      if (logits) {
        read_context(values, N, context.data());
        logits[i] = part == LogitPart::feed_forward ? 0 : predict(context.data(), query);
      }
      if (!weights) continue;
      key_of(query, key.data());
      for (int64_t n = 0; n <= N; ++n) {
        const double* e = values.data() + n * (d_ + 1);
        weights[i * (N + 1) + n] = (dot(e, key.data(), d_) + (n < N ? e[d_] * key[d_] : 0)) / static_cast<double>(N);
      }
    }
  }

 protected:
  virtual int64_t context_size() const = 0;
  // values: x_1, y_1, .., x_N, y_N, x_q, y_q.
  virtual void read_context(std::span<const double> values, int64_t N, double* context) const = 0;
  // Sum of weight 1/2 delta^2 over some prompts; adds to gradient, which may be null.
  virtual double chunk_loss(const RegressionPrompts& all, int64_t first, int64_t count, double* gradient) const = 0;
  virtual double predict(const double* context, const double* query) const = 0;
  virtual void key_of(const double* query, double* key) const = 0;  // W_KQ e_q [d+1]

  // sigma, and sigma Theta Theta^T [d,d] with |Theta Theta^T|_F = 1.
  double initial_scale() const {
    const double given = settings_.number("initial_scale");
    return given != 0 ? given : law_.small_scale();
  }
  std::vector<double> initial_matrix() const {
    std::vector<double> M(static_cast<size_t>(d_ * d_)), U(M.size());
    Random random(static_cast<uint64_t>(settings_.integer("seed")), Purpose::weights, 0);
    if (settings_.is("initialisation", "gaussian")) {
      for (double& entry : M) entry = random.normal();
    } else if (settings_.is("initialisation", "identity")) {
      for (int64_t i = 0; i < d_; ++i) M[i * d_ + i] = 1;
    } else {
      fail(LAMINA_E_OPTION, "initialisation is " + settings_.text("initialisation") + ", must be identity or gaussian for this task");
    }
    for (int64_t i = 0; i < d_; ++i)
      for (int64_t j = 0; j < d_; ++j) U[i * d_ + j] = dot(&M[i * d_], &M[j * d_], d_);
    const double scale = initial_scale() / std::sqrt(dot(U.data(), U.data(), d_ * d_));
    for (double& entry : U) entry *= scale;
    return U;
  }

  RegressionLaw law_;
  int64_t d_;
  const kernels::Table<double>* table_;
};

// variant=full: u, U.
class BlockModel final : public RegressionModel {
 public:
  BlockModel(const RegressionLaw& law, const Settings& settings, const kernels::InstructionSet& isa) : RegressionModel(law, settings, isa) {
    tensors_ = {{"u", {1}, 0, 1, true}, {"U", {d_, d_}, 1, d_ * d_, true}};
    parameters_ = initial_matrix();
    parameters_.insert(parameters_.begin(), initial_scale());
  }
  std::unique_ptr<Model> clone() const override { return std::make_unique<BlockModel>(*this); }

 protected:
  int64_t context_size() const override { return d_; }

  void read_context(std::span<const double> values, int64_t N, double* h) const override {
    std::fill_n(h, d_, 0.0);
    for (int64_t n = 0; n < N; ++n)
      for (int64_t j = 0; j < d_; ++j) h[j] += values[n * (d_ + 1) + d_] * values[n * (d_ + 1) + j];
    for (int64_t j = 0; j < d_; ++j) h[j] /= static_cast<double>(N);
  }

  double chunk_loss(const RegressionPrompts& all, int64_t first, int64_t count, double* gradient) const override {
    const double u = parameters_[0];
    const double *U = &parameters_[1], *h = &all.context[first * d_], *query = &all.query[first * d_];
    std::vector<double> transpose(static_cast<size_t>(d_ * d_)), T(static_cast<size_t>(count * d_));
    for (int64_t i = 0; i < d_; ++i)
      for (int64_t j = 0; j < d_; ++j) transpose[j * d_ + i] = U[i * d_ + j];
    // 1. T = X_q U^T, yhat = u h . T
    table_->gemm(count, d_, d_, query, d_, 1, transpose.data(), d_, T.data(), d_, false);
    double loss = 0;
    for (int64_t i = 0; i < count; ++i) {
      double* t = &T[i * d_];
      const double score = dot(h + i * d_, t, d_), delta = u * score - all.target[first + i], slope = all.weight[first + i] * delta;
      loss += 0.5 * slope * delta;
      if (!gradient) continue;
      gradient[0] += slope * score;
      for (int64_t j = 0; j < d_; ++j) t[j] = slope * u * h[i * d_ + j];
    }
    // 2. dU = (delta u H)^T X_q
    if (gradient) table_->gemm(d_, d_, count, T.data(), 1, d_, query, d_, gradient + 1, d_, true);
    return loss;
  }

  double predict(const double* h, const double* query) const override {
    double yhat = 0;
    for (int64_t i = 0; i < d_; ++i) yhat += h[i] * dot(&parameters_[1 + i * d_], query, d_);
    return parameters_[0] * yhat;
  }

  void key_of(const double* query, double* key) const override {
    for (int64_t i = 0; i < d_; ++i) key[i] = dot(&parameters_[1 + i * d_], query, d_);
    key[d_] = 0;
  }
};

// variant=original: W_PV, W_KQ.
class LiteralModel final : public RegressionModel {
 public:
  LiteralModel(const RegressionLaw& law, const Settings& settings, const kernels::InstructionSet& isa)
      : RegressionModel(law, settings, isa), D_(d_ + 1) {
    tensors_ = {{"W_PV", {D_, D_}, 0, D_ * D_, true}, {"W_KQ", {D_, D_}, D_ * D_, D_ * D_, true}};
    parameters_.assign(static_cast<size_t>(2 * D_ * D_), 0.0);
    parameters_[D_ * D_ - 1] = initial_scale();
    const std::vector<double> U = initial_matrix();
    for (int64_t i = 0; i < d_; ++i) std::copy_n(&U[i * d_], d_, &parameters_[D_ * D_ + i * D_]);
  }
  std::unique_ptr<Model> clone() const override { return std::make_unique<LiteralModel>(*this); }

 protected:
  int64_t context_size() const override { return D_ * D_; }

  // G = 1/N (sum_n e_n e_n^T + e_q e_q^T)
  void read_context(std::span<const double> values, int64_t N, double* G) const override {
    std::fill_n(G, D_ * D_, 0.0);
    for (int64_t n = 0; n <= N; ++n) {
      const double* e = values.data() + n * D_;
      const int64_t size = n < N ? D_ : d_;
      for (int64_t i = 0; i < size; ++i)
        for (int64_t j = 0; j < size; ++j) G[i * D_ + j] += e[i] * e[j];
    }
    for (int64_t i = 0; i < D_ * D_; ++i) G[i] /= static_cast<double>(N);
  }

  double chunk_loss(const RegressionPrompts& all, int64_t first, int64_t count, double* gradient) const override {
    const double* p = last_row();
    std::vector<double> key(static_cast<size_t>(D_)), read(key), back(key);
    double loss = 0;
    for (int64_t i = first; i < first + count; ++i) {
      const double *G = &all.context[i * D_ * D_], *query = &all.query[i * d_];
      key_of(query, key.data());
      for (int64_t j = 0; j < D_; ++j) read[j] = dot(G + j * D_, key.data(), D_);
      const double delta = dot(p, read.data(), D_) - all.target[i], slope = all.weight[i] * delta;
      loss += 0.5 * slope * delta;
      if (!gradient) continue;
      for (int64_t j = 0; j < D_; ++j) back[j] = slope * dot(G + j * D_, p, D_);
      double *dp = gradient + D_ * d_, *dK = gradient + D_ * D_;
      for (int64_t j = 0; j < D_; ++j) {
        dp[j] += slope * read[j];
        for (int64_t k = 0; k < d_; ++k) dK[j * D_ + k] += back[j] * query[k];
      }
    }
    return loss;
  }

  double predict(const double* G, const double* query) const override {
    std::vector<double> key(static_cast<size_t>(D_));
    key_of(query, key.data());
    double yhat = 0;
    for (int64_t j = 0; j < D_; ++j) yhat += last_row()[j] * dot(G + j * D_, key.data(), D_);
    return yhat;
  }

  void key_of(const double* query, double* key) const override {
    for (int64_t j = 0; j < D_; ++j) key[j] = dot(&parameters_[D_ * D_ + j * D_], query, d_);
  }

 private:
  const double* last_row() const { return &parameters_[D_ * d_]; }

  int64_t D_;
};

}  // namespace

std::unique_ptr<Model> make_regression_model(const Task& task, const Settings& settings, const kernels::InstructionSet& isa) {
  const RegressionLaw& law = *task.regression();
  if (settings.is("variant", "full")) return std::make_unique<BlockModel>(law, settings, isa);
  if (settings.is("variant", "original")) return std::make_unique<LiteralModel>(law, settings, isa);
  fail(LAMINA_E_OPTION, "variant is " + settings.text("variant") + ", must be full or original for task " + std::string(task.name()));
}

}  // namespace lamina
