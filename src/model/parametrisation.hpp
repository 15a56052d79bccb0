// Which of W, V, U, F are free, which are held at a construction, and how both stand in one parameter vector.
//   full      lambda [|Q|], value_scale [1], noise_logit [1]                   W, V, U, F of construction.hpp
//   w_free    W [d,d], value_scale [1], F [d,d] if noisy                       V = s (I - v E(tau) E(tau)^T), U = E^T
//   uv_free   lambda [|Q|], V [d,d], U [K,d], F [d,d] if noisy                 W of the construction
//   original  W, V, U, F if noisy                                              nothing held
// The basis is the embeddings' own (d = D = 2 K), or, with embedding = orthonormal, R^d with random orthonormal embeddings, the
// columns of B [d,D]: a matrix M of the own basis is then B M B^T, and gradients follow.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "model/construction.hpp"
#include "model/model.hpp"

namespace lamina {

// W [d,d], V [d,d], U [K,d], F [d,d], row-major; also used for their gradients.
struct Matrices {
  std::vector<double> W, V, U, F;
};

class Parametrisation {
 public:
  Parametrisation(const RecallLaw& law, const Settings& settings);

  const std::vector<TensorInfo>& tensors() const { return tensors_; }
  const Construction& construction() const { return construction_; }
  kernels::Map map() const { return map_; }
  int64_t logit_count() const { return K_; }
  int64_t width() const { return d_; }                              // d
  const std::vector<double>& embedding() const { return embedding_; }  // B [d,D]; empty in the own basis
  bool reads_attention() const { return construction_.reads_attention; }
  bool has_feed_forward() const { return f_free() || construction_.feed_forward; }
  bool w_free() const { return w_ >= 0; }
  bool v_free() const { return v_ >= 0; }
  bool u_free() const { return u_ >= 0; }
  bool f_free() const { return f_ >= 0; }
  bool scale_trained() const { return scale_ >= 0 && tensors_[scale_].trained; }
  int64_t scale_offset() const { return tensors_[scale_].offset; }
  // Where W, V, U or F, if free, stands in the parameters.
  int64_t offset(char name) const { return tensors_[index(name)].offset; }

  std::vector<double> initial() const;
  double value_scale(std::span<const double> parameters) const { return scale_ >= 0 ? parameters[tensors_[scale_].offset] : 1.0; }
  double logit(std::span<const double> parameters) const { return logit_ >= 0 ? parameters[tensors_[logit_].offset] : 0.0; }
  void hold_fixed(double* gradient) const;  // zeroes the entries of held tensors

  // A matrix as it is used, W, V, U or F, free or held; F is empty if there is no feed-forward part. matrices: all four.
  std::vector<double> matrix(char name, std::span<const double> parameters) const;
  Matrices matrices(std::span<const double> parameters) const;
  // gradient += the part of a matrix gradient that belongs to lambda, value_scale and noise_logit. Empty members are skipped.
  void pull_back(std::span<const double> parameters, const Matrices& d, double* gradient) const;

  // Plain evaluation of prompts of tokens in double: the reference of the fast paths, and what user prompts are read with.
  // logits [count, K] and weights [count, length] may be null.
  void forward(std::span<const double> parameters, const Prompts& prompts, LogitPart part, double* logits, double* weights) const;

 private:
  int index(char name) const { return name == 'W' ? w_ : name == 'V' ? v_ : name == 'U' ? u_ : f_; }
  void add_tensor(const char* name, std::vector<int64_t> shape, bool trained, int& index);
  std::vector<double> column(int64_t basis) const;                       // B e_basis
  std::vector<double> combine(const std::vector<double>& f) const;       // B f
  void add_outer(std::vector<double>& M, int64_t row, int64_t col, double value) const;  // M += value b_row b_col^T
  std::vector<double> rotate(const std::vector<double>& M, int64_t rows) const;  // [rows,D] -> B M B^T, or M B^T if rows = K
  std::vector<double> tied_w(std::span<const double> lambda) const;      // in the own basis
  std::vector<double> f_vector(std::span<const double> parameters) const;

  RecallLaw law_;
  Construction construction_;
  kernels::Map map_;
  int64_t N_, K_, D_, d_;
  std::vector<TensorInfo> tensors_;
  int lambda_ = -1, w_ = -1, v_ = -1, u_ = -1, f_ = -1, scale_ = -1, logit_ = -1;
  std::vector<double> embedding_;
  std::string initialisation_;
  double initial_scale_ = 0, initial_value_scale_ = 1;
  uint64_t seed_ = 0;
};

}  // namespace lamina
