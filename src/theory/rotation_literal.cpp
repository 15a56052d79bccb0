// Partitions, the counts of matching phases, and the slopes of the sums of products that they weigh; formulas in the header.
#include "theory/rotation_literal.hpp"

#include <algorithm>

#include "theory/rotation_sums.hpp"

namespace lamina {
namespace {

// From this t on counts are polynomials of degree two.
constexpr int64_t settled = 4, counted = settled + 1;  // counted: t = 2 .. settled + 2

using Partition = std::array<size_t, 6>;  // the block of each index, blocks numbered by their first index
using Exponents = std::array<int64_t, 6>;

std::vector<Partition> partitions(size_t size) {
  std::vector<Partition> all;
  Partition current{};
  const auto extend = [&](const auto& self, size_t at, size_t blocks) -> void {
    if (at == size) {
      all.push_back(current);
      return;
    }
    for (size_t block = 0; block <= blocks; ++block) {
      current[at] = block;
      self(self, at + 1, std::max(blocks, block + 1));
    }
  };
  extend(extend, 0, 0);
  return all;
}

// The Moebius function of partitions: the sum over coordinates that are distinct from block to block of `fine` is the sum over coarser
// partitions of this times the sum over any coordinates of their blocks. 0 if not coarser.
double moebius(const Partition& fine, const Partition& coarse, size_t size) {
  std::array<int, 6> blocks{};
  double product = 1;
  for (size_t i = 0; i < size; ++i) {
    const auto first = static_cast<size_t>(std::find(fine.begin(), fine.end(), fine[i]) - fine.begin());
    if (coarse[first] != coarse[i]) return 0;
    // The n-th block of fine within one of coarse contributes -(n - 1).
    if (first == i && blocks[coarse[i]]++ > 0) product *= 1 - blocks[coarse[i]];
  }
  return product;
}

// E prod over blocks of x_j^size for distinct j, in units of the scale.
double moment(const RotationLaw& law, const Partition& partition, size_t size) {
  std::array<int, 6> sizes{};
  for (size_t i = 0; i < size; ++i) ++sizes[partition[i]];
  if (law.start == RotationLaw::Start::ones) return 1;
  if (law.start == RotationLaw::Start::sparse) return sizes[1] ? 0 : 1 / static_cast<double>(law.dimension);
  double product = 1;
  for (int n : sizes) {
    if (n % 2) return 0;
    for (int factor = n - 1; factor > 1; factor -= 2) product *= factor;
  }
  return product;
}

// Whether the exponents of every block add up to 0.
bool cancels(const Partition& partition, const Exponents& exponents) {
  Exponents sums{};
  for (size_t i = 0; i < sums.size(); ++i) sums[partition[i]] += exponents[i];
  return sums == Exponents{};
}

}  // namespace

RotationLiteralPopulation::RotationLiteralPopulation(const RotationLaw& law, const kernels::Table<double>& table)
    : d_(law.dimension), table_(&table), blocks_(law) {
  std::array<double, 3> tail{};  // sums over t > settled + 2 of n^-2, n^-1, 1, n = t - 1: small terms first
  for (int64_t n = law.length - 2; n > settled + 1; --n) {
    const double inverse = 1 / static_cast<double>(n);
    tail[0] += inverse * inverse, tail[1] += inverse;
  }
  tail[2] = static_cast<double>(std::max<int64_t>(0, law.length - 3 - settled));
  add_terms(law, tail, Ends{{{0, 3}, {1, 2}, {4, 5}}}, square_);
  add_terms(law, {tail[1], tail[2], 0}, Ends{{{0, 1}, {2, 3}}}, cross_);
}

// Three factors: indices j,k,l,j',k',l' of R_jj', Q_kl, conj Q_k'l'. Two: i,j,k,l of P_ij, Q_kl and x_i, with lags 0; 1, 0, for only then
// do all exponents, -t + (s-1-a) - (s-1-b) + (t-1-c), add up to 0.
void RotationLiteralPopulation::add_terms(const RotationLaw& law, const std::array<double, 3>& tail, const Ends& ends,
                                          Form& form) const {
  const bool squared = ends.size() == 3;
  const size_t size = 2 * ends.size();
  const std::vector<Partition> all = partitions(size);
  const int64_t last = std::min(law.length - 1, settled + 2);
  double unit = 1;
  for (size_t i = 0; i < size; ++i) unit *= law.scale;
  // Which partitions with what sign make the free sum of each.
  std::vector<std::vector<std::pair<size_t, double>>> finer(all.size());
  for (size_t p = 0; p < all.size(); ++p) {
    const double weight = moment(law, all[p], size);
    for (size_t coarse = 0; coarse < all.size() && weight != 0; ++coarse)
      if (const double sign = moebius(all[p], all[coarse], size)) finer[coarse].push_back({p, sign * weight});
  }
  std::vector<std::array<double, counted>> counts(all.size());
  for (int lags = 0; lags < (squared ? 64 : 1); ++lags) {
    const auto lag = [&](int index) { return int64_t{lags >> index & 1}; };  // a, b, c, a', b', c'
    if (squared && lag(1) - lag(0) - lag(2) != lag(4) - lag(3) - lag(5)) continue;
    // 1. N_t.
    for (auto& row : counts) row.fill(0);
    for (int64_t t = 2; t <= last; ++t) {
      const auto count = [&](const Exponents& exponents) {
        for (size_t p = 0; p < all.size(); ++p) counts[p][static_cast<size_t>(t - 2)] += cancels(all[p], exponents);
      };
      for (int64_t s = squared ? 1 + std::max(lag(0), lag(1)) : 2; s <= t; ++s) {
        if (!squared) count({-t, s - 1, 2 - s, t - 1, 0, 0});
        for (int64_t other = 1 + std::max(lag(3), lag(4)); squared && other <= t; ++other)
          count({s - 1 - lag(0), 1 + lag(1) - s, t - 1 - lag(2), 1 + lag(3) - other, other - 1 - lag(4), 1 + lag(5) - t});
      }
    }
    for (size_t coarse = 0; coarse < all.size(); ++coarse) {
      // 2. The free sum, and its sum over t.
      std::array<double, counted> free{};
      for (const auto& [p, sign] : finer[coarse])
        for (size_t i = 0; i < free.size(); ++i) free[i] += sign * counts[p][i];
      if (free == std::array<double, counted>{}) continue;
      double weight = 0;
      if (law.length - 1 > last) {  // free = c[0] + c[1] n + c[2] n^2 from its last three values, at n = settled - 1 .. settled + 1
        const double *f = &free[counted - 3], n = static_cast<double>(settled);
        const double second = 0.5 * (f[2] - 2 * f[1] + f[0]), first = 0.5 * (f[2] - f[0]) - 2 * n * second;
        weight = (f[1] - n * (first + n * second)) * tail[0] + first * tail[1] + second * tail[2];
      }
      for (int64_t t = last; t >= 2; --t) {
        const double n = static_cast<double>(t - 1);
        weight += free[static_cast<size_t>(t - 2)] / (squared ? n * n : n);
      }
      // 3. The factors, and the coordinates that they share.
      Term term{unit * weight, 0, {}};
      std::array<int, 6> touched{};
      std::array<size_t, 6> number{};  // from 1; 0: shared by no other factor
      for (const auto& [i, j] : ends) {
        ++touched[all[coarse][i]];
        if (all[coarse][i] != all[coarse][j]) ++touched[all[coarse][j]];
      }
      for (size_t block = 0; block < 6; ++block)
        if (touched[block] > 1) number[block] = ++term.shared;
      for (size_t f = 0; f < ends.size(); ++f) {
        const size_t x = all[coarse][ends[f][0]], y = all[coarse][ends[f][1]], row = number[x], column = number[y];
        using enum RotationSums::Kind;
        const RotationSums::Kind kind = x == y ? (row ? diagonal : trace) : row ? (column ? entries : rows) : column ? columns : total;
        Factor& factor = term.factors[f];
        factor.offset = RotationSums::offset(kind, d_);
        if (column) factor.stride[column - 1] = 1;
        if (row) factor.stride[row - 1] = kind == entries ? d_ : 1;
      }
      if (squared) {
        const int64_t blocks[3] = {2 * lag(0) + lag(3), 2 * lag(1) + lag(2), 2 * lag(4) + lag(5)};
        for (size_t f = 0; f < 3; ++f) term.factors[f].block = blocks[f];
      } else {
        term.factors[1].block = 2;
      }
      if (term.shared == 3) add_products(term, d_, form);
      else form.terms.push_back(term);
    }
  }
}

// A term w sum F_rx G_xc H_rc, in any order and orientation, gives the slope by H in rows r and columns c.
void RotationLiteralPopulation::add_products(const Term& term, int64_t d, Form& form) {
  // d = 1: strides do not tell rows from columns, and all orientations are the same.
  for (size_t slot = 0; slot < 3; ++slot) {
    const Factor &by = term.factors[slot], &first = term.factors[slot == 0 ? 1 : 0], &second = term.factors[slot == 2 ? 1 : 2];
    size_t row = 0, shared = 0;
    for (size_t v = 0; v < 3; ++v) {
      if (by.stride[v] == 0) shared = v;
      else if (by.stride[v] == d) row = v;
    }
    const bool left = first.stride[row] != 0;
    const auto transposed = [&](const Factor& factor, bool on_left) { return factor.stride[shared] == (on_left ? d : 1); };
    Product product{by.block, first.block, left, transposed(first, left), {{term.weight, second.block, transposed(second, !left)}}};
    std::vector<Product>& all = form.products[slot];
    const auto same = std::ranges::find_if(all, [&](const Product& other) {
      return other.to == product.to && other.block == product.block && other.left == product.left && other.transposed == product.transposed;
    });
    if (same == all.end()) all.push_back(std::move(product));
    else same->sum.push_back(product.sum[0]);
  }
}

// The products into the entries of `out`. Re and Im side by side, [X_re | X_im] of a product of complex matrices is two real ones.
void RotationLiteralPopulation::multiply(const std::vector<Product>& products, unsigned wanted, const RotationSums& first,
                                         const RotationSums& second, RotationSums& out) const {
  using Shape = RotationSums::Shape;
  const int64_t d = d_, D = 2 * d;
  // left: [d,d] Re, then Im; right: [d,2d] of Re | Im, then of -Im | Re.
  std::vector<double> left(static_cast<size_t>(2 * d * d)), right(static_cast<size_t>(2 * d * D)), sum(static_cast<size_t>(d * D));
  const auto put = [&](bool on_left, const RotationSums& from, int64_t block, bool transposed, double weight) {
    constexpr int64_t tile = 32;
    const double *re = &from.re[from.at(block, 0, 0)], *im = &from.im[from.at(block, 0, 0)];
    for (int64_t i0 = 0; i0 < d; i0 += tile)
      for (int64_t j0 = 0; j0 < d; j0 += tile)
        for (int64_t i = i0; i < std::min(d, i0 + tile); ++i)
          for (int64_t j = j0; j < std::min(d, j0 + tile); ++j) {
            const int64_t at = transposed ? j * d + i : i * d + j;
            const double x = weight * re[at], y = weight * im[at];
            if (on_left) {
              left[i * d + j] += x, left[d * d + i * d + j] += y;
            } else {
              right[i * D + j] += x, right[i * D + d + j] += y;
              right[(d + i) * D + j] -= y, right[(d + i) * D + d + j] += x;
            }
          }
  };
  for (int64_t to = 0; to < std::ssize(out.shape); ++to) {
    std::ranges::fill(sum, 0.0);
    for (const Product& product : products) {
      const Shape shape = first.shape[static_cast<size_t>(product.block)];
      const bool none = std::ranges::all_of(
          product.sum, [&](const auto& part) { return second.shape[static_cast<size_t>(part.block)] == Shape::zero; });
      if (product.to != to || !(wanted >> to & 1) || shape == Shape::zero || none) continue;
      std::ranges::fill(left, 0.0), std::ranges::fill(right, 0.0);
      if (shape == Shape::scalar) {
        const double c = first.re[first.at(product.block, 0, 0)];
        for (const auto& part : product.sum) put(false, second, part.block, part.transposed, c * part.weight);
        for (int64_t i = 0; i < d * D; ++i) sum[i] += right[i];
        continue;
      }
      put(product.left, first, product.block, product.transposed, 1);
      for (const auto& part : product.sum) put(!product.left, second, part.block, part.transposed, part.weight);
      table_->gemm(d, D, d, left.data(), d, 1, right.data(), D, sum.data(), D, true);
      table_->gemm(d, D, d, &left[d * d], d, 1, &right[d * D], D, sum.data(), D, true);
    }
    for (int64_t i = 0; i < d; ++i)
      for (int64_t j = 0; j < d; ++j) out.re[out.at(to, i, j)] += sum[i * D + j], out.im[out.at(to, i, j)] += sum[i * D + d + j];
  }
}

void RotationLiteralPopulation::slope(const Form& form, size_t slot, unsigned wanted, const std::array<RotationSums*, 3>& factors) const {
  const size_t one = slot == 0 ? 1 : 0, other = slot == 2 ? 1 : 2;
  RotationSums& out = *factors[slot];
  std::ranges::fill(out.re, 0.0), std::ranges::fill(out.im, 0.0);
  constexpr int64_t tile = 32;
  for (const Term& term : form.terms) {
    const Factor &X = term.factors[one], &Y = term.factors[other], &S = term.factors[slot];
    if (!(wanted >> S.block & 1) || factors[one]->shape[static_cast<size_t>(X.block)] == RotationSums::Shape::zero ||
        factors[other]->shape[static_cast<size_t>(Y.block)] == RotationSums::Shape::zero)
      continue;
    const auto start = [&](const Factor& factor) { return static_cast<size_t>(factor.block * RotationSums::size(d_) + factor.offset); };
    const double *x_re = &factors[one]->re[start(X)], *x_im = &factors[one]->im[start(X)], *y_re = &factors[other]->re[start(Y)],
                 *y_im = &factors[other]->im[start(Y)];
    double *re = &out.re[start(S)], *im = &out.im[start(S)];
    const int64_t rows = term.shared > 0 ? d_ : 1, columns = term.shared > 1 ? d_ : 1;
    for (int64_t i0 = 0; i0 < rows; i0 += tile)
      for (int64_t j0 = 0; j0 < columns; j0 += tile)
        for (int64_t i = i0; i < std::min(rows, i0 + tile); ++i)
          for (int64_t j = j0; j < std::min(columns, j0 + tile); ++j) {
            const int64_t x = i * X.stride[0] + j * X.stride[1], y = i * Y.stride[0] + j * Y.stride[1];
            const int64_t s = i * S.stride[0] + j * S.stride[1];
            re[s] += term.weight * (x_re[x] * y_re[y] - x_im[x] * y_im[y]);
            im[s] += term.weight * (x_re[x] * y_im[y] + x_im[x] * y_re[y]);
          }
  }
  out.spread();
  multiply(form.products[slot], wanted, *factors[one], *factors[other], out);
}

RotationLiteralPopulation::Value RotationLiteralPopulation::loss_and_gradient(std::span<const double> parameters, double* gradient) const {
  const int64_t d = d_, D = 2 * d, p = d * D, q = D * D;
  const std::span<const double> P = parameters.first(2 * p), Q = parameters.subspan(2 * p);
  // 1. The blocks of the mean diagonals, and how far the rest is from them.
  double a = 0, b = 0;
  for (int64_t j = 0; j < d; ++j) a += Q[(d + j) * D + j] / static_cast<double>(d), b += P[j * D + j] / static_cast<double>(d);
  std::vector<double> rest(parameters.begin(), parameters.end());
  for (int64_t j = 0; j < d; ++j) rest[j * D + j] -= b, rest[2 * p + (d + j) * D + j] -= a;
  const std::span<const double> dP = std::span(rest).first(2 * p), dQ = std::span(rest).subspan(2 * p);
  // P^T conj(other), Re, then Im: [2d,2d] each.
  std::vector<double> gram(static_cast<size_t>(2 * q)), negative(static_cast<size_t>(p));
  const auto set_gram = [&](std::span<const double> other) {
    for (int64_t i = 0; i < p; ++i) negative[i] = -other[p + i];
    table_->gemm(D, D, d, P.data(), 1, D, other.data(), D, gram.data(), D, false);
    table_->gemm(D, D, d, &P[p], 1, D, &other[p], D, gram.data(), D, true);
    table_->gemm(D, D, d, P.data(), 1, D, negative.data(), D, &gram[q], D, false);
    table_->gemm(D, D, d, &P[p], 1, D, other.data(), D, &gram[q], D, true);
  };
  // Re sum of the entries of slopes times those at re and im, or times their transpose.
  const auto inner = [&](const RotationSums& slopes, int64_t block, const double* re, const double* im, int64_t stride, bool transposed) {
    double sum = 0;
    for (int64_t i = 0; i < d; ++i)
      for (int64_t j = 0; j < d; ++j) {
        const int64_t at = transposed ? j * stride + i : i * stride + j;
        sum += slopes.re[slopes.at(block, i, j)] * re[at] - slopes.im[slopes.at(block, i, j)] * im[at];
      }
    return sum;
  };
  RotationSums keys(d, 4), conjugate(d, 4), rest_keys(d, 4), rest_conjugate(d, 4), block_keys(d, 4), one(d, 1), R(d, 4), values(d, 1);
  keys.set_keys(Q, 1), conjugate.set_keys(Q, -1), rest_keys.set_keys(dQ, 1), rest_conjugate.set_keys(dQ, -1);
  block_keys.set_identity(2, a), one.re[0] = 1;
  // 2. Of (P0, dQ) with (P0, Q0) and (P, Q), whose R are b^2 I in block 0 and b P^T in the blocks 0, 2; of (dP, Q), with b conj dP in the
  // blocks 0, 1.
  double square = 0, target = 0;
  slope(square_, 0, 1u, {&R, &block_keys, &rest_conjugate});
  for (int64_t j = 0; j < d; ++j) square += b * b * R.re[R.at(0, j, j)];
  slope(square_, 0, 5u, {&R, &keys, &rest_conjugate});
  for (int64_t lag = 0; lag < 2; ++lag) square += b * inner(R, 2 * lag, &P[lag * d], &P[p + lag * d], D, true);
  slope(cross_, 0, 1u, {&values, &rest_keys, &one});
  for (int64_t j = 0; j < d; ++j) target += b * values.re[values.at(0, j, j)];
  slope(square_, 0, 3u, {&R, &block_keys, &conjugate});
  for (int64_t i = 0; i < p; ++i) negative[i] = -dP[p + i];
  for (int64_t lag = 0; lag < 2; ++lag) square += b * inner(R, lag, &dP[lag * d], &negative[lag * d], D, false);
  slope(cross_, 0, 1u, {&values, &keys, &one});
  target += inner(values, 0, dP.data(), &dP[p], D, false);
  slope(square_, 0, 15u, {&R, &keys, &conjugate});
  set_gram(dP);
  for (int64_t block = 0; block < 4; ++block) {
    const int64_t at = block / 2 * d * D + block % 2 * d;
    square += inner(R, block, &gram[at], &gram[q + at], D, false);
  }
  const double excess = blocks_.excess(a * b) + (0.5 * square - target);
  // 3. d/dRe + i d/dIm is twice the slope by the conjugate: of 1/2 E|yhat|^2 that is P times the slopes by R, and the slope by conj Q;
  // of Re E x^H yhat it is the conjugate of the slopes by P and Q.
  if (gradient) {
    double *dP_re = gradient, *dP_im = dP_re + p, *dQ_re = dP_im + p, *dQ_im = dQ_re + q;
    std::vector<double> slopes(static_cast<size_t>(3 * q));  // Re, Im, -Im [2d,2d]
    for (int64_t block = 0; block < 4; ++block)
      for (int64_t i = 0; i < d; ++i)
        for (int64_t j = 0; j < d; ++j) {
          const int64_t at = (block / 2 * d + i) * D + block % 2 * d + j;
          slopes[at] = R.re[R.at(block, i, j)], slopes[q + at] = R.im[R.at(block, i, j)], slopes[2 * q + at] = -slopes[q + at];
        }
    const double *P_re = P.data(), *P_im = P_re + p, *re = slopes.data(), *im = re + q, *minus = im + q;
    table_->gemm(d, D, D, P_re, D, 1, re, D, dP_re, D, false);
    table_->gemm(d, D, D, P_im, D, 1, minus, D, dP_re, D, true);
    table_->gemm(d, D, D, P_re, D, 1, im, D, dP_im, D, false);
    table_->gemm(d, D, D, P_im, D, 1, re, D, dP_im, D, true);
    for (int64_t i = 0; i < d; ++i)
      for (int64_t j = 0; j < d; ++j) dP_re[i * D + j] -= values.re[values.at(0, i, j)], dP_im[i * D + j] += values.im[values.at(0, i, j)];
    set_gram(P);
    R.set_blocks(gram.data(), q, D, 1);
    slope(square_, 2, 15u, {&R, &keys, &conjugate});
    values.set_blocks(P.data(), p, D, 1);
    slope(cross_, 1, 15u, {&values, &keys, &one});
    for (int64_t block = 0; block < 4; ++block)
      for (int64_t i = 0; i < d; ++i)
        for (int64_t j = 0; j < d; ++j) {
          const int64_t to = (block / 2 * d + i) * D + block % 2 * d + j;
          const size_t at = keys.at(block, i, j);
          dQ_re[to] = conjugate.re[at] - keys.re[at], dQ_im[to] = conjugate.im[at] + keys.im[at];
        }
  }
  return {blocks_.infimum + excess, excess};
}

}  // namespace lamina
