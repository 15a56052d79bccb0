// lamina sweep: an ensemble from settings with several values to tables, files and exit code.
#pragma once
#include <string>
#include <vector>

#include "client.hpp"

namespace cli {

struct SweepRequest {
  std::string task;
  std::vector<std::string> settings;
  std::string csv, summary, times, exponents;  // paths, "" for none
  std::string save, resume;
  std::string save_every;  // seconds, "" for the default
  std::string column = "excess", along, over = "seed", levels, quantiles = "0.1,0.5,0.9";
  double confidence = 0.95;
  bool quiet = false;
};

Exit sweep(const SweepRequest& request);

}  // namespace cli
