/* The sections trainer and trajectory of lamina.h: runs, their progress and interruption, their files and tables. A trainer's
 * handle keeps its task's. */
#include "routines.h"
#include "shim.h"

static SEXP task_of(SEXP trainer) {
  return R_ExternalPtrProtected(trainer);
}

SEXP shim_trainer_create(SEXP task, SEXP model, SEXP keys, SEXP values, SEXP arrays) {
  SEXP options = PROTECT(options_new(keys, values, arrays));
  SEXP handle = PROTECT(handle_new(&trainer_kind, task));
  lamina_trainer* trainer = NULL;
  check(lamina_trainer_create(handle_get(task, &task_kind), model == R_NilValue ? NULL : handle_get(model, &model_kind),
                              handle_get(options, &options_kind), &trainer));
  handle_set(handle, trainer);
  UNPROTECT(2);
  return handle;
}

/* ---- running ---- */

/* `user` points to the R function. */
static int32_t on_progress(void* user, const lamina_progress* p) {
  static const char* names[] = {"step", "steps", "loss", "excess", "seconds", "steps_per_second", ""};
  const double values[] = {(double)p->step, (double)p->steps, p->loss, p->excess, p->seconds, p->steps_per_second};
  return report_progress(*(SEXP*)user, names, values);
}

/* Runs at most `steps` updates, calls `function` about every `seconds`; c(status, interrupted). */
SEXP shim_trainer_run(SEXP handle, SEXP steps, SEXP function, SEXP seconds) {
  lamina_trainer* trainer = handle_get(handle, &trainer_kind);
  const int64_t updates = count_get(steps, "steps");
  check(lamina_trainer_on_progress(trainer, on_progress, &function, number_get(seconds, "seconds")));
  interrupted();
  const lamina_status status = lamina_trainer_run(trainer, updates);
  lamina_trainer_on_progress(trainer, NULL, NULL, 0);
  return run_ended(status);
}

/* ---- what a run holds ---- */

SEXP shim_trainer_step(SEXP handle) {
  int64_t step = 0;
  check(lamina_trainer_step(handle_get(handle, &trainer_kind), &step));
  return Rf_ScalarReal((double)step);
}

SEXP shim_trainer_model(SEXP handle) {
  const lamina_trainer* trainer = handle_get(handle, &trainer_kind);
  SEXP out = PROTECT(handle_new(&model_kind, task_of(handle)));
  lamina_model* model = NULL;
  check(lamina_trainer_model(trainer, &model));
  handle_set(out, model);
  UNPROTECT(1);
  return out;
}

SEXP shim_trainer_task(SEXP handle) {
  return task_of(handle);
}

/* The values that hold for the options `keys`, as texts. */
SEXP shim_trainer_options(SEXP handle, SEXP keys) {
  const lamina_trainer* trainer = handle_get(handle, &trainer_kind);
  SEXP values = PROTECT(Rf_allocVector(STRSXP, XLENGTH(keys)));
  for (R_xlen_t i = 0; i < XLENGTH(keys); ++i) {
    const char* value = NULL;
    check(lamina_trainer_option(trainer, Rf_translateCharUTF8(STRING_ELT(keys, i)), &value));
    SET_STRING_ELT(values, i, Rf_mkCharCE(value, CE_UTF8));
  }
  UNPROTECT(1);
  return values;
}

/* list(signal, value, step, before, after, time); NA for a step and a time that are not reached. */
SEXP shim_trainer_crossings(SEXP handle) {
  static const char* names[] = {"signal", "value", "step", "before", "after", "time", ""};
  const lamina_trainer* trainer = handle_get(handle, &trainer_kind);
  int64_t count = 0;
  check(lamina_trainer_crossing_count(trainer, &count));
  SEXP list = PROTECT(Rf_mkNamed(VECSXP, names));
  for (int column = 0; column < 6; ++column) SET_VECTOR_ELT(list, column, Rf_allocVector(column == 0 ? STRSXP : REALSXP, count));
  for (int64_t i = 0; i < count; ++i) {
    lamina_crossing crossing;
    check(lamina_crossing_init(&crossing, sizeof crossing));
    check(lamina_trainer_crossing(trainer, i, &crossing));
    SET_STRING_ELT(VECTOR_ELT(list, 0), i, Rf_mkCharCE(crossing.signal, CE_UTF8));
    REAL(VECTOR_ELT(list, 1))[i] = crossing.value;
    REAL(VECTOR_ELT(list, 2))[i] = crossing.step < 0 ? NA_REAL : (double)crossing.step;
    REAL(VECTOR_ELT(list, 3))[i] = crossing.before;
    REAL(VECTOR_ELT(list, 4))[i] = crossing.after;
    REAL(VECTOR_ELT(list, 5))[i] = crossing.step < 0 ? NA_REAL : crossing.time;
  }
  UNPROTECT(1);
  return list;
}

/* list(columns, definitions), the columns named. */
SEXP table_new(const lamina_trajectory* table) {
  static const char* names[] = {"columns", "definitions", ""};
  int64_t rows = 0, columns = 0;
  check(lamina_trajectory_rows(table, &rows));
  check(lamina_trajectory_columns(table, &columns));
  SEXP list = PROTECT(Rf_mkNamed(VECSXP, names));
  SEXP values = Rf_allocVector(VECSXP, columns);
  SET_VECTOR_ELT(list, 0, values);
  SEXP definitions = Rf_allocVector(STRSXP, columns);
  SET_VECTOR_ELT(list, 1, definitions);
  SEXP headings = PROTECT(Rf_allocVector(STRSXP, columns));
  for (int64_t c = 0; c < columns; ++c) {
    const char *name = NULL, *definition = NULL;
    check(lamina_trajectory_column_name(table, c, &name, &definition));
    SET_STRING_ELT(headings, c, Rf_mkCharCE(name, CE_UTF8));
    SET_STRING_ELT(definitions, c, Rf_mkCharCE(definition, CE_UTF8));
    SEXP column = Rf_allocVector(REALSXP, rows);
    SET_VECTOR_ELT(values, c, column);
    check(lamina_trajectory_read(table, c, REAL(column), rows));
  }
  Rf_setAttrib(values, R_NamesSymbol, headings);
  Rf_setAttrib(definitions, R_NamesSymbol, headings);
  UNPROTECT(2);
  return list;
}

SEXP shim_trainer_trajectory(SEXP handle) {
  const lamina_trainer* trainer = handle_get(handle, &trainer_kind);
  SEXP owner = PROTECT(handle_new(&trajectory_kind, R_NilValue));
  lamina_trajectory* table = NULL;
  check(lamina_trainer_trajectory(trainer, &table));
  handle_set(owner, table);
  SEXP out = PROTECT(table_new(table));
  UNPROTECT(2);
  return out;
}

/* ---- files ---- */

/* Paths are in the system's encoding, expanded in R. */
const char* path_get(SEXP path) {
  if (TYPEOF(path) != STRSXP || XLENGTH(path) != 1 || STRING_ELT(path, 0) == NA_STRING) Rf_error("file must be one path");
  return Rf_translateChar(STRING_ELT(path, 0));
}

SEXP shim_trainer_save(SEXP handle, SEXP path) {
  check(lamina_trainer_save(handle_get(handle, &trainer_kind), path_get(path)));
  return R_NilValue;
}

SEXP shim_trainer_load(SEXP path, SEXP task) {
  const char* file = path_get(path);
  /* The run's own task is known only after the file is read, and must be kept by the trainer's handle. */
  SEXP own = PROTECT(task == R_NilValue ? handle_new(&task_kind, R_NilValue) : task);
  SEXP handle = PROTECT(handle_new(&trainer_kind, own));
  lamina_trainer* trainer = NULL;
  check(lamina_trainer_load(file, task == R_NilValue ? NULL : handle_get(task, &task_kind), &trainer));
  handle_set(handle, trainer);
  if (task == R_NilValue) {
    lamina_task* made = NULL;
    check(lamina_trainer_task(trainer, &made));
    handle_set(own, made);
  }
  UNPROTECT(2);
  return handle;
}
