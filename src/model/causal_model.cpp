// The reduced model of causal structure on prompts of one length; the formulas are in the header.
#include "model/causal_model.hpp"

#include <algorithm>

#include "model/causal_base.hpp"
#include "model/catformer_model.hpp"
#include "model/logit_rows.hpp"

namespace lamina {
namespace {

class CausalModel final : public CausalBase {
 public:
  CausalModel(const CausalLaw& law, const Settings& settings, const kernels::InstructionSet& isa) : CausalBase(law, law.smoothing, settings, isa) {
    tensors_ = {{"A1", {T_, T_}, 0, T_ * T_, true, 1}, {"A2", {S_, S_}, T_ * T_, S_ * S_, true, 2}};
    parameters_.assign(static_cast<size_t>(T_ * T_ + S_ * S_), 0.0);
    for (int64_t s = 0; s < S_; ++s) parameters_[T_ * T_ + s * S_ + s] = settings.number("initial_scale");
  }

  std::unique_ptr<Model> clone() const override { return std::make_unique<CausalModel>(*this); }
  Column loss_column() const override { return {"loss", "the objective descended: mean of -sum_y pi_y log(f_y + epsilon)"}; }

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

  // P = softmax(A1) over j <= i, 0 beyond.
  std::vector<double> positions() const {
    std::vector<double> P(static_cast<size_t>(T_ * T_), 0.0);
    for (int64_t i = 0; i < T_; ++i) {
      std::copy_n(parameters_.begin() + i * T_, i + 1, P.begin() + i * T_);
      softmax(&P[static_cast<size_t>(i * T_)], 1, [&](int64_t) { return i + 1; });
    }
    return P;
  }

  void attend(const std::vector<double>& P, std::span<const int32_t> row, Scratch& at) const {
    const double* A2 = &parameters_[T_ * T_ + row.back() * S_];
    for (int64_t j = 0; j < T_; ++j) at.u[j] = A2[row[j]];
    for (int64_t i = 0; i < T_; ++i) {
      at.a[i] = 0;
      for (int64_t j = 0; j <= i; ++j) at.a[i] += P[i * T_ + j] * at.u[j];
    }
    softmax(at.a.data(), 1, [&](int64_t) { return T_; });
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
};

}  // namespace

std::unique_ptr<Model> make_causal_model(const Task& task, const Settings& settings, const kernels::InstructionSet& isa) {
  if (settings.is("variant", "catformer")) return make_catformer_model(*task.causal(), settings, isa);
  if (settings.given("variant") && !settings.is("variant", "reduced"))
    fail(LAMINA_E_OPTION, "variant is \"" + settings.text("variant") + "\", must be reduced or catformer for task " + task.name());
  return std::make_unique<CausalModel>(*task.causal(), settings, isa);
}

}  // namespace lamina
