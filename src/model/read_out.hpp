// From attention to logits, xi = P c + Q x_H: the matrices V, U, F of a step merged into two, and gradients taken apart again.
//   G = U (I + F) where the feed-forward part reads x_H + phi, else U;    P = G V,  Q = U F
//   dG = dP V^T,  dV = G^T dP,  dQ += dG (if it reads phi),  dU = dG + dQ F^T,  dF = U^T dQ
// A product over K x D x D replaces those over M x D x D. All are kept transposed, [D, K]: a token's column is then a row.
#pragma once
#include <algorithm>
#include <memory_resource>

#include "model/parametrisation.hpp"

namespace lamina {

template <class T>
class ReadOut {
 public:
  using Array = std::pmr::vector<T>;
  using Sums = std::pmr::vector<double>;

  // What it makes is in `memory`, which outlives it.
  ReadOut(const Parametrisation& form, const std::vector<double>& parameters, const kernels::Table<T>& table, const Team& team,
          std::pmr::memory_resource* memory)
      : form_(form), parameters_(parameters), table_(table), team_(team), memory_(memory), K_(form.logit_count()), D_(form.width()),
        reads_(form.has_feed_forward() && form.reads_attention()), scale_(static_cast<T>(form.value_scale(parameters))) {
    UT_.assign(D_ * K_, T(0));
    for (int64_t j = 0; j < K_; ++j)
      for (int64_t i = 0; i < D_; ++i)
        UT_[i * K_ + j] = form_.u_free() ? static_cast<T>(free('U')[j * D_ + i]) : static_cast<T>(i == j);
    if (form_.v_free()) V_.assign(free('V'), free('V') + D_ * D_);
    if (form_.has_feed_forward()) {
      F_.assign(free('F'), free('F') + D_ * D_);
      QT_ = times(F_, true, UT_, K_);
    }
    if (identity()) return;
    GT_ = UT_;
    if (reads_)
      for (int64_t i = 0; i < D_ * K_; ++i) GT_[i] += QT_[i];
    PT_ = through_value(GT_);
  }

  // U, V held and phi not read by F: P = s I [K, D], without the row of tau where the construction skips it.
  bool identity() const { return !form_.u_free() && !form_.v_free() && !reads_; }
  bool skips_tau() const { return !form_.v_free() && form_.construction().value_skips_tau; }
  bool has_query() const { return !QT_.empty(); }
  T scale() const { return scale_; }
  const Array& PT() const { return PT_; }  // empty if identity
  const Array& QT() const { return QT_; }  // empty if there is no feed-forward part
  Array attention_part() const { return through_value(UT_); }                            // (U V)^T
  Array feed_forward_part() const { return reads_ ? through_value(QT_) : Array(memory_); }  // (U F V)^T

  // gradient += the parts of V, U, F and value_scale, given dP^T (empty if identity), dQ^T (empty if none) and, if identity,
  // dL/ds.
  void pull_back(const Sums& dPT, const Sums& dQT, double d_scale, double* gradient) const {
    Array dGT(D_ * K_, T(0), memory_), dQ_T(dQT.begin(), dQT.end(), memory_);
    if (!dPT.empty()) {
      const Array dP_T(dPT.begin(), dPT.end(), memory_);
      if (form_.v_free()) {
        dGT = times(V_, false, dP_T, K_);
        add(times(GT_, false, transposed(dP_T), D_), gradient + form_.offset('V'));
      } else {
        for (int64_t i = 0; i < D_; ++i)
          for (int64_t j = 0; j < K_ && !(skips_tau() && i == K_ - 1); ++j) {
            dGT[i * K_ + j] = scale_ * dP_T[i * K_ + j];
            d_scale += static_cast<double>(GT_[i * K_ + j]) * dPT[i * K_ + j];
          }
      }
    }
    if (form_.scale_trained()) gradient[form_.scale_offset()] += d_scale;
    if (has_query()) {
      if (reads_)
        for (int64_t i = 0; i < D_ * K_; ++i) dQ_T[i] += dGT[i];
      double* dF = gradient + form_.offset('F');
      if (form_.u_free()) {
        add(times(UT_, false, transposed(dQ_T), D_), dF);
        const Array more = times(F_, false, dQ_T, K_);
        for (int64_t i = 0; i < D_ * K_; ++i) dGT[i] += more[i];
      } else {
        add(transposed(dQ_T), dF);
      }
    }
    if (form_.u_free()) add(transposed(dGT), gradient + form_.offset('U'));
  }

 private:
  const double* free(char name) const { return parameters_.data() + form_.offset(name); }

  // A B or A^T B for A [D, inner] (A^T: [D, D]) and B [inner, n], rows in parallel.
  Array times(const Array& A, bool transpose, const Array& B, int64_t n) const {
    constexpr int64_t stripe = 48;
    const int64_t inner = static_cast<int64_t>(B.size()) / n, row = transpose ? 1 : inner, column = transpose ? D_ : 1;
    Array C(D_ * n, memory_);
    team_.for_each((D_ + stripe - 1) / stripe, [&](int64_t part, int) {
      const int64_t first = part * stripe, count = std::min(stripe, D_ - first);
      table_.gemm(count, n, inner, A.data() + first * row, row, column, B.data(), n, C.data() + first * n, n, false);
    });
    return C;
  }

  // V^T X for X [D, K].
  Array through_value(const Array& X) const {
    if (form_.v_free()) return times(V_, true, X, K_);
    Array out(X, memory_);
    for (T& x : out) x *= scale_;
    if (skips_tau()) std::fill_n(out.begin() + (K_ - 1) * K_, K_, T(0));
    return out;
  }

  // [D, K] -> [K, D]
  Array transposed(const Array& X) const {
    Array out(X.size(), memory_);
    for (int64_t i = 0; i < D_; ++i)
      for (int64_t j = 0; j < K_; ++j) out[j * D_ + i] = X[i * K_ + j];
    return out;
  }

  static void add(const Array& X, double* to) {
    for (size_t i = 0; i < X.size(); ++i) to[i] += static_cast<double>(X[i]);
  }

  const Parametrisation& form_;
  const std::vector<double>& parameters_;
  const kernels::Table<T>& table_;
  const Team& team_;
  std::pmr::memory_resource* const memory_;
  const int64_t K_, D_;
  const bool reads_;
  const T scale_;
  Array UT_{memory_}, V_{memory_}, F_{memory_}, GT_{memory_}, QT_{memory_}, PT_{memory_};
};

}  // namespace lamina
