// Sentences as distinct tokens with counts, and the decoder's loss and gradient on them; the formulas are in the header.
#include "model/decoder_model.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/scalar_math.hpp"
#include "model/logit_rows.hpp"

namespace lamina {
namespace {

// The distinct tokens of sentence i are entries first..last-1; of all entries of one token `readers` holds the numbers in
// ascending order, so that each column of W_ov is summed in the order of the sentences.
struct Sentence {
  int32_t query, label, answer;
  int64_t first, last;
  double weight;
};
class Sentences final : public CompiledPrompts {
 public:
  std::vector<Sentence> sentences;
  std::vector<int32_t> token;      // of each entry
  std::vector<double> count;       // how often it occurs
  std::vector<int64_t> owner;      // the sentence of each entry
  std::vector<int64_t> readers;    // entries sorted by token
  std::vector<int64_t> reader_of;  // [V + 1]: where those of each token begin
};

class DecoderModel final : public Model {
 public:
  DecoderModel(const NextTokenLaw& law, const Settings& settings, const kernels::InstructionSet& isa)
      : next_(law.next), table_(isa.f64), V_(law.vocabulary) {
    settings_ = settings, isa_ = &isa;
    tensors_ = {{"W_ov", {V_, V_}, 0, V_ * V_, true, 1}, {"W_kq", {V_, V_}, V_ * V_, V_ * V_, true, 2}};
    parameters_.assign(static_cast<size_t>(2 * V_ * V_), 0.0);
  }

  std::unique_ptr<Model> clone() const override { return std::make_unique<DecoderModel>(*this); }
  void require_law_of(const Task& task) const override {
    const NextTokenLaw& given = *task.next_token();
    if (V_ != given.vocabulary) fail_other_law("vocabulary", static_cast<double>(V_), static_cast<double>(given.vocabulary));
    if (next_ != given.next) fail(LAMINA_E_ARGUMENT, "model is made for other collocations, must be made for the task's");
  }
  Column excess_column() const override {
    return {"excess", "the loss of collocations in stage 1; then the loss minus that of W_ov on the optimal tokens alone"};
  }

  std::unique_ptr<CompiledPrompts> compile(const Prompts& prompts, std::span<const double> weights, const Team&) const override {
    auto out = std::make_unique<Sentences>();
    std::vector<int32_t> row;
    for (int64_t i = 0; i < prompts.count; ++i) {
      row.assign(prompts.row(i).begin(), prompts.row(i).end());
      Sentence s{row.back(), prompts.label[i], prompts.answer[i], static_cast<int64_t>(out->token.size()), 0, 0};
      s.weight = weights.empty() ? 1 / static_cast<double>(prompts.count) : weights[i];
      std::ranges::sort(row);
      for (size_t j = 0; j < row.size(); ++j) {
        if (j > 0 && row[j] == row[j - 1]) {
          out->count.back() += 1;
          continue;
        }
        out->token.push_back(row[j]), out->count.push_back(1), out->owner.push_back(i);
      }
      s.last = static_cast<int64_t>(out->token.size());
      out->sentences.push_back(s);
    }
    sort_readers(*out);
    return out;
  }

  Loss loss_and_gradient(const CompiledPrompts& compiled, const Team& team, double* gradient, bool with_excess) const override {
    const auto& all = static_cast<const Sentences&>(compiled);
    const auto count = static_cast<int64_t>(all.sentences.size());
    const std::vector<double> columns = columns_of_ov();
    std::vector<double> loss(static_cast<size_t>(count)), excess(loss), b(all.token.size()), slope(gradient ? b.size() : 0),
        residual(gradient ? static_cast<size_t>(count * V_) : 0);
    in_chunks(team, count, [&](int64_t i, std::vector<double>& x, std::vector<double>& r) {
      const Sentence& s = all.sentences[i];
      loss[i] = s.weight * forward_one(all, s, columns, b.data(), x.data(), r.data());
      if (with_excess) excess[i] = s.weight * excess_of_attention(all, s, columns, b.data());
      if (!gradient) return;
      slopes_of_scores(all, s, columns, b.data(), r.data(), slope.data());
      for (int64_t y = 0; y < V_; ++y) residual[i * V_ + y] = s.weight * r[y];
    });
    Loss sum;
    for (int64_t i = 0; i < count; ++i) sum.loss += loss[i], sum.excess += excess[i];
    if (!gradient) return sum;
    std::fill_n(gradient, 2 * V_ * V_, 0.0);
    double* d_kq = gradient + V_ * V_;
    team.for_each(V_, [&](int64_t x, int) {  // column x of W_ov: entries of token x, sentences ascending
      for (int64_t e = all.reader_of[x]; e < all.reader_of[x + 1]; ++e) {
        const int64_t entry = all.readers[e];
        const double* r = &residual[all.owner[entry] * V_];
        for (int64_t y = 0; y < V_; ++y) gradient[y * V_ + x] += r[y] * b[entry];
      }
    });
    for (const Sentence& s : all.sentences)
      for (int64_t e = s.first; e < s.last; ++e) d_kq[all.token[e] * V_ + s.query] += slope[e];
    return sum;
  }

  Metrics measure(const CompiledPrompts& compiled, const Team& team) const override {
    const auto& all = static_cast<const Sentences&>(compiled);
    const auto count = static_cast<int64_t>(all.sentences.size());
    const std::vector<double> columns = columns_of_ov();
    std::vector<double> b(all.token.size());
    std::vector<Metrics> parts(static_cast<size_t>(count));
    in_chunks(team, count, [&](int64_t i, std::vector<double>& x, std::vector<double>& r) {
      const Sentence& s = all.sentences[i];
      Metrics& m = parts[i];
      m.loss.loss = s.weight * forward_one(all, s, columns, b.data(), x.data(), r.data());
      m.loss.excess = s.weight * excess_of_attention(all, s, columns, b.data());
      m.accuracy = s.weight * (std::ranges::max_element(x) - x.begin() == s.label);
      for (int64_t e = s.first; e < s.last; ++e) (all.token[e] == s.answer ? m.mass_answer : m.mass_other) += s.weight * b[e];
    });
    return sum_of(parts);
  }

  // Logits [count, V]; weights [count, length], the query's own last.
  void forward(const Prompts& prompts, LogitPart part, double* logits, double* weights) const override {
    if (part == LogitPart::feed_forward) {
      if (logits) std::fill_n(logits, prompts.count * V_, 0.0);
      return;
    }
    const std::vector<double> columns = columns_of_ov();
    for (int64_t i = 0; i < prompts.count; ++i) {
      const auto row = prompts.row(i);
      std::vector<double> a(row.size());
      for (size_t j = 0; j < row.size(); ++j) a[j] = kq(row[j], row.back());
      softmax(a);
      if (logits) {
        std::fill_n(logits + i * V_, V_, 0.0);
        for (size_t j = 0; j < row.size(); ++j)
          for (int64_t y = 0; y < V_; ++y) logits[i * V_ + y] += a[j] * columns[row[j] * V_ + y];
      }
      if (weights) std::ranges::copy(a, weights + i * prompts.length);
    }
  }

 private:
  static constexpr int64_t chunk_length = 64;

  double kq(int64_t x, int64_t q) const { return parameters_[static_cast<size_t>((V_ + x) * V_ + q)]; }

  // W_ov by columns, each contiguous.
  std::vector<double> columns_of_ov() const {
    std::vector<double> columns(static_cast<size_t>(V_ * V_));
    for (int64_t y = 0; y < V_; ++y)
      for (int64_t x = 0; x < V_; ++x) columns[x * V_ + y] = parameters_[y * V_ + x];
    return columns;
  }

  void sort_readers(Sentences& all) const {
    all.reader_of.assign(static_cast<size_t>(V_ + 1), 0);
    for (int32_t x : all.token) ++all.reader_of[x + 1];
    for (int64_t x = 0; x < V_; ++x) all.reader_of[x + 1] += all.reader_of[x];
    std::vector<int64_t> next(all.reader_of);
    all.readers.resize(all.token.size());
    for (size_t e = 0; e < all.token.size(); ++e) all.readers[next[all.token[e]]++] = static_cast<int64_t>(e);
  }

  // use(i, x [V], r [V]) for every sentence, in parallel.
  template <class Use>
  void in_chunks(const Team& team, int64_t count, Use use) const {
    team.for_each((count + chunk_length - 1) / chunk_length, [&](int64_t chunk, int) {
      std::vector<double> x(static_cast<size_t>(V_)), r(x);
      for (int64_t i = chunk * chunk_length; i < std::min(count, (chunk + 1) * chunk_length); ++i) use(i, x, r);
    });
  }

  void softmax(std::span<double> a) const {
    const double most = *std::ranges::max_element(a);
    for (double& s : a) s -= most;
    table_->exp(static_cast<int64_t>(a.size()), a.data(), a.data());
    double z = 0;
    for (double s : a) z += s;
    for (double& s : a) s /= z;
  }

  // b of the sentence's entries, logits x and residuals r; returns the loss.
  double forward_one(const Sentences& all, const Sentence& s, const std::vector<double>& columns, double* b, double* x, double* r) const {
    double most = kq(all.token[s.first], s.query), z = 0;
    for (int64_t e = s.first; e < s.last; ++e) b[e] = kq(all.token[e], s.query), most = std::max(most, b[e]);
    for (int64_t e = s.first; e < s.last; ++e) b[e] -= most;
    table_->exp(s.last - s.first, b + s.first, b + s.first);
    for (int64_t e = s.first; e < s.last; ++e) b[e] *= all.count[e], z += b[e];
    for (int64_t e = s.first; e < s.last; ++e) b[e] /= z;
    std::fill_n(x, V_, 0.0);
    for (int64_t e = s.first; e < s.last; ++e) {
      const double* column = &columns[all.token[e] * V_];
      for (int64_t y = 0; y < V_; ++y) x[y] += b[e] * column[y];
    }
    return table_->cross_entropy(V_, x, s.label, r);
  }

  void slopes_of_scores(const Sentences& all, const Sentence& s, const std::vector<double>& columns, const double* b, const double* r,
                        double* slope) const {
    const int64_t top = std::max_element(b + s.first, b + s.last) - b;
    const double* own = &columns[all.token[top] * V_];
    double mean = 0;
    for (int64_t e = s.first; e < s.last; ++e) {
      const double* column = &columns[all.token[e] * V_];
      double h = 0;  // relative to the top token's
      for (int64_t y = 0; y < V_; ++y) h += r[y] * (column[y] - own[y]);
      slope[e] = h, mean += b[e] * h;
    }
    double others = 0;
    for (int64_t e = s.first; e < s.last; ++e) {
      if (e == top) continue;
      slope[e] = s.weight * b[e] * (slope[e] - mean);
      others += slope[e];
    }
    slope[top] = -others;
  }

  double excess_of_attention(const Sentences& all, const Sentence& s, const std::vector<double>& columns, const double* b) const {
    const double* own = &columns[s.answer * V_];
    double alone = 0, more = 0;
    for (int64_t y = 0; y < V_; ++y) {
      if (y == s.label) continue;
      const double margin = own[s.label] - own[y];
      double shift = 0;
      for (int64_t e = s.first; e < s.last; ++e) {
        const double* column = &columns[all.token[e] * V_];
        if (all.token[e] != s.answer) shift += b[e] * (margin - (column[s.label] - column[y]));
      }
      const double e = kernels::exp(-margin);
      // e (exp(shift) - 1) without overflow where the shift is large
      more += shift > 1 ? kernels::exp(shift - margin) - e : e * kernels::expm1(shift);
      alone += e;
    }
    return kernels::log1p(more / (1 + alone));
  }

  std::vector<int32_t> next_;
  const kernels::Table<double>* table_;
  int64_t V_;
};

}  // namespace

std::unique_ptr<Model> make_decoder_model(const Task& task, const Settings& settings, const kernels::InstructionSet& isa) {
  return std::make_unique<DecoderModel>(*task.next_token(), settings, isa);
}

}  // namespace lamina
