// lamina run: one run from key=value settings to files, table and exit code.
#pragma once
#include <string>
#include <vector>

#include "client.hpp"

namespace cli {

struct RunRequest {
  std::string task;
  std::vector<std::string> settings;
  std::string csv, svg, save, resume;  // paths, "" for none
  std::string save_every;              // seconds, "" for the default
  bool json = false, quiet = false;
};

Exit run(const RunRequest& request);

}  // namespace cli
