// Independent of the engine: the least w with w[x] - w[z] >= 1 for given pairs (x, z), by the ascent of each dual coordinate in
// turn (Hildreth 1957). The multipliers certify the answer: they are >= 0, w is made of them, and complement the constraints.
#pragma once
#include <algorithm>
#include <cmath>
#include <set>
#include <utility>
#include <vector>

namespace lamina::tests {

using Pairs = std::set<std::pair<int, int>>;

struct MaxMargin {
  std::vector<double> w;
  double violation = 0;  // largest 1 - (w[x] - w[z])
  double slackness = 0;  // largest multiplier times slack
};

inline MaxMargin max_margin(int tokens, const Pairs& pairs) {
  std::vector<std::pair<int, int>> list(pairs.begin(), pairs.end());
  std::vector<double> multiplier(list.size(), 0.0);
  MaxMargin result;
  result.w.resize(static_cast<size_t>(tokens));
  double* w = result.w.data();
  for (int sweep = 0; sweep < 200000; ++sweep) {
    double moved = 0;
    for (size_t i = 0; i < list.size(); ++i) {
      const auto [x, z] = list[i];
      const double wanted = std::max(0.0, multiplier[i] + (1 - (w[x] - w[z])) / 2), step = wanted - multiplier[i];
      multiplier[i] = wanted, w[x] += step, w[z] -= step;
      moved = std::max(moved, std::abs(step));
    }
    if (moved < 1e-14) break;
  }
  for (size_t i = 0; i < list.size(); ++i) {
    const double slack = w[list[i].first] - w[list[i].second] - 1;
    result.violation = std::max(result.violation, -slack);
    result.slackness = std::max(result.slackness, multiplier[i] * slack);
  }
  return result;
}

}  // namespace lamina::tests
