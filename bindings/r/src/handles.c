/* Handles, failures, and conversions of single values; see shim.h. */
#include "shim.h"

#include <math.h>

static void release_options(void* p) {
  lamina_options_free(p);
}
static void release_task(void* p) {
  lamina_task_free(p);
}
static void release_model(void* p) {
  lamina_model_free(p);
}
static void release_trainer(void* p) {
  lamina_trainer_free(p);
}
static void release_trajectory(void* p) {
  lamina_trajectory_free(p);
}
static void release_ensemble(void* p) {
  lamina_ensemble_free(p);
}
static void release_attention(void* p) {
  lamina_attention_free(p);
}

const handle_kind options_kind = {"options", release_options};
const handle_kind task_kind = {"task", release_task};
const handle_kind model_kind = {"model", release_model};
const handle_kind trainer_kind = {"trainer", release_trainer};
const handle_kind trajectory_kind = {"trajectory", release_trajectory};
const handle_kind ensemble_kind = {"sweep", release_ensemble};
const handle_kind attention_kind = {"attention", release_attention};

void check(lamina_status status) {
  if (status == LAMINA_OK) return;
  SEXP space = PROTECT(R_FindNamespace(Rf_mkString("lamina")));
  SEXP number = PROTECT(Rf_ScalarInteger(status));
  SEXP name = PROTECT(text_new(lamina_status_name(status)));
  SEXP text = PROTECT(text_new(lamina_last_error()));
  SEXP call = PROTECT(Rf_lang4(Rf_install("raise"), number, name, text));
  Rf_eval(call, space);
  UNPROTECT(5);
  Rf_error("%s", lamina_last_error()); /* not reached: raise does not return */
}

/* ---- handles ---- */

/* The kind is the pointer's tag, an external pointer itself, so that a handle of another package is never taken for ours. */
static const handle_kind* kind_of(SEXP handle) {
  if (TYPEOF(handle) != EXTPTRSXP) return NULL;
  SEXP tag = R_ExternalPtrTag(handle);
  if (TYPEOF(tag) != EXTPTRSXP || R_ExternalPtrTag(tag) != Rf_install("lamina_kind")) return NULL;
  return R_ExternalPtrAddr(tag);
}

static void finalize(SEXP handle) {
  void* address = R_ExternalPtrAddr(handle);
  const handle_kind* kind = kind_of(handle);
  if (!address || !kind) return;
  R_ClearExternalPtr(handle);
  kind->release(address);
}

SEXP handle_new(const handle_kind* kind, SEXP keep) {
  PROTECT(keep);
  SEXP tag = PROTECT(R_MakeExternalPtr((void*)kind, Rf_install("lamina_kind"), R_NilValue));
  SEXP handle = PROTECT(R_MakeExternalPtr(NULL, tag, keep));
  R_RegisterCFinalizerEx(handle, finalize, TRUE);
  UNPROTECT(3);
  return handle;
}

void handle_set(SEXP handle, void* address) {
  R_SetExternalPtrAddr(handle, address);
}

void* handle_get(SEXP handle, const handle_kind* kind) {
  if (TYPEOF(handle) != EXTPTRSXP) Rf_error("not a lamina %s", kind->name);
  void* address = R_ExternalPtrAddr(handle);
  if (!address)
    Rf_error(
        "this lamina %s is from another session of R: keep runs with lamina_save and lamina_load, not with save or saveRDS",
        kind->name);
  if (kind_of(handle) != kind) Rf_error("not a lamina %s", kind->name);
  return address;
}

SEXP options_new(SEXP keys, SEXP values, SEXP arrays) {
  SEXP handle = PROTECT(handle_new(&options_kind, R_NilValue));
  lamina_options* options = NULL;
  check(lamina_options_create(&options));
  handle_set(handle, options);
  for (R_xlen_t i = 0; i < XLENGTH(keys); ++i) {
    const char* key = Rf_translateCharUTF8(STRING_ELT(keys, i));
    SEXP value = VECTOR_ELT(values, i);
    if (TYPEOF(value) == STRSXP)
      check(lamina_options_set_text(options, key, text_get(value, key)));
    else if (LOGICAL(arrays)[i])
      check(lamina_options_set_array(options, key, numbers_get(value, XLENGTH(value), key), XLENGTH(value)));
    else
      check(lamina_options_set_number(options, key, number_get(value, key)));
  }
  UNPROTECT(1);
  return handle;
}

/* ---- single values ---- */

SEXP text_new(const char* text) {
  return Rf_ScalarString(Rf_mkCharCE(text ? text : "", CE_UTF8));
}

const char* text_get(SEXP value, const char* what) {
  if (TYPEOF(value) != STRSXP || XLENGTH(value) != 1 || STRING_ELT(value, 0) == NA_STRING)
    Rf_error("%s must be one text", what);
  return Rf_translateCharUTF8(STRING_ELT(value, 0));
}

double number_get(SEXP value, const char* what) {
  if (TYPEOF(value) != REALSXP || XLENGTH(value) != 1) Rf_error("%s must be one number", what);
  return REAL(value)[0];
}

int64_t count_get(SEXP value, const char* what) {
  const double number = number_get(value, what);
  if (!(fabs(number) <= 9007199254740992.0) || number != floor(number)) Rf_error("%s must be a whole number", what);
  return (int64_t)number;
}

const double* numbers_get(SEXP value, int64_t count, const char* what) {
  if (TYPEOF(value) != REALSXP || XLENGTH(value) != count) Rf_error("%s must be %.0f numbers", what, (double)count);
  return REAL(value);
}

/* ---- the way back into R ---- */

static int interrupt_seen;

int interrupted(void) {
  const int seen = interrupt_seen;
  interrupt_seen = 0;
  return seen;
}

int shielded(void (*body)(void*), void* data) {
  if (R_ToplevelExec(body, data)) return 1;
  interrupt_seen = 1;
  return 0;
}

struct report {
  SEXP function;
  const char** names;
  const double* values;
  int stop;
};

/* Runs behind R_ToplevelExec: a pending interrupt ends it here, and the run with it. */
static void report_to_r(void* data) {
  struct report* report = data;
  R_CheckUserInterrupt();
  if (report->function == R_NilValue) return;
  SEXP list = PROTECT(Rf_mkNamed(VECSXP, report->names));
  for (R_xlen_t i = 0; i < XLENGTH(list); ++i) SET_VECTOR_ELT(list, i, Rf_ScalarReal(report->values[i]));
  SEXP call = PROTECT(Rf_lang2(report->function, list));
  SEXP answer = PROTECT(Rf_eval(call, R_BaseEnv));
  report->stop = TYPEOF(answer) == LGLSXP && XLENGTH(answer) == 1 && LOGICAL(answer)[0] == FALSE;
  UNPROTECT(3);
}

int32_t report_progress(SEXP function, const char** names, const double* values) {
  struct report report = {function, names, values, 0};
  return !shielded(report_to_r, &report) || report.stop;
}

SEXP run_ended(lamina_status status) {
  if (status < 0) check(status);
  SEXP out = PROTECT(Rf_allocVector(INTSXP, 2));
  INTEGER(out)[0] = status;
  INTEGER(out)[1] = interrupted();
  UNPROTECT(1);
  return out;
}
