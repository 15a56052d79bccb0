/* LAMINA_ISA forces an instruction set or fails the first create: never another set in silence. Run once for each set of the
 * build, and for a name that is none. */
#include <stdlib.h>

#include "check.h"

static void test_forced(void) {
  lamina_task* task = NULL;
  lamina_model* model = NULL;
  lamina_trainer* trainer = NULL;
  CHECK(lamina_task_create("in_context_recall", NULL, &task) == LAMINA_OK);
  CHECK(lamina_model_create(task, NULL, &model) == LAMINA_OK);
  CHECK(strcmp(lamina_model_isa(model), getenv("LAMINA_ISA")) == 0);
  CHECK(lamina_trainer_create(task, NULL, NULL, &trainer) == LAMINA_OK);
  lamina_trainer_free(trainer), lamina_model_free(model), lamina_task_free(task);
}

static void test_refused(void) {
  const char* text = "LAMINA_ISA names no instruction set that runs here, must be one of ";
  lamina_options* options = NULL;
  lamina_task* task = NULL;
  CHECK(lamina_options_create(&options) == LAMINA_E_UNSUPPORTED && options == NULL);
  CHECK(strstr(lamina_last_error(), text) != NULL && strstr(lamina_last_error(), "reference") != NULL);
  CHECK(lamina_task_create("in_context_recall", NULL, &task) == LAMINA_E_UNSUPPORTED && task == NULL);
  CHECK(strstr(lamina_last_error(), text) != NULL);
}

int main(void) {
  const char* forced = getenv("LAMINA_ISA");
  CHECK(forced != NULL);
  if (forced == NULL) return report();
  int runs = 0;
  for (int32_t i = 0; i < lamina_isa_count(); ++i) runs = runs || strcmp(lamina_isa_name(i), forced) == 0;
  if (runs)
    test_forced();
  else
    test_refused();
  if (report() != 0) return 1;
  if (runs || strcmp(forced, "no_such_set") == 0) return 0;
  printf("SKIPPED: this CPU cannot run %s; that it is refused was checked\n", forced);
  return 77;
}
