// The picture of a run: excess risk against step on a log axis, with what theory says beside it. Drawn by gnuplot as SVG.
#pragma once
#include <string>

#include "client.hpp"
#include "description.hpp"
#include "plot.hpp"

namespace cli {

// A column of a run against its steps; no points where the run has no such column.
Curve curve_of(const Table& table, const char* column, const std::string& name, Look look, Hue hue);
// The line of the predicted asymptotic slope through the end of the predicted curve; no points where none is predicted.
Curve slope_of(const Table& table, const Description& run, const lamina_task* task);
// The excess that an estimate of the noise from the finite set leaves, however long the run.
Curve floor_of(const Table& table, const Description& run, const lamina_task* task);

// Writes the picture to `path`, whole or not at all; throws Failure, also where gnuplot is missing or nothing can be drawn.
void draw(const std::string& path, const Table& table, const Description& run, const lamina_task* task);

}  // namespace cli
