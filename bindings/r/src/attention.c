/* The section attention of lamina.h on R's own arrays: shapes become strides, and no array of doubles is copied. */
#include <string.h>

#include "routines.h"
#include "shim.h"

/* Dimensions of an array in lamina's order: batch, head, position, feature. place[k] is where the k-th stands in R's order. */
enum { B, H, L, D };

struct view {
  int64_t extent[4], stride[4];
  int rank; /* dimensions that the array has in R; absent ones are 1 */
};

static struct view view_of(SEXP array, SEXPTYPE type, const int* place, const char* what) {
  struct view view;
  int64_t extent[4] = {1, 1, 1, 1}, stride[4], step = 1;
  SEXP dim = Rf_getAttrib(array, R_DimSymbol);
  view.rank = dim == R_NilValue ? 1 : (int)XLENGTH(dim);
  if ((SEXPTYPE)TYPEOF(array) != type) Rf_error("%s must be an array of %s", what, type == RAWSXP ? "bytes" : "numbers");
  if (view.rank > 4) Rf_error("%s has %d dimensions, must have at most 4", what, view.rank);
  for (int r = 0; r < 4; ++r) {
    if (r < view.rank) extent[r] = dim == R_NilValue ? (int64_t)XLENGTH(array) : INTEGER(dim)[r];
    stride[r] = step;
    step *= extent[r];
  }
  for (int k = 0; k < 4; ++k) view.extent[k] = extent[place[k]], view.stride[k] = stride[place[k]];
  return view;
}

static void* data_of(SEXP array) {
  return TYPEOF(array) == RAWSXP ? (void*)RAW(array) : (void*)REAL(array);
}

static lamina_input input_of(SEXP array, const struct view* view) {
  lamina_input input = {data_of(array), {0}};
  memcpy(input.stride, view->stride, sizeof input.stride);
  return input;
}

/* An input over [batch, head, query, key], whose R order is query, key, head, batch; a dimension of 1 is repeated. */
static const int score_place[4] = {3, 2, 0, 1};
static const int lse_place[4] = {2, 1, 0, 3};

static lamina_input repeated(SEXP array, SEXPTYPE type, const int* place, const int64_t* extent, const char* what) {
  lamina_input input = {NULL, {0}};
  if (array == R_NilValue) return input;
  struct view view = view_of(array, type, place, what);
  for (int k = 0; k < 4; ++k) {
    if (view.extent[k] != extent[k] && view.extent[k] != 1)
      Rf_error("%s has dimension %d of %.0f, must be 1 or %.0f", what, place[k] + 1, (double)view.extent[k], (double)extent[k]);
    if (view.extent[k] == 1) view.stride[k] = 0;
  }
  return input_of(array, &view);
}

/* Of at least `rank` dimensions, and of as many as are not 1. */
static SEXP array_new(const int64_t* extent, const int* place, int rank) {
  int ordered[4];
  for (int k = 0; k < 4; ++k) {
    ordered[place[k]] = (int)extent[k];
    if (extent[k] != 1 && rank <= place[k]) rank = place[k] + 1;
  }
  if (rank < 1) rank = 1;
  SEXP dim = PROTECT(Rf_allocVector(INTSXP, rank));
  memcpy(INTEGER(dim), ordered, sizeof(int) * (size_t)rank);
  SEXP array = rank == 1 ? Rf_allocVector(REALSXP, ordered[0]) : Rf_allocArray(REALSXP, dim);
  UNPROTECT(1);
  return array;
}

static lamina_output output_of(SEXP array, const int* place) {
  const struct view view = view_of(array, REALSXP, place, "output");
  lamina_output output = {REAL(array), {0}};
  memcpy(output.stride, view.stride, sizeof output.stride);
  return output;
}

/* ---- the call ---- */

/* What forward and backward share. */
struct call {
  lamina_attention_spec spec;
  lamina_attention_arrays arrays;
  struct view q, k, v;
  int score_rank;                  /* of what is [query, key]: as q, with offsets of all four dimensions */
  int64_t scores[4], lse[4], o[4]; /* extents of [batch, head, query, key], of lse and of o */
  int place[4];
  SEXP plan;
};

static const int64_t* lengths(SEXP values, int64_t count, const char* what) {
  const double* numbers = numbers_get(values, count, what);
  int64_t* out = (int64_t*)R_alloc((size_t)count + 1, sizeof *out);
  for (int64_t b = 0; b < count; ++b) out[b] = numbers[b] >= 0 && numbers[b] <= 0x1p52 ? (int64_t)numbers[b] : -1;
  return out;
}

/* [sequences + 1] offsets; NULL if they are none. *longest: the length of the longest sequence. */
static const int64_t* offsets(SEXP values, int64_t positions, int64_t* sequences, int64_t* longest, const char* what) {
  const int64_t count = (int64_t)XLENGTH(values);
  const int64_t* out = lengths(values, count, what);
  if (count < 2 || out[count - 1] != positions)
    Rf_error("%s must have one number more than there are sequences and end with the %.0f positions", what, (double)positions);
  *sequences = count - 1, *longest = 0;
  for (int64_t b = 0; b + 1 < count; ++b)
    if (out[b + 1] - out[b] > *longest) *longest = out[b + 1] - out[b];
  return out;
}

/* inputs: list(q, k, v, bias, mask, query_lengths, key_lengths, query_offsets, key_offsets); settings: list(integers, reals, isa). Protects call->plan. */
static void prepare(struct call* call, SEXP inputs, SEXP layout, SEXP settings, uint32_t flags) {
  SEXP q = VECTOR_ELT(inputs, 0), k = VECTOR_ELT(inputs, 1), v = VECTOR_ELT(inputs, 2), bias = VECTOR_ELT(inputs, 3);
  SEXP mask = VECTOR_ELT(inputs, 4), query_lengths = VECTOR_ELT(inputs, 5), key_lengths = VECTOR_ELT(inputs, 6);
  SEXP query_offsets = VECTOR_ELT(inputs, 7), key_offsets = VECTOR_ELT(inputs, 8);
  const int* integers = INTEGER(VECTOR_ELT(settings, 0));
  const double* reals = REAL(VECTOR_ELT(settings, 1));
  const char* isa = text_get(VECTOR_ELT(settings, 2), "isa");
  memcpy(call->place, INTEGER(layout), sizeof call->place);
  call->q = view_of(q, REALSXP, call->place, "q");
  call->k = view_of(k, REALSXP, call->place, "k");
  call->v = view_of(v, REALSXP, call->place, "v");
  const int64_t *qe = call->q.extent, *ke = call->k.extent, *ve = call->v.extent;
  if (ke[D] != qe[D]) Rf_error("k has width %.0f, must be that of q, %.0f", (double)ke[D], (double)qe[D]);
  if (ve[L] != ke[L]) Rf_error("v has %.0f positions, must have those of k, %.0f", (double)ve[L], (double)ke[L]);
  if (ve[H] != ke[H]) Rf_error("v has %.0f heads, must have those of k, %.0f", (double)ve[H], (double)ke[H]);
  if (ke[B] != qe[B] || ve[B] != qe[B]) Rf_error("q, k and v must have the same batch");
  if (ve[D] < 1 || ke[H] < 1) Rf_error("v must have at least one feature and one head");

  check(lamina_attention_arrays_init(&call->arrays, sizeof call->arrays));
  int64_t batch = qe[B], queries = qe[L], keys = ke[L], key_batch;
  call->score_rank = call->q.rank;
  if (query_offsets != R_NilValue) {
    if (batch != 1) Rf_error("q has a batch of %.0f, must be 1: offsets pack all sequences along the positions", (double)batch);
    call->arrays.query_offsets = offsets(query_offsets, queries, &batch, &queries, "query_offsets");
    call->arrays.key_offsets = offsets(key_offsets, keys, &key_batch, &keys, "key_offsets");
    if (key_batch != batch)
      Rf_error("key_offsets are of %.0f sequences, query_offsets of %.0f", (double)key_batch, (double)batch);
    flags |= LAMINA_WITH_OFFSETS;
    call->score_rank = 4;
  }

  lamina_attention_spec* spec = &call->spec;
  check(lamina_attention_spec_init(spec, sizeof *spec));
  spec->element = LAMINA_F64;
  spec->map = integers[0];
  spec->normaliser = integers[1];
  spec->causal = integers[2];
  spec->threads = integers[3];
  spec->flags = (uint32_t)integers[4] | flags;
  if (bias != R_NilValue) spec->flags |= LAMINA_WITH_BIAS;
  if (mask != R_NilValue) spec->flags |= LAMINA_WITH_MASK;
  if (query_lengths != R_NilValue) spec->flags |= LAMINA_WITH_LENGTHS;
  spec->batch = batch, spec->heads = qe[H], spec->kv_heads = ke[H];
  spec->queries = queries, spec->keys = keys, spec->width = qe[D], spec->value_width = ve[D];
  spec->window_left = (int64_t)reals[0];
  spec->window_right = (int64_t)reals[1];
  spec->scale = reals[2];
  spec->relu_at_zero = reals[3];
  spec->isa = *isa ? isa : NULL;

  const int64_t scores[4] = {batch, qe[H], queries, keys}, lse[4] = {qe[B], qe[H], qe[L], 1},
                o[4] = {qe[B], qe[H], qe[L], ve[D]};
  memcpy(call->scores, scores, sizeof scores);
  memcpy(call->lse, lse, sizeof lse);
  memcpy(call->o, o, sizeof o);
  call->arrays.q = input_of(q, &call->q);
  call->arrays.k = input_of(k, &call->k);
  call->arrays.v = input_of(v, &call->v);
  call->arrays.bias = repeated(bias, REALSXP, score_place, scores, "bias");
  call->arrays.mask = repeated(mask, RAWSXP, score_place, scores, "mask");
  if (query_lengths != R_NilValue) {
    call->arrays.query_lengths = lengths(query_lengths, batch, "query_lengths");
    call->arrays.key_lengths = lengths(key_lengths, batch, "key_lengths");
  }
  call->plan = PROTECT(handle_new(&attention_kind, R_NilValue));
  lamina_attention* plan = NULL;
  check(lamina_attention_create(spec, &plan));
  handle_set(call->plan, plan);
}

/* list(output, lse, weights, scores); wanted: which of the last three. */
SEXP shim_attention(SEXP inputs, SEXP layout, SEXP settings, SEXP wanted) {
  static const char* names[] = {"output", "lse", "weights", "scores", ""};
  const int* want = LOGICAL(wanted);
  struct call call;
  prepare(
      &call, inputs, layout, settings,
      (uint32_t)((want[0] ? LAMINA_WITH_LSE : 0) | (want[1] ? LAMINA_WITH_WEIGHTS : 0) | (want[2] ? LAMINA_WITH_SCORES : 0)));
  SEXP out = PROTECT(Rf_mkNamed(VECSXP, names));
  const int rank = call.q.rank;
  SET_VECTOR_ELT(out, 0, array_new(call.o, call.place, rank));
  call.arrays.o = output_of(VECTOR_ELT(out, 0), call.place);
  if (want[0]) {
    SET_VECTOR_ELT(out, 1, array_new(call.lse, lse_place, rank - 1));
    call.arrays.lse = output_of(VECTOR_ELT(out, 1), lse_place);
  }
  lamina_output* tables[2] = {&call.arrays.weights, &call.arrays.scores};
  for (int t = 0; t < 2; ++t) {
    if (!want[1 + t]) continue;
    SET_VECTOR_ELT(out, 2 + t, array_new(call.scores, score_place, call.score_rank));
    *tables[t] = output_of(VECTOR_ELT(out, 2 + t), score_place);
  }
  check(lamina_attention_forward(handle_get(call.plan, &attention_kind), &call.arrays, NULL, 0));
  UNPROTECT(2);
  return out;
}

/* cotangents: list(output, lse, weights); list(q, k, v, bias, scale), bias NULL where there is none. */
SEXP shim_attention_gradient(SEXP inputs, SEXP layout, SEXP settings, SEXP cotangents) {
  static const char* names[] = {"q", "k", "v", "bias", "scale", ""};
  SEXP d_o = VECTOR_ELT(cotangents, 0), d_lse = VECTOR_ELT(cotangents, 1), d_weights = VECTOR_ELT(cotangents, 2);
  struct call call;
  prepare(&call, inputs, layout, settings,
          (uint32_t)((d_lse != R_NilValue ? LAMINA_WITH_LSE : 0) | (d_weights != R_NilValue ? LAMINA_WITH_WEIGHTS : 0)));
  const struct view given = view_of(d_o, REALSXP, call.place, "d_output");
  for (int k = 0; k < 4; ++k)
    if (given.extent[k] != call.o[k]) Rf_error("d_output must have the dimensions of the output");
  call.arrays.d_o = input_of(d_o, &given);
  call.arrays.d_lse = repeated(d_lse, REALSXP, lse_place, call.lse, "d_lse");
  call.arrays.d_weights = repeated(d_weights, REALSXP, score_place, call.scores, "d_weights");

  SEXP out = PROTECT(Rf_mkNamed(VECSXP, names));
  const struct view* views[3] = {&call.q, &call.k, &call.v};
  lamina_output* gradients[3] = {&call.arrays.d_q, &call.arrays.d_k, &call.arrays.d_v};
  for (int i = 0; i < 3; ++i) {
    SET_VECTOR_ELT(out, i, array_new(views[i]->extent, call.place, views[i]->rank));
    *gradients[i] = output_of(VECTOR_ELT(out, i), call.place);
  }
  if (call.arrays.bias.data) {
    SET_VECTOR_ELT(out, 3, array_new(call.scores, score_place, call.score_rank));
    call.arrays.d_bias = output_of(VECTOR_ELT(out, 3), score_place);
  }
  SET_VECTOR_ELT(out, 4, Rf_ScalarReal(0));
  call.arrays.d_scale = REAL(VECTOR_ELT(out, 4));
  check(lamina_attention_backward(handle_get(call.plan, &attention_kind), &call.arrays, NULL, 0));
  UNPROTECT(2);
  return out;
}
