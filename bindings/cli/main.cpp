// lamina on the command line: a client of lamina.h alone. Subcommands list, describe, theory, run, sweep, figure; exit codes in client.hpp.
#include <fcntl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "client.hpp"
#include "gallery/figure.hpp"
#include "help.hpp"
#include "interruption.hpp"
#include "run.hpp"
#include "sweep.hpp"

namespace cli {
namespace {

constexpr const char* examples =
    "Examples:\n"
    "  lamina list\n"
    "  lamina describe in_context_recall\n"
    "  lamina run in_context_recall noise=0.2 --csv run.csv --svg run.svg\n"
    "  lamina theory bayes_risk noise=0.2\n"
    "  lamina sweep in_context_convergence features=10,20,40,80 prompt_length=inf crossings=loss=0.1 --column loss --along features\n"
    "  lamina figure convergence_phases\n"
    "Exit codes: 0 success, 1 the run or a file failed, 2 wrong usage or option, 124 ended by time_limit,\n"
    "130, 143, 129 stopped by Ctrl-C, SIGTERM, SIGHUP (results are kept).";
constexpr const char* run_examples =
    "Examples:\n"
    "  lamina run in_context_recall\n"
    "  lamina run in_context_recall noise=0 data=population prompt_length=inf --json\n"
    "  lamina run in_context_recall variant=original attention=softmax noise=0 steps=1500 --csv run.csv --svg run.svg\n"
    "  lamina run text_recall file=book.txt unit=words steps=200 --save run.safetensors\n"
    "  lamina run text_recall --resume run.safetensors\n"
    "  lamina run in_context_convergence prompt_length=inf steps=1e6 record_per_decade=20 crossings=loss=0.1,loss=1e-3 loss_target=1e-4\n"
    "Ctrl-C, SIGTERM and SIGHUP end the run after the step under way, and what was computed is written; the same signal again kills.\n"
    "A FILE named - is the standard output, for --csv or --svg; the table is then not printed, and progress is on stderr as ever.\n"
    "lamina describe NAME lists the options of a task.";

constexpr const char* sweep_examples =
    "Values of texts and arrays are separated by semicolons. Every run has the bits of lamina run with its options, for any number of\n"
    "threads. A run that fails or diverges takes nothing from the others: its status is in the tables; the exit code is\n"
    "1 if one failed, else 124 if time_limit ended one, with which --resume goes on for as long again. One FILE of a table may be -, the standard output, where then nothing else is printed.\n"
    "Examples:\n"
    "  lamina sweep in_context_recall seed=0..19 step_size=0.05,0.1 noise=0.2 --csv all.csv --summary quantiles.csv\n"
    "  lamina sweep in_context_convergence features=40,80,160 prompt_length=inf steps=1e6 loss_target=1e-3 crossings=loss=0.1,loss=1e-3 \\\n"
    "    --column loss --along features --times times.csv\n"
    "  lamina sweep in_context_recall variant=full,w_free seed=0..99 --save sweep.safetensors   (Ctrl-C, or lost)\n"
    "  lamina sweep --resume sweep.safetensors --csv all.csv";

std::string version_text() {
  std::string text = std::string(lamina_build_info()) + "\ninstruction sets here:";
  for (int32_t i = 0; i < lamina_isa_count(); ++i) text += std::string(" ") + lamina_isa_name(i);
  return text;
}

Exit parse_and_run(int argc, char** argv) {
  CLI::App app("Training dynamics of one-layer transformers: tasks, runs and closed forms.", "lamina");
  app.footer(examples);
  app.set_version_flag("--version", version_text, "Version, build and instruction sets");
  app.set_help_flag("-h,--help", "This help");
  app.require_subcommand(1);

  CLI::App* list_command = app.add_subcommand("list", "Tasks, probes, closed forms and figures, one sentence each");

  std::string name, task = "in_context_recall", arguments;
  CLI::App* describe_command = app.add_subcommand("describe", "A task's options, probes and paper; a probe; a closed form; a figure");
  describe_command->add_option("NAME", name, "From lamina list")->required();
  describe_command->footer(
      "Examples:\n  lamina describe in_context_recall\n  lamina describe mass\n  lamina describe first_step");

  const std::string save_every_help = std::string("While it lasts, save into --save this often [") + usual_seconds_between_saves + "]";
  RunRequest request;
  CLI::App* theory_command = app.add_subcommand("theory", "Evaluate a closed form");
  theory_command->add_option("NAME", name, "From lamina list")->required();
  theory_command->add_option("SETTING", request.settings, "Options of the task, where the form reads one")
      ->type_name("key=value");
  theory_command->add_option("--task", task, "The task that is read")->capture_default_str();
  theory_command->add_option("--arguments", arguments, "Numbers separated by commas")->type_name("a,b,...");
  theory_command->footer(
      "Examples:\n  lamina theory bayes_risk noise=0.2\n  lamina theory excess_after noise=0.5 --arguments 0.1,400,0");

  CLI::App* run_command = app.add_subcommand("run", "Train a model on a task and show what happened");
  run_command->add_option("NAME", request.task, "A task")->required();
  run_command->add_option("SETTING", request.settings, "Options of the run")->type_name("key=value");
  run_command->add_option("--csv", request.csv, "Write every recorded step, 17 digits")->type_name("FILE");
  run_command->add_option("--svg", request.svg, "Draw the excess risk (needs gnuplot)")->type_name("FILE");
  run_command->add_flag("--json", request.json, "Print the final row and the run's description as JSON, nothing else");
  run_command->add_option("--save", request.save, "Save the run, to be resumed or loaded")->type_name("FILE");
  run_command->add_option("--save-every", request.save_every, save_every_help)->type_name("SECONDS");
  run_command->add_option("--resume", request.resume, "Go on with a saved run")->type_name("FILE");
  run_command->add_flag("--quiet", request.quiet, "No progress and no table");
  run_command->footer(run_examples);

  SweepRequest many;
  CLI::App* sweep_command = app.add_subcommand("sweep", "Train one run for every combination of values, in parallel, and compare them");
  sweep_command->add_option("NAME", many.task, "A task; not with --resume");
  sweep_command->add_option("SETTING", many.settings, "Options of the runs; several values, 1,2,3 or 0..19, are an axis")->type_name("key=value");
  sweep_command->add_option("--csv", many.csv, "Every recorded step of every run, one tidy table")->type_name("FILE");
  sweep_command->add_option("--column", many.column, "The column of the trajectories that is compared")->capture_default_str();
  sweep_command->add_option("--over", many.over, "Axes that quantiles and fits go over, with commas")->capture_default_str();
  sweep_command->add_option("--summary", many.summary, "Mean and quantiles of the column over --over, by step")->type_name("FILE");
  sweep_command->add_option("--quantiles", many.quantiles, "Of the summary")->type_name("p,q,...")->capture_default_str();
  sweep_command->add_option("--levels", many.levels, "Levels of the column; if none, those of the option crossings")->type_name("a,b,...");
  sweep_command->add_option("--times", many.times, "First step at which each run reaches each level")->type_name("FILE");
  sweep_command->add_option("--along", many.along, "Print d log time / d log of this axis, or of 1/level with \"level\"")->type_name("AXIS");
  sweep_command->add_option("--exponents", many.exponents, "These exponents as a file")->type_name("FILE");
  sweep_command->add_option("--confidence", many.confidence, "Of the exponents' intervals")->capture_default_str();
  sweep_command->add_option("--save", many.save, "Save the sweep, to be resumed")->type_name("FILE");
  sweep_command->add_option("--save-every", many.save_every, save_every_help)->type_name("SECONDS");
  sweep_command->add_option("--resume", many.resume, "Go on with a saved sweep")->type_name("FILE");
  sweep_command->add_flag("--quiet", many.quiet, "No progress and no tables");
  sweep_command->footer(sweep_examples);

  FigureRequest figure;
  CLI::App* figure_command = app.add_subcommand("figure", "Train and draw a figure of the gallery, beside its closed forms");
  figure_command->add_option("NAME", figure.name, "From lamina list")->required();
  figure_command->add_option("SETTING", figure.settings, "Settings in place of the figure's own; a list names several runs")
      ->type_name("key=value");
  figure_command->add_option("--svg", figure.svg, "The picture (needs gnuplot); NAME.svg if no file is named")->type_name("FILE");
  figure_command->add_option("--csv", figure.csv, "Every point that is drawn: panel, curve, kind, x, y, and the ends of its bar")->type_name("FILE");
  figure_command->add_flag("--quiet", figure.quiet, "Print nothing");
  figure_command->footer(
      "lamina describe NAME says what is drawn, after which paper, what is derived, and the settings.\n"
      "One FILE may be -, the standard output, where then nothing else is printed.\n"
      "Examples:\n  lamina figure convergence_phases --svg phases.svg\n"
      "  lamina figure convergence_time_features features=5,10,20 losses=0.1,0.01 --csv times.csv");

  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& shown) {  // --help, --version
    app.exit(shown);
    return success;
  } catch (const CLI::ParseError& error) {
    const auto chosen = app.get_subcommands();
    if (chosen.empty() && argc > 1 && argv[1][0] != '-')
      throw Failure(usage, std::string("\"") + argv[1] + "\" is not a command, must be one of list, describe, theory, run, sweep, figure");
    const std::string command = chosen.empty() ? "lamina" : "lamina " + chosen[0]->get_name();
    throw Failure(usage, std::string(error.what()) + "; " + command + " --help shows how");
  }
  if (list_command->parsed()) return list();
  if (describe_command->parsed()) return describe_name(name);
  if (sweep_command->parsed()) return sweep(many);
  if (figure_command->parsed()) return make_figure(figure);
  if (theory_command->parsed()) return evaluate_theory(name, task, request.settings, arguments);
  return run(request);
}

}  // namespace
}  // namespace cli

// A shell may start us without standard streams (>&-): no file of ours may take their numbers.
static void keep_standard_streams() {
  while (fcntl(STDERR_FILENO, F_GETFD) < 0 || fcntl(STDOUT_FILENO, F_GETFD) < 0 || fcntl(STDIN_FILENO, F_GETFD) < 0)
    if (open("/dev/null", O_RDONLY) < 0) return;
}

int main(int argc, char** argv) {
  keep_standard_streams();
  try {
    const cli::Exit code = cli::parse_and_run(argc, argv);
    // After SIGHUP the terminal may be gone.
    if ((std::fflush(stdout) != 0 || std::ferror(stdout)) && code <= cli::by_signal)
      throw cli::Failure(cli::run_failed, std::string("the standard output cannot be written: ") + std::strerror(errno));
    return code;
  } catch (const cli::Failure& failure) {
    std::fprintf(stderr, "lamina: %s\n", failure.what());
    return failure.code;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "lamina: %s\n", error.what());
    return cli::run_failed;
  }
}
