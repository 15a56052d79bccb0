/* Checks for the tests in C: each prints where it failed; main returns `failures`. */
#ifndef LAMINA_TESTS_CAPI_CHECK_H
#define LAMINA_TESTS_CAPI_CHECK_H

#include <stdio.h>
#include <string.h>

#include "lamina/lamina.h"

static int checks, failures;

static inline void check(int holds, const char* what, int line) {
  ++checks;
  if (holds) return;
  ++failures;
  fprintf(stderr, "line %d: %s; last error: \"%s\"\n", line, what, lamina_last_error());
}

/* The call fails with `status`, and the text of this failure begins with `text`. */
static inline void check_refused(lamina_status got, lamina_status status, const char* text, const char* call, int line) {
  check(got == status && strncmp(lamina_last_error(), text, strlen(text)) == 0, call, line);
}

#define CHECK(condition) check(condition, #condition, __LINE__)
#define REFUSED(call, text) check_refused(call, LAMINA_E_ARGUMENT, text, #call, __LINE__)

static inline int report(void) {
  printf("%d checks, %d failures\n", checks, failures);
  return failures != 0 || checks == 0;
}

#endif
