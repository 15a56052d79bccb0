// Attention with one query a lane (FewQueries in short_table.hpp), once per instruction set: a tile is one or two registers of
// queries against all keys that they see. Scores are a matrix of keys by lanes; Q and dO are transposed in registers, and all
// else is read and written where it stands. The products are one primitive: a few rows of numbers times one or two registers,
// as many chains as hide the latency of a multiply-add.
#pragma once
#include "kernels/attention_simd.hpp"
#include "kernels/short_simd.hpp"

namespace lamina::kernels {
namespace {

// What becomes of a sum at its end: times by[r], divided by by[r], times by[0], or its positive part.
enum class Finish { nothing, scale, divide, factor, relu };

// C[r,c] = finish((accumulate ? C[r,c] : 0) + sum_k A[r,k] B[k,c]), k ascending, one chain of fma. A[r,k] at a[r*a_row +
// k*a_col], rows of B and C contiguous. If `apart`, row r sums over r - before <= k <= r + after alone.
template <class T>
struct FewProduct {
  int64_t rows, cols, depth;
  const T* a;
  int64_t a_row, a_col;
  const T* b;
  int64_t b_row;
  T* c;
  int64_t c_row;
  bool accumulate = false;
  Finish finish = Finish::nothing;
  const T* by = nullptr;
  bool apart = false;
  int64_t before = 0, after = 0;
};

LAMINA_INLINE int64_t clamped(int64_t x, int64_t most) {
  return x < 0 ? 0 : x < most ? x : most;
}

// C at c, of rows r and so on.
template <int height, int vectors, class T, class... Tails>
LAMINA_INLINE void few_tile(const FewProduct<T>& p, int64_t r, int64_t depth, const T* a, const T* b, T* c, Tails... tail) {
  Batch<T> sum[height][vectors];
  const auto each = [&](const auto& f) LAMINA_INLINE_LAMBDA {
    for_each_sum<height, vectors>([&](int i, int v) LAMINA_INLINE_LAMBDA { sum[i][v] = f(sum[i][v], i); });
  };
  each([&](Batch<T>, int) LAMINA_INLINE_LAMBDA { return splat(T(0)); });
  if (p.accumulate) load_rows<height, vectors>(sum, c, p.c_row, tail...);
  add_products(sum, depth, a, opaque(p.a_row), opaque(p.a_col), b, opaque(p.b_row), lanes, tail...);
  if (p.finish == Finish::scale)
    each([&](Batch<T> x, int i) LAMINA_INLINE_LAMBDA { return x * splat(p.by[r + i]); });
  else if (p.finish == Finish::divide)
    each([&](Batch<T> x, int i) LAMINA_INLINE_LAMBDA { return x / splat(p.by[r + i]); });
  else if (p.finish == Finish::factor)
    each([&](Batch<T> x, int) LAMINA_INLINE_LAMBDA { return splat(*p.by) * x; });
  else if (p.finish == Finish::relu)
    each([&](Batch<T> x, int) LAMINA_INLINE_LAMBDA { return map_value(true, x); });
  store_rows<height, vectors>(sum, c, p.c_row, tail...);
}

// Rows from r on of some columns, as long as there are `height` of them; the first row that is left.
template <int height, int vectors, class T, class... Tails>
LAMINA_INLINE int64_t few_rows(const FewProduct<T>& p, int64_t r, int64_t col, Tails... tail) {
  const T *a = p.a + r * p.a_row, *b = p.b + col;
  T* c = p.c + r * p.c_row + col;
  for (; r + height <= p.rows; r += height, a += height * p.a_row, c += height * p.c_row)
    few_tile<height, vectors>(p, r, p.depth, a, b, c, tail...);
  return r;
}
template <class T, class... Tails>
LAMINA_INLINE void few_column(const FewProduct<T>& p, int64_t r, int64_t col, Tails... tail) {
  if (p.apart) {
    for (; r < p.rows; ++r) {
      const int64_t first = clamped(r - p.before, p.depth), last = clamped(r + p.after + 1, p.depth);
      few_tile<1, 1>(p, r, last - first, p.a + r * p.a_row + first * p.a_col, p.b + first * p.b_row + col,
                     p.c + r * p.c_row + col, tail...);
    }
    return;
  }
  r = few_rows<8, 1>(p, r, col, tail...);
  r = few_rows<4, 1>(p, r, col, tail...);
  few_rows<1, 1>(p, r, col, tail...);
}
// Whole registers have no tail: masked loads of K and V are slow where they come from memory.
template <class T>
__attribute__((noinline)) void few_product(const FewProduct<T>& p) {
  constexpr int64_t w = width<T>;
  int64_t col = 0, first = 0, pairs = 0;  // columns < pairs have rows < first
  if (!p.apart)
    for (; pairs + 2 * w <= p.cols; pairs += 2 * w) {
      first = 0;
      if constexpr (w * sizeof(T) == 64) first = few_rows<8, 2>(p, first, pairs);  // sixteen sums fit the registers of AVX-512
      first = few_rows<4, 2>(p, first, pairs);
    }
  if (first == p.rows) col = pairs;
  for (; col + w <= p.cols; col += w) few_column(p, col < pairs ? first : 0, col);
  if (col < p.cols) few_column(p, 0, col, Tail<T>(p.cols - col));
}

// y = factor X^T, a register of rows at y[f*pitch]; lanes past the last row repeat it.
template <class T>
__attribute__((noinline)) void few_transpose(int64_t rows, int64_t cols, T factor, const T* x, int64_t x_row, int64_t x_col,
                                             T* y, int64_t pitch) {
  int64_t f = 0;
  const auto whole = [&](int64_t last) LAMINA_INLINE_LAMBDA {
    for (; f + columns<T> <= cols; f += columns<T>) {
      Batch<T> part[columns<T>];
      load_columns(x + f, x_row, last, part);
      unroll<columns<T>>([&](int c) LAMINA_INLINE_LAMBDA { store(y + (f + c) * pitch, part[c] * splat(factor)); });
    }
  };
  if (x_col == 1) rows >= width<T> ? whole(width<T> - 1) : whole(rows - 1);
  for (; f < cols; ++f)
    for (int64_t l = 0; l < width<T>; ++l) y[f * pitch + l] = factor * x[(l < rows ? l : rows - 1) * x_row + f * x_col];
}

// Queries i0 <= i < i0 + queries of a head, one a lane of one or two registers, and the keys from <= j < to that some of them
// see; all of them see all_from <= j < all_to. A matrix of keys by lanes has rows base <= j < end, whole fours, so that the
// four lanes of a sum over keys follow each other.
template <class T>
struct FewTile {
  int registers;
  int64_t pitch, i0, queries, before, after, from, to, all_from, all_to, base, end;
  Batch<T> first[2], last[2];  // what each lane sees

  LAMINA_INLINE FewTile(const FewQueries<T>& x, int64_t i, int count)
      : registers(count),
        pitch(count * width<T>),
        i0(i),
        queries(x.queries - i < pitch ? x.queries - i : pitch),
        before(x.before - i),
        after(x.after + i),
        from(clamped(-before, x.keys)),
        to(clamped(queries + after, x.keys)) {
    if (to < from) to = from;
    all_from = from + clamped(queries - 1 - before - from, to - from);
    all_to = all_from + clamped(after + 1 - all_from, to - all_from);
    base = from & ~int64_t{3}, end = (to + 3) & ~int64_t{3};
    T lane[width<T>];
    for (int l = 0; l < width<T>; ++l) lane[l] = static_cast<T>(l);
    const Batch<T> zero = splat(T(0)), keys = splat(static_cast<T>(x.keys)), query = load(lane);
    const auto end_of = [&](int64_t offset) LAMINA_INLINE_LAMBDA {
      return smaller(greater(query + splat(static_cast<T>(offset)), zero), keys);
    };
    for (int r = 0; r < registers; ++r) {
      first[r] = end_of(r * width<T> - before);
      last[r] = greater(end_of(r * width<T> + after + 1), first[r]);
    }
  }

  LAMINA_INLINE bool ragged() const { return all_from > from || all_to < to; }
  // body(j) for the keys that not all lanes see.
  template <class Body>
  LAMINA_INLINE void each_ragged(const Body& body) const {
    for (int64_t j = from; j < to; ++j) {
      if (j == all_from) j = all_to;
      if (j < to) body(j);
    }
  }
  // yes in the lanes of register r that see key j, no in the others.
  LAMINA_INLINE Batch<T> choose(int r, int64_t j, Batch<T> yes, Batch<T> no) const {
    const Batch<T> key = splat(static_cast<T>(j));
    return select(key < last[r], select(key >= first[r], yes, no), no);
  }
  LAMINA_INLINE T* at(T* s, int r, int64_t j) const { return s + (j - base) * pitch + r * width<T>; }
  // `hidden` in place of what is not seen, and in rows without a key.
  void hide(T hidden, T* s) const {
    const Batch<T> no = splat(hidden);
    for (int r = 0; r < registers; ++r) {
      for (int64_t j = base; j < from; ++j) store(at(s, r, j), no);
      for (int64_t j = to; j < end; ++j) store(at(s, r, j), no);
      each_ragged([&](int64_t j) LAMINA_INLINE_LAMBDA { store(at(s, r, j), choose(r, j, load(at(s, r, j)), no)); });
    }
  }

  LAMINA_INLINE void transpose(int64_t features, T factor, const Strided<T>& x, T* y) const {
    for (int r = 0; r < registers; ++r) {
      const int64_t skip = r * width<T>;
      few_transpose(queries - skip, features, factor, x.data + (i0 + skip) * x.row, x.row, x.col, y + skip, pitch);
    }
  }
  // S or G of keys by lanes: rows of X times registers of features.
  LAMINA_INLINE void keys_by_lanes(int64_t features, const Strided<T>& x, const T* y_t, T* c, Finish finish) const {
    few_product<T>(
        {to - from, pitch, features, x.data + from * x.row, x.row, x.col, y_t, pitch, at(c, 0, from), pitch, false, finish});
  }
  // W B of lanes by features, rows of B keys, and W^T B of keys by features, rows of B queries; where a number of B is not
  // finite, each row takes what it sees only.
  LAMINA_INLINE FewProduct<T> lanes_by_features(int64_t features, T* w, const T* b, int64_t b_row, T* c, int64_t c_row,
                                                bool finite) const {
    FewProduct<T> p{queries, features, to - from, at(w, 0, from), 1, pitch, b + from * b_row, b_row, c + i0 * c_row, c_row};
    p.apart = !finite && ragged();
    p.before = before + from, p.after = after - from;
    return p;
  }
  LAMINA_INLINE FewProduct<T> keys_by_features(int64_t features, T* w, const T* b, int64_t b_row, T* c, int64_t c_row) const {
    b += i0 * b_row;
    FewProduct<T> p{to - from, features, queries, at(w, 0, from), pitch, 1, b, b_row, c + from * c_row, c_row};
    p.apart = ragged() && !attention_finite(queries, features, b, b_row);
    p.before = after - from, p.after = before + from;
    return p;
  }
};

// step(lane, at) over `keys` rows, a multiple of 4 and `pitch` apart, in lanes by j mod 4, and their sum.
template <class T, class Step>
LAMINA_INLINE Batch<T> few_sum(int64_t keys, int64_t pitch, const Step& step) {
  Four<T> sum;
  sum.clear();
  for (int64_t at = 0; at < keys * pitch; at += 4 * pitch)
    unroll<4>([&](int l) LAMINA_INLINE_LAMBDA { sum.lane[l] = step(sum.lane[l], at + l * pitch); });
  return splat(T(0)) + ((sum.lane[0] + sum.lane[2]) + (sum.lane[1] + sum.lane[3]));
}

// As short_weights, of scores that are hidden where they are not seen; those of other maps than softmax are kept.
template <class T>
LAMINA_INLINE ShortRow<T> few_weights(const FewQueries<T>& x, const FewTile<T>& tile, int r) {
  T* const s = x.s + r * width<T>;
  const int64_t keys = tile.end - tile.base, pitch = tile.pitch;
  ShortRow<T> row{splat(-Numbers<T>::infinity), splat(T(0)), tile.last[r] - tile.first[r]};
  if (x.map == Map::softmax) {
    Batch<T> m[4];  // as in short_weights
    unroll<4>([&](int l) LAMINA_INLINE_LAMBDA { m[l] = row.m; });
    for (int64_t at = 0; at < keys * pitch; at += 4 * pitch)
      unroll<4>([&](int l) LAMINA_INLINE_LAMBDA { m[l] = greater(load(s + at + l * pitch), m[l]); });
    row.m = greater(greater(m[0], m[1]), greater(m[2], m[3]));
    const Batch<T> point = reference_point(row.m);
    row.sum = few_sum<T>(keys, pitch, [&](Batch<T> lane, int64_t at) LAMINA_INLINE_LAMBDA {
      const Batch<T> p = exp2(load(s + at) - point);
      store(s + at, p);
      return lane + p;
    });
    return row;
  }
  if (x.normaliser == Normaliser::row_sum)
    row.sum = few_sum<T>(keys, pitch, [&](Batch<T> lane, int64_t at) LAMINA_INLINE_LAMBDA {
      return lane + map_value(x.map == Map::relu, load(s + at));
    });
  return row;
}

template <class T>
__attribute__((noinline)) void few_forward_tile(const FewQueries<T>& x, int64_t i0, int registers, bool finite) {
  const FewTile<T> tile(x, i0, registers);
  tile.transpose(x.d, x.query_factor, x.q, x.q_t);
  tile.keys_by_lanes(x.d, x.k, x.q_t, x.s, x.map == Map::relu ? Finish::relu : Finish::nothing);
  tile.hide(x.map == Map::softmax ? -Numbers<T>::infinity : T(0), x.s);
  T by[2 * width<T>], zero[2 * width<T>];
  for (int r = 0; r < registers; ++r) {
    const int64_t at = r * width<T>;
    const ShortRow<T> sums = few_weights(x, tile, r);
    Batch<T> scale, divisor, dead;
    short_divisor(x, sums, scale, divisor, dead);
    store(by + at, x.map == Map::softmax ? scale : divisor);
    store(zero + at, dead);
    if (x.lse)
      store(x.lse + i0 + at, select(sums.seen == splat(T(0)), splat(-Numbers<T>::infinity), natural(sums.m, log(sums.sum))));
  }
  FewProduct<T> p = tile.lanes_by_features(x.d_v, x.s, x.v_rows, x.v_row, x.o, x.o_row, finite);
  p.by = by;
  p.finish = x.map == Map::softmax ? Finish::scale : x.normaliser != Normaliser::none ? Finish::divide : Finish::nothing;
  few_product(p);
  if (x.map == Map::relu && x.normaliser == Normaliser::row_sum)  // 0, and not 0 times what is not finite
    for (int64_t i = 0; i < tile.queries; ++i)
      for (int64_t f = 0; f < x.d_v && zero[i] != T(0); ++f) x.o[(i0 + i) * x.o_row + f] = 0;
}

// P and dS of one register of lanes in place of S and G.
template <class T>
__attribute__((noinline)) void few_gradient(const FewQueries<T>& x, const FewTile<T>& tile, int r) {
  const int64_t keys = tile.end - tile.base, pitch = tile.pitch;
  T *const s = x.s + r * width<T>, *const g = x.g + r * width<T>;
  const RowGradient<T> gradient(
      x, x.d_lse ? x.d_lse + tile.i0 + r * width<T> : nullptr, [&]() LAMINA_INLINE_LAMBDA { return few_weights(x, tile, r); },
      [&]() LAMINA_INLINE_LAMBDA {
        return few_sum<T>(keys, pitch, [&](Batch<T> lane, int64_t at) LAMINA_INLINE_LAMBDA {
          return fma(map_value(x.map == Map::relu, load(s + at)), load(g + at), lane);
        });
      });
  for (int64_t at = 0; at < keys * pitch; at += 4 * pitch)
    unroll<4>([&](int l) LAMINA_INLINE_LAMBDA {
      const Slope<T> y = gradient(load(s + at + l * pitch), load(g + at + l * pitch));
      store(s + at + l * pitch, y.weight);
      store(g + at + l * pitch, y.gradient);
    });
  const Batch<T> zero = splat(T(0));
  tile.each_ragged([&](int64_t j) LAMINA_INLINE_LAMBDA {
    store(tile.at(x.s, r, j), tile.choose(r, j, load(tile.at(x.s, r, j)), zero));
    store(tile.at(x.g, r, j), tile.choose(r, j, load(tile.at(x.g, r, j)), zero));
  });
}

template <class T>
__attribute__((noinline)) void few_backward_tile(const FewQueries<T>& x, int64_t i0, int registers, bool finite) {
  const FewTile<T> tile(x, i0, registers);
  tile.transpose(x.d, x.query_factor, x.q, x.q_t);
  tile.transpose(x.d_v, T(1), x.d_o, x.do_t);
  tile.keys_by_lanes(x.d, x.k, x.q_t, x.s, Finish::nothing);
  tile.keys_by_lanes(x.d_v, x.v, x.do_t, x.g, Finish::nothing);
  if (x.normaliser == Normaliser::row_sum) {  // else few_gradient clears what is not seen, and no sum reads it
    tile.hide(x.map == Map::softmax ? -Numbers<T>::infinity : T(0), x.s);
    tile.hide(T(0), x.g);
  }
  for (int r = 0; r < registers; ++r) few_gradient(x, tile, r);
  if (x.dq) {
    FewProduct<T> p = tile.lanes_by_features(x.d, x.g, x.k_rows, x.k_row, x.dq, x.dq_row, finite);
    p.finish = Finish::factor, p.by = &x.dq_factor;
    few_product(p);
  }
  const bool last = x.whole && x.last && i0 + tile.queries == x.queries;
  const auto add = [&](FewProduct<T> p, const T* factor) {
    p.accumulate = !(x.whole && x.first && i0 == 0);
    if (last && factor) p.finish = Finish::factor, p.by = factor;
    few_product(p);
  };
  if (x.dk) add(tile.keys_by_features(x.d, x.g, x.q_rows, x.q_row, x.dk, x.dk_row), &x.dk_factor);
  if (x.dv) add(tile.keys_by_features(x.d_v, x.s, x.d_o_rows, x.d_o_row, x.dv, x.dv_row), nullptr);
}

// tile(i0, registers) for all queries: two registers share what is read of the keys, but with a band one sees less in vain.
template <class T, class Tile>
LAMINA_INLINE void few_tiles(const FewQueries<T>& x, bool band, const Tile& tile) {
  for (int64_t i = 0; i < x.queries;) {
    const int registers = !band && i + width<T> < x.queries ? 2 : 1;
    tile(i, registers);
    i += registers * width<T>;
  }
}
template <class T>
LAMINA_INLINE bool few_band(const FewQueries<T>& x) {
  return x.before < x.queries - 1 || x.after < x.keys - 1;
}
template <class T>
void few_forward(const FewQueries<T>& x) {
  const bool band = few_band(x), finite = !band || attention_finite(x.keys, x.d_v, x.v_rows, x.v_row);
  few_tiles(x, band, [&](int64_t i, int registers) { few_forward_tile<T>(x, i, registers, finite); });
}
template <class T>
void few_backward(const FewQueries<T>& x) {
  const bool band = few_band(x), finite = !band || !x.dq || attention_finite(x.keys, x.d, x.k_rows, x.k_row);
  few_tiles(x, band, [&](int64_t i, int registers) { few_backward_tile<T>(x, i, registers, finite); });
}

template <class T>
constexpr ShortTable<T> short_table = {
    .entries = width<T>,
    .interleave = short_interleave<T>,
    .separate = short_separate<T>,
    .forward = short_forward<T>,
    .backward = short_backward<T>,
    .few_forward = few_forward<T>,
    .few_backward = few_backward<T>,
};

}  // namespace
}  // namespace lamina::kernels
