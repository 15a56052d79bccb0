// The network of free matrices in token space. W^T x_H is a sum of two rows of W, the score of a pair of tokens a sum of two of
// its entries, and dW goes back into the same two rows; V, U, F are merged into P and Q (read_out.hpp).
// A block of 16 prompts is the unit of arithmetic, a chunk of blocks that of work. Chunks and segments leave their sums in
// memory of their own, added in ascending order, so that the bits do not depend on threads.
#include "model/token_model.hpp"

#include <algorithm>

#include "base/pool.hpp"
#include "model/logit_rows.hpp"
#include "model/read_out.hpp"
#include "model/token_pairs.hpp"
#include "model/token_prompts.hpp"

namespace lamina {
namespace {

constexpr int64_t chunk_length = 8;  // blocks
constexpr int64_t wave_length = 32;  // chunks whose dP are in memory at once

template <class T>
class TokenModel final : public Model {
  using Array = std::pmr::vector<T>;

 public:
  TokenModel(const RecallLaw& law, const Settings& settings, const kernels::InstructionSet& isa)
      : table_(isa.table<T>()), form_(law, settings), K_(form_.logit_count()), D_(2 * K_) {
    law_ = law, settings_ = settings, isa_ = &isa;
    tensors_ = form_.tensors();
    parameters_ = form_.initial();
  }

  std::unique_ptr<Model> clone() const override { return std::make_unique<TokenModel>(*this); }

  std::unique_ptr<CompiledPrompts> compile(const Prompts& prompts, std::span<const double> weights, const Team& team) const override {
    const int32_t tau = static_cast<int32_t>(K_ - 1);
    return std::make_unique<TokenPrompts>(block_prompts(prompts, weights, K_, law_.noise > 0 ? tau : -1, team));
  }

  Loss loss_and_gradient(const CompiledPrompts& compiled, const Team& team, double* gradient, bool with_excess) const override {
    const auto& prompts = static_cast<const TokenPrompts&>(compiled);
    Step step(*this, prompts, team, gradient != nullptr);
    const int64_t blocks = static_cast<int64_t>(prompts.blocks.size()), chunks = (blocks + chunk_length - 1) / chunk_length;
    const int64_t square = step.read_out.identity() || !gradient ? 0 : D_ * K_;
    Array partial(std::min(chunks, wave_length) * square, &memory_);
    std::pmr::vector<double> dPT(square, &memory_);
    std::vector<Sums> sums(chunks);
    std::vector<std::unique_ptr<Scratch>> slots(team.threads());
    for (int64_t wave = 0; wave < chunks; wave += wave_length) {
      const int64_t count = std::min(wave_length, chunks - wave);
      team.for_each(count, [&](int64_t chunk, int slot) {
        if (!slots[slot]) slots[slot] = std::make_unique<Scratch>(*this, prompts);
        T* dP = square ? &partial[chunk * square] : nullptr;
        if (dP) std::fill_n(dP, square, T(0));
        const int64_t first = (wave + chunk) * chunk_length;
        for (int64_t b = first; b < std::min(blocks, first + chunk_length); ++b)
          descend(prompts.blocks[b], step, *slots[slot], dP, with_excess, sums[wave + chunk]);
      });
      // Stripes in parallel, chunks in ascending order within each.
      constexpr int64_t stripe = 2048;
      team.for_each((square + stripe - 1) / stripe, [&](int64_t part, int) {
        const int64_t from = part * stripe, to = std::min(square, from + stripe);
        for (int64_t chunk = 0; chunk < count; ++chunk)
          for (int64_t i = from; i < to; ++i) dPT[i] += static_cast<double>(partial[chunk * square + i]);
      });
    }
    Sums total;
    for (const Sums& sum : sums) total.loss += sum.loss, total.excess += sum.excess, total.scale += sum.scale;
    if (gradient) write_gradient(prompts, step, dPT, total.scale, gradient);
    return {total.loss, total.excess};
  }

  Metrics measure(const CompiledPrompts& compiled, const Team& team) const override {
    const auto& prompts = static_cast<const TokenPrompts&>(compiled);
    const Step step(*this, prompts, team, false);
    const bool identity = step.read_out.identity();
    const Array attention = identity ? Array{} : step.read_out.attention_part();
    const Array feed_forward = step.read_out.feed_forward_part();
    std::vector<std::unique_ptr<Scratch>> slots(team.threads());
    std::vector<Metrics> parts(prompts.blocks.size());
    team.for_each(static_cast<int64_t>(prompts.blocks.size()), [&](int64_t b, int slot) {
      if (!slots[slot]) slots[slot] = std::make_unique<Scratch>(*this, prompts);
      const TokenBlock& block = prompts.blocks[b];
      Scratch& s = *slots[slot];
      read_rows(block, step.W, s);
      attend(block, s);
      to_rows(block, s);
      read_out(block, step, attention, s, s.x.data(), false);
      std::fill_n(s.r.data(), K_ * block_lanes, T(0));
      if (step.read_out.has_query()) add_query(block, step, s, s.r.data());
      if (!feed_forward.empty()) read_out(block, step, feed_forward, s, s.r.data(), true);
      add_metrics(block, s, parts[b]);
    });
    return sum_of(parts);
  }

  void forward(const Prompts& prompts, LogitPart part, double* logits, double* weights) const override {
    form_.forward(parameters_, prompts, part, logits, weights);
  }

 private:
  struct Sums {
    double loss = 0, excess = 0, scale = 0;
  };

  // What all blocks read, and where segments leave their part of dW, [D] for x_H dw^T, and of dQ, [K].
  struct Step {
    Step(const TokenModel& m, const TokenPrompts& prompts, const Team& team, bool backward)
        : read_out(m.form_, m.parameters_, m.table_, team, &m.memory_), dw(&m.memory_), dq(&m.memory_) {
      if (!m.form_.w_free()) held = m.form_.matrix('W', m.parameters_);
      W = m.form_.w_free() ? m.parameters_.data() + m.form_.offset('W') : held.data();
      if (backward) dw.resize(prompts.segments * m.D_), dq.resize(read_out.has_query() ? prompts.segments * m.K_ : 0);
    }
    ReadOut<T> read_out;
    std::vector<double> held;
    const double* W;  // [D, D]
    Array dw, dq;
  };

  // Memory of one thread for one block: columns are its lanes. Rows by local name [L]: u, v (entries of w), current and previous
  // marginals, their cotangents, and those of u, v; rows by token of the block [2 R]: c and dc; by logit [K]: x and r.
  struct Scratch {
    Scratch(const TokenModel& m, const TokenPrompts& prompts) : memory(&m.memory_) {
      const int64_t L = prompts.most_names, R = prompts.most_rows;
      for (auto* local : {&u, &v, &current, &previous, &d_current, &d_previous, &g_current, &g_previous}) local->resize(L * block_lanes);
      a.resize(m.form_.map() == kernels::Map::linear ? 0 : prompts.most_cells);
      c.resize(2 * R * block_lanes), dc.resize(2 * R * block_lanes);
      x.resize(m.K_ * block_lanes), r.resize(m.K_ * block_lanes), r_rows.resize(block_lanes * m.K_);
      P.resize(2 * R * m.K_), dP.resize(2 * R * m.K_), values.resize(std::max(L, m.K_));
    }
    std::pmr::memory_resource* memory;
    Array u{memory}, v{memory}, current{memory}, previous{memory}, d_current{memory}, d_previous{memory}, g_current{memory}, g_previous{memory};
    Array a{memory}, c{memory}, dc{memory}, x{memory}, r{memory}, r_rows{memory}, P{memory}, dP{memory}, values{memory};
    alignas(64) T label[block_lanes], weight[block_lanes], loss[block_lanes];
  };

  // Numbered passes over one block.
  void descend(const TokenBlock& block, Step& step, Scratch& s, T* dP, bool with_excess, Sums& sums) const {
    const ReadOut<T>& out = step.read_out;
    const int64_t L = block.names;
    // Nothing but the block's own tokens has a logit other than 0: the others are one term of the softmax.
    const bool local = out.identity() && !out.has_query() && !out.skips_tau();
    std::copy_n(block.weight.data(), block_lanes, s.weight);
    // 1. u, v: entries of w = W^T x_H;  2. c = sum_h a_h x_h
    read_rows(block, step.W, s);
    attend(block, s);
    if (local) {
      // 3. xi = s c, r = weight dL/dxi;  3'. dc
      for (int64_t i = 0; i < L * block_lanes; ++i) s.x[i] = out.scale() * s.current[i];
      std::copy_n(block.label_name.data(), block_lanes, s.label);
      table_.cross_entropies(L, s.x.data(), s.label, static_cast<T>(K_ - L), s.weight, s.loss, s.d_current.data());
      add_losses(block, L, s.x.data(), s.d_current.data(), s, true, with_excess, sums);
      for (int64_t i = 0; form_.scale_trained() && i < L * block_lanes; ++i)
        sums.scale += static_cast<double>(s.d_current[i]) * static_cast<double>(s.current[i]);
      for (int64_t i = 0; i < L * block_lanes; ++i) s.d_current[i] *= out.scale();
    } else {
      // 3. xi = P c + Q x_H, r
      to_rows(block, s);
      if (out.has_query()) add_query(block, step, s, s.x.data());
      read_out(block, step, out.PT(), s, s.x.data(), out.has_query());
      std::copy_n(block.label.data(), block_lanes, s.label);
      table_.cross_entropies(K_, s.x.data(), s.label, T(0), s.weight, s.loss, s.r.data());
      add_losses(block, K_, s.x.data(), s.r.data(), s, false, with_excess, sums);
      if (!step.dw.empty()) read_back(block, step, s, dP, sums);
    }
    if (step.dw.empty()) return;
    // 2'. du, dv;  1'. dw of each segment
    const bool second = !out.identity();
    if (block.is_grid())
      table_.pair_backward(form_.map(), block.grid(), s.u.data(), s.v.data(), s.a.data(), s.d_current.data(),
                           second ? s.d_previous.data() : nullptr, s.g_current.data(), s.g_previous.data());
    else
      list_backward(form_.map(), block, s.u.data(), s.v.data(), s.a.data(), s.d_current.data(),
                    second ? s.d_previous.data() : nullptr, s.g_current.data(), s.g_previous.data());
    write_rows(block, s, step.dw.data());
  }

  // By local name: the half of w that tokens read, E, into u, and that of previous tokens, Et, into v.
  void read_rows(const TokenBlock& block, const double* W, Scratch& s) const {
    for (const Segment& segment : block.segments) {
      const double* row = W + segment.query * D_;
      const double* second = segment.before >= 0 ? W + (K_ + segment.before) * D_ : nullptr;
      const auto entry = [&](int64_t i) { return second ? static_cast<T>(row[i]) + static_cast<T>(second[i]) : static_cast<T>(row[i]); };
      for (const int64_t half : {int64_t{0}, K_}) {
        T* to = half ? s.v.data() : s.u.data();
        for (int64_t j = 0; j < block.shared; ++j) s.values[j] = entry(half + block.tokens[j]);
        table_.spread(block.shared, s.values.data(), segment.first, segment.count, to);
        for (int64_t o = 0; o < block.own_names(); ++o)
          for (int lane = segment.first; lane < segment.first + segment.count; ++lane)
            to[(block.shared + o) * block_lanes + lane] = entry(half + block.own[o * block_lanes + lane]);
      }
    }
  }

  void write_rows(const TokenBlock& block, Scratch& s, T* dw) const {
    for (size_t i = 0; i < block.segments.size(); ++i) {
      const Segment& segment = block.segments[i];
      T* to = dw + (block.first_segment + static_cast<int64_t>(i)) * D_;
      std::fill_n(to, D_, T(0));
      for (const int64_t half : {int64_t{0}, K_}) {
        const T* from = half ? s.g_previous.data() : s.g_current.data();
        table_.collect(block.shared, from, segment.first, segment.count, s.values.data());
        for (int64_t j = 0; j < block.shared; ++j) to[half + block.tokens[j]] = s.values[j];
        for (int64_t o = 0; o < block.own_names(); ++o)
          for (int lane = segment.first; lane < segment.first + segment.count; ++lane)
            to[half + block.own[o * block_lanes + lane]] += from[(block.shared + o) * block_lanes + lane];
      }
    }
  }

  void attend(const TokenBlock& block, Scratch& s) const {
    if (block.is_grid())
      table_.pair_forward(form_.map(), block.grid(), s.u.data(), s.v.data(), s.a.data(), s.current.data(), s.previous.data());
    else
      list_forward(form_.map(), table_, block, s.u.data(), s.v.data(), s.a.data(), s.current.data(), s.previous.data());
  }

  // The marginals by local name as rows of c by token.
  void to_rows(const TokenBlock& block, Scratch& s) const {
    const int64_t R = static_cast<int64_t>(block.rows.size()), shared = block.shared * block_lanes;
    for (int half = 0; half < 2; ++half) {
      const T* from = half ? s.previous.data() : s.current.data();
      T* to = s.c.data() + half * R * block_lanes;
      std::copy_n(from, shared, to);
      std::fill(to + shared, to + R * block_lanes, T(0));
      for (size_t i = 0; i < block.own_row.size(); ++i)
        if (block.own_row[i] >= 0) to[block.own_row[i] * block_lanes + static_cast<int64_t>(i) % block_lanes] = from[shared + i];
    }
  }

  void from_rows(const TokenBlock& block, Scratch& s) const {
    const int64_t R = static_cast<int64_t>(block.rows.size()), shared = block.shared * block_lanes;
    for (int half = 0; half < 2; ++half) {
      const T* from = s.dc.data() + half * R * block_lanes;
      T* to = half ? s.d_previous.data() : s.d_current.data();
      std::copy_n(from, shared, to);
      for (size_t i = 0; i < block.own_row.size(); ++i)
        to[shared + i] = block.own_row[i] < 0 ? T(0) : from[block.own_row[i] * block_lanes + static_cast<int64_t>(i) % block_lanes];
    }
  }

  // x [K, 16] = Q x_H
  void add_query(const TokenBlock& block, const Step& step, Scratch& s, T* x) const {
    const T* QT = step.read_out.QT().data();
    for (const Segment& segment : block.segments) {
      const T* second = segment.before >= 0 ? QT + (K_ + segment.before) * K_ : nullptr;
      for (int64_t j = 0; j < K_; ++j) s.values[j] = QT[segment.query * K_ + j] + (second ? second[j] : T(0));
      table_.spread(K_, s.values.data(), segment.first, segment.count, x);
    }
  }

  // x [K, 16] (+)= P c, with P^T [D, K], empty for the identity.
  void read_out(const TokenBlock& block, const Step& step, const Array& PT, Scratch& s, T* x, bool accumulate) const {
    const int64_t R = static_cast<int64_t>(block.rows.size());
    if (!PT.empty()) {
      for (int64_t r = 0; r < 2 * R; ++r)
        std::copy_n(&PT[(r < R ? block.rows[r] : K_ + block.rows[r - R]) * K_], K_, &s.P[r * K_]);
      return table_.gemm(K_, block_lanes, 2 * R, s.P.data(), 1, K_, s.c.data(), block_lanes, x, block_lanes, accumulate);
    }
    if (!accumulate) std::fill_n(x, K_ * block_lanes, T(0));
    for (int64_t r = 0; r < R; ++r)
      for (int lane = 0; lane < block_lanes && reads(step, block.rows[r]); ++lane)
        x[block.rows[r] * block_lanes + lane] += step.read_out.scale() * s.c[r * block_lanes + lane];
  }

  bool reads(const Step& step, int32_t token) const { return !(step.read_out.skips_tau() && token == K_ - 1); }

  // 3'. dc = P^T r, dP = r c^T, dQ = r x_H^T
  void read_back(const TokenBlock& block, Step& step, Scratch& s, T* dP, Sums& sums) const {
    const int64_t R = static_cast<int64_t>(block.rows.size());
    for (size_t i = 0; !step.dq.empty() && i < block.segments.size(); ++i)
      table_.collect(K_, s.r.data(), block.segments[i].first, block.segments[i].count,
                     &step.dq[(block.first_segment + static_cast<int64_t>(i)) * K_]);
    if (step.read_out.identity()) {
      for (int64_t r = 0; r < R; ++r)
        for (int lane = 0; lane < block_lanes; ++lane) {
          const T d = reads(step, block.rows[r]) ? s.r[block.rows[r] * block_lanes + lane] : T(0);
          if (form_.scale_trained()) sums.scale += static_cast<double>(d) * static_cast<double>(s.c[r * block_lanes + lane]);
          s.dc[r * block_lanes + lane] = step.read_out.scale() * d;
        }
    } else {
      for (int64_t j = 0; j < K_; ++j)
        for (int lane = 0; lane < block_lanes; ++lane) s.r_rows[lane * K_ + j] = s.r[j * block_lanes + lane];
      table_.gemm(2 * R, K_, block_lanes, s.c.data(), block_lanes, 1, s.r_rows.data(), K_, s.dP.data(), K_, false);
      for (int64_t r = 0; r < 2 * R; ++r) {
        T* to = dP + (r < R ? block.rows[r] : K_ + block.rows[r - R]) * K_;
        for (int64_t j = 0; j < K_; ++j) to[j] += s.dP[r * K_ + j];
      }
      table_.gemm(2 * R, block_lanes, K_, s.P.data(), K_, 1, s.r.data(), block_lanes, s.dc.data(), block_lanes, false);
    }
    from_rows(block, s);
  }

  void add_losses(const TokenBlock& block, int64_t n, const T* x, const T* r, const Scratch& s, bool local, bool with_excess,
                  Sums& sums) const {
    for (int lane = 0; lane < block.used; ++lane) {
      const double weight = block.weight[lane];
      sums.loss += weight * static_cast<double>(s.loss[lane]);
      if (!with_excess || weight == 0) continue;
      const auto place = [&](int32_t token) { return local ? block.name_of(token, lane) : static_cast<int64_t>(token); };
      const int32_t answer = block.answer[lane], label = block.label[lane];
      const bool certain = label == answer && (law_.noise == 0 || answer == K_ - 1);  // the excess is the loss
      sums.excess += weight * (certain ? static_cast<double>(s.loss[lane])
                                       : excess_from_residual(n, block_lanes, x + lane, r + lane, weight, place(label), place(answer),
                                                              place(static_cast<int32_t>(K_ - 1)), static_cast<double>(local ? K_ - n : 0),
                                                              s.loss[lane], law_.noise));
    }
  }

  // dW, and dQ^T for the read-out: segments in ascending order; neighbours that read the same rows are added first.
  void write_gradient(const TokenPrompts& prompts, const Step& step, const std::pmr::vector<double>& dPT, double d_scale,
                      double* gradient) const {
    std::fill_n(gradient, parameters_.size(), 0.0);
    std::vector<double> held(form_.w_free() ? 0 : D_ * D_), row(D_);
    std::pmr::vector<double> dQT(step.dq.empty() ? 0 : D_ * K_, &memory_);
    double* dW = form_.w_free() ? gradient + form_.offset('W') : held.data();
    const auto add_segments = [&](const Array& parts, int64_t n, double* M) {
      const Segment* open = nullptr;
      const auto close = [&] {
        for (const int64_t i : {int64_t{open->query}, open->before < 0 ? int64_t{-1} : K_ + open->before})
          for (int64_t j = 0; i >= 0 && j < n; ++j) M[i * n + j] += row[j];
      };
      for (const TokenBlock& block : prompts.blocks)
        for (size_t i = 0; i < block.segments.size(); ++i) {
          const T* part = &parts[(block.first_segment + static_cast<int64_t>(i)) * n];
          const bool same = open && open->same_rows(block.segments[i]);
          if (open && !same) close();
          for (int64_t j = 0; j < n; ++j) row[j] = (same ? row[j] : 0.0) + static_cast<double>(part[j]);
          open = &block.segments[i];
        }
      if (open) close();
    };
    add_segments(step.dw, D_, dW);
    if (!step.dq.empty()) add_segments(step.dq, K_, dQT.data());
    step.read_out.pull_back(dPT, dQT, d_scale, gradient);
    if (!form_.w_free()) form_.pull_back(parameters_, Matrices{std::move(held), {}, {}, {}}, gradient);
    form_.hold_fixed(gradient);
  }

  // From attention-only logits in s.x and feed-forward-only ones in s.r.
  void add_metrics(const TokenBlock& block, Scratch& s, Metrics& m) const {
    std::vector<T> x(K_), r(K_), attention(K_), feed_forward(K_);
    for (int lane = 0; lane < block.used; ++lane) {
      for (int64_t j = 0; j < K_; ++j) {
        attention[j] = s.x[j * block_lanes + lane], feed_forward[j] = s.r[j * block_lanes + lane];
        x[j] = attention[j] + feed_forward[j];
      }
      const int32_t label = block.label[lane], answer = block.answer[lane];
      const double weight = block.weight[lane], loss = table_.cross_entropy(K_, x.data(), label, r.data());
      add_logit_metrics(K_, x.data(), r.data(), attention.data(), feed_forward.data(), loss, weight, label, answer, law_.noise, m);
      double total = 0;
      for (int64_t j = 0; j < block.names; ++j) total += s.current[j * block_lanes + lane];
      const auto after_query = [&](int32_t token) -> double {
        return pair_weight(form_.map(), block, s.u.data(), s.v.data(), s.a.data(), lane, block.query_of(lane), token);
      };
      const double on_answer = after_query(answer), on_noise = after_query(static_cast<int32_t>(K_ - 1));
      m.mass_answer += weight * on_answer, m.mass_noise += weight * on_noise;
      m.mass_other += weight * (total - on_answer - on_noise);
    }
  }

  const kernels::Table<T>& table_;
  Parametrisation form_;
  int64_t K_, D_;
  mutable Pool memory_;
};

}  // namespace

std::unique_ptr<Model> make_token_model(const RecallLaw& law, const Settings& settings, const kernels::InstructionSet& isa) {
  if (settings.is("precision", "f32")) return std::make_unique<TokenModel<float>>(law, settings, isa);
  return std::make_unique<TokenModel<double>>(law, settings, isa);
}

}  // namespace lamina
