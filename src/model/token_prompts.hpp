// Prompts as the token model reads them: sorted by what they look up in W, in blocks of 16, one prompt in each lane. A block
// names its tokens locally, so that a prompt is a small grid of counts of its pairs (previous token, token).
#pragma once
#include <array>
#include <span>
#include <vector>

#include "model/model.hpp"

namespace lamina {

inline constexpr int block_lanes = static_cast<int>(kernels::lanes);

// Lanes whose prompts end alike: they read the same two rows of W. before: z_{H-1}, -1 if there is none.
struct Segment {
  int32_t query, before, first, count;
  bool same_rows(const Segment& other) const { return query == other.query && before == other.before; }
};

struct TokenPair {
  int32_t previous, current, count;  // local names; previous = L: none
};

struct TokenBlock {
  // Every lane has L distinct names. The first `shared` mean the same token in all lanes; those that a prompt does not need
  // mean tokens that it does not have.
  int64_t names = 0, shared = 0;
  std::vector<int32_t> tokens;   // [shared]
  std::vector<int32_t> own;      // [L - shared, 16]: tokens of the other names
  std::vector<int32_t> own_row;  // [L - shared, 16]: their places in `rows`, -1: not in the prompt
  std::vector<int32_t> rows;     // [R]: all tokens of the block, the shared first
  std::vector<Segment> segments;
  int64_t first_segment = 0;     // its number among those of all blocks
  int32_t used = 0;              // lanes with a prompt; the others repeat the last with weight 0
  std::array<int32_t, block_lanes> label{}, answer{}, label_name{};
  std::array<double, block_lanes> weight{};

  // Few distinct tokens: a grid of counts, as kernels::PairGrid. Many: a list for each lane, ascending.
  std::vector<uint8_t> cells;                    // empty: lists
  std::vector<uint16_t> n_current, n_previous;
  std::vector<TokenPair> pairs;
  std::array<int64_t, block_lanes + 1> pairs_at{};

  int64_t own_names() const { return names - shared; }
  bool is_grid() const { return !cells.empty(); }
  kernels::PairGrid grid() const { return {names, cells.data(), n_current.data(), n_previous.data()}; }
  int64_t name_of(int32_t token, int lane) const;  // -1: none
  int32_t query_of(int lane) const;
};

class TokenPrompts final : public CompiledPrompts {
 public:
  std::vector<TokenBlock> blocks;
  int64_t segments = 0;
  int64_t most_names = 0, most_rows = 0, most_cells = 0;  // of any block; cells of [L+1, L, 16] or pairs
};

// `weights` empty means 1 / count each. `named`: a token that has a name in every block; -1: none.
TokenPrompts block_prompts(const Prompts& prompts, std::span<const double> weights, int64_t logits, int32_t named, const Team& team);

}  // namespace lamina
