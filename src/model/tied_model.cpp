// Forward, backward and metrics of the tied model over merged prompts; the formulas of the logits are in tied_prompts.hpp.
#include "model/tied_model.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/scalar_math.hpp"
#include "model/parametrisation.hpp"
#include "model/soft_loss.hpp"
#include "model/tied_prompts.hpp"

namespace lamina {
namespace {

constexpr int64_t chunk_length = 256;  // merged prompts per chunk: fixes the order of summation

// The three scalars behind the logits of one prompt, and their cotangents.
struct Weights {
  PerClass score{}, a{};
};

template <class T>
class TiedModel final : public Model {
 public:
  TiedModel(const RecallLaw& law, const Settings& settings, const kernels::InstructionSet& isa)
      : table_(isa.table<T>()), form_(law, settings), map_(form_.map()), target_(law.noise) {
    law_ = law, settings_ = settings, isa_ = &isa;
    tensors_ = form_.tensors();
    parameters_ = form_.initial();
    triggers_ = static_cast<int64_t>(law.triggers.size());
    const Construction& c = form_.construction();
    const bool softmax = map_ == kernels::Map::softmax;
    active_ = {true, true, softmax || c.kappa != 0 || c.beta != 0, softmax};
  }

  std::unique_ptr<Model> clone() const override { return std::make_unique<TiedModel>(*this); }

  std::unique_ptr<CompiledPrompts> compile(const Prompts& prompts, std::span<const double> weights,
                                           const Team&) const override {
    return std::make_unique<TiedPrompts>(tie_prompts(prompts, weights, law_, form_.construction(), active_,
                                                     map_ == kernels::Map::softmax));
  }

  Loss loss_and_gradient(const CompiledPrompts& compiled, const Team& team, double* gradient, bool with_excess) const override {
    const auto& tied = static_cast<const TiedPrompts&>(compiled);
    const size_t width = parameters_.size() + 2;  // the gradient, then loss and excess
    const int64_t count = static_cast<int64_t>(tied.prompts.size()), chunks = (count + chunk_length - 1) / chunk_length;
    std::vector<double> partial(chunks * width, 0.0);
    team.for_each(chunks, [&](int64_t chunk, int) {
      double* sums = &partial[chunk * width];
      const int64_t first = chunk * chunk_length, last = std::min(count, first + chunk_length);
      each_prompt(tied, first, last, with_excess, [&](const Point& point) {
        backward(point, gradient ? sums : nullptr);
        sums[width - 2] += point.loss;
        sums[width - 1] += point.prompt->weight * point.excess;
      });
    });
    for (int64_t chunk = 1; chunk < chunks; ++chunk)
      for (size_t i = 0; i < width; ++i) partial[i] += partial[chunk * width + i];
    if (chunks == 0) partial.assign(width, 0.0);
    if (gradient)
      for (size_t i = 0; i < parameters_.size(); ++i) gradient[i] = partial[i];
    if (gradient) form_.hold_fixed(gradient);
    return {partial[width - 2], partial[width - 1]};
  }

  Metrics measure(const CompiledPrompts& compiled, const Team&) const override {
    const auto& tied = static_cast<const TiedPrompts&>(compiled);
    Metrics sum;
    each_prompt(tied, 0, static_cast<int64_t>(tied.prompts.size()), true, [&](const Point& p) { add_metrics(p, sum); });
    return sum;
  }

  void forward(const Prompts& prompts, LogitPart part, double* logits, double* weights) const override {
    form_.forward(parameters_, prompts, part, logits, weights);
  }

 private:
  // Everything about one prompt at the present parameters. Slots of x and e: answer, tau, then the other groups.
  struct Point {
    const TiedPrompt* prompt;
    const TokenGroup* others;
    PerClass score, a;                // s_c and the weight of one position of class c
    const T *x, *e;                   // logits minus their maximum, and the exponentials
    double maximum, attention_sum;    // attention_sum: s sum_c a_c F_c, the part of xi_tau that F reads from phi
    double query;                     // X
    double rest, z;                   // sums of multiplicity * e, without and with answer and tau
    double beside[3];                 // for each label: that sum over all other tokens, never z - e_label
    double loss, excess;              // the loss is weighted by label, the excess by nothing
    double scale, logit;              // s, l
  };

  // Numbered passes over prompts first..last-1, for which `use` is then called in order.
  template <class Use>
  void each_prompt(const TiedPrompts& tied, int64_t first, int64_t last, bool with_excess, Use use) const {
    if (first >= last) return;
    const Construction& form = form_.construction();
    const double s = form_.value_scale(parameters_), l = form_.logit(parameters_);
    const int64_t count = last - first;

    // 1. scores and weights of the classes
    std::vector<Weights> weights(count);
    for (int64_t i = 0; i < count; ++i) {
      const TiedPrompt& p = tied.prompts[first + i];
      const double lambda = p.trigger >= 0 ? parameters_[p.trigger] : 0.0;
      const double tau = p.trigger >= 0 ? form.kappa * lambda + form.beta : 0.0;
      weights[i].score = {lambda, lambda - tau, -tau, 0.0};
    }
    map_classes(tied, first, weights);

    // 2. logits, minus their maximum, in one array for all prompts
    std::vector<T> x;
    x.reserve(static_cast<size_t>(2 * count + tied.prompts[last - 1].first_group + tied.prompts[last - 1].group_count - tied.prompts[first].first_group));
    std::vector<double> maximum(count), attention_sum(count), query(count);
    for (int64_t i = 0; i < count; ++i) {
      const TiedPrompt& p = tied.prompts[first + i];
      const PerClass& a = weights[i].a;
      const auto value = [&](const PerClass& n) { return a[0] * n[0] + a[1] * n[1] + a[2] * n[2] + a[3] * n[3]; };
      attention_sum[i] = s * (value(p.tau_read[0]) + l * value(p.tau_read[1]) + s * value(p.tau_read[2]));
      query[i] = p.tau_query[0] + l * p.tau_query[1] + s * p.tau_query[2];
      const size_t start = x.size();
      x.push_back(static_cast<T>(s * value(p.answer.count)));
      x.push_back(static_cast<T>(s * value(p.tau_value) + attention_sum[i] + query[i]));
      for (int32_t g = 0; g < p.group_count; ++g)
        x.push_back(static_cast<T>(s * value(tied.groups[p.first_group + g].count)));
      T m = p.answer_is_tau ? x[start + 1] : std::max(x[start], x[start + 1]);
      for (size_t g = start + 2; g < x.size(); ++g) m = std::max(m, x[g]);
      for (size_t g = start; g < x.size(); ++g) x[g] -= m;
      if (p.answer_is_tau) x[start] = -std::numeric_limits<T>::infinity();
      maximum[i] = static_cast<double>(m);
    }

    // 3. exponentials
    std::vector<T> e(x.size());
    table_.exp(static_cast<int64_t>(x.size()), x.data(), e.data());

    // 4. normalisers: log z = log1p of the sum of all tokens but one of the largest logit, which is 0
    std::vector<Point> points;
    std::vector<double> log_z(count);
    points.reserve(count);
    size_t start = 0;
    for (int64_t i = 0; i < count; ++i) {
      const TiedPrompt& p = tied.prompts[first + i];
      points.push_back({&p, tied.groups.data() + p.first_group, weights[i].score, weights[i].a, &x[start], &e[start], maximum[i],
                        attention_sum[i], query[i], 0, 0, {}, 0, 0, s, l});
      log_z[i] = normalise(points.back());
      start += 2 + p.group_count;
    }
    isa_->table<double>().log1p(count, log_z.data(), log_z.data());

    // 5. losses
    for (int64_t i = 0; i < count; ++i) {
      add_loss(points[i], log_z[i], with_excess);
      use(points[i]);
    }
  }

  void map_classes(const TiedPrompts& tied, int64_t first, std::vector<Weights>& weights) const {
    for (size_t i = 0; i < weights.size(); ++i) {
      Weights& w = weights[i];
      const PerClass& n = tied.prompts[first + i].positions;
      if (map_ == kernels::Map::linear) {
        w.a = w.score;
      } else if (map_ == kernels::Map::relu) {
        for (int c = 0; c < classes; ++c) w.a[c] = std::max(w.score[c], 0.0);
      } else {
        double m = -std::numeric_limits<double>::infinity(), z = 0;
        for (int c = 0; c < classes; ++c)
          if (n[c] > 0) m = std::max(m, w.score[c]);
        for (int c = 0; c < classes; ++c) {
          w.a[c] = n[c] > 0 ? kernels::exp(w.score[c] - m) : 0.0;
          z += n[c] * w.a[c];
        }
        for (double& a : w.a) a /= z;
      }
    }
  }

  // The slot of x and e that a label (answer, tau, other) reads.
  static int32_t slot_of(const TiedPrompt& p, int label) { return label < 2 ? label : 2 + p.other_label; }

  // z and the sums beside each label; returns z without one token of the largest logit, no difference.
  double normalise(Point& point) const {
    const TiedPrompt& p = *point.prompt;
    const double e_answer = point.e[0], e_tau = point.e[1];
    const auto all_but = [&](int32_t group) {
      double sum = 0;
      for (int32_t g = 0; g < p.group_count; ++g) sum += (point.others[g].multiplicity - (g == group)) * point.e[2 + g];
      return sum;
    };
    point.rest = all_but(-1);
    point.beside[0] = e_tau + point.rest;
    point.beside[1] = e_answer + point.rest;
    point.beside[2] = p.other_label >= 0 ? e_answer + e_tau + all_but(p.other_label) : 0.0;
    point.z = e_answer + point.beside[0];
    if (point.x[0] == 0) return point.beside[0];
    if (point.x[1] == 0) return point.beside[1];
    return e_answer + e_tau + all_but(static_cast<int32_t>(std::max_element(point.x + 2, point.x + 2 + p.group_count) - (point.x + 2)));
  }

  void add_loss(Point& point, double log_z, bool with_excess) const {
    const TiedPrompt& p = *point.prompt;
    point.loss = 0;
    for (int label = 0; label < 3; ++label)
      if (p.label_weight[label] > 0) point.loss += p.label_weight[label] * (log_z - point.x[slot_of(p, label)]);
    if (!with_excess) return;
    const double e_answer = point.e[0], e_tau = point.e[1];
    if (p.answer_is_tau)
      point.excess = excess_of({point.x[1] + 0.0, 0.0, e_tau, 0.0, point.rest, log_z}, 0.0);
    else
      point.excess = excess_of({static_cast<double>(point.x[0]), static_cast<double>(point.x[1]), e_answer, e_tau, point.rest, log_z},
                               target_);
  }

  // sums[0..] += weight * dL/d(lambda, s, l)
  void backward(const Point& point, double* sums) const {
    if (!sums) return;
    const TiedPrompt& p = *point.prompt;
    const Construction& form = form_.construction();
    const double s = point.scale, l = point.logit, inverse = 1 / point.z;
    PerClass da{};
    double ds = 0;
    // dL/dx of a whole group: weight * multiplicity * e / z, less the weight of the label, summed so that nothing cancels.
    const auto dx = [&](int32_t slot, double multiplicity) {
      const double e = point.e[slot];
      const int label = slot < 2 ? slot : slot == 2 + p.other_label ? 2 : -1;
      if (label < 0) return inverse * p.weight * multiplicity * e;
      const double own = p.label_weight[label];
      return inverse * ((p.weight - own) * multiplicity * e + own * ((multiplicity - 1) * e - point.beside[label]));
    };
    const auto through = [&](double d, const PerClass& n) {
      for (int c = 0; c < classes; ++c) da[c] += d * s * n[c], ds += d * point.a[c] * n[c];
    };
    if (!p.answer_is_tau) through(dx(0, 1), p.answer.count);
    for (int32_t g = 0; g < p.group_count; ++g) through(dx(2 + g, point.others[g].multiplicity), point.others[g].count);
    const double d_tau = dx(1, 1);
    through(d_tau, p.tau_value);
    double read_logit = p.tau_query[1], read_scale = p.tau_query[2];
    for (int c = 0; c < classes; ++c) {
      const double read = p.tau_read[0][c] + l * p.tau_read[1][c] + s * p.tau_read[2][c];
      da[c] += d_tau * s * read, ds += d_tau * point.a[c] * read;
      read_logit += s * point.a[c] * p.tau_read[1][c], read_scale += s * point.a[c] * p.tau_read[2][c];
    }
    sums[triggers_] += ds + d_tau * read_scale;
    sums[triggers_ + 1] += d_tau * read_logit;

    PerClass d_score{};
    double mean = 0;
    if (map_ == kernels::Map::softmax)
      for (int c = 0; c < classes; ++c) mean += point.a[c] * da[c];
    for (int c = 0; c < classes; ++c) {
      if (map_ == kernels::Map::linear) d_score[c] = da[c];
      if (map_ == kernels::Map::relu) d_score[c] = point.score[c] >= 0 ? da[c] : 0.0;
      if (map_ == kernels::Map::softmax) d_score[c] = point.a[c] * (da[c] - p.positions[c] * mean);
    }
    if (p.trigger >= 0) sums[p.trigger] += d_score[0] + (1 - form.kappa) * d_score[1] - form.kappa * d_score[2];
  }

  void add_metrics(const Point& point, Metrics& sum) const {
    const TiedPrompt& p = *point.prompt;
    const double w = p.weight, x_answer = point.x[0], answer = point.prompt->answer_is_tau ? point.e[1] : point.e[0];
    const auto read = [&](const PerClass& n) {
      double value = 0;
      for (int c = 0; c < classes; ++c) value += point.a[c] * n[c];
      return point.scale * value;
    };
    const double own = read(p.answer.count);
    bool first = !p.answer_is_tau, attention_first = first && own >= read(p.tau_value);
    for (int32_t g = 0; g < p.group_count; ++g) {
      const TokenGroup& group = point.others[g];
      const double x = point.x[2 + g], alone = read(group.count);
      first = first && (x < x_answer || (x == x_answer && !group.below_answer));
      attention_first = attention_first && (alone < own || (alone == own && !group.below_answer));
    }
    const double on_answer = point.a[0] * p.answer.count[0], on_noise = point.a[1] * p.positions[1];
    double total = 0;
    for (int c = 0; c < classes; ++c) total += point.a[c] * p.positions[c];
    sum.loss.loss += point.loss, sum.loss.excess += w * point.excess;
    sum.accuracy += w * first, sum.attention_accuracy += w * attention_first;
    sum.feed_forward_noise += w * (point.attention_sum + point.query > 0);
    sum.answer_probability += w * (answer / point.z), sum.noise_probability += w * (point.e[1] / point.z);
    sum.mass_answer += w * on_answer, sum.mass_noise += w * on_noise, sum.mass_other += w * (total - on_answer - on_noise);
  }

  const kernels::Table<T>& table_;
  Parametrisation form_;
  kernels::Map map_;
  SoftTarget target_;
  int64_t triggers_;
  std::array<bool, classes> active_;
};

}  // namespace

std::unique_ptr<Model> make_tied_model(const RecallLaw& law, const Settings& settings, const kernels::InstructionSet& isa) {
  if (settings.is("precision", "f32")) return std::make_unique<TiedModel<float>>(law, settings, isa);
  return std::make_unique<TiedModel<double>>(law, settings, isa);
}

}  // namespace lamina
