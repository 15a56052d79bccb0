// What the two models of causal structure share: their prompts, and the loss of the posterior mean from children,
//   f_y = (alpha + n_y) / (S alpha + n), where n_y counts the positions with token y whose parent has the token of the query,
// which the excess is measured from. Roots are children of nothing. Samples can put the excess below 0.
#pragma once
#include "model/model.hpp"

namespace lamina {

class CausalBase : public Model {
 public:
  void require_law_of(const Task& task) const override;
  Column excess_column() const override {
    return {"excess", "the loss minus the same loss (epsilon too, where there is one) of the posterior mean from the children of the query's copies"};
  }
  std::unique_ptr<CompiledPrompts> compile(const Prompts& prompts, std::span<const double> weights, const Team& team) const override;

 protected:
  struct Sequences final : CompiledPrompts {
    Prompts prompts;
    std::vector<double> weight, baseline;  // baseline: weight times the loss of the posterior mean
  };

  // smoothing: epsilon of the loss -sum_y pi_y log(f_y + epsilon).
  CausalBase(const CausalLaw& law, double smoothing, const Settings& settings, const kernels::InstructionSet& isa)
      : law_(law), table_(isa.f64), T_(law.length), S_(law.vocabulary), smoothing_(smoothing) {
    settings_ = settings, isa_ = &isa;
  }

  bool is_child(std::span<const int32_t> row, int64_t j) const {
    return j + 1 < T_ && law_.parent[static_cast<size_t>(j)] >= 0 && row[law_.parent[static_cast<size_t>(j)]] == row.back();
  }
  double loss_of(std::span<const double> pi, std::span<const double> f) const;

  // Softmax of `rows` lists that stand one after the other, of length(i) scores each, all in place.
  template <class Length>
  void softmax(double* scores, int64_t rows, Length length) const {
    double* x = scores;
    for (int64_t i = 0; i < rows; x += length(i++)) {
      double most = x[0];
      for (int64_t j = 1; j < length(i); ++j) most = x[j] > most ? x[j] : most;
      for (int64_t j = 0; j < length(i); ++j) x[j] -= most;
    }
    table_->exp(x - scores, scores, scores);
    x = scores;
    for (int64_t i = 0; i < rows; x += length(i++)) {
      double z = 0;
      for (int64_t j = 0; j < length(i); ++j) z += x[j];
      for (int64_t j = 0; j < length(i); ++j) x[j] /= z;
    }
  }

  CausalLaw law_;
  const kernels::Table<double>* table_;
  int64_t T_, S_;
  double smoothing_;

 private:
  double baseline(const Prompts& prompts, int64_t i) const;
};

}  // namespace lamina
