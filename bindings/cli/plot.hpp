// A picture as data: panels of curves with axes. From it come the gnuplot script and the table of every point drawn.
// What a run measured is a thin dark line or marks, with bars where it is sampled; a closed form is a broad pale band of the same hue
// beneath it; a limit or a slope is a thin dotted line, a second one of the same hue dash-dotted.
#pragma once
#include <limits>
#include <string>
#include <vector>

namespace cli {

enum class Look { predicted, limit, other_limit, measured, dashed, marks };  // from the bottom to the top
enum class Hue { blue, orange, green, purple, brown, grey };

struct Curve {
  std::string name;  // gnuplot's enhanced text; "" stays out of the key
  Look look;
  Hue hue;
  std::vector<double> x, y;
  std::vector<double> low = {}, high = {};  // ends of the bars of marks; empty: none
};

// A vertical line with its name beside its top.
struct Mark {
  double x;
  std::string name;
};

struct Axis {
  std::string label;
  bool logarithmic = false;
  double minimum = std::numeric_limits<double>::quiet_NaN();  // NaN: around the curves; else the axis ends there
  double maximum = std::numeric_limits<double>::quiet_NaN();
  std::vector<double> tics = {};  // empty: chosen
};

struct Panel {
  Panel(std::string title, Axis x, Axis y);
  std::string title;
  Axis x, y;
  std::vector<Curve> curves;
  std::vector<Mark> marks;
};

struct Plot {
  std::string title;  // plain text
  int columns = 1;    // panels side by side
  std::vector<Panel> panels;
};

// Leaves out what a log axis cannot show, and curves and panels of which nothing is left; false if nothing is.
bool drop_unseen(Plot& plot);
std::string script_of(const Plot& plot);
// panel, curve, kind (measured, predicted, limit), x, y, and the ends of its bar, where it has one.
std::string csv(const Plot& plot);

}  // namespace cli
