/* The sections library, catalogue and theory of lamina.h. */
#include "routines.h"
#include "shim.h"

SEXP shim_info(void) {
  static const char* names[] = {"version", "abi", "build", "isa", ""};
  SEXP info = PROTECT(Rf_mkNamed(VECSXP, names));
  SET_VECTOR_ELT(info, 0, text_new(lamina_version()));
  SET_VECTOR_ELT(info, 1, Rf_ScalarInteger(lamina_abi()));
  SET_VECTOR_ELT(info, 2, text_new(lamina_build_info()));
  const int32_t count = lamina_isa_count();
  SEXP isa = PROTECT(Rf_allocVector(STRSXP, count));
  for (int32_t i = 0; i < count; ++i) SET_STRING_ELT(isa, i, Rf_mkChar(lamina_isa_name(i)));
  SET_VECTOR_ELT(info, 3, isa);
  UNPROTECT(2);
  return info;
}

SEXP shim_status_name(SEXP status) {
  return text_new(lamina_status_name(Rf_asInteger(status)));
}

/* The entries of a scope as columns; NULL for a scope that the catalogue does not have. */
SEXP shim_catalogue(SEXP scope) {
  static const char* names[] = {"name",    "kind",  "owner",   "default",     "minimum",
                                "maximum", "words", "summary", "description", ""};
  const char* wanted = text_get(scope, "scope");
  const int64_t count = lamina_catalogue_count(wanted);
  if (count < 0) return R_NilValue;
  SEXP table = PROTECT(Rf_mkNamed(VECSXP, names));
  for (int column = 0; column < 9; ++column)
    SET_VECTOR_ELT(table, column, Rf_allocVector(column == 1 ? INTSXP : column == 4 || column == 5 ? REALSXP : STRSXP, count));
  for (int64_t i = 0; i < count; ++i) {
    lamina_catalogue_entry entry;
    check(lamina_catalogue_entry_init(&entry, sizeof entry));
    check(lamina_catalogue_describe(wanted, i, &entry));
    const struct {
      int column;
      const char* text;
    } texts[] = {{0, entry.key},   {2, entry.owner},   {3, entry.fallback},
                 {6, entry.words}, {7, entry.summary}, {8, entry.description}};
    for (int t = 0; t < 6; ++t) SET_STRING_ELT(VECTOR_ELT(table, texts[t].column), i, Rf_mkCharCE(texts[t].text, CE_UTF8));
    INTEGER(VECTOR_ELT(table, 1))[i] = entry.kind;
    REAL(VECTOR_ELT(table, 4))[i] = entry.minimum;
    REAL(VECTOR_ELT(table, 5))[i] = entry.maximum;
  }
  UNPROTECT(1);
  return table;
}

/* One closed form at each row of arguments, given as a matrix [arguments, rows]; a matrix [results, rows]. */
SEXP shim_theory(SEXP name, SEXP task, SEXP arguments, SEXP results) {
  const char* form = text_get(name, "name");
  const lamina_task* law = task == R_NilValue ? NULL : handle_get(task, &task_kind);
  const int count = Rf_nrows(arguments), rows = Rf_ncols(arguments), width = (int)count_get(results, "results");
  numbers_get(arguments, (int64_t)count * rows, "arguments");
  SEXP out = PROTECT(Rf_allocMatrix(REALSXP, width, rows));
  for (int row = 0; row < rows; ++row) {
    if (row % 256 == 255) R_CheckUserInterrupt();
    check(lamina_theory_evaluate(form, law, REAL(arguments) + (R_xlen_t)row * count, count, REAL(out) + (R_xlen_t)row * width,
                                 width));
  }
  UNPROTECT(1);
  return out;
}
