// The gnuplot script of a plot.
#include "plot.hpp"

#include <algorithm>
#include <cmath>

#include "client.hpp"

namespace cli {
namespace {

constexpr double smallest = 1e-17;  // below it an excess is rounding
constexpr double most_points = 500;
constexpr int looks = 6;

struct Ink {
  const char *dark, *pale;
  int mark;
};
constexpr Ink inks[] = {{"#1f4e79", "#a9cbea", 7},  {"#c0562f", "#f3c9a8", 5},  {"#2f7d4f", "#b2dcc1", 9},
                        {"#6b3d8f", "#d3bfe6", 13}, {"#7a5c1e", "#e6d6ab", 11}, {"#505050", "#d4d4d4", 6}};

std::string style_of(const Curve& curve) {
  const Ink& ink = inks[static_cast<int>(curve.hue)];
  const auto colour = [](const char* c) { return std::string(" lc rgb '") + c + "'"; };
  switch (curve.look) {
    case Look::measured:
      return "with lines lw 1.8" + colour(ink.dark);
    case Look::dashed:
      return "with lines lw 1.6 dt (6,5)" + colour(ink.dark);
    case Look::marks:
      return (curve.low.empty() ? "with points pt " : "with yerrorbars pt ") + std::to_string(ink.mark) + " ps 0.6" + colour(ink.dark);
    case Look::other_limit:
      return "with lines lw 1.3 dt (9,3,2,3)" + colour(ink.dark);
    case Look::predicted:
      return "with lines lw 6" + colour(ink.pale);
    default:
      return "with lines lw 1.3 dt (3,4)" + colour(ink.dark);
  }
}

const char* kind_of(Look look) {
  return look == Look::predicted ? "predicted" : look == Look::limit || look == Look::other_limit ? "limit" : "measured";
}

bool shows(const Axis& axis, double value) {
  return std::isfinite(value) && (!axis.logarithmic || value >= smallest);
}

struct Range {
  double least = std::numeric_limits<double>::infinity(), most = -least;
};

Range range_of(const Panel& panel, bool horizontal) {
  Range range;
  for (const Curve& curve : panel.curves)
    for (const std::vector<double>* values : {horizontal ? &curve.x : &curve.y, horizontal ? &curve.x : &curve.low, horizontal ? &curve.x : &curve.high})
      for (double v : *values) range.least = std::min(range.least, v), range.most = std::max(range.most, v);
  const Axis& axis = horizontal ? panel.x : panel.y;
  if (!std::isnan(axis.minimum)) range.least = axis.minimum;
  if (!std::isnan(axis.maximum)) range.most = axis.maximum;
  return range;
}

// The power of ten times 1, 2 or 5 next below or above.
double round_number(double value, bool up) {
  const double decade = std::pow(10, std::floor(std::log10(value) + 1e-9));
  double below = decade;
  for (const double factor : {1.0, 2.0, 5.0, 10.0}) {
    if (up && factor * decade >= value * (1 - 1e-9)) return factor * decade;
    if (factor * decade <= value * (1 + 1e-9)) below = factor * decade;
  }
  return below;
}

// About how many characters of enhanced text are seen.
size_t seen_length(const std::string& text) {
  size_t seen = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '{' && i + 1 < text.size() && text[i + 1] == '/') {  // a font, up to the blank after its name
      while (i + 1 < text.size() && text[i] != ' ') ++i;
      continue;
    }
    seen += std::string("{}_^").find(text[i]) == std::string::npos && (static_cast<unsigned char>(text[i]) & 0xc0) != 0x80;
  }
  return seen;
}

// A log axis around the curves with labels at about ten powers of ten at most; a plain one a little wider than the curves.
std::string axis_script(const Panel& panel, bool horizontal) {
  const Axis& axis = horizontal ? panel.x : panel.y;
  const std::string name = horizontal ? "x" : "y";
  Range range = range_of(panel, horizontal);
  std::string script = "set " + name + "label '" + axis.label + "'" + (horizontal ? " offset 0,0.4\n" : " offset -0.5\n");
  if (!axis.tics.empty()) {  // and the axis ends a little beyond the curves
    script += "set logscale " + name + "\nset format " + name + " '%g'\nunset m" + name + "tics\nset " + name + "tics (";
    for (size_t i = 0; i < axis.tics.size(); ++i) script += (i ? ", " : "") + format_number(axis.tics[i], 9);
    return script + ")\nset " + name + "range [" + format_number(range.least / 1.1, 9) + ":" +
           format_number(range.most * 1.1, 9) + "]\n";
  }
  if (axis.logarithmic) {
    // Along the curves horizontally, upright to round numbers; to whole powers of ten where fewer than two would be labelled.
    double least = horizontal || !std::isnan(axis.minimum) ? range.least : round_number(range.least, false);
    double most = horizontal || !std::isnan(axis.maximum) ? range.most : round_number(1.1 * range.most, true);
    int bottom = static_cast<int>(std::ceil(std::log10(least) - 1e-9)), top = static_cast<int>(std::floor(std::log10(most) + 1e-9));
    if (top - bottom < 1) {
      bottom = static_cast<int>(std::floor(std::log10(least) + 1e-9)), top = std::max(bottom + 1, static_cast<int>(std::ceil(std::log10(most) - 1e-9)));
      least = std::pow(10, bottom), most = std::pow(10, top);
    }
    const int step = std::max(1, (top - bottom + 9) / (horizontal ? 8 : 10));
    script += "set logscale " + name + "\nset format " + name + " '10^{%T}'\n";
    script += "set " + name + "tics 1e" + std::to_string(step) + "\nset m" + name + "tics " +
              (step == 1 ? "10" : std::to_string(step)) + "\n";
    return script + "set " + name + "range [" + format_number(least, 9) + ":" + format_number(most, 9) + "]\n";
  }
  script += "unset logscale " + name + "\nset format " + name + " '%g'\nset " + name + "tics autofreq\nset m" + name +
            "tics default\n";
  if (range.most <= range.least) range.most = range.least + 1;
  const double margin = horizontal ? 0 : 0.04 * (range.most - range.least);
  const double least = std::isnan(axis.minimum) ? range.least - margin : range.least;
  const double most = std::isnan(axis.maximum) ? range.most + margin : range.most;
  return script + "set " + name + "range [" + format_number(least, 17) + ":" + format_number(most, 17) + "]\n";
}

// Where on the axis, from 0 to 1, a value lies.
double share(const Axis& axis, const Range& range, double value) {
  const auto scale = [&](double v) { return axis.logarithmic ? std::log(v) : v; };
  return (scale(value) - scale(range.least)) / (scale(range.most) - scale(range.least));
}

// Of very many points those that the eye can tell apart along the horizontal axis.
std::string data_script(const Panel& panel, const Curve& curve, size_t number) {
  std::string script = "$c" + std::to_string(number) + " << EOD\n";
  const Range range = range_of(panel, true);
  double drawn = -1;
  for (size_t i = 0; i < curve.x.size(); ++i) {
    const double at = share(panel.x, range, curve.x[i]);
    if (std::fabs(at - drawn) * most_points < 1 && i > 0 && i + 1 < curve.x.size()) continue;
    script += format_number(curve.x[i], 9) + " " + format_number(curve.y[i], 9);
    if (!curve.low.empty()) script += " " + format_number(curve.low[i], 9) + " " + format_number(curve.high[i], 9);
    script += "\n";
    drawn = at;
  }
  return script + "EOD\n";
}

// The name of a mark stands beside its line, upright: on the right or left, at the top, the bottom or the middle, at the first
// of these places that no curve goes through.
std::string mark_script(const Panel& panel, const Mark& mark, double height) {
  const Range x = range_of(panel, true), y = range_of(panel, false);
  const double at = share(panel.x, x, mark.x), length = 6.5 * static_cast<double>(mark.name.size()) / height;
  const auto crowd = [&](double side, double bottom) {
    int points = 0;
    for (const Curve& curve : panel.curves)
      for (size_t i = 0; i < curve.x.size(); ++i) {
        const double beside = side * (share(panel.x, x, curve.x[i]) - at), up = share(panel.y, y, curve.y[i]);
        points += beside > -0.01 && beside < 0.05 && up > bottom - 0.03 && up < bottom + length + 0.03;
      }
    return points;
  };
  double best_side = 1, best_bottom = 0.98 - length;
  int least = crowd(best_side, best_bottom);
  for (const double bottom : {0.98 - length, 0.03, 0.5 - length / 2})
    for (const double side : {1.0, -1.0})
      if (const int points = crowd(side, bottom); points < least) least = points, best_side = side, best_bottom = bottom;
  const std::string place = format_number(mark.x, 9);
  return "set arrow from " + place + ", graph 0 to " + place + ", graph 1 nohead lw 1 dt (2,3) lc rgb '#808080' back\n" +
         "set label '" + mark.name + "' at " + place + ", graph " + format_number(best_bottom, 4) +
         " left rotate by 90 offset " + (best_side > 0 ? "0.8" : "-0.6") + ",0 font ',11' textcolor rgb '#505050'\n";
}

// The key: by kind of curve, whatever the order in which curves are drawn, down one column after the other, as many as fit side by side.
std::string key_script(const Panel& panel, size_t width, std::string& entries) {
  size_t names = 0, longest = 0;
  for (int look = 0; look < looks; ++look)
    for (const Curve& curve : panel.curves) {
      if (static_cast<int>(curve.look) != look || curve.name.empty()) continue;
      Curve plain = curve;
      if (plain.look == Look::marks) plain.low.clear();  // a key has no bars
      entries += ", keyentry " + style_of(plain) + " title '" + curve.name + "'";
      ++names, longest = std::max(longest, seen_length(curve.name));
    }
  const size_t columns = std::clamp<size_t>(width / (60 + 7 * longest), 1, std::max<size_t>(names, 1));
  const size_t rows = (names + columns - 1) / columns;
  return "set key bmargin center vertical Left reverse maxrows " + std::to_string(std::max<size_t>(rows, 1)) +
         " samplen 2.2 spacing 1.2 width -1 height 0.4 font ',12'\n";
}

std::string panel_script(const Panel& panel, size_t first, bool alone) {
  std::string script = "unset arrow\nunset label\n", entries;
  for (const Mark& mark : panel.marks) script += mark_script(panel, mark, alone ? 330 : 240);
  script += panel.title.empty()
                ? "unset title\n"
                : "set title '" + panel.title + "' " + (alone ? "noenhanced font ',15'" : "font ',14'") + " offset 0,-0.3\n";
  script += axis_script(panel, true) + axis_script(panel, false) + key_script(panel, alone ? 760 : 580, entries) + "plot ";
  std::string separator;
  for (int look = 0; look < looks; ++look)
    for (size_t i = 0; i < panel.curves.size(); ++i)
      if (static_cast<int>(panel.curves[i].look) == look) {
        script += separator + "$c" + std::to_string(first + i) + " " + style_of(panel.curves[i]) + " notitle";
        separator = ", ";
      }
  return script + entries + "\n";
}

// A name for the table: enhanced text without its braces.
std::string plain(std::string text) {
  std::erase_if(text, [](char c) { return c == '{' || c == '}' || c == '"'; });
  return '"' + text + '"';
}

}  // namespace

Panel::Panel(std::string its_title, Axis its_x, Axis its_y)
    : title(std::move(its_title)), x(std::move(its_x)), y(std::move(its_y)) {}

bool drop_unseen(Plot& plot) {
  for (Panel& panel : plot.panels) {
    for (Curve& curve : panel.curves) {
      size_t kept = 0;
      for (size_t i = 0; i < curve.x.size(); ++i)
        if (shows(panel.x, curve.x[i]) && shows(panel.y, curve.y[i])) {
          curve.x[kept] = curve.x[i], curve.y[kept] = curve.y[i];
          if (!curve.low.empty())  // a bar that a log axis cannot show whole ends at its mark
            curve.low[kept] = shows(panel.y, curve.low[i]) ? curve.low[i] : curve.y[i], curve.high[kept] = curve.high[i];
          ++kept;
        }
      curve.x.resize(kept), curve.y.resize(kept);
      if (!curve.low.empty()) curve.low.resize(kept), curve.high.resize(kept);
    }
    std::erase_if(panel.curves, [](const Curve& curve) { return curve.x.empty(); });
    const Range range = range_of(panel, true);
    std::erase_if(panel.marks, [&](const Mark& mark) { return !(mark.x >= range.least && mark.x <= range.most); });
  }
  std::erase_if(plot.panels, [](const Panel& panel) { return panel.curves.empty(); });
  return !plot.panels.empty();
}

std::string script_of(const Plot& plot) {
  const int count = static_cast<int>(plot.panels.size()), columns = std::min(plot.columns, count),
            rows = (count + columns - 1) / columns;
  const bool alone = count == 1;
  const int width = alone ? 760 : (columns == 2 ? 580 : 440) * columns, height = alone ? 530 : 450 * rows + 40;
  std::string script = "set terminal svg size " + std::to_string(width) + "," + std::to_string(height) +
                       " fixed enhanced font 'Helvetica,14' background '#ffffff' butt\n"
                       "set encoding utf8\n"
                       "set border 3 lw 1 lc rgb '#404040'\n"
                       "set tics nomirror out scale 0.8,0.4\n"
                       "set grid ytics lw 0.6 lc rgb '#e4e4e4' dt solid\n";
  size_t number = 0;
  for (const Panel& panel : plot.panels)
    for (const Curve& curve : panel.curves) script += data_script(panel, curve, number++);
  if (alone) {
    Panel panel = plot.panels[0];
    panel.title = plot.title;
    return script + panel_script(panel, 0, true);
  }
  script += "set multiplot layout " + std::to_string(rows) + "," + std::to_string(columns) + " title '" + plot.title +
            "' noenhanced font ',16'\n";
  number = 0;
  for (const Panel& panel : plot.panels) script += panel_script(panel, number, false), number += panel.curves.size();
  return script + "unset multiplot\n";
}

std::string csv(const Plot& plot) {
  std::string text = "panel,curve,kind,x,y,low,high\n";
  for (size_t p = 0; p < plot.panels.size(); ++p)
    for (const Curve& curve : plot.panels[p].curves)
      for (size_t i = 0; i < curve.x.size(); ++i)
        text += std::to_string(p + 1) + "," + plain(curve.name) + "," + kind_of(curve.look) + "," +
                format_number(curve.x[i], 17) + "," + format_number(curve.y[i], 17) + "," +
                (curve.low.empty() ? "," : format_number(curve.low[i], 17) + "," + format_number(curve.high[i], 17)) + "\n";
  return text;
}

}  // namespace cli
