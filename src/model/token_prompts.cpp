// Blocks of prompts: sorting, local names, counts; see token_prompts.hpp.
#include "model/token_prompts.hpp"

#include <algorithm>
#include <memory>
#include <numeric>

namespace lamina {
namespace {

constexpr int64_t cells_per_position = 16;  // a grid may have so many cells per position of a prompt
constexpr int64_t longest_grid = 65535;     // of uint16_t

// Builds one block after another, reusing its tables [K].
class Builder {
 public:
  Builder(const Prompts& prompts, int64_t logits, int32_t named)
      : prompts_(prompts), named_(named), held_by_(logits, 0), name_(logits, -1), row_(logits, -1) {}

  void build(std::span<const int64_t> order, TokenBlock& block) {
    block.used = static_cast<int32_t>(order.size());
    for (int lane = 0; lane < block_lanes; ++lane) {
      prompt_[lane] = order[std::min<size_t>(lane, order.size() - 1)];
      block.label[lane] = prompts_.label[prompt_[lane]], block.answer[lane] = prompts_.answer[prompt_[lane]];
    }
    read_tokens(block);
    choose_shared(block);
    name_others(block);
    cut_segments(block);
    if (!count_grid(block)) list_pairs(block);
    for (int32_t token : present_) held_by_[token] = 0, name_[token] = row_[token] = -1;
    present_.clear();
  }

 private:
  bool holds(int lane, int32_t token) const { return held_by_[token] >> lane & 1; }

  void hold(int lane, int32_t token) {
    if (holds(lane, token)) return;
    if (held_by_[token] == 0) present_.push_back(token);
    held_by_[token] |= static_cast<uint16_t>(1u << lane);
    ++size_[lane];
  }

  // Which tokens a lane needs a name for.
  void read_tokens(const TokenBlock& block) {
    size_.fill(0);
    for (int lane = 0; lane < block_lanes; ++lane) {
      for (int32_t token : prompts_.row(prompt_[lane])) hold(lane, token);
      hold(lane, block.label[lane]), hold(lane, block.answer[lane]);
      if (named_ >= 0) hold(lane, named_);
    }
  }

  // The most frequent tokens are shared, as many as make the fewest names.
  void choose_shared(TokenBlock& block) {
    std::sort(present_.begin(), present_.end(), [&](int32_t a, int32_t b) {
      const int in_a = __builtin_popcount(held_by_[a]), in_b = __builtin_popcount(held_by_[b]);
      return in_a != in_b ? in_a > in_b : a < b;
    });
    std::array<int32_t, block_lanes> others = size_;
    block.names = *std::ranges::max_element(others);
    for (size_t k = 0; k < present_.size(); ++k) {
      for (int lane = 0; lane < block_lanes; ++lane) others[lane] -= holds(lane, present_[k]);
      const int64_t names = static_cast<int64_t>(k) + 1 + *std::ranges::max_element(others);
      if (names <= block.names) block.names = names, block.shared = static_cast<int64_t>(k) + 1;
    }
    block.tokens.assign(present_.begin(), present_.begin() + block.shared);
    std::sort(block.tokens.begin(), block.tokens.end());
    block.rows = block.tokens;
    block.rows.insert(block.rows.end(), present_.begin() + block.shared, present_.end());
    std::sort(block.rows.begin() + block.shared, block.rows.end());
    for (size_t r = 0; r < block.rows.size(); ++r) row_[block.rows[r]] = static_cast<int32_t>(r);
  }

  void name_others(TokenBlock& block) {
    const int64_t own = block.own_names();
    block.own.resize(own * block_lanes), block.own_row.resize(own * block_lanes, -1);
    for (int lane = 0; lane < block_lanes; ++lane) {
      int64_t o = 0;
      for (size_t r = block.shared; r < block.rows.size(); ++r)
        if (holds(lane, block.rows[r])) {
          block.own[o * block_lanes + lane] = block.rows[r];
          block.own_row[o++ * block_lanes + lane] = static_cast<int32_t>(r);
        }
      const auto is_shared = [&](int32_t token) { return row_[token] >= 0 && row_[token] < block.shared; };
      for (int32_t token = 0; o < own; ++token)
        if (!holds(lane, token) && !is_shared(token)) block.own[o++ * block_lanes + lane] = token;
      block.label_name[lane] = static_cast<int32_t>(block.name_of(block.label[lane], lane));
    }
  }

  void cut_segments(TokenBlock& block) const {
    for (int lane = 0; lane < block_lanes; ++lane) {
      const std::span<const int32_t> z = prompts_.row(prompt_[lane]);
      const Segment next{z.back(), z.size() > 1 ? z[z.size() - 2] : -1, lane, 1};
      if (block.segments.empty() || !block.segments.back().same_rows(next))
        block.segments.push_back(next);
      else
        ++block.segments.back().count;
    }
  }

  // use(lane, previous, current) for every position, in local names.
  template <class Use>
  void each_position(const TokenBlock& block, Use use) {
    for (int64_t j = 0; j < block.shared; ++j) name_[block.tokens[j]] = static_cast<int32_t>(j);
    for (int lane = 0; lane < block.used; ++lane) {
      for (int64_t o = 0; o < block.own_names(); ++o)
        if (block.own_row[o * block_lanes + lane] >= 0)
          name_[block.own[o * block_lanes + lane]] = static_cast<int32_t>(block.shared + o);
      int32_t previous = static_cast<int32_t>(block.names);
      for (int32_t token : prompts_.row(prompt_[lane])) {
        use(lane, previous, name_[token]);
        previous = name_[token];
      }
    }
  }

  bool count_grid(TokenBlock& block) {
    const int64_t L = block.names;
    if ((L + 1) * L > cells_per_position * prompts_.length || prompts_.length > longest_grid) return false;
    block.cells.assign((L + 1) * L * block_lanes, 0);
    block.n_current.assign(L * block_lanes, 0), block.n_previous.assign(L * block_lanes, 0);
    bool fits = true;
    each_position(block, [&](int lane, int32_t previous, int32_t current) {
      fits &= ++block.cells[(previous * L + current) * block_lanes + lane] != 0;
      ++block.n_current[current * block_lanes + lane];
      if (previous < L) ++block.n_previous[previous * block_lanes + lane];
    });
    if (!fits) block.cells.clear();
    return fits;
  }

  void list_pairs(TokenBlock& block) {
    std::array<std::vector<TokenPair>, block_lanes> lists;
    each_position(block, [&](int lane, int32_t previous, int32_t current) { lists[lane].push_back({previous, current, 1}); });
    for (int lane = 0; lane < block_lanes; ++lane) {
      std::sort(lists[lane].begin(), lists[lane].end(), [](const TokenPair& a, const TokenPair& b) {
        return a.previous != b.previous ? a.previous < b.previous : a.current < b.current;
      });
      block.pairs_at[lane] = static_cast<int64_t>(block.pairs.size());
      for (const TokenPair& pair : lists[lane]) {
        TokenPair* last = static_cast<int64_t>(block.pairs.size()) > block.pairs_at[lane] ? &block.pairs.back() : nullptr;
        if (last && last->previous == pair.previous && last->current == pair.current)
          ++last->count;
        else
          block.pairs.push_back(pair);
      }
    }
    block.pairs_at[block_lanes] = static_cast<int64_t>(block.pairs.size());
  }

  const Prompts& prompts_;
  const int32_t named_;
  std::vector<uint16_t> held_by_;  // one bit a lane
  std::vector<int32_t> name_, row_, present_;
  std::array<int64_t, block_lanes> prompt_{};
  std::array<int32_t, block_lanes> size_{};
};

}  // namespace

int64_t TokenBlock::name_of(int32_t token, int lane) const {
  const auto at = std::lower_bound(tokens.begin(), tokens.end(), token);
  if (at != tokens.end() && *at == token) return at - tokens.begin();
  for (int64_t o = 0; o < own_names(); ++o)
    if (own[o * block_lanes + lane] == token) return shared + o;
  return -1;
}

int32_t TokenBlock::query_of(int lane) const {
  size_t i = 0;
  while (lane >= segments[i].first + segments[i].count) ++i;
  return segments[i].query;
}

TokenPrompts block_prompts(const Prompts& prompts, std::span<const double> weights, int64_t logits, int32_t named, const Team& team) {
  std::vector<int64_t> order(prompts.count);
  std::iota(order.begin(), order.end(), int64_t{0});
  const auto key = [&](int64_t i) {
    const std::span<const int32_t> z = prompts.row(i);
    return std::array<int64_t, 4>{z.back(), z.size() > 1 ? z[z.size() - 2] : -1, prompts.answer[i], i};
  };
  std::sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return key(a) < key(b); });

  TokenPrompts out;
  out.blocks.resize((prompts.count + block_lanes - 1) / block_lanes);
  std::vector<std::unique_ptr<Builder>> builders(team.threads());
  team.for_each(static_cast<int64_t>(out.blocks.size()), [&](int64_t b, int slot) {
    if (!builders[slot]) builders[slot] = std::make_unique<Builder>(prompts, logits, named);
    const int64_t first = b * block_lanes, count = std::min<int64_t>(block_lanes, prompts.count - first);
    TokenBlock& block = out.blocks[b];
    builders[slot]->build(std::span(order).subspan(first, count), block);
    for (int lane = 0; lane < block.used; ++lane)
      block.weight[lane] = weights.empty() ? 1.0 / static_cast<double>(prompts.count) : weights[order[first + lane]];
  });
  for (TokenBlock& block : out.blocks) {
    block.first_segment = out.segments;
    out.segments += static_cast<int64_t>(block.segments.size());
    out.most_names = std::max(out.most_names, block.names);
    out.most_rows = std::max(out.most_rows, static_cast<int64_t>(block.rows.size()));
    out.most_cells = std::max({out.most_cells, static_cast<int64_t>(block.cells.size()), static_cast<int64_t>(block.pairs.size())});
  }
  return out;
}

}  // namespace lamina
