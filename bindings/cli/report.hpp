// What is left of a run: the table on the terminal, the CSV file, the JSON document.
#pragma once
#include <string>
#include <vector>

#include "client.hpp"
#include "description.hpp"

namespace cli {

struct Outcome {
  lamina_status status;
  int64_t step;     // updates made in all
  int64_t updates;  // of them by this process
  double seconds;   // of training, by this process

  const char* word() const;  // "finished", "stopped", ...
  double steps_per_second() const { return seconds > 0 ? static_cast<double>(updates) / seconds : 0; }
};

// About ten rows: step, loss, excess, and predicted where there is such a column.
std::string printed_table(const Table& table);
// "400 steps in 0.12 s (3300 steps/s), avx2, 2 threads: finished"
std::string summary(const Outcome& outcome, const Description& run);
// A header line and one line per row, 17 significant digits.
std::string csv(const Table& table);
// One document: status, final row, options, parameters, machine, times. `files` are those that were written.
std::string json(const Table& table, const std::vector<Crossing>& crossings, const Outcome& outcome, const Description& run,
                 const std::vector<std::string>& files);
// A line for each: where it was reached, or that it was not; "" for none.
std::string printed_crossings(const std::vector<Crossing>& crossings);

}  // namespace cli
