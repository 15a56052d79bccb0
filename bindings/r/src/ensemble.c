/* The section ensemble of lamina.h: sweeps, their progress and interruption, their tables and files. */
#include <string.h>

#include "routines.h"
#include "shim.h"

/* `axes` are keys, `values` the texts of their values, as lamina_ensemble_vary takes them. */
SEXP shim_ensemble_create(SEXP name, SEXP task, SEXP given, SEXP axes, SEXP values) {
  SEXP options = PROTECT(options_new(VECTOR_ELT(given, 0), VECTOR_ELT(given, 1), VECTOR_ELT(given, 2)));
  SEXP handle = PROTECT(handle_new(&ensemble_kind, task));
  lamina_ensemble* ensemble = NULL;
  check(lamina_ensemble_create(text_get(name, "task"), task == R_NilValue ? NULL : handle_get(task, &task_kind),
                               handle_get(options, &options_kind), &ensemble));
  handle_set(handle, ensemble);
  for (R_xlen_t i = 0; i < XLENGTH(axes); ++i)
    check(lamina_ensemble_vary(ensemble, Rf_translateCharUTF8(STRING_ELT(axes, i)), Rf_translateCharUTF8(STRING_ELT(values, i))));
  UNPROTECT(2);
  return handle;
}

/* `user` points to the R function. */
static int32_t on_progress(void* user, const lamina_ensemble_progress* p) {
  static const char* names[] = {"ended", "members", "failed", "seconds", "steps", "all_steps", ""};
  const double values[] = {(double)p->ended, (double)p->members, (double)p->failed, p->seconds, p->steps, p->all_steps};
  return report_progress(*(SEXP*)user, names, values);
}

/* c(status, interrupted). */
SEXP shim_ensemble_run(SEXP handle, SEXP function, SEXP seconds) {
  lamina_ensemble* ensemble = handle_get(handle, &ensemble_kind);
  check(lamina_ensemble_on_progress(ensemble, on_progress, &function, number_get(seconds, "seconds")));
  interrupted();
  const lamina_status status = lamina_ensemble_run(ensemble);
  lamina_ensemble_on_progress(ensemble, NULL, NULL, 0);
  return run_ended(status);
}

/* A named list: for each axis its values, numbers or texts. */
SEXP shim_ensemble_axes(SEXP handle) {
  const lamina_ensemble* ensemble = handle_get(handle, &ensemble_kind);
  int64_t count = 0;
  check(lamina_ensemble_axis_count(ensemble, &count));
  SEXP list = PROTECT(Rf_allocVector(VECSXP, count));
  SEXP names = PROTECT(Rf_allocVector(STRSXP, count));
  for (int64_t axis = 0; axis < count; ++axis) {
    const char *key = NULL, *text = NULL;
    int64_t size = 0;
    double number = 0;
    int32_t is_number = 0;
    check(lamina_ensemble_axis(ensemble, axis, &key, &size));
    SET_STRING_ELT(names, axis, Rf_mkCharCE(key, CE_UTF8));
    check(lamina_ensemble_axis_value(ensemble, axis, 0, &text, &number, &is_number));
    SET_VECTOR_ELT(list, axis, Rf_allocVector(is_number ? REALSXP : STRSXP, size));
    for (int64_t i = 0; i < size; ++i) {
      check(lamina_ensemble_axis_value(ensemble, axis, i, &text, &number, NULL));
      if (is_number)
        REAL(VECTOR_ELT(list, axis))[i] = number;
      else
        SET_STRING_ELT(VECTOR_ELT(list, axis), i, Rf_mkCharCE(text, CE_UTF8));
    }
  }
  Rf_setAttrib(list, R_NamesSymbol, names);
  UNPROTECT(2);
  return list;
}

/* list(status, text) of every member. */
SEXP shim_ensemble_status(SEXP handle) {
  static const char* names[] = {"status", "text", ""};
  const lamina_ensemble* ensemble = handle_get(handle, &ensemble_kind);
  int64_t count = 0;
  check(lamina_ensemble_count(ensemble, &count));
  SEXP list = PROTECT(Rf_mkNamed(VECSXP, names));
  SET_VECTOR_ELT(list, 0, Rf_allocVector(INTSXP, count));
  SET_VECTOR_ELT(list, 1, Rf_allocVector(STRSXP, count));
  for (int64_t i = 0; i < count; ++i) {
    const char* text = NULL;
    check(lamina_ensemble_status(ensemble, i, &INTEGER(VECTOR_ELT(list, 0))[i], &text));
    SET_STRING_ELT(VECTOR_ELT(list, 1), i, Rf_mkCharCE(text, CE_UTF8));
  }
  UNPROTECT(1);
  return list;
}

/* The value of an option in one member, as text. */
SEXP shim_ensemble_option(SEXP handle, SEXP member, SEXP key) {
  const char* text = NULL;
  check(lamina_ensemble_option(handle_get(handle, &ensemble_kind), count_get(member, "member"), text_get(key, "key"), &text));
  return Rf_ScalarString(Rf_mkCharCE(text, CE_UTF8));
}

/* One of the tables, as shim_trainer_trajectory gives that of a run: "table", "summary", "times", "exponents", or one member's rows.
 * texts are the column, the axes pooled, the axis along; numbers the quantiles or levels. */
SEXP shim_ensemble_table(SEXP handle, SEXP what, SEXP texts, SEXP numbers, SEXP confidence) {
  const lamina_ensemble* ensemble = handle_get(handle, &ensemble_kind);
  SEXP owner = PROTECT(handle_new(&trajectory_kind, R_NilValue));
  lamina_trajectory* table = NULL;
  const char* name = TYPEOF(what) == STRSXP ? text_get(what, "table") : "";
  const char* text[3];
  for (int i = 0; i < 3; ++i) text[i] = Rf_translateCharUTF8(STRING_ELT(texts, i));
  const int64_t count = XLENGTH(numbers);
  const double* values = numbers_get(numbers, count, "numbers");
  if (!strcmp(name, "table"))
    check(lamina_ensemble_table(ensemble, &table));
  else if (!strcmp(name, "summary"))
    check(lamina_ensemble_summary(ensemble, text[0], text[1], values, count, &table));
  else if (!strcmp(name, "times"))
    check(lamina_ensemble_times(ensemble, text[0], values, count, &table));
  else if (!strcmp(name, "exponents"))
    check(lamina_ensemble_exponents(ensemble, text[0], text[2], text[1], values, count, number_get(confidence, "confidence"), &table));
  else
    check(lamina_ensemble_trajectory(ensemble, count_get(what, "member"), &table));
  handle_set(owner, table);
  SEXP out = PROTECT(table_new(table));
  UNPROTECT(2);
  return out;
}

SEXP shim_ensemble_save(SEXP handle, SEXP path) {
  check(lamina_ensemble_save(handle_get(handle, &ensemble_kind), path_get(path)));
  return R_NilValue;
}

SEXP shim_ensemble_load(SEXP path, SEXP task) {
  SEXP handle = PROTECT(handle_new(&ensemble_kind, task));
  lamina_ensemble* ensemble = NULL;
  check(lamina_ensemble_load(path_get(path), task == R_NilValue ? NULL : handle_get(task, &task_kind), &ensemble));
  handle_set(handle, ensemble);
  UNPROTECT(1);
  return handle;
}
