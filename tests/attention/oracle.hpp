// The oracle: attention and its adjoint written from the formulas, element by element in long double, nothing shared with the
// engine. Beside each result stands its magnitude (the same sum with absolute values), to which tolerances are relative.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "lamina/lamina.h"

namespace oracle {

using Real = long double;
using Array = std::vector<Real>;  // row-major, [batch, head, position, feature]

struct Problem {
  lamina_attention_spec spec = {};  // sizes, map, flags; defaults allowed
  Array q, k, v, bias, d_o, d_lse, d_weights;
  std::vector<uint8_t> mask;
  std::vector<int64_t> query_lengths, key_lengths;
  std::vector<int64_t> query_offsets,
      key_offsets;  // rows past offsets[b+1] - offsets[b] exist here and not in the engine's arrays

  int64_t B() const { return spec.batch; }
  int64_t H() const { return spec.heads; }
  int64_t H_kv() const { return spec.kv_heads ? spec.kv_heads : spec.heads; }
  int64_t Lq() const { return spec.queries; }
  int64_t Lk() const { return spec.keys; }
  int64_t D() const { return spec.width; }
  int64_t Dv() const { return spec.value_width ? spec.value_width : spec.width; }
  int64_t query_places(int64_t b) const { return query_offsets.empty() ? Lq() : query_offsets[b + 1] - query_offsets[b]; }
  int64_t key_places(int64_t b) const { return key_offsets.empty() ? Lk() : key_offsets[b + 1] - key_offsets[b]; }
  int64_t queries(int64_t b) const { return has(LAMINA_WITH_LENGTHS) ? query_lengths[b] : query_places(b); }
  int64_t keys(int64_t b) const { return has(LAMINA_WITH_LENGTHS) ? key_lengths[b] : key_places(b); }
  bool has(uint32_t flag) const { return (spec.flags & flag) != 0; }
  Real scale() const {
    if (has(LAMINA_SCALE_IS_ZERO)) return 0;
    // The engine's default is a double; the formula must see the same number, in the precision of the element.
    const double value = spec.scale != 0 ? spec.scale : 1 / std::sqrt(static_cast<double>(D()));
    return spec.element == LAMINA_F32 ? static_cast<Real>(static_cast<float>(value)) : static_cast<Real>(value);
  }
};

struct Result {
  Array o, lse, weights, scores, d_q, d_k, d_v, d_bias;
  Real d_scale = 0;
};
struct Solution {
  Result value, size;
  // The S of the error bounds: max of |scale| sum |q||k| + |bias| over the scores whose rounding reaches a result. That of a
  // score does not whose weight is 0 however it is rounded, or whose bias takes the rest in without a trace, here as there.
  Real largest_score = 0;
};

inline bool sees(const Problem& p, int64_t b, int64_t h, int64_t i, int64_t j) {
  const int64_t queries = p.queries(b), keys = p.keys(b);
  if (i >= queries || j >= keys) return false;
  const int64_t shift = p.spec.causal == LAMINA_CAUSAL_BOTTOM_RIGHT ? keys - queries : 0;
  if (p.spec.causal != LAMINA_CAUSAL_NONE && j > i + shift) return false;
  if (p.has(LAMINA_WINDOW_LEFT) && i + shift - j > p.spec.window_left) return false;
  if (p.has(LAMINA_WINDOW_RIGHT) && j - i - shift > p.spec.window_right) return false;
  const size_t at = ((b * p.H() + h) * p.Lq() + i) * p.Lk() + j;
  if (p.has(LAMINA_WITH_MASK) && !p.mask[at]) return false;
  if (p.has(LAMINA_WITH_BIAS) && p.bias[at] == -std::numeric_limits<Real>::infinity()) return false;
  return true;
}

inline Solution solve(const Problem& p) {
  const Real inf = std::numeric_limits<Real>::infinity(), scale = p.scale();
  const int64_t D = p.D(), Dv = p.Dv(), Lq = p.Lq(), Lk = p.Lk(), group = p.H_kv() ? p.H() / p.H_kv() : 1;
  const int map = p.spec.map ? p.spec.map : LAMINA_SOFTMAX;
  const int norm = p.spec.normaliser       ? p.spec.normaliser
                   : map == LAMINA_SOFTMAX ? LAMINA_NORMALISE_ROW_SUM
                                           : LAMINA_NORMALISE_NONE;
  Solution out;
  for (Result* r : {&out.value, &out.size}) {
    const size_t heads = p.B() * p.H(), kv = p.B() * p.H_kv();
    r->o.assign(heads * Lq * Dv, 0), r->lse.assign(heads * Lq, -inf);
    r->weights.assign(heads * Lq * Lk, 0), r->scores.assign(heads * Lq * Lk, -inf), r->d_bias.assign(heads * Lq * Lk, 0);
    r->d_q.assign(heads * Lq * D, 0), r->d_k.assign(kv * Lk * D, 0), r->d_v.assign(kv * Lk * Dv, 0);
  }
  Array s(Lk), s_size(Lk), w(Lk), slope(Lk), P(Lk), P_size(Lk), g(Lk), g_size(Lk);
  for (int64_t b = 0; b < p.B(); ++b)
    for (int64_t h = 0; h < p.H(); ++h)
      for (int64_t i = 0; i < Lq; ++i) {
        const int64_t row = (b * p.H() + h) * Lq + i, kv = b * p.H_kv() + h / group;
        const Real *q = &p.q[row * D], *d_o = &p.d_o[row * Dv];
        // S over the keys seen
        int64_t seen = 0;
        Real top = -inf;
        for (int64_t j = 0; j < Lk; ++j) {
          if (!sees(p, b, h, i, j)) continue;
          ++seen;
          Real dot = 0, size = 0;
          for (int64_t f = 0; f < D; ++f) {
            const Real x = q[f] * p.k[(kv * Lk + j) * D + f];
            dot += x, size += std::fabs(x);
          }
          const Real bias = p.has(LAMINA_WITH_BIAS) ? p.bias[row * Lk + j] : 0;
          s[j] = scale * dot + bias, s_size[j] = std::fabs(scale) * size + std::fabs(bias);
          out.value.scores[row * Lk + j] = s[j], out.size.scores[row * Lk + j] = s_size[j];
          if (s[j] > top) top = s[j];
        }
        if (seen == 0) continue;
        // w(S), w'(S), N, P
        Real N = norm == LAMINA_NORMALISE_VISIBLE ? static_cast<Real>(seen) : norm == LAMINA_NORMALISE_NONE ? 1 : 0, N_size = N;
        for (int64_t j = 0; j < Lk; ++j) {
          if (!sees(p, b, h, i, j)) continue;
          const Real bias = p.has(LAMINA_WITH_BIAS) ? std::fabs(p.bias[row * Lk + j]) : 0;
          // <=, for a score of -inf is of infinite size
          const bool nothing = map == LAMINA_SOFTMAX ? s[j] - top < -800 : map == LAMINA_RELU && s[j] <= -s_size[j] / 2;
          const bool absorbed = s_size[j] - bias < std::ldexp(bias, -70);
          if (!nothing && !absorbed && std::isfinite(s_size[j])) out.largest_score = std::max(out.largest_score, s_size[j]);
          if (map == LAMINA_RELU && nothing) s_size[j] = 0;
          if (map == LAMINA_SOFTMAX) {
            w[j] = slope[j] = std::exp(s[j] - (top == -inf ? 0 : top));  // all scores -inf: 0 / 0
          } else if (map == LAMINA_LINEAR) {
            w[j] = s[j], slope[j] = 1;
          } else {
            w[j] = s[j] < 0 ? 0 : s[j];  // NaN stays
            slope[j] = s[j] > 0 ? 1 : s[j] < 0 ? 0 : s[j] == 0 ? p.spec.relu_at_zero : s[j];
          }
          if (norm == LAMINA_NORMALISE_ROW_SUM) N += w[j], N_size += std::fabs(w[j]);
        }
        const bool dead = map == LAMINA_RELU && norm == LAMINA_NORMALISE_ROW_SUM && N == 0;
        const Real worse = std::fabs(N_size / N);  // by how much cancellation in N enlarges errors
        if (map == LAMINA_SOFTMAX) {
          out.value.lse[row] = N == 0 ? -inf : top + std::log(N);
          out.size.lse[row] = std::fabs(top) + std::log(N) + 1;
        }
        Real mean = 0, mean_size = 0;  // sum_j P G
        for (int64_t j = 0; j < Lk; ++j) {
          if (!sees(p, b, h, i, j)) continue;
          P[j] = dead ? 0 : w[j] / N;
          P_size[j] = dead ? 0 : (map == LAMINA_SOFTMAX ? w[j] : s_size[j]) / std::fabs(N) * worse;
          out.value.weights[row * Lk + j] = P[j], out.size.weights[row * Lk + j] = P_size[j];
          g[j] = g_size[j] = 0;
          for (int64_t f = 0; f < Dv; ++f) {
            const Real v = p.v[(kv * Lk + j) * Dv + f];
            if (!dead) out.value.o[row * Dv + f] += P[j] * v, out.size.o[row * Dv + f] += P_size[j] * std::fabs(v);
            g[j] += d_o[f] * v, g_size[j] += std::fabs(d_o[f] * v);
          }
          if (!p.d_weights.empty()) g[j] += p.d_weights[row * Lk + j], g_size[j] += std::fabs(p.d_weights[row * Lk + j]);
          if (norm == LAMINA_NORMALISE_ROW_SUM && !dead) mean += P[j] * g[j], mean_size += P_size[j] * g_size[j];
        }
        // the adjoint
        for (int64_t j = 0; j < Lk; ++j) {
          if (!sees(p, b, h, i, j)) continue;
          Real ds, ds_size;
          if (dead) {
            ds = ds_size = 0;
          } else if (map == LAMINA_SOFTMAX) {
            const Real d_lse = p.d_lse.empty() ? 0 : p.d_lse[row];
            ds = P[j] * (g[j] - mean + d_lse), ds_size = P[j] * (g_size[j] + mean_size + std::fabs(d_lse));
          } else {
            ds = (slope[j] == 0 ? 0 : slope[j] * (g[j] - mean)) / N;
            ds_size = (slope[j] == 0 ? 0 : std::fabs(slope[j]) * (g_size[j] + mean_size)) / std::fabs(N) * worse;
          }
          out.value.d_bias[row * Lk + j] = ds, out.size.d_bias[row * Lk + j] = ds_size;
          for (int64_t f = 0; f < D; ++f) {
            const Real k = p.k[(kv * Lk + j) * D + f];
            out.value.d_q[row * D + f] += scale * ds * k, out.size.d_q[row * D + f] += std::fabs(scale * k) * ds_size;
            out.value.d_k[(kv * Lk + j) * D + f] += scale * ds * q[f];
            out.size.d_k[(kv * Lk + j) * D + f] += std::fabs(scale * q[f]) * ds_size;
            out.value.d_scale += ds * q[f] * k, out.size.d_scale += std::fabs(q[f] * k) * ds_size;
          }
          for (int64_t f = 0; f < Dv; ++f) {
            out.value.d_v[(kv * Lk + j) * Dv + f] += P[j] * d_o[f];
            out.size.d_v[(kv * Lk + j) * Dv + f] += P_size[j] * std::fabs(d_o[f]);
          }
        }
      }
  return out;
}

}  // namespace oracle
