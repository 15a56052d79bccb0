// The gnuplot script of a run, and running it: script on stdin and SVG on stdout, both temporary files, no shell in between.
#include "picture.hpp"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>

#include "file.hpp"

extern char** environ;

namespace cli {
namespace {

constexpr double smallest = 1e-17;  // below it an excess is rounding
constexpr size_t most_points = 2000;

struct Point {
  double step, value;
};

struct Curve {
  std::string title, style;
  std::vector<Point> points;
};

// Points that a log axis can show; of very many, evenly chosen ones.
std::vector<Point> points_of(const std::vector<double>& steps, const std::vector<double>& values) {
  std::vector<Point> points;
  const size_t stride = steps.size() / most_points + 1;
  for (size_t i = 0; i < steps.size(); ++i)
    if ((i % stride == 0 || i + 1 == steps.size()) && std::isfinite(values[i]) && values[i] >= smallest)
      points.push_back({steps[i], values[i]});
  return points;
}

int norm_number(const std::string& normalisation) {
  return normalisation == "l2" ? 0 : normalisation == "l1" ? 1 : 2;
}

// The line exp(slope t) through the end of the predicted curve, from where it is below `top`.
void add_slope(std::vector<Curve>& curves, const std::vector<Point>& predicted, double top, const Description& run,
               const lamina_task* task) {
  const double slope = theory("asymptotic_slope", task,
                              {run.number("step_size"), static_cast<double>(norm_number(run.option("normalisation")))});
  if (predicted.size() < 2 || !(slope < 0)) return;
  const Point end = predicted.back();
  const double first = std::max(predicted.front().step, end.step - std::log(top / end.value) / -slope);
  char title[64];
  std::snprintf(title, sizeof title, "slope %.3g per step", slope);
  curves.push_back(
      {title, "lw 1.2 dt (7,5) lc rgb '#606060'", {{first, end.value * std::exp(slope * (first - end.step))}, end}});
}

// The excess that an estimate of the noise from the finite set leaves, however long the run.
void add_floor(std::vector<Curve>& curves, double last_step, const Description& run, const lamina_task* task) {
  const Tensor* logit = run.tensor("noise_logit");
  const bool estimated = run.option("data") == "fixed" && run.option("estimate_noise") == "yes" &&
                         run.option("variant") == "full" && run.option("train_noise_logit") != "yes" &&
                         run.number("noise") > 0 && logit;
  if (!estimated) return;
  const double estimate = 1 / (1 + std::exp(-logit->values[0]));
  const double floor = theory("estimate_excess", task, {run.number("noise"), estimate});
  if (!(floor >= smallest)) return;
  char title[64];
  std::snprintf(title, sizeof title, "floor of the sample, KL = %.2g", floor);
  curves.push_back({title, "lw 1.2 dt (2,3) lc rgb '#606060'", {{0, floor}, {last_step, floor}}});
}

std::vector<Curve> curves_of(const Table& table, const Description& run, const lamina_task* task) {
  const std::vector<double>& steps = *table.column("step");
  std::vector<Curve> curves;
  if (const auto* predicted = table.column("predicted"))
    curves.push_back({"predicted", "lw 6 lc rgb '#f0c987'", points_of(steps, *predicted)});
  const Curve measured{"measured", "lw 1.8 lc rgb '#1f4e79'", points_of(steps, *table.column("excess"))};
  if (!curves.empty() && !measured.points.empty())
    add_slope(curves, curves[0].points, measured.points.front().value, run, task);
  curves.push_back(measured);
  // Dashed and on top: where outputs that were never seen do as well as the others, both curves still show.
  if (const auto* unseen = table.column("unseen_excess"))
    curves.push_back({"measured, unseen outputs", "lw 1.5 dt (6,6) lc rgb '#c0562f'", points_of(steps, *unseen)});
  if (!steps.empty()) add_floor(curves, steps.back(), run, task);
  std::erase_if(curves, [](const Curve& curve) { return curve.points.empty(); });
  return curves;
}

std::string title_of(const Description& run) {
  std::string title = run.task + ": ";
  if (!run.option("variant").empty()) title += run.option("variant") + ", ";
  if (!run.option("attention").empty()) title += run.option("attention") + " attention, ";
  const double noise = run.number("noise");
  if (!std::isnan(noise)) title += noise > 0 ? "noise " + format_number(noise, 4) + ", " : "noiseless, ";
  if (!run.option("features").empty()) title += "K = " + run.option("features") + ", ";
  if (std::isnan(noise) && !run.option("prompt_length").empty()) title += "N = " + run.option("prompt_length") + ", ";
  return title + run.option("data") + (run.option("data") == "fixed" ? " set of " + run.option("samples") : " data");
}

// A log axis over whole decades around the curves, with at most about ten labels.
std::string axis_of(const std::vector<Curve>& curves) {
  double least = curves[0].points[0].value, most = least;
  for (const Curve& curve : curves)
    for (const Point& p : curve.points) least = std::min(least, p.value), most = std::max(most, p.value);
  const int bottom = static_cast<int>(std::floor(std::log10(least))),
            top = static_cast<int>(std::ceil(std::log10(most) + 0.05));
  const int step = std::max(1, (top - bottom + 9) / 10);
  return "set yrange [1e" + std::to_string(bottom) + ":1e" + std::to_string(top) + "]\nset ytics 1e" + std::to_string(step) +
         "\nset mytics " + (step == 1 ? "10" : std::to_string(step)) + "\n";
}

std::string script_of(const std::vector<Curve>& curves, const Description& run, double last_step) {
  std::string script =
      "set terminal svg size 760,530 fixed enhanced font 'Helvetica,14' background '#ffffff' butt\n"
      "set encoding utf8\n"
      "set logscale y\n"
      "set format y '10^{%T}'\n"
      "set border 3 lw 1 lc rgb '#404040'\n"
      "set tics nomirror out scale 0.8,0.4\n"
      "set grid ytics lw 0.6 lc rgb '#e4e4e4' dt solid\n"
      "set key outside bottom center horizontal Left reverse maxcols 3 samplen 2.2 spacing 1.2 width -3 height 0.4 font ',13' "
      "noenhanced\n"
      "set xlabel 'step' offset 0,0.4\n"
      "set ylabel 'excess risk";
  script += run.option("noise").empty() ? "' offset -0.5\n" : " (nats)' offset -0.5\n";
  script += "set title '" + title_of(run) + "' noenhanced font ',15' offset 0,-0.3\n";
  script += axis_of(curves);
  script += "set xrange [0:" + format_number(std::max(last_step, 1.0), 17) + "]\n";
  for (size_t i = 0; i < curves.size(); ++i) {
    script += "$c" + std::to_string(i) + " << EOD\n";
    for (const Point& p : curves[i].points) script += format_number(p.step, 17) + " " + format_number(p.value, 17) + "\n";
    script += "EOD\n";
  }
  script += "plot ";
  for (size_t i = 0; i < curves.size(); ++i)
    script +=
        (i ? ", " : "") + ("$c" + std::to_string(i)) + " with lines " + curves[i].style + " title '" + curves[i].title + "'";
  return script + "\n";
}

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using Scratch = std::unique_ptr<std::FILE, CloseFile>;

Scratch scratch() {
  Scratch file(std::tmpfile());
  if (!file) throw Failure(run_failed, std::string("no picture: no temporary file: ") + std::strerror(errno));
  return file;
}

std::string first_line(std::FILE* file) {
  std::rewind(file);
  char line[512];
  while (std::fgets(line, sizeof line, file)) {
    std::string text(line);
    while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back()))) text.pop_back();
    if (!text.empty()) return text;
  }
  return "no message";
}

std::string content_of(std::FILE* file) {
  std::string content;
  char block[4096];
  std::rewind(file);
  while (const size_t got = std::fread(block, 1, sizeof block, file)) content.append(block, got);
  return content;
}

// The picture that gnuplot makes of the script.
std::string run_gnuplot(const std::string& script) {
  const Scratch input = scratch(), output = scratch(), errors = scratch();
  std::fwrite(script.data(), 1, script.size(), input.get());
  if (std::fflush(input.get()) != 0) throw Failure(run_failed, std::string("no picture: the temporary file: ") + std::strerror(errno));
  std::rewind(input.get());
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, fileno(input.get()), STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, fileno(output.get()), STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, fileno(errors.get()), STDERR_FILENO);
  char name[] = "gnuplot", plain[] = "-d";  // -d: without the user's own settings
  char* arguments[] = {name, plain, nullptr};
  pid_t child = 0;
  const int error = posix_spawnp(&child, name, &actions, nullptr, arguments, environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error == ENOENT) throw Failure(run_failed, "no picture: gnuplot was not found (Debian: apt-get install gnuplot-nox)");
  if (error != 0) throw Failure(run_failed, std::string("no picture: gnuplot could not be started: ") + std::strerror(error));
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
    throw Failure(run_failed, "no picture: gnuplot failed: " + first_line(errors.get()));
  const std::string picture = content_of(output.get());
  if (picture.find("</svg>") == picture.npos)
    throw Failure(run_failed, "no picture: gnuplot wrote only " + std::to_string(picture.size()) + " bytes, is the disk full?");
  return picture;
}

}  // namespace

void draw(const std::string& path, const Table& table, const Description& run, const lamina_task* task) {
  const std::vector<Curve> curves = curves_of(table, run, task);
  if (curves.empty()) throw Failure(run_failed, "no picture: no step has a positive excess, which a log axis could show");
  OutputFile file(path);
  file.write(run_gnuplot(script_of(curves, run, table.column("step")->back())));
  file.commit();
}

}  // namespace cli
