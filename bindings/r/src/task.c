/* The section task of lamina.h: tasks by name, from a matrix, from an R function; samples and the names of tokens. */
#include <string.h>

#include "routines.h"
#include "shim.h"

SEXP shim_task_create(SEXP name, SEXP keys, SEXP values, SEXP arrays) {
  SEXP options = PROTECT(options_new(keys, values, arrays));
  SEXP handle = PROTECT(handle_new(&task_kind, R_NilValue));
  lamina_task* task = NULL;
  check(lamina_task_create(text_get(name, "task"), handle_get(options, &options_kind), &task));
  handle_set(handle, task);
  UNPROTECT(2);
  return handle;
}

/* prompts [length, count] and targets [2, count]: R's column-major order of these is the row-major order of lamina. */
SEXP shim_task_from_matrix(SEXP prompts, SEXP targets, SEXP vocabulary, SEXP noise) {
  SEXP handle = PROTECT(handle_new(&task_kind, R_NilValue));
  lamina_task_arrays arrays;
  check(lamina_task_arrays_init(&arrays, sizeof arrays));
  arrays.length = Rf_nrows(prompts);
  arrays.count = Rf_ncols(prompts);
  arrays.prompts = numbers_get(prompts, arrays.length * arrays.count, "prompts");
  arrays.targets = numbers_get(targets, 2 * arrays.count, "targets");
  arrays.vocabulary = count_get(vocabulary, "vocabulary");
  arrays.noise = number_get(noise, "noise");
  lamina_task* task = NULL;
  check(lamina_task_from_arrays(&arrays, &task));
  handle_set(handle, task);
  UNPROTECT(1);
  return handle;
}

/* ---- an R function as a sampler ---- */

struct draw {
  SEXP function;
  int32_t split;
  double seed, first, count;
  R_xlen_t length;
  double *prompts, *targets;
  int done;
};

/* The function returns list(prompts [length, count], targets [2, count]), checked in R, or NULL after an error of its own. */
static void call_sampler(void* data) {
  struct draw* draw = data;
  SEXP split = PROTECT(Rf_ScalarInteger(draw->split)), seed = PROTECT(Rf_ScalarReal(draw->seed));
  SEXP first = PROTECT(Rf_ScalarReal(draw->first)), count = PROTECT(Rf_ScalarReal(draw->count));
  SEXP call = PROTECT(Rf_lang5(draw->function, split, seed, first, count));
  SEXP drawn = PROTECT(Rf_eval(call, R_BaseEnv));
  const R_xlen_t rows = (R_xlen_t)draw->count;
  if (TYPEOF(drawn) == VECSXP && XLENGTH(drawn) == 2) {
    SEXP prompts = VECTOR_ELT(drawn, 0), targets = VECTOR_ELT(drawn, 1);
    if (TYPEOF(prompts) == REALSXP && XLENGTH(prompts) == rows * draw->length && TYPEOF(targets) == REALSXP &&
        XLENGTH(targets) == rows * 2) {
      memcpy(draw->prompts, REAL(prompts), sizeof(double) * (size_t)XLENGTH(prompts));
      memcpy(draw->targets, REAL(targets), sizeof(double) * (size_t)XLENGTH(targets));
      draw->done = 1;
    }
  }
  UNPROTECT(6);
}

/* `user` is list(function, length), which every handle made from the task keeps. */
static int32_t sample(void* user, int32_t split, uint64_t seed, int64_t first, int64_t count, double* prompts,
                      double* targets) {
  SEXP sampler = user;
  struct draw draw = {VECTOR_ELT(sampler, 0),
                      split,
                      (double)seed,
                      (double)first,
                      (double)count,
                      (R_xlen_t)REAL(VECTOR_ELT(sampler, 1))[0],
                      prompts,
                      targets,
                      0};
  return shielded(call_sampler, &draw) && draw.done ? 0 : 1;
}

SEXP shim_task_from_function(SEXP sampler, SEXP vocabulary, SEXP noise) {
  if (TYPEOF(sampler) != VECSXP || XLENGTH(sampler) != 2 || !Rf_isFunction(VECTOR_ELT(sampler, 0)))
    Rf_error("the sampler must be a function");
  SEXP handle = PROTECT(handle_new(&task_kind, sampler));
  lamina_task_callback callback;
  check(lamina_task_callback_init(&callback, sizeof callback));
  callback.sample = sample;
  callback.user = sampler;
  callback.length = count_get(VECTOR_ELT(sampler, 1), "length");
  callback.vocabulary = count_get(vocabulary, "vocabulary");
  callback.noise = number_get(noise, "noise");
  lamina_task* task = NULL;
  check(lamina_task_from_callback(&callback, &task));
  handle_set(handle, task);
  UNPROTECT(1);
  return handle;
}

/* ---- what a task says ---- */

static lamina_task_shape shape_of(SEXP handle) {
  lamina_task_shape shape;
  check(lamina_task_shape_init(&shape, sizeof shape));
  check(lamina_task_get_shape(handle_get(handle, &task_kind), &shape));
  return shape;
}

SEXP shim_task_shape(SEXP handle) {
  static const char* names[] = {"name", "length", "vocabulary", "outputs", "target_width", ""};
  const lamina_task_shape shape = shape_of(handle);
  SEXP list = PROTECT(Rf_mkNamed(VECSXP, names));
  SET_VECTOR_ELT(list, 0, text_new(lamina_task_name(handle_get(handle, &task_kind))));
  SET_VECTOR_ELT(list, 1, Rf_ScalarReal(shape.length < 0 ? R_PosInf : (double)shape.length));
  SET_VECTOR_ELT(list, 2, Rf_ScalarReal((double)shape.vocabulary));
  SET_VECTOR_ELT(list, 3, Rf_ScalarReal((double)shape.outputs));
  SET_VECTOR_ELT(list, 4, Rf_ScalarReal((double)shape.target_width));
  UNPROTECT(1);
  return list;
}

SEXP shim_task_tokens(SEXP handle) {
  const lamina_task* task = handle_get(handle, &task_kind);
  const int64_t count = shape_of(handle).outputs;
  SEXP tokens = PROTECT(Rf_allocVector(STRSXP, count));
  for (int64_t i = 0; i < count; ++i) {
    const char* text = NULL;
    check(lamina_task_token(task, i, &text));
    SET_STRING_ELT(tokens, i, Rf_mkCharCE(text, CE_UTF8));
  }
  UNPROTECT(1);
  return tokens;
}

/* list(prompts [length, count], targets [target_width, count]) */
SEXP shim_task_sample(SEXP handle, SEXP split, SEXP seed, SEXP first, SEXP count) {
  const lamina_task* task = handle_get(handle, &task_kind);
  const int64_t rows = count_get(count, "count"), length = shape_of(handle).length, key = count_get(seed, "seed");
  if (rows < 0 || rows > INT32_MAX) Rf_error("count must be in [0, %d]", INT32_MAX);
  if (key < 0) Rf_error("seed must be at least 0");
  SEXP drawn = PROTECT(Rf_allocVector(VECSXP, 2));
  SET_VECTOR_ELT(drawn, 0, Rf_allocMatrix(REALSXP, length < 0 ? 1 : (int)length, (int)rows));
  SET_VECTOR_ELT(drawn, 1, Rf_allocMatrix(REALSXP, (int)shape_of(handle).target_width, (int)rows));
  check(lamina_task_sample(task, Rf_asInteger(split), (uint64_t)key, count_get(first, "first"), rows,
                           REAL(VECTOR_ELT(drawn, 0)), REAL(VECTOR_ELT(drawn, 1))));
  UNPROTECT(1);
  return drawn;
}
