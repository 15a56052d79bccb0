/* What the files of the shim share: how a failure becomes an R condition, and how a handle of lamina lives in R.
 * An R error long-jumps. So a handle exists in R, with its finalizer, before lamina makes it (handle_new), and nothing that
 * must be freed is held across a call of R. Callbacks of lamina call R behind R_ToplevelExec alone. */
#ifndef LAMINA_R_SHIM_H
#define LAMINA_R_SHIM_H

#include <stdint.h>

#define R_NO_REMAP
#include <R.h>
#include <Rinternals.h>
#include <lamina/lamina.h>

/* Returns if status is LAMINA_OK; else raises a condition of class lamina_error with the library's text. */
void check(lamina_status status);

/* The handle's kind: a name for messages, and its free function. */
typedef struct handle_kind {
  const char* name;
  void (*release)(void*);
} handle_kind;
extern const handle_kind options_kind, task_kind, model_kind, trainer_kind, trajectory_kind, ensemble_kind, attention_kind;

/* A handle that is empty as yet; `keep` is what must outlive it in R's memory. Fill it with handle_set at once. */
SEXP handle_new(const handle_kind* kind, SEXP keep);
void handle_set(SEXP handle, void* address);
/* The address, checked: of this kind, and of this session. */
void* handle_get(SEXP handle, const handle_kind* kind);

/* A handle of options from keys, values (numbers or texts) and whether a value is an array. */
SEXP options_new(SEXP keys, SEXP values, SEXP arrays);

/* Text of lamina as an R string; a path or text of R as UTF-8, of a path in the system's encoding. */
SEXP text_new(const char* text);
const char* text_get(SEXP value, const char* what);
double number_get(SEXP value, const char* what);
/* An integer that a double holds exactly. */
int64_t count_get(SEXP value, const char* what);
/* The numbers of a double vector that has `count` elements. */
const double* numbers_get(SEXP value, int64_t count, const char* what);

/* A path, in the system's encoding. */
const char* path_get(SEXP path);
/* list(columns, definitions) of a table, the columns named. */
SEXP table_new(const lamina_trajectory* table);

/* Whether the user interrupted R inside a callback since the last call; forgets it. */
int interrupted(void);
/* Calls `body` so that no R error or interrupt leaves; 0 if it was cut short by one, which is remembered. */
int shielded(void (*body)(void*), void* data);

/* For a progress callback: calls `function` (R_NilValue: none) with the list of `values` by `names`, which end with "". Non-zero, to
 * stop, if it returns FALSE or fails, or the user interrupts. */
int32_t report_progress(SEXP function, const char** names, const double* values);
/* c(status, interrupted) of a run that has ended; a failure is raised. */
SEXP run_ended(lamina_status status);

#endif
