// Running gnuplot.
#pragma once
#include <string>

namespace cli {

// The SVG that gnuplot makes of the script; throws Failure, also where gnuplot is missing.
std::string run_gnuplot(const std::string& script);

}  // namespace cli
