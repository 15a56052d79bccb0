// The figures of in-context convergence (arXiv 2310.05249).
#include <algorithm>
#include <array>
#include <cmath>

#include "gallery/figure.hpp"
#include "picture.hpp"

namespace cli {
namespace {


// f at `count` points from a to b, evenly on a log axis.
template <class F>
Curve drawn(const std::string& name, Look look, Hue hue, double a, double b, F f, int count = 160) {
  Curve curve{name, look, hue};
  for (int i = 0; i <= count; ++i) {
    const double x = a * std::exp(std::log(b / a) * i / count);
    curve.x.push_back(x), curve.y.push_back(f(x));
  }
  return curve;
}

std::string length_of(const std::string& N) {
  return N == "inf" ? "\u221e" : N;
}

double step_of(const Finished& done, const std::string& signal, double value) {
  for (const Crossing& c : done.crossings)
    if (c.signal == signal && c.value == value && c.step >= 0) return static_cast<double>(c.step);
  return std::nan("");
}

std::string steps_after(double flow_time, const Parameters& with) {
  return format_number(std::ceil(1.3 * flow_time / with.number("step_size")) + 10, 15);
}

// A_k, B_kn, attention, increments and loss of a balanced law, beside gradient flow.
Plot balanced(const Parameters& with) {
  const Finished endless = with.with({{"prompt_length", "inf"}}).run(), finite = with.run();
  const double K = endless.run.number("features"), eta = endless.run.number("step_size"),
               last = eta * endless.table.column("step")->back();
  const std::string N = "N = " + finite.run.option("prompt_length");
  const Axis time{eta_t, true, eta};
  Panel logits("logits", time, {"entry of Q"}), loss("loss", time, {"loss L", true}),
      attention("attention to the own feature", time, {"E Attn_k"}),
      increment("increments: \u0394A_k = \u03b7 \u03b1_k", time, {"K \u03b1_k"});
  attention.y.minimum = 0, attention.y.maximum = 1.03;
  const auto both = [&](Panel& panel, const char* column, const std::string& name, Hue hue, double y = 1) {
    panel.curves.push_back(
        scaled(curve_of(endless.table, column, name + (name.empty() ? "" : ", ") + "N = \u221e", Look::measured, hue), eta, y));
    panel.curves.push_back(
        scaled(curve_of(finite.table, column, name + (name.empty() ? "" : ", ") + N, Look::dashed, hue), eta, y));
  };
  both(logits, "A_0", "A_k", Hue::blue), both(logits, "B_0_1", "B_{k,n}", Hue::orange);
  logits.curves.push_back({"log K", Look::limit, Hue::grey, {eta, last}, {std::log(K), std::log(K)}});
  attention.curves.push_back(drawn("gradient flow, closed form", Look::predicted, Hue::blue, eta, last,
                                   [&](double t) { return theory("flow_attention", endless.task.get(), {t}); }));
  both(attention, "attention_0", "", Hue::blue);
  attention.curves.push_back({"1/3: peak of \u03b1_k", Look::limit, Hue::grey, {eta, last}, {1.0 / 3, 1.0 / 3}});
  both(increment, "alpha_0", "", Hue::blue, K);
  increment.curves.push_back(
      {"4 K / (27 (K - 1))", Look::limit, Hue::grey, {eta, last}, {4.0 / 27 * K / (K - 1), 4.0 / 27 * K / (K - 1)}});
  loss.curves.push_back(
      scaled(curve_of(endless.table, "predicted", "gradient flow, closed form", Look::predicted, Hue::blue), eta));
  both(loss, "loss", "", Hue::blue);
  const double floor = theory("loss_infimum", finite.task.get(), {});
  loss.curves.push_back({"infimum, " + N, Look::limit, Hue::blue, {eta, last}, {floor, floor}});
  return {"Balanced features, K = " + endless.run.option("features"),
          2,
          {std::move(logits), std::move(attention), std::move(increment), std::move(loss)}};
}

// The four phases of a rare feature's column, with the switches that the run detects.
Plot phases(const Parameters& with) {
  const double K = with.number("features"), p = with.number("dominant"), eta = with.number("step_size"), unit = eta / (K * K);
  const Finished done = with.with({{"crossings", "beta_1_2=0,attention_1=0.5,phase_1=2,phase_1=3,phase_1=4"}}).run();
  const double last = done.table.column("step")->back() * unit;
  const double turn = step_of(done, "beta_1_2", 0) * unit, half = step_of(done, "attention_1", 0.5) * unit;
  const Axis tau{"\u03c4 = \u03b7 t / K\u00b2", false, 0, last};
  const std::vector<Mark> marks{{turn, "switch"}, {half, "Attn = 1/2"}};
  Panel logits("logits of the rare query", tau, {"entry of Q"}),
      increments("increments per unit of \u03b7", tau, {"|increment|", true, 1e-8}),
      attention("attention of the rare query", tau, {"E Attn"}), loss("loss given the rare query", tau, {"loss L_k", true});
  for (Panel* panel : {&logits, &increments, &attention}) panel->marks = marks;
  Curve early_a{"A_k, K \u2192 \u221e", Look::predicted, Hue::blue},
      early_b{"B_{k,1}, K \u2192 \u221e", Look::predicted, Hue::orange};
  for (int i = 0; i < 200; ++i) {
    const double t = 0.995 / (1 - p) * i / 200;
    const std::vector<double> q = theory_results("early_rare_logits", done.task.get(), {t * K * K}, 2);
    early_a.x.push_back(t), early_a.y.push_back(q[0]), early_b.x.push_back(t), early_b.y.push_back(q[1]);
  }
  const auto measured = [&](const char* column, const std::string& name, Hue hue) {
    return scaled(curve_of(done.table, column, name, Look::measured, hue), unit);
  };
  logits.curves = {early_a, early_b, measured("A_1", "A_k", Hue::blue), measured("B_1_0", "B_{k,1}, dominant", Hue::orange),
                   measured("B_1_2", "B_{k,n}, other", Hue::green)};
  increments.curves = {measured("alpha_1", "\u03b1_k", Hue::blue),
                       scaled(measured("beta_1_0", "|\u03b2_{k,1}|, dominant", Hue::orange), 1, -1),
                       measured("beta_1_2", "\u03b2_{k,n}, other, before its zero", Hue::green),
                       scaled(measured("beta_1_2", "|\u03b2_{k,n}|, after", Hue::purple), 1, -1)};
  attention.curves = {measured("attention_1", "to its own feature", Hue::blue),
                      measured("attention_1_0", "to the dominant feature", Hue::orange)};
  attention.y.minimum = 0, attention.y.maximum = 1.03;
  const double blow_up = theory("blow_up_time", done.task.get(), {}), switched = theory("switch_time", done.task.get(), {});
  attention.marks.push_back({switched, "switch, K \u2192 \u221e"}),
      attention.marks.push_back({blow_up, "blow-up, K \u2192 \u221e"});
  // Of the dominant column: half the square of what attention lacks, K / (K - 1) times.
  loss.curves = {measured("loss_1", "rare feature", Hue::blue), measured("loss_0", "dominant feature", Hue::orange),
                 drawn("dominant, gradient flow", Look::predicted, Hue::orange, unit, last, [&](double t) {
                   const double lacks = 1 - theory("flow_attention", done.task.get(), {t * K * K});
                   return 0.5 * K / (K - 1) * lacks * lacks;
                 })};
  // Where each phase was first detected, by its signals.
  const char* const names[] = {"II", "III", "IV"};
  for (int i = 0; i < 3; ++i) {
    const double at = step_of(done, "phase_1", i + 2) * unit;
    if (at > 0) loss.marks.push_back({at, std::string("phase ") + names[i]});
  }
  return {"One dominant feature (p\u2081 = " + with.text("dominant") +
              "): four phases of a rare feature, K = " + with.text("features") + ", N = " + length_of(with.text("prompt_length")) +
              ", \u03b7 = " + with.text("step_size"),
          2,
          {std::move(logits), std::move(increments), std::move(attention), std::move(loss)}};
}

// The integers from the least to the most, at most `factor` apart.
std::vector<double> integers_between(double least, double most, double factor) {
  std::vector<double> integers;
  for (double x = least; x <= most * 1.0001; x = std::max(x * factor, std::floor(x) + 1)) integers.push_back(std::round(x));
  if (integers.back() < most) integers.push_back(most);
  return integers;
}

std::string crossings_of(const std::string& signal, const std::vector<double>& values) {
  std::string text;
  for (double value : values) text += (text.empty() ? "" : ",") + signal + "=" + format_number(value, 17);
  return text;
}

// Steps to a loss against K, and the law.
Plot time_features(const Parameters& with) {
  const std::vector<double> features = numbers_of(with.list("features")), losses = numbers_of(with.list("losses"));
  const double eta = with.number("step_size"), finest = *std::ranges::min_element(losses);
  Panel panel("", {"number of features K", true}, {"\u03b7 T(\u03b5)", true});
  panel.x.tics = features;
  for (size_t i = 0; i < losses.size(); ++i) {
    const std::string eps = "\u03b5 = " + with.list("losses")[i];
    panel.curves.push_back({eps + ", run", Look::marks, hues[i % 6]});
    panel.curves.push_back({eps + ", law", Look::predicted, hues[i % 6]});
    for (double K : integers_between(features.front(), features.back(), 1.04)) {
      const Task task = with.with({{"features", format_number(K, 9)}}).make_task();
      panel.curves.back().x.push_back(K), panel.curves.back().y.push_back(theory("flow_time_to_loss", task.get(), {losses[i]}));
    }
  }
  for (double K : features) {
    const Parameters here = with.with({{"features", format_number(K, 9)}, {"crossings", crossings_of("loss", losses)}});
    const Finished done =
        here.with({{"steps", steps_after(theory("flow_time_to_loss", here.make_task().get(), {finest}), with)}}).run();
    for (size_t i = 0; i < losses.size(); ++i)
      panel.curves[2 * i].x.push_back(K), panel.curves[2 * i].y.push_back(eta * step_of(done, "loss", losses[i]));
  }
  panel.curves.push_back(
      drawn("K\u00b2", Look::limit, Hue::grey, features.front(), features.back(), [](double K) { return K * K; }));
  panel.curves.push_back(drawn("K/(4 \u03b5), \u03b5 = " + format_number(finest, 3), Look::other_limit, hues[(losses.size() - 1) % 6],
                               features.front(), features.back(), [&](double K) { return K / (4 * finest); }));
  return {"Balanced features, N = " + length_of(with.text("prompt_length")) + ": steps to a loss, against K",
          1,
          {std::move(panel)}};
}

// The values of the option losses: from loss_from down to loss_to, so many a decade.
std::vector<double> losses_of(const Parameters& with) {
  std::vector<double> losses;
  const double from = with.number("loss_from"), to = with.number("loss_to"), each = with.number("losses_per_decade");
  for (int i = 0;; ++i) {
    const double eps = from * std::pow(10.0, -i / each);
    if (eps < to * 0.9999) return losses;
    losses.push_back(std::strtod(format_number(eps, 4).c_str(), nullptr));
  }
}

// Steps to a loss against 1/eps, and the law.
Plot time_loss(const Parameters& with) {
  Panel panel("", {"1/\u03b5", true}, {"\u03b7 T(\u03b5)", true});
  const std::vector<double> losses = losses_of(with);
  const double eta = with.number("step_size"), from = 1 / losses.front(), to = 1 / losses.back();
  size_t i = 0;
  for (const std::string& K : with.list("features")) {
    const Hue hue = hues[i++ % 6];
    const Parameters here = with.with({{"features", K}, {"crossings", crossings_of("loss", losses)}});
    const Task task = here.make_task();
    const auto law = [&](double inverse) { return theory("flow_time_to_loss", task.get(), {1 / inverse}); };
    panel.curves.push_back(drawn("K = " + K + ", law", Look::predicted, hue, from, to, law));
    panel.curves.push_back(scaled(here.with({{"steps", steps_after(law(to), with)}}).run().times("loss", true), 1, eta));
    panel.curves.back().name = "K = " + K + ", run", panel.curves.back().hue = hue;
    panel.curves.push_back(drawn("(K - 1)/(4 \u03b5), K = " + K, Look::limit, hue, from, to,
                                 [&](double inverse) { return theory("late_time", task.get(), {1 / inverse}); }));
  }
  return {"Balanced features, N = " + length_of(with.text("prompt_length")) + ": steps to a loss, against 1/\u03b5",
          1,
          {std::move(panel)}};
}

// Dominant and rare feature: steps of each against 1/eps.
Plot time_rare(const Parameters& with) {
  Panel panel("", {"1/\u03b5", true}, {"\u03b7 T(\u03b5)", true});
  const std::vector<double> losses = losses_of(with);
  const double eta = with.number("step_size"), from = 1 / losses.front(), to = 1 / losses.back();
  size_t i = 0;
  for (const std::string& K : with.list("features")) {
    const double n = std::strtod(K.c_str(), nullptr);
    const Parameters here =
        with.with({{"features", K}, {"crossings", crossings_of("loss_0", losses) + "," + crossings_of("loss_1", losses)}});
    const Task task = here.make_task(), rare = here.with({{"watched", "1"}}).make_task();
    const auto late = [&](double inverse) { return theory("late_time", rare.get(), {1 / inverse}); };
    const double blow_up = n * n * theory("blow_up_time", task.get(), {});
    const Finished done = here.with({{"steps", steps_after(2 * blow_up + late(to), with)}}).run();
    for (const bool dominant : {true, false}) {
      const Hue hue = hues[i++ % 6];
      panel.curves.push_back(scaled(done.times(dominant ? "loss_0" : "loss_1", true), 1, eta));
      panel.curves.back().name = std::string(dominant ? "dominant" : "rare") + ", K = " + K, panel.curves.back().hue = hue;
      if (dominant)  // of any K the same, but for a factor ((K - 1) / K)^2
        panel.curves.push_back(drawn("dominant, law, K = " + K, Look::predicted, hue, from, to,
                                     [&](double inverse) { return theory("flow_time_to_loss", task.get(), {1 / inverse}); }));
      if (dominant) continue;
      panel.curves.push_back(drawn("(K - 1)/(4 K \u03b5 p_k), K = " + K, Look::limit, hue, from, to, late));
      panel.curves.push_back({"K\u00b2/(1 - p\u2081), K = " + K, Look::other_limit, hue, {from, to}, {blow_up, blow_up}});
    }
  }
  return {
      "One dominant feature (p\u2081 = " + with.text("dominant") + ", N = " + length_of(with.text("prompt_length")) +
          "): steps of each feature to a loss \u03b5",
      1, {std::move(panel)}};
}

// Infima against N, and where long runs end.
Plot floors(const Parameters& with) {
  Panel panel("", {"prompt length N", true}, {"loss", true, 1e-8});
  const std::vector<double> lengths = numbers_of(with.list("prompt_length"));
  panel.x.tics = lengths;
  size_t i = 0;
  for (const std::string& K : with.list("features"))
    for (const std::string kind : {"softmax", "linear"}) {
      const Hue hue = hues[i++ % 6];
      const bool softmax = kind == "softmax";
      const Parameters here = with.with({{"features", K},
                                         {"attention", kind},
                                         {"steps", with.text(softmax ? "steps" : "linear_steps")},
                                         {"step_size", with.text(softmax ? "step_size" : "linear_step_size")}});
      Curve law{kind + ", K = " + K + ", infimum", Look::predicted, hue}, ends{kind + ", K = " + K + ", end of a run", Look::marks, hue};
      for (double N : integers_between(lengths.front(), lengths.back(), 1.03)) {
        const Task task = here.with({{"prompt_length", format_number(N, 9)}}).make_task();
        law.x.push_back(N), law.y.push_back(theory(softmax ? "loss_infimum" : "linear_loss_infimum", task.get(), {}));
      }
      for (double N : lengths)
        ends.x.push_back(N), ends.y.push_back(here.with({{"prompt_length", format_number(N, 9)}}).run().last("loss"));
      panel.curves.push_back(std::move(law)), panel.curves.push_back(std::move(ends));
      if (!softmax) continue;
      const double left = std::strtod(K.c_str(), nullptr) / (4 * here.number("step_size") * here.number("steps"));
      panel.curves.push_back({"K/(4 \u03b7 t) at its end, K = " + K, Look::limit, hue, {lengths.front(), lengths.back()}, {left, left}});
    }
  const auto time = [&](const char* step_size, const char* steps) { return format_number(with.number(step_size) * with.number(steps), 6); };
  return {"Balanced features: infima, and losses at \u03b7 t = " + time("step_size", "steps") + " (softmax) and " +
              time("linear_step_size", "linear_steps") + " (linear)",
          1, {std::move(panel)}};
}

// Softmax, linear and relu attention on one law, and their infima.
Plot attention(const Parameters& with) {
  const double eta = with.number("step_size");
  Panel panel("", {eta_t, true, eta}, {"loss", true});
  size_t i = 0;
  for (const std::string& kind : with.list("attention")) {
    const Finished done = with.with({{"attention", kind}}).run();
    const Hue hue = hues[i++ % 6];
    panel.curves.push_back(scaled(curve_of(done.table, "loss", kind, kind == "relu" ? Look::dashed : Look::measured, hue), eta));
    if (kind == "relu") continue;
    const double infimum = theory(kind == "softmax" ? "loss_infimum" : "linear_loss_infimum", done.task.get(), {}),
                 last = eta * done.table.column("step")->back();
    panel.curves.push_back({"infimum, " + kind, Look::limit, hue, {eta, last}, {infimum, infimum}});
  }
  return {"Softmax against linear attention, K = " + with.text("features") + ", N = " + with.text("prompt_length") + ", \u03b7 = " +
              with.text("step_size"),
          1,
          {std::move(panel)}};
}

// Features of Zipf's law converge in the order of their probability.
Plot zipf(const Parameters& with) {
  Panel panel("", {"rank k", true}, {"\u03b7 T_k(\u03b5)", true});
  const int K = static_cast<int>(with.number("features"));
  for (int k = 1; k <= K; k *= 2) panel.x.tics.push_back(k);
  const std::vector<double> losses = numbers_of(with.list("losses"));
  std::string watched, crossings;
  for (int k = 0; k < K; ++k) {
    watched += (k ? "," : "") + std::to_string(k);
    crossings += (k ? "," : "") + crossings_of("loss_" + std::to_string(k), losses);
  }
  const Finished done = with.with({{"watched", watched}, {"crossings", crossings}}).run();
  for (size_t i = 0; i < losses.size(); ++i) {
    const std::string eps = "\u03b5 = " + with.list("losses")[i];
    Curve points{eps + ", run", Look::marks, hues[i % 6]}, law{"(K - 1)/(4 K \u03b5 p_k), " + eps, Look::limit, hues[i % 6]};
    for (int k = 0; k < K; ++k) {
      points.x.push_back(k + 1),
          points.y.push_back(with.number("step_size") * step_of(done, "loss_" + std::to_string(k), losses[i]));
      law.x.push_back(k + 1),
          law.y.push_back(theory("late_time", with.with({{"watched", std::to_string(k)}}).make_task().get(), {losses[i]}));
    }
    panel.curves.push_back(std::move(law)), panel.curves.push_back(std::move(points));
  }
  return {"Zipf features, K = " + with.text("features") + ", N = " + length_of(with.text("prompt_length")) + ": steps to a loss, by rank",
          1,
          {std::move(panel)}};
}

constexpr const char* paper =
    "arXiv 2310.05249 (Huang, Cheng, Liang, ICML 2024). No experiment of the paper is known to us: this is none of its "
    "figures.";

constexpr std::array figures{
    Figure{"convergence_balanced", "in_context_convergence",
           "features=20 prompt_length=100 steps=10000 step_size=1 record_per_decade=60",
           "Balanced features: logits, attention, increments and loss, at N and N = infinity, beside gradient flow.", paper,
           "Stated: two phases, attention grows and then the loss converges. Derived: the flow in closed form, the peak of "
           "alpha_k at attention 1/3, the "
           "infimum. Choices: K = 20, N = 100, p_k = 1/K.",
           balanced},
    Figure{
        "convergence_phases", "in_context_convergence",
        "features=100 dominant=0.5 prompt_length=inf steps=40000 step_size=1 record_every=40",
        "A dominant feature: the four phases of a rare one, with the switches that the run detects.", paper,
        "Stated: four phases of a rare feature, the dominant one suppressed, leadership switched, growth, convergence. "
        "Derived: the exact signal of the "
        "switch (beta_{k,n} = 0), logits and times as K grows. Choices: p_1 = 1/2, N = infinity, phases by gradient signals.",
        phases},
    Figure{"convergence_time_features", "in_context_convergence",
           "features=5,10,20,40,80,160 losses=0.1,0.01,0.001,0.0001 prompt_length=inf step_size=1 probes=none "
           "record_every=1000000000",
           "Balanced features: steps to a loss against K, on the law.", paper,
           "Remembered, not confirmed: a bound of order log(K) K^2/eta + K log(K/sqrt(eps))/(eta eps). Derived: the law drawn, "
           "to leading order "
           "K^2/eta + K/(4 eta eps). Choices: N = infinity.",
           time_features},
    Figure{"convergence_time_loss", "in_context_convergence",
           "features=10,20,40,80 loss_from=0.2 loss_to=1e-5 losses_per_decade=4 prompt_length=inf step_size=1 probes=none "
           "record_every=1000000000",
           "Balanced features: steps to a loss against its inverse, on the law.", paper,
           "Derived: the law, which tends to (K - 1)/(4 eta eps). Stated, remembered and choices: as in convergence_time_features.", time_loss},
    Figure{"convergence_time_rare", "in_context_convergence",
           "features=20,100 dominant=0.5 loss_from=0.1 loss_to=1e-4 losses_per_decade=4 prompt_length=inf step_size=1 "
           "probes=none record_every=1000000000",
           "A dominant feature: steps of dominant and rare features to a loss, with their laws.", paper,
           "Stated: the dominant feature converges first; remembered: its time does not depend on K. Derived: the dominant "
           "feature's law, (K - 1)/(4 K p_k eps) as "
           "eps falls, K^2/(1 - p_1) at moderate eps as K grows. Choices: p_1 = 1/2, N = infinity.",
           time_rare},
    Figure{"convergence_floors", "in_context_convergence",
           "features=10,20 prompt_length=10,20,30,50,70,100,140,200,300,500,1000 step_size=40 steps=100000 linear_step_size=20 "
           "linear_steps=4000 probes=none record_every=1000000000",
           "Infimum of the loss against the prompt length, softmax beside linear attention, and where long runs end.", paper,
           "Stated: the loss comes within e^{-poly(K)} of zero. Derived: both infima exactly; softmax attention is "
           "exponentially better in N, linear "
           "attention ends near K/(2 N). Choices: a softmax run ends after 100000 steps of size 40, at the infimum plus "
           "about K/(4 eta t): where that is more, it has not converged.",
           floors},
    Figure{
        "convergence_attention", "in_context_convergence",
        "features=20 prompt_length=100 attention=softmax,linear,relu step_size=10 steps=10000 record_per_decade=60 probes=none",
        "Softmax, linear and relu attention on the same law, with their infima.", paper,
        "The comparison is ours. Derived: both infima. Choices: linear and relu attention divided by N; relu'(0) = 1, Q(0) = "
        "0.",
        attention},
    Figure{"convergence_zipf", "in_context_convergence",
           "features=20 feature_law=zipf losses=0.1,0.01,0.001 prompt_length=inf step_size=1 steps=30000 probes=none "
           "record_every=1000000000",
           "Zipf features: steps of each to a loss, by rank.", paper,
           "The law is ours. Derived: 4 eta p_k eps T_k tends to 1 for any law of features. Choices: p_k proportional to 1/k, "
           "N = infinity.",
           zipf},
};

}  // namespace

std::span<const Figure> convergence_figures() {
  return figures;
}

}  // namespace cli
