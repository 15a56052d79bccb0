// The front in token space. A prompt is the multiset of its pairs (previous token, token); W^T x_H is the sum of two rows of W,
// the score of a pair is a sum of two of its entries, and dW is a scatter into the same two rows.
// Few distinct tokens: the pairs are a grid of counts, read by the pair kernels. Many: a list of pairs.
#include <algorithm>
#include <array>

#include "model/embedding.hpp"
#include "model/front.hpp"

namespace lamina {
namespace {

constexpr int64_t grid_per_pair = 16;      // a grid may have so many cells per distinct pair
constexpr int64_t largest_count = 65535;   // of uint16_t

struct PairPrompt {
  int32_t query = 0, before_query = -1;    // z_H, z_{H-1} (-1: none)
  bool grid = false;
  int64_t current_at = 0, previous_at = 0, cells_at = 0, pairs_at = 0;  // into the arrays of TokenPairs
  int32_t currents = 0, previouses = 0, pairs = 0;
  int32_t answer_pair[2] = {-1, -1}, noise_pair[2] = {-1, -1};          // local (previous, current) after the query token
};

struct Pair {
  int32_t previous, current;  // local
  int32_t count;
};

class TokenPairs final : public FrontPrompts {
 public:
  std::vector<PairPrompt> prompts;
  std::vector<int32_t> current, previous;  // local number -> index into w: token, K + token (2 K: no previous token)
  std::vector<uint16_t> cells;             // grids [previouses, padded(currents)]
  std::vector<Pair> pairs;                 // lists, ascending (previous, current)
  int64_t largest_grid = 0, largest_list = 0, widest = 0;
};

template <class T>
class PairScratch final : public FrontScratch {
 public:
  std::vector<T> w, a;            // [chunk, D + 1]; weights of the chunk's grids and lists
  std::vector<T> u, v, du, dv, gu, gv;  // local vectors: entries of w, of dc, and results
  std::vector<int64_t> a_at;      // where a prompt's weights start in a
};

template <class T>
class TokenFront final : public Front<T> {
 public:
  TokenFront(int64_t K, kernels::Map map, const kernels::Table<T>& table) : K_(K), D_(2 * K), map_(map), table_(table) {}

  std::unique_ptr<Front<T>> clone() const override { return std::make_unique<TokenFront>(*this); }

  std::unique_ptr<FrontScratch> scratch(int64_t chunk_length) const override {
    auto memory = std::make_unique<PairScratch<T>>();
    memory->w.resize(chunk_length * (D_ + 1));
    memory->a_at.resize(chunk_length);
    return memory;
  }

  std::unique_ptr<FrontPrompts> compile(const Prompts& prompts) const override {
    auto out = std::make_unique<TokenPairs>();
    std::vector<int32_t> local_current(K_, -1), local_previous(K_ + 1, -1);
    std::vector<Pair> pairs;
    const int32_t tau = static_cast<int32_t>(K_ - 1), none = static_cast<int32_t>(K_);
    for (int64_t n = 0; n < prompts.count; ++n) {
      const std::span<const int32_t> z = prompts.row(n);
      PairPrompt p;
      p.query = z.back(), p.before_query = z.size() > 1 ? z[z.size() - 2] : -1;
      p.current_at = static_cast<int64_t>(out->current.size()), p.previous_at = static_cast<int64_t>(out->previous.size());
      pairs.clear();
      for (size_t h = 0; h < z.size(); ++h) {
        const int32_t before = h > 0 ? z[h - 1] : none;
        if (local_current[z[h]] < 0) local_current[z[h]] = p.currents++, out->current.push_back(z[h]);
        if (local_previous[before] < 0)
          local_previous[before] = p.previouses++, out->previous.push_back(static_cast<int32_t>(K_) + before);
        pairs.push_back({local_previous[before], local_current[z[h]], 1});
      }
      const int64_t stride = kernels::padded(p.currents), area = stride * p.previouses;
      p.grid = area <= grid_per_pair * static_cast<int64_t>(z.size()) && static_cast<int64_t>(z.size()) <= largest_count;
      if (p.grid) {
        p.cells_at = static_cast<int64_t>(out->cells.size());
        out->cells.resize(out->cells.size() + area, 0);
        for (const Pair& pair : pairs) ++out->cells[p.cells_at + pair.previous * stride + pair.current];
        out->largest_grid = std::max(out->largest_grid, area);
      } else {
        append_list(pairs, p, *out);
      }
      const int32_t after = local_previous[p.query], on[2] = {local_current[prompts.answer[n]], local_current[tau]};
      if (after >= 0 && on[0] >= 0) p.answer_pair[0] = after, p.answer_pair[1] = on[0];
      if (after >= 0 && on[1] >= 0) p.noise_pair[0] = after, p.noise_pair[1] = on[1];
      out->widest = std::max({out->widest, stride, static_cast<int64_t>(p.previouses)});
      for (int64_t i = p.current_at; i < static_cast<int64_t>(out->current.size()); ++i) local_current[out->current[i]] = -1;
      for (int64_t i = p.previous_at; i < static_cast<int64_t>(out->previous.size()); ++i) local_previous[out->previous[i] - K_] = -1;
      out->prompts.push_back(p);
    }
    return out;
  }

  void forward(const FrontPrompts& front, int64_t first, int64_t count, const T* W, T* c, double* masses,
               FrontScratch& memory) const override {
    const auto& all = static_cast<const TokenPairs&>(front);
    auto& m = static_cast<PairScratch<T>&>(memory);
    prepare(all, first, count, m);
    for (int64_t n = 0; n < count; ++n) {
      const PairPrompt& p = all.prompts[first + n];
      T* w = &m.w[n * (D_ + 1)];
      const T *row = W + p.query * D_, *second = p.before_query >= 0 ? W + (K_ + p.before_query) * D_ : nullptr;
      for (int64_t i = 0; i < D_; ++i) w[i] = second ? row[i] + second[i] : row[i];
      w[D_] = 0;
      gather(all, p, w, m.u.data(), m.v.data());
      T *a = &m.a[m.a_at[n]], *out = c + n * D_;
      const int64_t stride = kernels::padded(p.currents);
      if (p.grid)
        table_.pair_forward(map_, p.previouses, stride, &all.cells[p.cells_at], m.u.data(), m.v.data(), a, m.gu.data(),
                            m.gv.data());
      else
        list_forward(all, p, m, a);
      std::fill_n(out, D_, T(0));
      scatter(all, p, m.gu.data(), m.gv.data(), out);
      if (masses) read_masses(all, p, a, m, masses + 3 * n);
    }
  }

  void backward(const FrontPrompts& front, int64_t first, int64_t count, const T* dc, T* dW,
                FrontScratch& memory) const override {
    const auto& all = static_cast<const TokenPairs&>(front);
    auto& m = static_cast<PairScratch<T>&>(memory);
    for (int64_t n = 0; n < count; ++n) {
      const PairPrompt& p = all.prompts[first + n];
      const T* cotangent = dc + n * D_;
      gather(all, p, &m.w[n * (D_ + 1)], m.u.data(), m.v.data());
      gather(all, p, cotangent, m.du.data(), m.dv.data());
      const T* a = &m.a[m.a_at[n]];
      if (p.grid)
        table_.pair_backward(map_, p.previouses, kernels::padded(p.currents), &all.cells[p.cells_at], m.u.data(), m.v.data(), a,
                             m.du.data(), m.dv.data(), m.gu.data(), m.gv.data());
      else
        list_backward(all, p, a, m);
      for (const int64_t row : {static_cast<int64_t>(p.query), p.before_query >= 0 ? K_ + p.before_query : int64_t{-1}}) {
        if (row < 0) continue;
        T* into = dW + row * D_;
        for (int32_t j = 0; j < p.currents; ++j) into[all.current[p.current_at + j]] += m.gu[j];
        for (int32_t i = 0; i < p.previouses; ++i)
          if (all.previous[p.previous_at + i] < D_) into[all.previous[p.previous_at + i]] += m.gv[i];
      }
    }
  }

  void query_times(const FrontPrompts& front, int64_t first, int64_t count, const T* M, int64_t n, T* out,
                   FrontScratch&) const override {
    each_query_row(front, first, count, [&](int64_t prompt, int64_t row) {
      for (int64_t i = 0; i < n; ++i) out[prompt * n + i] += M[row * n + i];
    });
  }

  void query_outer(const FrontPrompts& front, int64_t first, int64_t count, const T* r, int64_t n, T* dM,
                   FrontScratch&) const override {
    each_query_row(front, first, count, [&](int64_t prompt, int64_t row) {
      for (int64_t i = 0; i < n; ++i) dM[row * n + i] += r[prompt * n + i];
    });
  }

 private:
  template <class Use>
  void each_query_row(const FrontPrompts& front, int64_t first, int64_t count, Use use) const {
    const auto& all = static_cast<const TokenPairs&>(front);
    for (int64_t n = 0; n < count; ++n) {
      const PairPrompt& p = all.prompts[first + n];
      use(n, p.query);
      if (p.before_query >= 0) use(n, K_ + p.before_query);
    }
  }

  static void append_list(std::vector<Pair>& pairs, PairPrompt& p, TokenPairs& out) {
    std::sort(pairs.begin(), pairs.end(), [](const Pair& a, const Pair& b) {
      return a.previous != b.previous ? a.previous < b.previous : a.current < b.current;
    });
    p.pairs_at = static_cast<int64_t>(out.pairs.size());
    for (const Pair& pair : pairs) {
      Pair* last = p.pairs > 0 ? &out.pairs.back() : nullptr;
      if (last && last->previous == pair.previous && last->current == pair.current) {
        ++last->count;
      } else {
        out.pairs.push_back(pair);
        ++p.pairs;
      }
    }
    out.largest_list = std::max(out.largest_list, static_cast<int64_t>(p.pairs));
  }

  // Room for the chunk: softmax keeps its weights from forward to backward, the others only for the prompt at hand.
  void prepare(const TokenPairs& all, int64_t first, int64_t count, PairScratch<T>& m) const {
    const int64_t largest = std::max(all.largest_grid, all.largest_list);
    int64_t total = 0;
    for (int64_t n = 0; n < count; ++n) {
      m.a_at[n] = map_ == kernels::Map::softmax ? total : 0;
      const PairPrompt& p = all.prompts[first + n];
      total += p.grid ? p.previouses * kernels::padded(p.currents) : p.pairs;
    }
    const int64_t wanted = map_ == kernels::Map::softmax ? total : largest;
    if (static_cast<int64_t>(m.a.size()) < wanted) m.a.resize(wanted);
    for (auto* local : {&m.u, &m.v, &m.gu, &m.gv, &m.du, &m.dv})
      if (static_cast<int64_t>(local->size()) < all.widest) local->resize(all.widest);
  }

  void gather(const TokenPairs& all, const PairPrompt& p, const T* w, T* u, T* v) const {
    const int32_t *current = &all.current[p.current_at], *previous = &all.previous[p.previous_at];
    const int64_t stride = kernels::padded(p.currents);
    for (int32_t j = 0; j < p.currents; ++j) u[j] = w[current[j]];
    for (int64_t j = p.currents; j < stride; ++j) u[j] = 0;
    for (int32_t i = 0; i < p.previouses; ++i) v[i] = previous[i] < D_ ? w[previous[i]] : T(0);
  }

  void scatter(const TokenPairs& all, const PairPrompt& p, const T* u, const T* v, T* w) const {
    for (int32_t j = 0; j < p.currents; ++j) w[all.current[p.current_at + j]] = u[j];
    for (int32_t i = 0; i < p.previouses; ++i)
      if (all.previous[p.previous_at + i] < D_) w[all.previous[p.previous_at + i]] = v[i];
  }

  void list_forward(const TokenPairs& all, const PairPrompt& p, PairScratch<T>& m, T* a) const {
    const Pair* pairs = &all.pairs[p.pairs_at];
    T maximum = 0;
    for (int32_t k = 0; k < p.pairs; ++k) {
      const T s = m.u[pairs[k].current] + m.v[pairs[k].previous];
      a[k] = map_ == kernels::Map::relu ? std::max(s, T(0)) : s;
      maximum = k == 0 ? s : std::max(maximum, s);
    }
    T scale = 1;
    if (map_ == kernels::Map::softmax) {
      for (int32_t k = 0; k < p.pairs; ++k) a[k] -= maximum;
      table_.exp(p.pairs, a, a);
      T sum = 0;
      for (int32_t k = 0; k < p.pairs; ++k) sum += static_cast<T>(pairs[k].count) * a[k];
      scale = 1 / sum;
    }
    std::fill_n(m.gu.data(), p.currents, T(0)), std::fill_n(m.gv.data(), p.previouses, T(0));
    for (int32_t k = 0; k < p.pairs; ++k) {
      a[k] *= static_cast<T>(pairs[k].count) * scale;
      m.gu[pairs[k].current] += a[k], m.gv[pairs[k].previous] += a[k];
    }
  }

  void list_backward(const TokenPairs& all, const PairPrompt& p, const T* a, PairScratch<T>& m) const {
    const Pair* pairs = &all.pairs[p.pairs_at];
    const auto cotangent = [&](int32_t k) { return m.du[pairs[k].current] + m.dv[pairs[k].previous]; };
    T mean = 0;
    if (map_ == kernels::Map::softmax)
      for (int32_t k = 0; k < p.pairs; ++k) mean += a[k] * cotangent(k);
    std::fill_n(m.gu.data(), p.currents, T(0)), std::fill_n(m.gv.data(), p.previouses, T(0));
    for (int32_t k = 0; k < p.pairs; ++k) {
      const T n = static_cast<T>(pairs[k].count);
      T ds = n * cotangent(k);
      if (map_ == kernels::Map::relu && m.u[pairs[k].current] + m.v[pairs[k].previous] < 0) ds = 0;
      if (map_ == kernels::Map::softmax) ds = a[k] * (cotangent(k) - mean);
      m.gu[pairs[k].current] += ds, m.gv[pairs[k].previous] += ds;
    }
  }

  void read_masses(const TokenPairs& all, const PairPrompt& p, const T* a, const PairScratch<T>& m, double* out) const {
    const int64_t stride = kernels::padded(p.currents);
    const auto at = [&](const int32_t (&pair)[2]) -> double {
      if (pair[0] < 0) return 0;
      if (p.grid) return a[pair[0] * stride + pair[1]];
      for (int32_t k = 0; k < p.pairs; ++k) {
        const Pair& listed = all.pairs[p.pairs_at + k];
        if (listed.previous == pair[0] && listed.current == pair[1]) return a[k];
      }
      return 0;
    };
    double total = 0;
    for (int32_t i = 0; i < p.previouses; ++i) total += m.gv[i];
    out[0] = at(p.answer_pair), out[1] = at(p.noise_pair), out[2] = total - out[0] - out[1];
  }

  int64_t K_, D_;
  kernels::Map map_;
  const kernels::Table<T>& table_;
};

}  // namespace

template <class T>
std::unique_ptr<Front<T>> make_token_front(int64_t logits, kernels::Map map, const kernels::Table<T>& table) {
  return std::make_unique<TokenFront<T>>(logits, map, table);
}
template std::unique_ptr<Front<float>> make_token_front(int64_t, kernels::Map, const kernels::Table<float>&);
template std::unique_ptr<Front<double>> make_token_front(int64_t, kernels::Map, const kernels::Table<double>&);

}  // namespace lamina
