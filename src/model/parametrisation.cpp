// Layout of the parameter vector, initial values, and the matrices behind a vector; see parametrisation.hpp.
#include "model/parametrisation.hpp"

#include <algorithm>
#include <cmath>

#include "base/memory.hpp"
#include "base/random.hpp"
#include "model/embedding.hpp"

namespace lamina {
namespace {

double dot(const double* a, const double* b, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

}  // namespace

Parametrisation::Parametrisation(const RecallLaw& law, const Settings& settings)
    : law_(law), map_(attention_map(settings)), N_(law.vocabulary), K_(N_ + 1), D_(2 * K_) {
  const std::string& variant = settings.text("variant");
  const bool full = variant == "full", softmax = map_ == kernels::Map::softmax;
  initialisation_ = settings.text("initialisation");
  const std::string& feed_forward = settings.text("feed_forward");
  construction_ = make_construction(initialisation_, law, softmax, feed_forward, settings.number("suppression"));
  if (variant == "w_free" && initialisation_ != "n1_star") construction_.value_skips_tau = false;
  initial_scale_ = settings.number("initial_scale");
  initial_value_scale_ = settings.number("value_scale");
  seed_ = static_cast<uint64_t>(settings.integer("seed"));

  d_ = D_;
  if (settings.is("embedding", "orthonormal")) {
    d_ = settings.integer("dimension") == 0 ? D_ : settings.integer("dimension");
    if (d_ < D_)
      fail(LAMINA_E_OPTION, "dimension is " + std::to_string(d_) + ", must be at least 2 (vocabulary + 1) = " + std::to_string(D_) +
                                " for orthonormal embeddings");
    embedding_ = orthonormal_columns(d_, D_, seed_);
  }

  const std::string& train_scale = settings.text("train_value_scale");
  const bool scale_trained = train_scale == "yes" || (train_scale == "auto" && full && softmax);
  const bool free_f = !full && law.noise > 0 && feed_forward != "none";
  if (full || variant == "uv_free") add_tensor("lambda", {static_cast<int64_t>(law.triggers.size())}, true, lambda_);
  if (variant == "w_free" || variant == "original") add_tensor("W", {d_, d_}, true, w_);
  if (full || variant == "w_free") add_tensor("value_scale", {1}, scale_trained, scale_);
  if (full) add_tensor("noise_logit", {1}, settings.is("train_noise_logit", "yes"), logit_);
  if (variant == "uv_free" || variant == "original") {
    add_tensor("V", {d_, d_}, true, v_);
    add_tensor("U", {K_, d_}, true, u_);
  }
  if (free_f) add_tensor("F", {d_, d_}, true, f_);
}

void Parametrisation::add_tensor(const char* name, std::vector<int64_t> shape, bool trained, int& index) {
  TensorInfo info{name, std::move(shape), tensors_.empty() ? 0 : tensors_.back().offset + tensors_.back().count, 1, trained};
  for (int64_t extent : info.shape) info.count *= extent;
  index = static_cast<int>(tensors_.size());
  tensors_.push_back(std::move(info));
}

void Parametrisation::hold_fixed(double* gradient) const {
  for (const TensorInfo& t : tensors_)
    if (!t.trained) std::fill_n(gradient + t.offset, t.count, 0.0);
}

// ---- the own basis and R^d ----

std::vector<double> Parametrisation::column(int64_t basis) const {
  std::vector<double> unit(D_, 0.0);
  unit[basis] = 1;
  return combine(unit);
}

std::vector<double> Parametrisation::combine(const std::vector<double>& f) const {
  if (embedding_.empty()) return f;
  std::vector<double> out(d_);
  for (int64_t i = 0; i < d_; ++i) out[i] = dot(&embedding_[i * D_], f.data(), D_);
  return out;
}

void Parametrisation::add_outer(std::vector<double>& M, int64_t row, int64_t col, double value) const {
  if (embedding_.empty()) {
    M[row * D_ + col] += value;
    return;
  }
  for (int64_t i = 0; i < d_; ++i)
    for (int64_t j = 0; j < d_; ++j) M[i * d_ + j] += value * embedding_[i * D_ + row] * embedding_[j * D_ + col];
}

std::vector<double> Parametrisation::rotate(const std::vector<double>& M, int64_t rows) const {
  if (embedding_.empty()) return M;
  std::vector<double> right(rows * d_);  // M B^T
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < d_; ++j) right[i * d_ + j] = dot(&M[i * D_], &embedding_[j * D_], D_);
  if (rows == K_) return right;
  std::vector<double> out(d_ * d_, 0.0);
  for (int64_t i = 0; i < d_; ++i)
    for (int64_t k = 0; k < D_; ++k) {
      const double b = embedding_[i * D_ + k];
      for (int64_t j = 0; j < d_; ++j) out[i * d_ + j] += b * right[k * d_ + j];
    }
  return out;
}

// ---- initial values ----

std::vector<double> Parametrisation::tied_w(std::span<const double> lambda) const {
  std::vector<double> W(D_ * D_, 0.0);
  for (size_t i = 0; i < lambda.size(); ++i) {
    const int64_t q = law_.triggers[i];
    W[q * D_ + K_ + q] = lambda[i];
    W[q * D_ + N_] = -(construction_.kappa * lambda[i] + construction_.beta);
  }
  return W;
}

std::vector<double> Parametrisation::initial() const {
  const bool gaussian = initialisation_ == "gaussian", zero = initialisation_ == "zero";
  const double spread = initial_scale_ == 0 ? 0.05 : initial_scale_, lambda0 = gaussian ? 0.0 : initial_scale_;
  const int64_t parameters = tensors_.back().offset + tensors_.back().count;
  std::vector<double> x = allocate("parameters", 8.0 * static_cast<double>(parameters), [&] { return std::vector<double>(parameters, 0.0); });
  const double l = noise_logit(law_.noise);
  if (lambda_ >= 0) std::fill_n(&x[tensors_[lambda_].offset], law_.triggers.size(), lambda0);
  if (scale_ >= 0) x[tensors_[scale_].offset] = initial_value_scale_;
  if (logit_ >= 0) x[tensors_[logit_].offset] = l;
  if (gaussian && lambda_ >= 0 && w_ < 0 && v_ >= 0) {
    Random random(seed_, Purpose::weights, static_cast<uint64_t>(lambda_));
    for (size_t i = 0; i < law_.triggers.size(); ++i) {
      const double lambda = spread * random.normal();
      // Under relu a negative lambda has no gradient, for ever.
      x[tensors_[lambda_].offset + i] = map_ == kernels::Map::relu ? std::abs(lambda) : lambda;
    }
  }

  const auto place = [&](int index, std::vector<double> own, int64_t rows) {
    if (gaussian) {
      Random random(seed_, Purpose::weights, static_cast<uint64_t>(index));
      for (double& value : own) value = spread * random.normal();
    } else if (zero) {
      std::fill(own.begin(), own.end(), 0.0);
    }
    const std::vector<double> rotated = rotate(own, rows);
    std::copy(rotated.begin(), rotated.end(), x.begin() + tensors_[index].offset);
  };
  // Only what is free is made: in variant full nothing grows with the square of the vocabulary.
  if (w_ >= 0) place(w_, tied_w(std::vector<double>(law_.triggers.size(), lambda0)), D_);
  if (v_ >= 0) {
    std::vector<double> V(D_ * D_, 0.0);
    for (int64_t i = 0; i < D_; ++i) V[i * D_ + i] = initial_value_scale_ * (construction_.value_skips_tau && i == N_ ? 0 : 1);
    place(v_, std::move(V), D_);
  }
  if (u_ >= 0) {
    std::vector<double> U(K_ * D_, 0.0);
    for (int64_t j = 0; j < K_; ++j) U[j * D_ + j] = 1;
    place(u_, std::move(U), K_);
  }
  if (f_ >= 0) {
    std::vector<double> F(D_ * D_, 0.0);
    if (construction_.feed_forward)
      for (int64_t j = 0; j < D_; ++j)
        F[N_ * D_ + j] = construction_.f_constant[j] + l * construction_.f_logit[j] + initial_value_scale_ * construction_.f_scale[j];
    place(f_, std::move(F), D_);
  }
  return x;
}

// ---- matrices and back ----

std::vector<double> Parametrisation::f_vector(std::span<const double> parameters) const {
  const double s = value_scale(parameters), l = logit_ >= 0 ? logit(parameters) : noise_logit(law_.noise);
  std::vector<double> f(D_);
  for (int64_t j = 0; j < D_; ++j)
    f[j] = construction_.f_constant[j] + l * construction_.f_logit[j] + s * construction_.f_scale[j];
  return f;
}

std::vector<double> Parametrisation::matrix(char name, std::span<const double> parameters) const {
  if (const int at = index(name); at >= 0) {
    const auto part = parameters.subspan(tensors_[at].offset, tensors_[at].count);
    return {part.begin(), part.end()};
  }
  std::vector<double> M(name == 'F' && !construction_.feed_forward ? 0 : d_ * d_, 0.0);
  if (name == 'W') {
    for (size_t i = 0; i < law_.triggers.size(); ++i) {
      const int64_t q = law_.triggers[i];
      const double lambda = parameters[tensors_[lambda_].offset + i];
      add_outer(M, q, K_ + q, lambda);
      add_outer(M, q, N_, -(construction_.kappa * lambda + construction_.beta));
    }
  } else if (name == 'V') {
    for (int64_t i = 0; i < D_; ++i)
      if (!(construction_.value_skips_tau && i == N_)) add_outer(M, i, i, value_scale(parameters));
  } else if (name == 'U') {
    std::vector<double> U(K_ * D_, 0.0);
    for (int64_t j = 0; j < K_; ++j) U[j * D_ + j] = 1;
    return rotate(U, K_);
  } else if (!M.empty()) {
    const std::vector<double> tau = column(N_), f = combine(f_vector(parameters));
    for (int64_t i = 0; i < d_; ++i)
      for (int64_t j = 0; j < d_; ++j) M[i * d_ + j] = tau[i] * f[j];
  }
  return M;
}

Matrices Parametrisation::matrices(std::span<const double> parameters) const {
  return {matrix('W', parameters), matrix('V', parameters), matrix('U', parameters), matrix('F', parameters)};
}

void Parametrisation::pull_back(std::span<const double> parameters, const Matrices& d, double* gradient) const {
  const auto form = [&](const std::vector<double>& M, const std::vector<double>& left, const std::vector<double>& right) {
    double sum = 0;
    for (int64_t i = 0; i < d_; ++i)
      if (left[i] != 0) sum += left[i] * dot(&M[i * d_], right.data(), d_);
    return sum;
  };
  const std::vector<double> tau = column(N_);
  if (lambda_ >= 0 && !d.W.empty())
    for (size_t i = 0; i < law_.triggers.size(); ++i) {
      const int64_t q = law_.triggers[i];
      const std::vector<double> row = column(q);
      gradient[tensors_[lambda_].offset + i] += form(d.W, row, column(K_ + q));
      if (construction_.kappa != 0) gradient[tensors_[lambda_].offset + i] -= construction_.kappa * form(d.W, row, tau);
    }
  if (scale_ >= 0 && !d.V.empty())
    for (int64_t i = 0; i < D_; ++i)
      if (!(construction_.value_skips_tau && i == N_)) {
        const std::vector<double> basis = column(i);
        gradient[tensors_[scale_].offset] += form(d.V, basis, basis);
      }
  if (f_ < 0 && construction_.feed_forward && !d.F.empty()) {
    if (scale_ >= 0) gradient[tensors_[scale_].offset] += form(d.F, tau, combine(construction_.f_scale));
    if (logit_ >= 0) gradient[tensors_[logit_].offset] += form(d.F, tau, combine(construction_.f_logit));
  }
  (void)parameters;
}

void Parametrisation::forward(std::span<const double> parameters, const Prompts& prompts, LogitPart part, double* logits,
                              double* weights) const {
  const Matrices m = matrices(parameters);
  const int64_t H = prompts.length;
  // Everything below is in R^d; scores and counts go through the own basis, where x_h has two entries.
  const auto to_own = [&](const std::vector<double>& v) {
    if (embedding_.empty()) return v;
    std::vector<double> own(D_, 0.0);
    for (int64_t i = 0; i < d_; ++i)
      for (int64_t k = 0; k < D_; ++k) own[k] += embedding_[i * D_ + k] * v[i];
    return own;
  };
  const auto times = [&](const std::vector<double>& M, const std::vector<double>& v, int64_t rows) {
    std::vector<double> out(rows);
    for (int64_t i = 0; i < rows; ++i) out[i] = dot(&M[i * d_], v.data(), d_);
    return out;
  };
  std::vector<double> a(H);
  for (int64_t n = 0; n < prompts.count; ++n) {
    const std::span<const int32_t> z = prompts.row(n);
    std::vector<double> query(D_, 0.0);
    query[z[H - 1]] += 1;
    if (H > 1) query[K_ + z[H - 2]] += 1;
    const std::vector<double> x = combine(query);
    std::vector<double> w(d_, 0.0);
    for (int64_t i = 0; i < d_; ++i)
      if (x[i] != 0)
        for (int64_t j = 0; j < d_; ++j) w[j] += x[i] * m.W[i * d_ + j];
    w = to_own(w);
    for (int64_t h = 0; h < H; ++h) a[h] = w[z[h]] + (h > 0 ? w[K_ + z[h - 1]] : 0.0);
    map_scores(map_, a);
    if (weights) std::copy(a.begin(), a.end(), weights + n * H);
    if (!logits) continue;
    std::vector<double> count(D_, 0.0);
    for (int64_t h = 0; h < H; ++h) {
      count[z[h]] += a[h];
      if (h > 0) count[K_ + z[h - 1]] += a[h];
    }
    const std::vector<double> phi = times(m.V, combine(count), d_);
    std::vector<double> o(d_, 0.0);
    if (!m.F.empty() && part != LogitPart::attention) {
      std::vector<double> g = x;
      if (reads_attention())
        for (int64_t i = 0; i < d_; ++i) g[i] += phi[i];
      o = times(m.F, g, d_);
    }
    if (part != LogitPart::feed_forward)
      for (int64_t i = 0; i < d_; ++i) o[i] += phi[i];
    const std::vector<double> xi = times(m.U, o, K_);
    std::copy(xi.begin(), xi.end(), logits + n * K_);
  }
}

}  // namespace lamina
