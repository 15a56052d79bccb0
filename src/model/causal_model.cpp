// The reduced model of causal structure on prompts of one length; the formulas are in the header.
#include "model/causal_model.hpp"

#include <algorithm>

#include "kernels/scalar_math.hpp"
#include "model/logit_rows.hpp"

namespace lamina {
namespace {

struct Sequences final : CompiledPrompts {
  Prompts prompts;
  std::vector<double> weight, baseline;  // baseline: weight times the loss of the posterior mean
};

class CausalModel final : public Model {
 public:
  CausalModel(const CausalLaw& law, const Settings& settings, const kernels::InstructionSet& isa)
      : law_(law), table_(isa.f64), T_(law.length), S_(law.vocabulary) {
    settings_ = settings, isa_ = &isa;
    tensors_ = {{"A1", {T_, T_}, 0, T_ * T_, true, 1}, {"A2", {S_, S_}, T_ * T_, S_ * S_, true, 2}};
    parameters_.assign(static_cast<size_t>(T_ * T_ + S_ * S_), 0.0);
    for (int64_t s = 0; s < S_; ++s) parameters_[T_ * T_ + s * S_ + s] = settings.number("initial_scale");
  }

  std::unique_ptr<Model> clone() const override { return std::make_unique<CausalModel>(*this); }
  void require_law_of(const Task& task) const override {
    const CausalLaw& given = *task.causal();
    if (S_ != given.vocabulary) fail_other_law("vocabulary", static_cast<double>(S_), static_cast<double>(given.vocabulary));
    if (T_ != given.length) fail_other_law("prompt_length", static_cast<double>(T_), static_cast<double>(given.length));
    if (law_.parent != given.parent || law_.concentration != given.concentration || law_.smoothing != given.smoothing)
      fail(LAMINA_E_ARGUMENT, "model is made for another graph, concentration or smoothing, must be made for the task's");
  }
  Column loss_column() const override { return {"loss", "the objective descended: mean of -sum_y pi_y log(f_y + epsilon)"}; }
  Column excess_column() const override { return {"excess", "the loss minus the same loss (epsilon too) of the posterior mean from the children of the query's copies"}; }

  std::unique_ptr<CompiledPrompts> compile(const Prompts& prompts, std::span<const double> weights, const Team& team) const override {
    auto out = std::make_unique<Sequences>();
    out->prompts = prompts;
    out->weight.assign(weights.begin(), weights.end());
    if (weights.empty()) out->weight.assign(static_cast<size_t>(prompts.count), 1 / static_cast<double>(prompts.count));
    out->baseline.resize(static_cast<size_t>(prompts.count));
    team.for_each(chunks(prompts.count), [&](int64_t chunk, int) {
      for (int64_t i = chunk * chunk_length; i < end_of(chunk, prompts.count); ++i) out->baseline[i] = out->weight[i] * baseline(prompts, i);
    });
    return out;
  }

  Loss loss_and_gradient(const CompiledPrompts& compiled, const Team& team, double* gradient, bool) const override {
    const auto& all = static_cast<const Sequences&>(compiled);
    const int64_t count = all.prompts.count;
    const std::vector<double> P = positions();
    struct Part {
      Loss loss;
      std::vector<double> dP, dA2;
    };
    std::vector<Part> parts(static_cast<size_t>(chunks(count)));
    team.for_each(chunks(count), [&](int64_t chunk, int) {
      Part& part = parts[chunk];
      if (gradient) part.dP.resize(static_cast<size_t>(T_ * T_)), part.dA2.resize(static_cast<size_t>(S_ * S_));
      Scratch at(T_, S_);
      for (int64_t i = chunk * chunk_length; i < end_of(chunk, count); ++i) {
        const double loss = all.weight[i] * forward_one(P, all.prompts, i, at);
        part.loss.loss += loss, part.loss.excess += loss - all.baseline[i];
        if (gradient) backward_one(P, all.prompts, i, all.weight[i], at, part.dP.data(), part.dA2.data());
      }
    });
    Loss sum;
    for (const Part& part : parts) sum.loss += part.loss.loss, sum.excess += part.loss.excess;
    if (!gradient) return sum;
    double* dA2 = gradient + T_ * T_;
    std::fill_n(gradient, T_ * T_ + S_ * S_, 0.0);
    for (const Part& part : parts) {
      for (int64_t i = 0; i < T_ * T_; ++i) gradient[i] += part.dP[i];
      for (int64_t i = 0; i < S_ * S_; ++i) dA2[i] += part.dA2[i];
    }
    for (int64_t i = 0; i < T_; ++i) {  // dP to dA1
      double mean = 0;
      for (int64_t j = 0; j <= i; ++j) mean += P[i * T_ + j] * gradient[i * T_ + j];
      for (int64_t j = 0; j <= i; ++j) gradient[i * T_ + j] = P[i * T_ + j] * (gradient[i * T_ + j] - mean);
    }
    return sum;
  }

  // mass_answer is the attention on the children of the query's copies; accuracy, the largest f is of the likeliest token.
  Metrics measure(const CompiledPrompts& compiled, const Team& team) const override {
    const auto& all = static_cast<const Sequences&>(compiled);
    const int64_t count = all.prompts.count;
    const std::vector<double> P = positions();
    std::vector<Metrics> parts(static_cast<size_t>(chunks(count)));
    team.for_each(chunks(count), [&](int64_t chunk, int) {
      Metrics& m = parts[chunk];
      Scratch at(T_, S_);
      for (int64_t i = chunk * chunk_length; i < end_of(chunk, count); ++i) {
        const double loss = all.weight[i] * forward_one(P, all.prompts, i, at);
        m.loss.loss += loss, m.loss.excess += loss - all.baseline[i];
        m.accuracy += all.weight[i] * (std::ranges::max_element(at.f) - at.f.begin() == all.prompts.answer[i]);
        const auto row = all.prompts.row(i);
        for (int64_t j = 0; j < T_; ++j) (is_child(row, j) ? m.mass_answer : m.mass_other) += all.weight[i] * at.a[j];
      }
    });
    return sum_of(parts);
  }

  // f [count, S]; weights [count, T], the query's own last.
  void forward(const Prompts& prompts, LogitPart part, double* logits, double* weights) const override {
    if (part == LogitPart::feed_forward) {
      if (logits) std::fill_n(logits, prompts.count * S_, 0.0);
      return;
    }
    const std::vector<double> P = positions();
    Scratch at(T_, S_);
    for (int64_t i = 0; i < prompts.count; ++i) {
      attend(P, prompts.row(i), at);
      if (logits) std::ranges::copy(at.f, logits + i * S_);
      if (weights) std::ranges::copy(at.a, weights + i * T_);
    }
  }

 private:
  static constexpr int64_t chunk_length = 64;  // fixes the order of summation
  static int64_t chunks(int64_t count) { return (count + chunk_length - 1) / chunk_length; }
  static int64_t end_of(int64_t chunk, int64_t count) { return std::min(count, (chunk + 1) * chunk_length); }

  struct Scratch {
    Scratch(int64_t T, int64_t S) : u(static_cast<size_t>(T)), a(u), ds(u), v(u), f(static_cast<size_t>(S)), g(f) {}
    std::vector<double> u, a, ds, v;  // [T]
    std::vector<double> f, g;         // [S]
  };

  void softmax(std::span<double> row) const {
    const double most = *std::ranges::max_element(row);
    for (double& s : row) s -= most;
    table_->exp(static_cast<int64_t>(row.size()), row.data(), row.data());
    double z = 0;
    for (double e : row) z += e;
    for (double& e : row) e /= z;
  }

  // P = softmax(A1) over j <= i, 0 beyond.
  std::vector<double> positions() const {
    std::vector<double> P(static_cast<size_t>(T_ * T_), 0.0);
    for (int64_t i = 0; i < T_; ++i) {
      std::copy_n(parameters_.begin() + i * T_, i + 1, P.begin() + i * T_);
      softmax(std::span(P).subspan(static_cast<size_t>(i * T_), static_cast<size_t>(i + 1)));
    }
    return P;
  }

  bool is_child(std::span<const int32_t> row, int64_t j) const {
    return j + 1 < T_ && law_.parent[j] >= 0 && row[law_.parent[j]] == row.back();
  }

  double loss_of(std::span<const double> pi, std::span<const double> f) const {
    double loss = 0;
    for (int64_t y = 0; y < S_; ++y)
      if (pi[y] > 0) loss -= pi[y] * kernels::log(f[y] + law_.smoothing);
    return loss;
  }

  double baseline(const Prompts& prompts, int64_t i) const {
    std::vector<double> f(static_cast<size_t>(S_), law_.concentration);
    const auto row = prompts.row(i);
    double sum = static_cast<double>(S_) * law_.concentration;
    for (int64_t j = 0; j < T_; ++j)
      if (is_child(row, j)) f[row[j]] += 1, sum += 1;
    for (double& p : f) p /= sum;
    return loss_of(prompts.values_of(i), f);
  }

  void attend(const std::vector<double>& P, std::span<const int32_t> row, Scratch& at) const {
    const double* A2 = &parameters_[T_ * T_ + row.back() * S_];
    for (int64_t j = 0; j < T_; ++j) at.u[j] = A2[row[j]];
    for (int64_t i = 0; i < T_; ++i) {
      at.a[i] = 0;
      for (int64_t j = 0; j <= i; ++j) at.a[i] += P[i * T_ + j] * at.u[j];
    }
    softmax(at.a);
    std::ranges::fill(at.f, 0.0);
    for (int64_t i = 0; i < T_; ++i) at.f[row[i]] += at.a[i];
  }

  double forward_one(const std::vector<double>& P, const Prompts& prompts, int64_t i, Scratch& at) const {
    attend(P, prompts.row(i), at);
    return loss_of(prompts.values_of(i), at.f);
  }

  void backward_one(const std::vector<double>& P, const Prompts& prompts, int64_t n, double weight, Scratch& at, double* dP, double* dA2) const {
    const auto row = prompts.row(n);
    const auto pi = prompts.values_of(n);
    double mean = 0;
    for (int64_t y = 0; y < S_; ++y) at.g[y] = -pi[y] / (at.f[y] + law_.smoothing), mean += at.f[y] * at.g[y];
    for (int64_t i = 0; i < T_; ++i) at.ds[i] = weight * at.a[i] * (at.g[row[i]] - mean);
    std::ranges::fill(at.v, 0.0);
    for (int64_t i = 0; i < T_; ++i)
      for (int64_t j = 0; j <= i; ++j) at.v[j] += P[i * T_ + j] * at.ds[i], dP[i * T_ + j] += at.ds[i] * at.u[j];
    for (int64_t j = 0; j < T_; ++j) dA2[row.back() * S_ + row[j]] += at.v[j];
  }

  CausalLaw law_;
  const kernels::Table<double>* table_;
  int64_t T_, S_;
};

}  // namespace

std::unique_ptr<Model> make_causal_model(const Task& task, const Settings& settings, const kernels::InstructionSet& isa) {
  return std::make_unique<CausalModel>(*task.causal(), settings, isa);
}

}  // namespace lamina
