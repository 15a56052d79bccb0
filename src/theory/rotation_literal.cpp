// Partitions, the counts of matching phases, and the sums of products that they weigh; formulas in the header.
#include "theory/rotation_literal.hpp"

#include <algorithm>

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

// Re and Im of the sums that terms read of matrices [d,d], several matrices in a row: the entries, the diagonal, the sums along rows,
// along columns, of all, and of the diagonal.
enum Kind : int64_t { entries, diagonal, rows, columns, total, trace };

}  // namespace

class RotationLiteralPopulation::Sums {
 public:
  Sums(int64_t dimension, int64_t matrices)
      : d(dimension), re(static_cast<size_t>(matrices * size(d))), im(re), slope_re(re), slope_im(re) {}

  static int64_t size(int64_t d) { return d * d + 3 * d + 2; }
  static int64_t offset(Kind kind, int64_t d) {
    return kind == entries ? 0 : kind == total ? d * d + 3 * d : kind == trace ? d * d + 3 * d + 1 : d * d + (kind - diagonal) * d;
  }

  // The four blocks of lags of R = P^T conj(other), of Q or conj(Q) (sign -1), and the first block of P.
  void set_gram(std::span<const double> P, std::span<const double> other) {
    const int64_t D = 2 * d, p = d * D;
    for (int64_t block = 0; block < 4; ++block)
      for (int64_t o = 0; o < d; ++o)
        for (int64_t i = 0; i < d; ++i)
          for (int64_t j = 0; j < d; ++j) {
            const int64_t row = o * D + block / 2 * d + i, column = o * D + block % 2 * d + j;
            re[at(block, i, j)] += P[row] * other[column] + P[p + row] * other[p + column];
            im[at(block, i, j)] += P[p + row] * other[column] - P[row] * other[p + column];
          }
    reduce();
  }
  void set_keys(std::span<const double> Q, double sign) {
    const int64_t D = 2 * d;
    for (int64_t block = 0; block < 4; ++block)
      for (int64_t i = 0; i < d; ++i)
        for (int64_t j = 0; j < d; ++j) {
          const int64_t from = (block / 2 * d + i) * D + block % 2 * d + j;
          re[at(block, i, j)] = Q[from], im[at(block, i, j)] = sign * Q[D * D + from];
        }
    reduce();
  }
  void set_values(std::span<const double> P) {
    for (int64_t i = 0; i < d; ++i)
      for (int64_t j = 0; j < d; ++j) re[at(0, i, j)] = P[i * 2 * d + j], im[at(0, i, j)] = P[2 * d * d + i * 2 * d + j];
    reduce();
  }

  // The sums of all matrices from their entries.
  void reduce() {
    for (auto* part : {&re, &im})
      for (size_t at = 0; at < part->size(); at += static_cast<size_t>(size(d))) {
        double* m = part->data() + at;
        double *along = m + d * d, *row = along + d, *column = row + d, *whole = column + d;
        std::fill(along, whole + 2, 0.0);
        for (int64_t i = 0; i < d; ++i) {
          along[i] = m[i * d + i], whole[1] += m[i * d + i];
          for (int64_t j = 0; j < d; ++j) row[i] += m[i * d + j], column[j] += m[i * d + j];
        }
        for (int64_t i = 0; i < d; ++i) whole[0] += row[i];
      }
  }
  // The slopes by the entries from those by all sums.
  void spread() {
    for (auto* part : {&slope_re, &slope_im})
      for (size_t at = 0; at < part->size(); at += static_cast<size_t>(size(d))) {
        double* m = part->data() + at;
        const double *along = m + d * d, *row = along + d, *column = row + d, *whole = column + d;
        for (int64_t i = 0; i < d; ++i) {
          for (int64_t j = 0; j < d; ++j) m[i * d + j] += row[i] + column[j] + whole[0];
          m[i * d + i] += along[i] + whole[1];
        }
      }
  }
  size_t at(int64_t matrix, int64_t i, int64_t j) const { return static_cast<size_t>(matrix * size(d) + i * d + j); }

  int64_t d;
  std::vector<double> re, im, slope_re, slope_im;
};

RotationLiteralPopulation::RotationLiteralPopulation(const RotationLaw& law) : d_(law.dimension), blocks_(law) {
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
                                          std::vector<Term>& terms) const {
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
        const Kind kind = x == y ? (row ? diagonal : trace) : row ? (column ? entries : rows) : column ? columns : total;
        Factor& factor = term.factors[f];
        factor.offset = Sums::offset(kind, d_);
        if (column) factor.stride[column - 1] = 1;
        if (row) factor.stride[row - 1] = kind == entries ? d_ : 1;
      }
      if (squared) {
        const int64_t blocks[3] = {2 * lag(0) + lag(3), 2 * lag(1) + lag(2), 2 * lag(4) + lag(5)};
        for (size_t f = 0; f < 3; ++f) term.factors[f].block = blocks[f];
      } else {
        term.factors[1].block = 2;
      }
      terms.push_back(term);
    }
  }
}

// The real part of the sum of all terms; adds the slopes by each factor's sums.
template <bool slopes>
double RotationLiteralPopulation::run(const std::vector<Term>& terms, Sums& first, Sums& second, Sums& third) const {
  double sum = 0;
  for (const Term& term : terms) {
    std::array<int64_t, 3> extent;
    for (size_t v = 0; v < 3; ++v) extent[v] = v < term.shared ? d_ : 1;
    std::array<size_t, 3> start;
    for (size_t f = 0; f < 3; ++f) start[f] = static_cast<size_t>(term.factors[f].block * Sums::size(d_) + term.factors[f].offset);
    const double *a_re = &first.re[start[0]], *a_im = &first.im[start[0]], *b_re = &second.re[start[1]], *b_im = &second.im[start[1]],
                 *c_re = &third.re[start[2]], *c_im = &third.im[start[2]];
    double *da_re = &first.slope_re[start[0]], *da_im = &first.slope_im[start[0]], *db_re = &second.slope_re[start[1]],
           *db_im = &second.slope_im[start[1]], *dc_re = &third.slope_re[start[2]], *dc_im = &third.slope_im[start[2]];
    const auto& [A, B, C] = term.factors;
    double part = 0;
    for (int64_t i = 0; i < extent[0]; ++i)
      for (int64_t j = 0; j < extent[1]; ++j)
        for (int64_t k = 0; k < extent[2]; ++k) {
          const int64_t a = i * A.stride[0] + j * A.stride[1] + k * A.stride[2], b = i * B.stride[0] + j * B.stride[1] + k * B.stride[2],
                        c = i * C.stride[0] + j * C.stride[1] + k * C.stride[2];
          const double re = a_re[a] * b_re[b] - a_im[a] * b_im[b], im = a_re[a] * b_im[b] + a_im[a] * b_re[b];
          part += re * c_re[c] - im * c_im[c];
          if constexpr (slopes) {
            const double w = term.weight;
            dc_re[c] += w * re, dc_im[c] += w * im;
            da_re[a] += w * (b_re[b] * c_re[c] - b_im[b] * c_im[c]), da_im[a] += w * (b_re[b] * c_im[c] + b_im[b] * c_re[c]);
            db_re[b] += w * (a_re[a] * c_re[c] - a_im[a] * c_im[c]), db_im[b] += w * (a_re[a] * c_im[c] + a_im[a] * c_re[c]);
          }
        }
    sum += term.weight * part;
  }
  if (slopes)
    for (Sums* sums : {&first, &second, &third}) sums->spread();
  return sum;
}

// P and Q below are Re, then Im.
double RotationLiteralPopulation::product(std::span<const double> P, std::span<const double> Q, std::span<const double> other_P,
                                          std::span<const double> other_Q) const {
  Sums R(d_, 4), keys(d_, 4), others(d_, 4);
  R.set_gram(P, other_P), keys.set_keys(Q, 1), others.set_keys(other_Q, -1);
  return run<false>(square_, R, keys, others);
}
double RotationLiteralPopulation::overlap(std::span<const double> P, std::span<const double> Q) const {
  Sums values(d_, 1), keys(d_, 4), one(d_, 1);
  values.set_values(P), keys.set_keys(Q, 1), one.re[0] = 1;
  return run<false>(cross_, values, keys, one);
}

RotationLiteralPopulation::Value RotationLiteralPopulation::loss_and_gradient(std::span<const double> parameters, double* gradient) const {
  const int64_t d = d_, D = 2 * d, p = d * D, q = D * D;
  const std::span<const double> P = parameters.first(2 * p), Q = parameters.subspan(2 * p);
  // 1. The blocks of the mean diagonals, and how far the rest is from them.
  double a = 0, b = 0;
  for (int64_t j = 0; j < d; ++j) a += Q[(d + j) * D + j] / static_cast<double>(d), b += P[j * D + j] / static_cast<double>(d);
  std::vector<double> blocks(parameters.size()), rest(parameters.begin(), parameters.end());
  for (int64_t j = 0; j < d; ++j) {
    blocks[j * D + j] = b, rest[j * D + j] -= b;
    blocks[2 * p + (d + j) * D + j] = a, rest[2 * p + (d + j) * D + j] -= a;
  }
  const std::span<const double> P0 = std::span(blocks).first(2 * p), Q0 = std::span(blocks).subspan(2 * p);
  const std::span<const double> dP = std::span(rest).first(2 * p), dQ = std::span(rest).subspan(2 * p);
  const double excess = blocks_.excess(a * b) + (0.5 * (product(P0, Q0, dP, Q) + product(P, Q, dP, Q)) - overlap(dP, Q)) +
                        (0.5 * (product(P0, Q0, P0, dQ) + product(P, Q, P0, dQ)) - overlap(P0, dQ));
  // 2. d/dRe + i d/dIm is twice the slope by the conjugate: of 1/2 E|yhat|^2 that is P times the slopes by R, and the slope by conj Q;
  // of Re E x^H yhat it is the conjugate of the slopes by P and Q.
  if (gradient) {
    Sums R(d, 4), conjugate(d, 4), keys(d, 4), values(d, 1), targets(d, 4), one(d, 1);
    R.set_gram(P, P), conjugate.set_keys(Q, -1), keys.set_keys(Q, 1), values.set_values(P), targets.set_keys(Q, 1), one.re[0] = 1;
    run<true>(square_, R, keys, conjugate);
    run<true>(cross_, values, targets, one);
    const double *P_re = P.data(), *P_im = P_re + p;
    double *dP_re = gradient, *dP_im = dP_re + p, *dQ_re = dP_im + p, *dQ_im = dQ_re + q;
    std::fill_n(gradient, 2 * (p + q), 0.0);
    for (int64_t block = 0; block < 4; ++block)
      for (int64_t i = 0; i < d; ++i)
        for (int64_t j = 0; j < d; ++j) {
          const int64_t row = block / 2 * d + i, column = block % 2 * d + j;
          const size_t at = R.at(block, i, j);
          dQ_re[row * D + column] = conjugate.slope_re[at] - targets.slope_re[at];
          dQ_im[row * D + column] = conjugate.slope_im[at] + targets.slope_im[at];
          for (int64_t o = 0; o < d; ++o) {
            dP_re[o * D + column] += P_re[o * D + row] * R.slope_re[at] - P_im[o * D + row] * R.slope_im[at];
            dP_im[o * D + column] += P_re[o * D + row] * R.slope_im[at] + P_im[o * D + row] * R.slope_re[at];
          }
        }
    for (int64_t i = 0; i < d; ++i)
      for (int64_t j = 0; j < d; ++j) {
        const size_t at = values.at(0, i, j);
        dP_re[i * D + j] -= values.slope_re[at], dP_im[i * D + j] += values.slope_im[at];
      }
  }
  return {blocks_.infimum + excess, excess};
}

}  // namespace lamina
