// Which keys a query sees by position alone: causal order, window and lengths leave each query one interval of keys, whose ends
// ascend with the query. Boolean masks and biases of -inf come on top, element by element (tile.hpp).
#pragma once
#include <algorithm>
#include <cstdint>

#include "attention/attention.hpp"

namespace lamina::attention {

enum class Cover { none, part, all };

class Band {
 public:
  // Of one sequence with so many queries and keys. Bottom right aligns the last query with the last key.
  Band(const Plan& plan, int64_t queries, int64_t keys) : queries_(queries), keys_(keys) {
    const int64_t shift = plan.causal == LAMINA_CAUSAL_BOTTOM_RIGHT ? keys - queries : 0;
    const int64_t unlimited = plan.L_q + plan.L_k;  // more than any distance between a query and a key
    const int64_t left = plan.left < 0 ? unlimited : std::min(plan.left, unlimited);
    const int64_t right = plan.right < 0 ? unlimited : std::min(plan.right, unlimited);
    before_ = left - shift;
    after_ = (plan.causal == LAMINA_CAUSAL_NONE ? right : std::min<int64_t>(right, 0)) + shift;
  }

  int64_t queries() const { return queries_; }
  int64_t keys() const { return keys_; }
  // Query i sees the keys i - before() <= j <= i + after() that there are.
  int64_t before() const { return before_; }
  int64_t after() const { return after_; }

  // Query i < queries() sees the keys first(i) <= j < last(i); none if first >= last.
  int64_t first(int64_t i) const { return std::clamp<int64_t>(i - before_, 0, keys_); }
  int64_t last(int64_t i) const { return std::clamp<int64_t>(i + after_ + 1, 0, keys_); }

  // Key j is seen by the queries first_query(j) <= i < last_query(j).
  int64_t first_query(int64_t j) const { return std::clamp<int64_t>(j - after_, 0, queries_); }
  int64_t last_query(int64_t j) const { return std::clamp<int64_t>(j + before_ + 1, 0, queries_); }

  // Of queries i0 <= i < i1 (i0 < i1 <= queries()) and keys j0 <= j < j1.
  Cover cover(int64_t i0, int64_t i1, int64_t j0, int64_t j1) const {
    if (first(i0) >= j1 || last(i1 - 1) <= j0) return Cover::none;
    return first(i1 - 1) <= j0 && last(i0) >= j1 ? Cover::all : Cover::part;
  }

 private:
  int64_t queries_, keys_;
  int64_t before_, after_;
};

}  // namespace lamina::attention
