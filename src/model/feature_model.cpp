// Prompts as counts of features, and the model's loss and gradient on them; the formulas are in the header.
#include "model/feature_model.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>

#include "base/error.hpp"
#include "model/feature_prompts.hpp"

namespace lamina {
namespace {

constexpr int64_t chunk_length = 256;  // prompts per chunk: fixes the order of summation
constexpr double most_spread = 600;  // of a column's logits: beyond, e^{q - max q} of a prompt that lacks the largest may all be 0

class FeatureModel final : public Model {
 public:
  FeatureModel(const FeatureLaw& law, const Settings& settings, const kernels::InstructionSet& isa)
      : law_(law), table_(isa.f64), K_(law.features), d_(law.dimension) {
    settings_ = settings, isa_ = &isa;
    tensors_.push_back({"Q", {d_, d_}, 0, d_ * d_, true});
    parameters_.assign(static_cast<size_t>(d_ * d_), 0.0);
    map_ = attention_map(settings);
  }

  std::unique_ptr<Model> clone() const override { return std::make_unique<FeatureModel>(*this); }

  void require_law_of(const Task& task) const override {
    const FeatureLaw& given = *task.features();
    if (law_.features != given.features) fail_other_law("features", static_cast<double>(law_.features), static_cast<double>(given.features));
    if (law_.dimension != given.dimension) fail_other_law("dimension", static_cast<double>(law_.dimension), static_cast<double>(given.dimension));
    if (law_.masked != given.masked || law_.moments != given.moments)
      fail(LAMINA_E_ARGUMENT, "model is made for another mask or other second_moments, must be made for the task's");
  }
  Column loss_column() const override { return {"loss", "the objective descended: half the mean squared error"}; }
  Column excess_column() const override { return {"excess", "the loss minus the infimum of the population loss at this prompt length"}; }

  std::unique_ptr<CompiledPrompts> compile(const Prompts& prompts, std::span<const double> weights, const Team& team) const override {
    auto out = std::make_unique<FeaturePrompts>();
    out->averaged = prompts.values.empty();
    std::vector<int32_t> query(static_cast<size_t>(prompts.count));
    for (int64_t i = 0; i < prompts.count; ++i) query[i] = prompts.row(i).back();
    const auto weight = [&](int64_t i) { return weights.empty() ? 1 / static_cast<double>(prompts.count) : weights[i]; };
    if (!out->averaged && K_ < prompts.length) {
      out->blocks.arrange(query, K_, map_ == kernels::Map::softmax);
      fill_blocks(*out, team, 8, [&](int64_t i, std::vector<double>& occurs, std::vector<double>& mean) {
        count_features(prompts, i, occurs, mean);
        return FeatureBlocks::Prompt{occurs.data(), mean.data(), weight(i), prompts.values_of(i).back()};
      });
      return out;
    }
    std::vector<double> occurs(static_cast<size_t>(K_)), mean(occurs);
    out->list(query, K_, map_ == kernels::Map::softmax, [&](int64_t i) {
      count_features(prompts, i, occurs, mean);
      return FeatureBlocks::Prompt{occurs.data(), mean.data(), weight(i), out->averaged ? 0 : prompts.values_of(i).back()};
    });
    return out;
  }

  // Where prompts are longer than there are features the task may count them as it draws, and no token is written; where labels are
  // averaged over, none is drawn either.
  std::unique_ptr<CompiledPrompts> draw(const Task& task, const Draw& which, const Team& team, Prompts& prompts,
                                        std::unique_ptr<CompiledPrompts> last) const override {
    if (K_ > task.features()->length || !task.concurrent()) return Model::draw(task, which, team, prompts, nullptr);
    std::unique_ptr<FeaturePrompts> out(static_cast<FeaturePrompts*>(last.release()));
    if (!out) out = std::make_unique<FeaturePrompts>();
    if (const CountedPrompts* counted = which.averaged ? nullptr : task.counted()) {
      out->blocks.draw(*counted, which.seed, which.first, which.count, map_ == kernels::Map::softmax, team);
      out->queries = out->blocks.queries();
      return out;
    }
    FeatureCounts& drawn = out->drawn;
    drawn.resize(which.count, K_, !which.averaged);
    constexpr int64_t part = 64;
    std::atomic<bool> able{true};
    team.for_each((which.count + part - 1) / part, [&](int64_t chunk, int) {
      const int64_t first = chunk * part, count = std::min(part, which.count - first);
      if (!task.sample_counts(Split::train, which.seed, which.first + first, count, first, drawn)) able = false;
    });
    if (!able) return Model::draw(task, which, team, prompts, nullptr);
    const double weight = 1 / static_cast<double>(which.count);
    out->averaged = which.averaged;
    if (out->averaged) {
      const std::vector<double> none(static_cast<size_t>(K_));
      out->list(drawn.query, K_, false, [&](int64_t i) { return FeatureBlocks::Prompt{&drawn.occurs[i * K_], none.data(), weight, 0}; });
      return out;
    }
    out->blocks.arrange(drawn.query, K_, map_ == kernels::Map::softmax);
    fill_blocks(*out, team, FeatureBlocks::chunk(K_), [&](int64_t i, std::vector<double>&, std::vector<double>&) {
      const double* label = &drawn.label[i * K_];
      return FeatureBlocks::Prompt{&drawn.occurs[i * K_], label, weight, label[drawn.query[i]]};
    });
    return out;
  }

  Loss loss_and_gradient(const CompiledPrompts& compiled, const Team& team, double* gradient, bool) const override {
    const auto& all = static_cast<const FeaturePrompts&>(compiled);
    const bool in_blocks = all.blocks.size() > 0;
    const int64_t count = in_blocks ? all.blocks.size() : static_cast<int64_t>(all.prompts.size());
    const int64_t length = in_blocks ? FeatureBlocks::chunk(K_) : chunk_length, chunks = (count + length - 1) / length;
    const Columns columns = weights_of_columns(all.queries);
    std::vector<Chunk> partial(static_cast<size_t>(chunks));
    team.for_each(chunks, [&](int64_t chunk, int) {
      Chunk& sums = partial[chunk];
      const int64_t first = chunk * length, last = std::min(count, first + length);
      const int32_t lowest = in_blocks ? all.blocks.query(first) : all.prompts[first].query;
      const int32_t highest = in_blocks ? all.blocks.query(last - 1) : all.prompts[last - 1].query;
      sums.lowest = lowest;
      if (gradient) sums.slopes.assign(static_cast<size_t>((highest - lowest + 1) * K_), 0.0);
      if (in_blocks) return evaluate_blocks(all.blocks, first, last, columns, sums);
      std::vector<double> b(static_cast<size_t>(K_)), e(b), moment(b);
      for (int64_t i = first; i < last; ++i) {
        const FeaturePrompt& p = all.prompts[i];
        double* slopes = gradient ? &sums.slopes[(p.query - lowest) * K_] : nullptr;
        sums.loss += all.averaged ? averaged(all, p, columns, b, e, moment, slopes) : raw(all, p, columns, b, slopes);
      }
    });
    double loss = 0;
    if (gradient) std::fill_n(gradient, d_ * d_, 0.0);
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
      loss += partial[chunk].loss;
      if (!gradient) continue;
      const int32_t lowest = partial[chunk].lowest;
      const std::vector<double>& slopes = partial[chunk].slopes;
      for (int64_t k = 0; k < static_cast<int64_t>(slopes.size()) / K_; ++k)
        for (int64_t n = 0; n < K_; ++n) gradient[n * d_ + lowest + k] += slopes[k * K_ + n];
    }
    return {loss, loss};
  }

  Metrics measure(const CompiledPrompts& compiled, const Team& team) const override {
    return {.loss = loss_and_gradient(compiled, team, nullptr, false)};
  }

  // yhat [count]; weights [count, length], the last one the query's own.
  void forward(const Prompts& prompts, LogitPart part, double* logits, double* weights) const override {
    if (part == LogitPart::feed_forward) {
      if (logits) std::fill_n(logits, prompts.count, 0.0);
      return;
    }
    for (int64_t i = 0; i < prompts.count; ++i) {
      const auto row = prompts.row(i);
      const int64_t length = prompts.length, keys = law_.masked ? length - 1 : length;
      std::vector<double> a(static_cast<size_t>(length), 0.0);
      for (int64_t j = 0; j < keys; ++j) a[j] = parameters_[row[j] * d_ + row.back()];
      if (map_ == kernels::Map::softmax) {
        const double most = *std::max_element(a.begin(), a.begin() + keys);
        for (int64_t j = 0; j < keys; ++j) a[j] -= most;
        table_->exp(keys, a.data(), a.data());
        double z = 0;
        for (int64_t j = 0; j < keys; ++j) z += a[j];
        for (int64_t j = 0; j < keys; ++j) a[j] /= z;
      } else {
        for (int64_t j = 0; j < keys; ++j) a[j] = mapped(a[j]) / static_cast<double>(length - 1);
      }
      if (logits) {
        logits[i] = 0;
        for (int64_t j = 0; j + 1 < length; ++j) logits[i] += a[j] * prompts.values_of(i)[j];
      }
      if (weights) std::ranges::copy(a, weights + i * length);
    }
  }

 private:
  struct Columns {
    std::vector<double> weight;  // [query, feature]: e^{q - max q}, or the mapped score
    std::vector<char> wide;      // [query]: e^{q - max q} is of no use, the largest must be that of each prompt
  };

  // A block's prompts by read(i, occurs, mean), which may use the two [features] for what it gives, `part` blocks at a time; the queries.
  template <class Read>
  void fill_blocks(FeaturePrompts& out, const Team& team, int64_t part, const Read& read) const {
    const int64_t blocks = out.blocks.size();
    team.for_each((blocks + part - 1) / part, [&](int64_t chunk, int) {
      std::vector<double> occurs(static_cast<size_t>(K_)), mean(occurs);
      for (int64_t b = chunk * part; b < std::min(blocks, (chunk + 1) * part); ++b)
        out.blocks.fill(b, [&](int64_t i) { return read(i, occurs, mean); });
    });
    out.queries = out.blocks.queries();
  }

  // Of prompt i: how often each feature occurs, and its mean label, as the first plus the mean of what the others differ from it: labels
  // that are equal have themselves as mean, to the bit.
  void count_features(const Prompts& prompts, int64_t i, std::vector<double>& occurs, std::vector<double>& mean) const {
    const auto row = prompts.row(i);
    std::ranges::fill(occurs, 0.0), std::ranges::fill(mean, 0.0);
    if (prompts.values.empty()) {
      for (size_t j = 0; j + 1 < row.size(); ++j) occurs[row[j]] += 1;
      return;
    }
    const auto y = prompts.values_of(i);
    std::vector<double> first(occurs.size());
    for (size_t j = 0; j + 1 < row.size(); ++j) {
      const int32_t n = row[j];
      if (occurs[n] == 0) first[n] = y[j];
      occurs[n] += 1, mean[n] += y[j] - first[n];
    }
    for (size_t n = 0; n < mean.size(); ++n) mean[n] = occurs[n] > 0 ? first[n] + mean[n] / occurs[n] : 0;
  }

  struct Chunk {
    double loss = 0;
    int32_t lowest = 0;          // of the queries met
    std::vector<double> slopes;  // [columns from the lowest to the highest, K]; empty: not asked for
  };

  double mapped(double g) const { return map_ == kernels::Map::relu ? std::max(g, 0.0) : g; }
  double moment(int64_t m, int64_t n) const { return law_.moments[static_cast<size_t>(m * K_ + n)]; }

  // One exponential for each entry of the columns that the prompts ask for.
  Columns weights_of_columns(const std::vector<int32_t>& queries) const {
    Columns columns{std::vector<double>(static_cast<size_t>(K_ * K_)), std::vector<char>(static_cast<size_t>(K_))};
    for (const int32_t done : queries) {
      double* column = &columns.weight[done * K_];
      for (int64_t n = 0; n < K_; ++n) column[n] = parameters_[n * d_ + done];
      if (map_ != kernels::Map::softmax) {
        for (int64_t n = 0; n < K_; ++n) column[n] = mapped(column[n]);
        continue;
      }
      const auto [least, most] = std::minmax_element(column, column + K_);
      const double largest = *most;
      columns.wide[done] = largest - *least > most_spread;
      for (int64_t n = 0; n < K_; ++n) column[n] -= largest;
      table_->exp(K_, column, column);
    }
    return columns;
  }

  // The same for one prompt of a wide column: e^{q - q'}, q' the largest logit that occurs in it; 0 where a feature does not.
  template <class Occurs>
  void weights_of_prompt(int32_t query, Occurs occurs, double* weight) const {
    double largest = -std::numeric_limits<double>::infinity();
    for (int64_t n = 0; n < K_; ++n)
      if (occurs(n)) largest = std::max(largest, parameters_[n * d_ + query]);
    for (int64_t n = 0; n < K_; ++n) weight[n] = occurs(n) ? parameters_[n * d_ + query] - largest : -std::numeric_limits<double>::infinity();
    table_->exp(K_, weight, weight);
  }

  static double sum_of(const FeatureBlocks::Lanes& v) { return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7])); }

  void evaluate_blocks(const FeatureBlocks& blocks, int64_t first, int64_t last, const Columns& columns, Chunk& sums) const {
    const bool softmax = map_ == kernels::Map::softmax, slopes = !sums.slopes.empty();
    FeatureBlocks::Lanes loss{};
    std::vector<FeatureBlocks::Lanes> of_query(slopes ? static_cast<size_t>(K_) : 0);
    for (int64_t i = first; i < last; ++i) {
      const int32_t query = blocks.query(i);
      const double* column = &columns.weight[query * K_];
      const auto more = columns.wide[query] ? evaluate_wide(blocks, i, slopes ? of_query.data() : nullptr)
                                            : blocks.evaluate(i, column, softmax && !law_.masked ? column[query] : 0.0,
                                                              slopes ? of_query.data() : nullptr);
      for (size_t l = 0; l < more.size(); ++l) loss[l] += more[l];
      if (!slopes || (i + 1 < last && blocks.query(i + 1) == query)) continue;
      for (int64_t n = 0; n < K_; ++n) {
        const bool held = map_ == kernels::Map::relu && parameters_[n * d_ + query] < 0;  // relu'(q) = 0
        sums.slopes[(query - sums.lowest) * K_ + n] = held ? 0.0 : sum_of(of_query[n]);
        of_query[n] = {};
      }
    }
    sums.loss = sum_of(loss);
  }

  // A block under a wide column: lane by lane, each with its own weights.
  FeatureBlocks::Lanes evaluate_wide(const FeatureBlocks& blocks, int64_t block, FeatureBlocks::Lanes* slopes) const {
    const int32_t query = blocks.query(block);
    std::vector<double> column(static_cast<size_t>(K_));
    FeatureBlocks::Lanes loss{};
    for (size_t l = 0; l < loss.size(); ++l) {
      std::vector<FeatureBlocks::Lanes> of_lanes(slopes ? static_cast<size_t>(K_) : 0);
      weights_of_prompt(query, [&](int64_t n) { return blocks.occurs(block, l, n) || (!law_.masked && n == query); }, column.data());
      loss[l] = blocks.evaluate(block, column.data(), law_.masked ? 0.0 : column[query], slopes ? of_lanes.data() : nullptr)[l];
      for (int64_t n = 0; slopes && n < K_; ++n) slopes[n][l] += of_lanes[n][l];
    }
    return loss;
  }

  // b_n of the prompt's features into b, by entries; the query's own weight is returned.
  double attend(const FeaturePrompts& all, const FeaturePrompt& p, const Columns& columns, std::vector<double>& b) const {
    const double* column = &columns.weight[p.query * K_];
    const bool softmax = map_ == kernels::Map::softmax;
    std::vector<double> own;
    if (columns.wide[p.query]) {
      const auto keys = std::span(all.feature).subspan(static_cast<size_t>(p.first), static_cast<size_t>(p.last - p.first));
      own.resize(static_cast<size_t>(K_));
      weights_of_prompt(p.query, [&](int64_t n) { return std::ranges::binary_search(keys, n) || (!law_.masked && n == p.query); }, own.data());
      column = own.data();
    }
    const double self = softmax && !law_.masked ? column[p.query] : 0.0;
    double z = self, length = 0;
    for (int64_t i = p.first; i < p.last; ++i) {
      b[i - p.first] = all.count[i] * column[all.feature[i]];
      z += b[i - p.first], length += all.count[i];
    }
    const double scale = 1 / (softmax ? z : length);
    for (int64_t i = p.first; i < p.last; ++i) b[i - p.first] *= scale;
    return self * scale;
  }

  // The factor of dL/db_n in dL/dq_n for linear and relu: db_n/dq_n.
  double slope_of(const FeaturePrompts& all, const FeaturePrompt& p, int64_t i, double length) const {
    const double q = parameters_[all.feature[i] * d_ + p.query];
    return map_ == kernels::Map::relu && q < 0 ? 0.0 : all.count[i] / length;
  }

  double length_of(const FeaturePrompts& all, const FeaturePrompt& p) const {
    double length = 0;
    for (int64_t i = p.first; i < p.last; ++i) length += all.count[i];
    return length;
  }

  double raw(const FeaturePrompts& all, const FeaturePrompt& p, const Columns& columns, std::vector<double>& b, double* slopes) const {
    const double self = attend(all, p, columns, b);
    // yhat - target: of softmax by what labels lack to the target, the query's own label being 0.
    const bool softmax = map_ == kernels::Map::softmax;
    double delta = softmax ? -self * p.target : -p.target;
    for (int64_t i = p.first; i < p.last; ++i) delta += b[i - p.first] * all.label[i];
    if (slopes && softmax) {
      for (int64_t i = p.first; i < p.last; ++i) slopes[all.feature[i]] += p.weight * delta * b[i - p.first] * (all.label[i] - delta);
      slopes[p.query] -= p.weight * delta * self * (p.target + delta);
    } else if (slopes) {
      const double length = length_of(all, p);
      for (int64_t i = p.first; i < p.last; ++i)
        slopes[all.feature[i]] += p.weight * delta * slope_of(all, p, i, length) * all.label[i];
    }
    return p.weight * 0.5 * delta * delta;
  }

  double averaged(const FeaturePrompts& all, const FeaturePrompt& p, const Columns& columns, std::vector<double>& b, std::vector<double>& e,
                  std::vector<double>& moments, double* slopes) const {
    const double self = attend(all, p, columns, b);
    // e = b - unit_query on all features; under softmax e_query is minus the weight elsewhere, never b - 1.
    std::ranges::fill(e, 0.0);
    double elsewhere = self;
    for (int64_t i = p.first; i < p.last; ++i) {
      e[all.feature[i]] = b[i - p.first];
      if (all.feature[i] != p.query) elsewhere += b[i - p.first];
    }
    e[p.query] = map_ == kernels::Map::softmax ? -elsewhere : e[p.query] - 1;
    double loss = 0, mean = 0;
    for (int64_t n = 0; n < K_; ++n) {
      if (law_.moments.empty()) {
        moments[n] = e[n];
      } else {
        moments[n] = 0;
        for (int64_t m = 0; m < K_; ++m) moments[n] += moment(n, m) * e[m];
      }
      loss += e[n] * moments[n];
    }
    if (slopes && map_ == kernels::Map::softmax) {
      // Relative to the query's, where the mean is near: sum b + self = 1 gives moment - mean = (moment - own) - shifted.
      const double own = moments[p.query];
      double shifted = -self * own;
      for (int64_t i = p.first; i < p.last; ++i) {
        mean += b[i - p.first] * moments[all.feature[i]];
        shifted += b[i - p.first] * (moments[all.feature[i]] - own);
      }
      for (int64_t i = p.first; i < p.last; ++i) slopes[all.feature[i]] += p.weight * b[i - p.first] * ((moments[all.feature[i]] - own) - shifted);
      slopes[p.query] -= p.weight * self * mean;
    } else if (slopes) {
      const double length = length_of(all, p);
      for (int64_t i = p.first; i < p.last; ++i) slopes[all.feature[i]] += p.weight * slope_of(all, p, i, length) * moments[all.feature[i]];
    }
    return p.weight * 0.5 * loss;
  }

  FeatureLaw law_;
  const kernels::Table<double>* table_;
  int64_t K_, d_;
  kernels::Map map_;
};

}  // namespace

std::unique_ptr<Model> make_feature_model(const Task& task, const Settings& settings, const kernels::InstructionSet& isa) {
  return std::make_unique<FeatureModel>(*task.features(), settings, isa);
}

}  // namespace lamina
