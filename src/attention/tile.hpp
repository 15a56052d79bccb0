// A block of queries, a tile of its scores, and what a tile is used in: score() and the two products, which together hold all
// of attention's rules of visibility.
#pragma once
#include <cstring>

#include "attention/call.hpp"

namespace lamina::attention {

// Queries come in panels of 16, the lanes of every step; a block has at most this many.
inline constexpr int64_t panel = kernels::lanes, block_panels = 4;

// Queries i0 <= i < i0 + rows of one head, and the keys first <= j < last outside which they see none (first at a chunk's
// start). places >= rows counts those past the sequence's length as well, whose results are those of rows that see nothing;
// planned >= places those that only outputs [query, key] have.
struct Block {
  int64_t i0, rows, places, planned;
  int64_t panels;
  int64_t first, last;

  // `queries`: the places of the sequence
  Block(const Plan& plan, const Band& band, int64_t queries, int64_t index)
      : Block(plan, band, queries, index * plan.query_block, plan.query_block) {}
  Block(const Plan& plan, const Band& band, int64_t queries, int64_t first_query, int64_t most)
      : i0(first_query),
        rows(std::clamp<int64_t>(band.queries() - i0, 0, most)),
        places(std::clamp<int64_t>(queries - i0, 0, most)),
        planned(std::min(plan.L_q - i0, most)),
        panels((rows + panel - 1) / panel),
        first(rows > 0 ? band.first(i0) / plan.key_chunk * plan.key_chunk : 0),
        last(rows > 0 ? band.last(i0 + rows - 1) : 0) {}

  int64_t rows_of(int64_t p) const { return std::min(panel, rows - p * panel); }
};

// Keys first <= j < last of a tile.
struct Keys {
  int64_t first, last;
  int64_t count() const { return last - first; }
};

// Keys j0 <= j < j0 + keys against a block. Key j0 + j and query i0 + 16 p + i stand at (p * capacity + j) * 16 + i. Of panel
// p, no query sees a key outside seen[p], where nothing is computed, and each sees all keys of full[p] (at its end if there are
// none); on the edges between the two `visible`, laid out as s, is 1 where the query sees the key.
template <class T>
struct Tile {
  int64_t j0, keys, capacity;
  T* s;  // t, then P
  T* g;  // backward: G, then dS
  uint8_t* visible;
  Keys seen[block_panels], full[block_panels];

  Tile(const Plan& plan, const Block& block, int64_t start, T* scores, T* cotangents, uint8_t* room)
      : j0(start),
        keys(std::min(plan.key_chunk, block.last - start)),
        capacity(plan.key_chunk),
        s(scores),
        g(cotangents),
        visible(room) {}

  int64_t at(int64_t p, int64_t j) const { return (p * capacity + j) * panel; }
  bool is_full(int64_t p, int64_t j) const { return full[p].first <= j && j < full[p].last; }
  bool sees(int64_t p, int64_t j, int64_t i) const { return is_full(p, j) || visible[at(p, j) + i] != 0; }

  // body(keys, visible) for the edges and the full keys of a panel; visible nullptr: all.
  template <class Body>
  void for_each_part(int64_t p, const Body& body) const {
    if (full[p].first > seen[p].first) body(Keys{seen[p].first, full[p].first}, visible + at(p, seen[p].first));
    if (full[p].count() > 0) body(full[p], static_cast<const uint8_t*>(nullptr));
    if (seen[p].last > full[p].last) body(Keys{full[p].last, seen[p].last}, visible + at(p, full[p].last));
  }

  // body(keys, p0, p1, full) for rectangles of keys and panels p0 <= p < p1 that together are all of seen[]; `full`: in full[]
  // as well, and else each of the panels is either full or an edge there.
  template <class Body>
  void for_each_rectangle(int64_t panels, const Body& body) const {
    for (int64_t j = 0, next = keys; j < keys; j = next) {
      int64_t p0 = panels, p1 = 0;
      bool all_full = true;
      next = keys;
      for (int64_t p = 0; p < panels; ++p) {
        for (const int64_t end : {seen[p].first, full[p].first, full[p].last, seen[p].last})
          if (j < end && end < next) next = end;
        if (j < seen[p].first || j >= seen[p].last) continue;
        p0 = std::min(p0, p), p1 = p + 1;
        all_full = all_full && is_full(p, j);
      }
      if (p0 < p1) body(Keys{j, next}, p0, p1, all_full);
    }
  }
};

// Of panel p, whose `visible` is known on all of seen[p] (a whole row of it is 16 bytes): seen[p] without the keys at its ends
// that nobody sees, and as full[p] the longest run of keys that all its queries see.
template <class T>
void find_runs(int64_t p, int64_t rows, Tile<T>& tile) {
  const Keys within = tile.seen[p];
  Keys seen{within.last, within.first}, full{within.first, within.first};
  for (int64_t j = within.first, run = j; j < within.last; ++j) {
    uint64_t half[2];
    std::memcpy(half, tile.visible + tile.at(p, j), sizeof half);
    const uint64_t see = (half[0] + half[1]) * 0x0101010101010101u >> 56;  // how many: the sum of the bytes
    if (see > 0) seen = {std::min(seen.first, j), j + 1};
    if (static_cast<int64_t>(see) < rows) run = j + 1;
    if (j + 1 - run > full.count()) full = {run, j + 1};
  }
  if (seen.count() <= 0) seen = {0, 0};
  tile.seen[p] = {seen.first / 4 * 4, seen.last};
  tile.full[p] = full.count() > 0 ? full : Keys{seen.last, seen.last};
}

// Finds what the queries of a block see in a tile. count[i] (unless nullptr) grows by the number of keys that query i sees.
template <class T>
void find_visible(const Call<T>& call, const Head<T>& head, const Block& block, Tile<T>& tile, int64_t* count) {
  const Band& band = head.band;
  const auto inside = [&](int64_t j) { return std::clamp<int64_t>(j - tile.j0, 0, tile.keys); };
  for (int64_t p = 0; p < block.panels; ++p) {
    const int64_t i0 = block.i0 + p * panel, rows = block.rows_of(p);
    Keys &seen = tile.seen[p], &full = tile.full[p];
    seen = {inside(band.first(i0)) / 4 * 4, inside(band.last(i0 + rows - 1))};  // sums over keys start at a multiple of 4
    full = {inside(band.first(i0 + rows - 1)), inside(band.last(i0))};
    if (inside(band.first(i0)) >= seen.last) seen = {0, 0};
    if (full.count() <= 0) full = {seen.last, seen.last};
    kernels::Seen elements = kernels::Seen::all;
    if ((head.mask || head.bias) && seen.count() > 0) {
      const int64_t j = tile.j0 + seen.first;
      elements = call.step.visible(rows, seen.count(), head.mask ? head.mask.at(i0, j) : nullptr, head.mask.row, head.mask.col,
                                   head.bias ? head.bias.at(i0, j) : nullptr, head.bias.row, head.bias.col,
                                   tile.visible + tile.at(p, seen.first));
    }
    if (elements == kernels::Seen::none) seen = full = {0, 0};
    tile.for_each_part(p, [&](Keys keys, const uint8_t* edge) {
      for (int64_t j = keys.first; j < keys.last && edge; ++j) {
        uint8_t* row = tile.visible + tile.at(p, j);
        if (elements == kernels::Seen::all) std::fill_n(row, panel, uint8_t{1});
        const int64_t from = std::clamp<int64_t>(band.first_query(tile.j0 + j) - i0, 0, rows);
        const int64_t to = std::clamp<int64_t>(band.last_query(tile.j0 + j) - i0, from, rows);
        for (int64_t i = 0; i < panel; ++i) row[i] = from <= i && i < to ? row[i] : uint8_t{0};
      }
    });
    if (elements == kernels::Seen::some) find_runs(p, rows, tile);
    if (!count) continue;
    tile.for_each_part(p, [&](Keys keys, const uint8_t* edge) {
      uint16_t see[panel] = {};
      for (int64_t j = 0; j < keys.count() && edge; ++j)
        for (int64_t i = 0; i < panel; ++i) see[i] = static_cast<uint16_t>(see[i] + edge[j * panel + i]);
      for (int64_t i = 0; i < rows; ++i) count[p * panel + i] += edge ? see[i] : keys.count();
    });
  }
}

// X^T of the rows of a block, in panels [panels, features, 16].
template <class T>
void transpose(const Call<T>& call, const Block& block, int64_t features, T factor, const Matrix<const T>& x, T* y) {
  for (int64_t p = 0; p < block.panels; ++p)
    call.step.transpose(block.rows_of(p), features, factor, x.at(block.i0 + p * panel), x.row, x.col, y + p * features * panel);
}

// c = A B^T of keys by queries on all of seen[], where rows of A are keys, and B^T comes in panels [panels, features, 16]; what
// is not visible becomes `hidden`. more [query, key], where it is given, is added first; m (unless nullptr) is the running
// maximum.
template <class T>
void keys_by_queries(const Call<T>& call, const Block& block, const Tile<T>& tile, int64_t features, const Matrix<const T>& a,
                     const T* b_t, T hidden, const Matrix<const T>& more, T* c, T* m) {
  tile.for_each_rectangle(block.panels, [&](Keys keys, int64_t p0, int64_t p1, bool full) {
    const bool done = full && !more;
    call.step.keys_by_queries(keys.count(), p1 - p0, features, a.at(tile.j0 + keys.first), a.row, a.col,
                              b_t + p0 * features * panel, features * panel, c + tile.at(p0, keys.first), tile.at(1, 0),
                              done && m ? m + p0 * panel : nullptr);
    for (int64_t p = p0; p < p1 && !done; ++p) {
      const int64_t at = tile.at(p, keys.first);
      call.step.score(block.rows_of(p), keys.count(),
                      more ? more.at(block.i0 + p * panel, tile.j0 + keys.first) : nullptr, more.row, more.col,
                      tile.is_full(p, keys.first) ? nullptr : tile.visible + at, hidden, c + at, m ? m + p * panel : nullptr);
    }
  });
}

// t = (c Q) K^T + bias over the visible keys, elsewhere what the map makes 0 of; m (softmax) is the running maximum. q_t:
// (c Q)^T of the block.
template <class T>
void score(const Call<T>& call, const Head<T>& head, const Block& block, const T* q_t, Tile<T>& tile, T* m,
           int64_t* count) {
  const bool softmax = call.plan.map == kernels::Map::softmax;
  find_visible(call, head, block, tile, count);
  keys_by_queries(call, block, tile, call.plan.d, head.k, q_t, softmax ? -infinity<T> : T(0), head.bias, tile.s,
                  softmax ? m : nullptr);
}

// body(first, last) for every run first <= l < last of what sees(l) accepts, l < count.
template <class Sees, class Body>
void for_each_run(int64_t count, const Sees& sees, const Body& body) {
  for (int64_t first = 0; first < count;) {
    int64_t last = first;
    while (last < count && sees(last)) ++last;
    if (last > first) body(first, last);
    first = last + 1;
  }
}

// A number of B that is not finite must not reach a row that does not see it, as 0 * inf = NaN would. Where a product would
// read one on an edge, each row takes its visible runs only.

// c = fma(c, factor, W B), W = P or dS of the queries by the tile's keys, rows of B those keys; factor nullptr: c is not yet
// begun. `sum` is room for a panel's chains; nullptr: the chains go on in c from tile to tile.
template <class T>
void queries_by_features(const Call<T>& call, const Block& block, const Tile<T>& tile, const T* w, const Rows<T>& b,
                         int64_t features, T* c, int64_t row, const T* const (&factor)[block_panels], T* sum) {
  const auto b_at = [&](int64_t j) { return b.data + j * b.row; };
  for (int64_t p = 0; p < block.panels; ++p) {
    const Keys seen = tile.seen[p];
    const int64_t rows = block.rows_of(p), first = p * panel * row;
    if (seen.count() <= 0) continue;
    bool leaks = false;
    tile.for_each_part(p, [&](Keys keys, const uint8_t* edge) {
      leaks = leaks || (edge && !call.step.finite(keys.count(), features, b_at(keys.first), b.row));
    });
    if (!leaks) {
      call.step.queries_by_features(rows, features, seen.count(), w + tile.at(p, seen.first), b_at(seen.first), b.row,
                                    c + first, row, !sum, factor[p]);
      continue;
    }
    T* chains = sum ? sum : c + first;
    if (sum) std::fill_n(sum, panel * row, T(0));
    for (int64_t i = 0; i < rows; ++i)
      for_each_run(
          tile.keys, [&](int64_t j) { return seen.first <= j && j < seen.last && tile.sees(p, j, i); },
          [&](int64_t j, int64_t end) {
            call.kernel.gemm(1, features, end - j, w + tile.at(p, j) + i, 1, panel, b_at(j), b.row, chains + i * row, row,
                             true);
          });
    if (!sum) continue;
    if (!factor[p]) std::fill_n(c + first, panel * row, T(0));
    call.step.scale_add(rows, features, factor[p], sum, row, c + first, row);
  }
}

// c += W^T B, W = P or dS, rows of B the queries of the block, rows of c the keys of the tile.
template <class T>
void keys_by_features(const Call<T>& call, const Block& block, const Tile<T>& tile, const T* w, const Rows<T>& b,
                      int64_t features, T* c, int64_t row) {
  tile.for_each_rectangle(block.panels, [&](Keys keys, int64_t p0, int64_t p1, bool full) {
    const int64_t queries = std::min(p1 * panel, block.rows) - p0 * panel;
    const T* from = b.data + p0 * panel * b.row;
    if (full || call.step.finite(queries, features, from, b.row)) {
      call.step.keys_by_features(keys.count(), features, queries, w + tile.at(p0, keys.first), tile.at(1, 0), from, b.row,
                                 c + keys.first * row, row);
      return;
    }
    for (int64_t j = keys.first; j < keys.last; ++j)
      for (int64_t p = p0; p < p1; ++p)
        for_each_run(
            block.rows_of(p), [&](int64_t i) { return tile.sees(p, j, i); },
            [&](int64_t first, int64_t last) {
              call.kernel.gemm(1, features, last - first, w + tile.at(p, j) + first, 1, 1, b.data + (p * panel + first) * b.row,
                               b.row, c + j * row, row, true);
            });
  });
}

// factor times what is seen of a tile into an output [query, key].
template <class T>
void put_tile(const Matrix<T>& x, const Block& block, const Tile<T>& tile, const T* values, T factor) {
  for (int64_t p = 0; p < block.panels; ++p)
    for (int64_t i = 0; i < block.rows_of(p); ++i)
      for (int64_t j = tile.seen[p].first; j < tile.seen[p].last; ++j)
        if (tile.sees(p, j, i)) *x.at(block.i0 + p * panel + i, tile.j0 + j) = factor * values[tile.at(p, j) + i];
}

}  // namespace lamina::attention
