// The picture of a run: excess risk against step on a log axis, with what theory says beside it. Drawn by gnuplot as SVG.
#pragma once
#include <string>

#include "client.hpp"
#include "description.hpp"

namespace cli {

// Writes the picture to `path`, whole or not at all; throws Failure, also where gnuplot is missing or nothing can be drawn.
void draw(const std::string& path, const Table& table, const Description& run, const lamina_task* task);

}  // namespace cli
