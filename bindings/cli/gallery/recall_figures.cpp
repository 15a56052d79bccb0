// The figures of in-context recall (arXiv 2505.15009 and 2406.03068).
#include <array>
#include <cmath>

#include "gallery/figure.hpp"
#include "picture.hpp"

namespace cli {
namespace {


Curve level(const std::string& name, double value, double last, Hue hue = Hue::grey) {
  return {name, Look::limit, hue, {0, last}, {value, value}};
}

Axis steps_axis() {
  return {"step"};
}

// Excess under each normalisation, beside the closed form and its asymptotic slope.
Plot slope(const Parameters& with) {
  Panel panel("", steps_axis(), {"excess over the Bayes risk (nats)", true, 1e-12});
  size_t i = 0;
  for (const std::string& norm : with.list("normalisation")) {
    const Finished done = with.with({{"normalisation", norm}}).run();
    const Hue hue = hues[i++ % 6];
    panel.curves.push_back(curve_of(done.table, "predicted", norm + ", closed form", Look::predicted, hue));
    panel.curves.push_back(curve_of(done.table, "excess", norm + ", run", Look::measured, hue));
    panel.curves.push_back(slope_of(done.table, done.run, done.task.get()));
    panel.curves.back().hue = hue;
  }
  return {"Noiseless recall: linear rate under normalised descent", 1, {std::move(panel)}};
}

// Excess under noise, down to the floor that the estimate of the noise leaves.
Plot noise(const Parameters& with) {
  Plot plot{
      "Noisy recall: the Bayes risk, up to what the estimate of the noise from " + with.text("samples") + " labels leaves",
      3,
      {}};
  size_t i = 0;
  for (const std::string& alpha : with.list("noise")) {
    const Finished done = with.with({{"noise", alpha}}).run();
    const Hue hue = hues[i++ % 6];
    Panel panel("\u03b1 = " + alpha, steps_axis(), {"excess over the Bayes risk (nats)", true, 1e-7, 8});
    panel.curves = {curve_of(done.table, "predicted", "noise known, closed form", Look::predicted, hue),
                    curve_of(done.table, "excess", "run", Look::measured, hue),
                    floor_of(done.table, done.run, done.task.get())};
    panel.curves.back().name = "KL(\u03b1 || estimate)";
    plot.panels.push_back(std::move(panel));
  }
  return plot;
}

// Attention alone finds the answer, the feed-forward part alone takes over tau; the switch is predicted.
Plot roles(const Parameters& with) {
  const Finished done = with.run();
  const double last = done.table.column("step")->back(), alpha = with.number("noise");
  Panel parts("each part alone", steps_axis(), {"fraction of prompts"});
  parts.y.minimum = -0.03, parts.y.maximum = 1.05;
  parts.curves = {
      curve_of(done.table, "attention_accuracy", "attention alone predicts the answer", Look::measured, Hue::blue),
      curve_of(done.table, "feed_forward_noise", "feed-forward alone predicts \u03c4", Look::measured, Hue::orange)};
  // lambda n_y > ln((1 - a) / a) with n_y = 1, at the rate of lambda per step.
  const Tensor* logit = done.run.tensor("noise_logit");
  const double estimate = logit ? 1 / (1 + std::exp(-logit->values[0])) : alpha;
  const double rate = theory("lambda_after", done.task.get(), {done.run.number("step_size"), 1, 0});
  const double switched = std::log((1 - estimate) / estimate) / rate;
  if (switched > 0) parts.marks.push_back({switched, "predicted switch"});
  Panel whole("the whole model", steps_axis(), {"mean probability"});
  whole.y.minimum = -0.03, whole.y.maximum = 1.05;
  whole.curves = {curve_of(done.table, "p_answer", "of the answer", Look::measured, Hue::blue),
                  curve_of(done.table, "p_noise", "of \u03c4", Look::measured, Hue::orange),
                  level("1 - \u03b1", 1 - alpha, last, Hue::blue), level("\u03b1", alpha, last, Hue::orange)};
  return {"Noise " + with.text("noise") + ": attention recalls, the feed-forward part absorbs the noise",
          2,
          {std::move(parts), std::move(whole)}};
}

// Attention mass of the tied softmax model, beside E m e^l / (m e^l + H - m) at the l learnt; and of the free W under noise.
Plot attention(const Parameters& with) {
  const double noise = with.number("noise");
  const Finished tied = with.with({{"noise", "0"}, {"initialisation", "c1"}, {"probes", "mass,lambda"}}).run();
  Panel masses("tied matrices, noiseless", steps_axis(), {"attention of the last position"});
  masses.y.minimum = -0.03, masses.y.maximum = 1.05;
  Curve predicted{"closed form at the \u03bb learnt", Look::predicted, Hue::blue, *tied.table.column("step"), {}};
  const double most = tied.run.number("occurrences"), H = tied.run.number("prompt_length"),
               triggers = tied.run.number("triggers");
  for (size_t row = 0; row < tied.table.rows(); ++row) {
    double mean = 0;
    for (int q = 0; q < static_cast<int>(triggers); ++q) {
      const double scale = std::exp((*tied.table.column("lambda_" + std::to_string(q)))[row]);
      for (int m = 1; m <= static_cast<int>(most); ++m) mean += m * scale / (m * scale + H - m) / most / triggers;
    }
    predicted.y.push_back(mean);
  }
  masses.curves = {std::move(predicted), curve_of(tied.table, "mass_answer", "on the answer", Look::measured, Hue::blue),
                   curve_of(tied.table, "mass_other", "on all other positions", Look::measured, Hue::green)};
  const Finished free = with.with({{"variant", "w_free"},
                                   {"attention", "linear"},
                                   {"initialisation", "zero"},
                                   {"step_size", with.text("free_step_size")},
                                   {"steps", with.text("free_steps")},
                                   {"probes", "w_classes"}})
                            .run();
  Panel entries("free W, linear attention, noise " + format_number(noise, 3), steps_axis(),
                {"mean entry of W over triggers q"});
  entries.curves = {curve_of(free.table, "w_previous", "key: the trigger came before", Look::measured, Hue::blue),
                    curve_of(free.table, "w_noise", "key: \u03c4", Look::measured, Hue::orange),
                    curve_of(free.table, "w_seen", "key: an output", Look::measured, Hue::green),
                    curve_of(free.table, "w_neutral", "key: another token", Look::measured, Hue::grey)};
  return {"Attention finds the token after the trigger, and learns to leave out \u03c4",
          2,
          {std::move(masses), std::move(entries)}};
}

// Outputs never seen in training: only tied read-outs generalise.
Plot unseen(const Parameters& with) {
  Panel train("training set", steps_axis(), {"excess (nats)", true, 1e-8}),
      other("answers never seen in training", steps_axis(), {"excess (nats)", true, 1e-8});
  size_t i = 0;
  double last = 0, vocabulary = 0;
  for (const std::string& variant : with.list("variant")) {
    const Finished done = with.with({{"variant", variant}}).run();
    train.curves.push_back(curve_of(done.table, "excess",
                                    variant == "full"      ? "all matrices tied (full)"
                                    : variant == "w_free"  ? "W free"
                                    : variant == "uv_free" ? "U and V free"
                                                           : "all free (original)",
                                    Look::measured, hues[i]));
    other.curves.push_back(curve_of(done.table, "unseen_excess", train.curves.back().name, Look::measured, hues[i++]));
    last = done.table.column("step")->back(), vocabulary = done.run.number("vocabulary");
    for (Panel* panel : {&train, &other})
      for (char& c : panel->curves.back().name)
        if (c == '_') c = ' ';
  }
  other.curves.push_back(level("a uniform guess", std::log(vocabulary + 1), last));
  return {"Generalisation to outputs never seen needs tied value and read-out", 2, {std::move(train), std::move(other)}};
}

constexpr const char* paper =
    "arXiv 2505.15009 (Nguyen and Nguyen-Tang), read in its abstract, reviews and digests alone; the task is a reconstruction.";

constexpr std::array figures{
    Figure{"recall_slope", "in_context_recall",
           "noise=0 normalisation=l2,l1,sign steps=1000 step_size=0.1 samples=2048 probes=predicted",
           "Noiseless excess under normalised descent, with the closed form and its asymptotic slope.", paper,
           "Stated: the expected loss converges at a linear rate to the Bayes risk. Derived: the whole curve, ln(1 + N "
           "e^{-lambda n}) averaged over the "
           "law of n, lambda = eta t / sqrt|Q| (l2), eta t / |Q| (l1), eta t (sign), and the slopes. Choices: a training set "
           "of 2048 prompts; one seed.",
           slope},
    Figure{"recall_noise", "in_context_recall", "noise=0.2,0.5,0.8 steps=400 step_size=0.1 samples=2048 probes=predicted",
           "Excess under noise, down to the floor that the estimate of the noise leaves.", paper,
           "Stated: under noise too the Bayes risk is reached, with the noise estimated from the sample. Derived: the excess "
           "ln(1 + (N-1)(1-a) e^{-lambda n}) "
           "and the limit KL(alpha || estimate). Choices: as recall_slope.",
           noise},
    Figure{"recall_roles", "in_context_recall", "noise=0.2 steps=120 step_size=0.1 samples=2048 probes=predictions",
           "What attention and the feed-forward part predict, each alone and together.", paper,
           "Stated: attention predicts outputs while the feed-forward part handles the noise after enough steps. Derived: the "
           "step of the switch, "
           "sqrt|Q| ln((1-a)/a) / eta at the estimate a. Choices: the construction whose feed-forward part reads the attention "
           "output.",
           roles},
    Figure{"recall_attention", "in_context_recall",
           "noise=0.5 attention=softmax steps=300 step_size=0.1 samples=2048 probes=mass free_steps=400 free_step_size=0.05",
           "Where attention goes: onto the answer in the tied softmax model; away from tau where W is free.", paper,
           "The second panel is after arXiv 2406.03068 (Chen, Bruna, Bietti): attention learns to avoid the noise token, once "
           "the feed-forward part has "
           "absorbed it. Derived: the mass at a given lambda, m e^lambda / (m e^lambda + H - m) for m occurrences among H "
           "positions. Choices: W from 0, the feed-forward part reads the query.",
           attention},
    Figure{"recall_unseen", "in_context_recall",
           "noise=0 variant=full,w_free,uv_free,original steps=400 step_size=0.1 samples=2048 probes=unseen record_every=4",
           "Training excess beside the excess on answers never seen, by which matrices are free.", paper,
           "Stated: only reparameterised models generalise to unseen outputs; for others the loss on them even diverges. "
           "Derived: with U and V free the direction of the previous token, which all answers share, gains weight for seen outputs "
           "and loses it for unseen ones. Choices: linear attention, gaussian initial values where matrices are free; a run ends "
           "where its gradient vanishes.",
           unseen},
};

}  // namespace

std::span<const Figure> recall_figures() {
  return figures;
}

}  // namespace cli
