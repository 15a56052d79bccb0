// The figures of two relatives: linear attention with a covariance (arXiv 2306.09927), next-token prediction (arXiv
// 2409.17335).
#include <array>
#include <cmath>

#include "gallery/figure.hpp"
#include "picture.hpp"

namespace cli {
namespace {


struct Estimate {
  double mean, error;  // the standard error of the mean
};

// E(yhat - y)^2 over sampled prompts of a task; with `query` other than 1 the query is stretched by it, and its label with it.
Estimate sampled_risk(const lamina_model* model, const lamina_task* task, int64_t count, int64_t d, double query = 1) {
  lamina_task_shape shape;
  check(lamina_task_shape_init(&shape, sizeof shape));
  check(lamina_task_get_shape(task, &shape));
  const int64_t numbers = shape.length * shape.width;
  std::vector<double> prompts(static_cast<size_t>(count * numbers)), targets(static_cast<size_t>(2 * count)),
      out(static_cast<size_t>(count));
  check(lamina_task_sample(task, LAMINA_SPLIT_TRAIN, 99, 0, count, prompts.data(), targets.data()));
  for (int64_t i = 0; i < count; ++i)
    for (int64_t j = numbers - d; j < numbers; ++j) prompts[i * numbers + j] *= query;
  check(lamina_model_forward(model, prompts.data(), count, shape.length, LAMINA_LOGITS, out.data()));
  const auto square = [&](int64_t i) { return std::pow(out[i] - query * targets[2 * i], 2); };
  const auto n = static_cast<double>(count);
  double mean = 0, variance = 0;
  for (int64_t i = 0; i < count; ++i) mean += square(i) / n;
  for (int64_t i = 0; i < count; ++i) variance += std::pow(square(i) - mean, 2) / n;
  return {mean, std::sqrt(variance / n)};
}

void add_mark(Curve& marks, double x, Estimate y) {
  marks.x.push_back(x), marks.y.push_back(y.mean);
  marks.low.push_back(y.mean - 2 * y.error), marks.high.push_back(y.mean + 2 * y.error);
}

// Gradient flow: the isotropic course in closed form, and where the matrices of another covariance end.
Plot flow(const Parameters& with) {
  const double eta = with.number("step_size");
  Panel isotropic("covariance I, d = " + with.text("isotropic_dimension"), {eta_t}, {"loss over its optimum", true, 1e-12}),
      matrices("eigenvalues of the covariance " + with.text("covariance") + ", N = " + with.text("matrix_prompt_length"), {eta_t, true},
               {"u, and eigenvalues of U"});
  size_t i = 0;
  for (const std::string& N : with.list("prompt_length")) {
    const Finished done = with.with({{"prompt_length", N},
                                     {"covariance", ""},
                                     {"dimension", with.text("isotropic_dimension")},
                                     {"probes", "predicted"}})
                              .run();
    const std::string name = "N = " + N;
    isotropic.curves.push_back(
        scaled(curve_of(done.table, "predicted", name + ", closed form", Look::predicted, hues[i % 6]), eta));
    isotropic.curves.push_back(scaled(curve_of(done.table, "excess", name + ", run", Look::measured, hues[i++ % 6]), eta));
  }
  const Finished done = with.with({{"prompt_length", with.text("matrix_prompt_length")},
                                   {"step_size", with.text("matrix_step_size")},
                                   {"steps", with.text("matrix_steps")}})
                            .run();
  const size_t d = numbers_of(with.list("covariance")).size();
  std::vector<double> start{done.table.column("u")->front()};
  start.resize(1 + d * d);
  for (size_t j = 0; j < d && j < 4; ++j) start[1 + j * d + j] = (*done.table.column("U_" + std::to_string(j)))[0];
  const std::vector<double> limit = theory_results("limit_matrices", done.task.get(), start, start.size());
  const double unit = with.number("matrix_step_size"), last = unit * done.table.column("step")->back();
  const auto add = [&](const std::string& column, const std::string& name, double value, Hue hue) {
    matrices.curves.push_back(scaled(curve_of(done.table, column.c_str(), name, Look::measured, hue), unit));
    matrices.curves.push_back({name + ", limit", Look::limit, hue, {unit, last}, {value, value}});
  };
  add("u", "u", limit[0], hues[5]);
  for (size_t j = 0; j < d && j < 4; ++j)
    add("U_" + std::to_string(j), "U on eigenvector " + std::to_string(j + 1), limit[1 + j * d + j], hues[j]);
  return {"Linear attention under gradient flow", 2, {std::move(isotropic), std::move(matrices)}};
}

// The risk of trained models on prompts of another length and of another covariance: closed forms, and sampled prompts.
Plot risk(const Parameters& with) {
  const int64_t count = static_cast<int64_t>(with.number("test_samples")), d = static_cast<int64_t>(with.number("dimension"));
  Panel lengths("prompts of another length", {"test length M", true}, {"E(yhat - y)\u00b2", true}),
      shifts("N = M = " + with.list("prompt_length").back() + ", covariance c I", {"c", true}, {"E(yhat - y)\u00b2", true});
  const std::vector<double> tests = numbers_of(with.list("test_length")), factors = numbers_of(with.list("factors"));
  lengths.x.tics = tests, shifts.x.tics = factors;
  size_t i = 0;
  for (const std::string& N : with.list("prompt_length")) {
    const Parameters here = with.with({{"prompt_length", N}});
    const Finished done = here.run();
    const Model model = make<Model>(lamina_trainer_model, static_cast<const lamina_trainer*>(done.trainer.get()));
    const Hue hue = hues[i++ % 6];
    Curve law{"trained at N = " + N + ", closed form", Look::predicted, hue},
        sampled{"trained at N = " + N + ", sampled", Look::marks, hue};
    for (int k = 0; k <= 80; ++k) {
      const double M = std::round(tests.front() * std::pow(tests.back() / tests.front(), k / 80.0));
      law.x.push_back(M), law.y.push_back(theory("risk_at_length", done.task.get(), {M}));
    }
    for (double M : tests) {
      const Task test = here.with({{"prompt_length", format_number(M, 9)}}).make_task();
      add_mark(sampled, M, sampled_risk(model.get(), test.get(), count, d));
    }
    lengths.curves.push_back(std::move(law)), lengths.curves.push_back(std::move(sampled));
    if (N != with.list("prompt_length").back()) continue;
    for (const bool query : {false, true}) {
      const Hue own = hues[query ? 2 : 3];
      const std::string name = query ? "of the query alone" : "of all tokens";
      Curve shift{name + ", closed form", Look::predicted, own}, marks{name + ", sampled", Look::marks, own};
      const double length = std::strtod(N.c_str(), nullptr);
      for (int k = 0; k <= 80; ++k) {
        const double c = factors.front() * std::pow(factors.back() / factors.front(), k / 80.0);
        std::vector<double> arguments(static_cast<size_t>(d) + 1, c);
        arguments[0] = length;
        shift.x.push_back(c),
            shift.y.push_back(theory(query ? "query_shift_risk" : "covariate_shift_risk", done.task.get(), arguments));
      }
      for (double c : factors) {
        std::string covariance;
        for (int64_t j = 0; j < d; ++j) covariance += (j ? "," : "") + format_number(query ? 1 : c, 9);
        const Task test = here.with({{"covariance", covariance}}).make_task();
        add_mark(marks, c, sampled_risk(model.get(), test.get(), count, d, query ? std::sqrt(c) : 1));
      }
      shifts.curves.push_back(std::move(shift)), shifts.curves.push_back(std::move(marks));
    }
  }
  return {"Linear attention: risk of models trained at \u039b = I, d = " + with.text("dimension") + "; bars: two standard errors of " +
              with.text("test_samples") + " prompts",
          2, {std::move(lengths), std::move(shifts)}};
}

// Two stages: the loss of the collocations and its closed form, then the excess of the sentences and its slope; the directions.
Plot stages(const Parameters& with) {
  const Finished done = with.run();
  const std::vector<double>& steps = *done.table.column("step");
  const double turn = with.number("stage_one_steps"), eta = with.number("step_size");
  Panel loss("loss", {"step"}, {"nats", true, 1e-16}),
      directions("directions", {"step", true, 1}, {"1 - cosine with the max-margin matrix", true});
  Curve law{"collocations, closed form", Look::predicted, Hue::blue},
      first = curve_of(done.table, "collocation_loss", "collocations", Look::measured, Hue::blue);
  Curve second{"sentences, over the collocations", Look::measured, Hue::orange},
      limit{"slope in the limit", Look::limit, Hue::orange};
  const auto& excess = *done.table.column("excess");
  for (size_t row = 0; row < steps.size(); ++row) {
    if (steps[row] <= turn)
      law.x.push_back(steps[row]), law.y.push_back(theory("collocation_loss", done.task.get(), {eta, steps[row]}));
    if (steps[row] > turn && excess[row] > 0) second.x.push_back(steps[row]), second.y.push_back(excess[row]);
  }
  const double slope = theory("attention_slope", done.task.get(), {eta});
  if (!second.x.empty() && slope < 0) {
    size_t end = second.x.size() - 1;
    while (end > 0 && second.y[end] < 1e-16) --end;
    const double from = turn + 0.3 * (second.x[end] - turn);
    limit.x = {from, second.x[end]}, limit.y = {second.y[end] * std::exp(slope * (from - second.x[end])), second.y[end]};
  }
  loss.curves = {std::move(law), std::move(first), std::move(second), std::move(limit)};
  loss.marks = {{turn, "second stage"}};
  Curve kq{"W_{KQ}, second stage", Look::measured, Hue::orange},
      inverse{"1 / steps of the second stage", Look::limit, Hue::grey};
  const auto* cosine = done.table.column("kq_cosine");
  for (size_t row = 0; cosine && row < steps.size(); ++row)
    if (steps[row] > turn && std::isfinite((*cosine)[row]))
      kq.x.push_back(steps[row] - turn), kq.y.push_back(1 - (*cosine)[row]);
  if (!kq.x.empty())
    inverse.x = {kq.x.front(), kq.x.back()}, inverse.y = {kq.y.back() * kq.x.back() / kq.x.front(), kq.y.back()};
  directions.x.label = "steps of the second stage";
  directions.curves = {std::move(kq), std::move(inverse)};
  return {"Next-token prediction in two stages, V = " + with.text("vocabulary") + ", " + with.text("samples") + " sentences, \u03b7 = " +
              with.text("step_size"),
          2,
          {std::move(loss), std::move(directions)}};
}

constexpr std::array figures{
    Figure{
        "regression_flow", "linear_regression",
        "covariance=1,0.5,0.25 isotropic_dimension=5 prompt_length=2,10,100 steps=250 step_size=0.02 matrix_prompt_length=10 "
        "matrix_step_size=0.1 matrix_steps=2000 probes=linear_attention",
        "Linear attention under gradient flow: the isotropic course, and where u and U end.",
        "arXiv 2306.09927 (Zhang, Frei, Bartlett, JMLR 2024); none of its figures.",
        "Stated: gradient flow converges to u = tr(Gamma^-2)^(1/4), U = Gamma^-1 / u. Derived: the course for an isotropic "
        "covariance, the limit from any "
        "start that reaches the optimum. Choices: d = 5 (isotropic), eigenvalues 1, 1/2, 1/4; N = 2, 10, 100.",
        flow},
    Figure{"regression_risk", "linear_regression",
           "dimension=5 prompt_length=20,100 test_length=5,10,20,50,100,200,500,1000 factors=0.25,0.5,1,2,4 test_samples=10000 "
           "steps=600 step_size=0.02 "
           "record_every=600 probes=none",
           "Risk of trained linear attention on prompts of another length and another covariance, beside sampled prompts.",
           "arXiv 2306.09927 (Zhang, Frei, Bartlett, JMLR 2024); none of its figures.",
           "Stated: shifts of the query are tolerated, of the covariates not. Remembered, checked against samples: the risk at "
           "another length. Derived: the "
           "risks under shifts. Choices: isotropic, d = 5; 10000 prompts a mark, bars of two standard errors.",
           risk},
    Figure{"next_token_stages", "next_token",
           "vocabulary=12 samples=256 steps=400 stage_one_steps=150 step_size=0.5 probes=directions,collocations",
           "Next-token prediction: both stages of normalised descent, and the direction of the attention matrix.",
           "arXiv 2409.17335 (Huang, Liang, Yang, NeurIPS 2024), read in its abstract and summaries; none of its figures.",
           "Stated: two stages, linear convergence of the loss, directions at a sub-linear rate. Derived: the loss of the "
           "first stage, the slope of the second. "
           "Choices: one-hot tokens, both matrices from zero, one seed; the line of slope -1 is a guide.",
           stages},
};

}  // namespace

std::span<const Figure> relative_figures() {
  return figures;
}

}  // namespace cli
