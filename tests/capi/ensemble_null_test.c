/* As null_test.c, for the section ensemble of the header. */
#include "check.h"

static lamina_task* task;
static lamina_ensemble* ensemble;

static void make(void) {
  lamina_options* options = NULL;
  CHECK(lamina_options_create(&options) == LAMINA_OK);
  CHECK(lamina_options_set_number(options, "samples", 16) == LAMINA_OK);
  CHECK(lamina_options_set_number(options, "steps", 2) == LAMINA_OK);
  CHECK(lamina_task_create("in_context_recall", options, &task) == LAMINA_OK);
  CHECK(lamina_ensemble_create("in_context_recall", NULL, options, &ensemble) == LAMINA_OK);
  CHECK(lamina_ensemble_vary(ensemble, "seed", "0..1") == LAMINA_OK);
  CHECK(lamina_ensemble_run(ensemble) == LAMINA_OK);
  lamina_options_free(options);
}

static int32_t progress(void* user, const lamina_ensemble_progress* now) {
  (void)user, (void)now;
  return 0;
}

static void test_ensemble(void) {
  lamina_ensemble* made = NULL;
  lamina_options* own = NULL;
  lamina_trajectory* table = NULL;
  const char* text = "kept";
  const double levels[] = {0.5};
  int64_t count = -7;
  int32_t is_number = -7;
  lamina_status status = -7;
  double number = -7;
  REFUSED(lamina_ensemble_create(NULL, NULL, NULL, &made), "lamina_ensemble_create: name is NULL");
  REFUSED(lamina_ensemble_create("in_context_recall", NULL, NULL, NULL), "lamina_ensemble_create: out is NULL");
  REFUSED(lamina_ensemble_create("unheard", NULL, NULL, &made), "lamina_ensemble_create: task is \"unheard\"");
  REFUSED(lamina_ensemble_create("unheard", task, NULL, &made), "lamina_ensemble_create: name is \"unheard\", must be NULL or");
  REFUSED(lamina_ensemble_vary(NULL, "seed", "1"), "lamina_ensemble_vary: ensemble is NULL");
  REFUSED(lamina_ensemble_vary(ensemble, NULL, "1"), "lamina_ensemble_vary: key is NULL");
  REFUSED(lamina_ensemble_vary(ensemble, "seed", NULL), "lamina_ensemble_vary: values is NULL");
  REFUSED(lamina_ensemble_count(NULL, &count), "lamina_ensemble_count: ensemble is NULL");
  REFUSED(lamina_ensemble_count(ensemble, NULL), "lamina_ensemble_count: out is NULL");
  REFUSED(lamina_ensemble_axis_count(NULL, &count), "lamina_ensemble_axis_count: ensemble is NULL");
  REFUSED(lamina_ensemble_axis_count(ensemble, NULL), "lamina_ensemble_axis_count: out is NULL");
  REFUSED(lamina_ensemble_axis(NULL, 0, &text, &count), "lamina_ensemble_axis: ensemble is NULL");
  REFUSED(lamina_ensemble_axis(ensemble, 1, &text, &count), "lamina_ensemble_axis: axis is 1, must be in [0, 0]");
  REFUSED(lamina_ensemble_axis(ensemble, 0, NULL, &count), "lamina_ensemble_axis: key is NULL");
  REFUSED(lamina_ensemble_axis(ensemble, 0, &text, NULL), "lamina_ensemble_axis: count is NULL");
  REFUSED(lamina_ensemble_axis_value(NULL, 0, 0, &text, &number, &is_number), "lamina_ensemble_axis_value: ensemble is NULL");
  REFUSED(lamina_ensemble_axis_value(ensemble, -1, 0, &text, &number, &is_number), "lamina_ensemble_axis_value: axis is -1");
  REFUSED(lamina_ensemble_axis_value(ensemble, 0, 2, &text, &number, &is_number), "lamina_ensemble_axis_value: index is 2");
  REFUSED(lamina_ensemble_axis_value(ensemble, 0, 0, NULL, &number, &is_number), "lamina_ensemble_axis_value: text is NULL");
  REFUSED(lamina_ensemble_option(NULL, 0, "seed", &text), "lamina_ensemble_option: ensemble is NULL");
  REFUSED(lamina_ensemble_option(ensemble, 2, "seed", &text), "lamina_ensemble_option: member is 2, must be in [0, 1]");
  REFUSED(lamina_ensemble_option(ensemble, 0, NULL, &text), "lamina_ensemble_option: key is NULL");
  REFUSED(lamina_ensemble_option(ensemble, 0, "seed", NULL), "lamina_ensemble_option: out is NULL");
  REFUSED(lamina_ensemble_options(NULL, 0, &own), "lamina_ensemble_options: ensemble is NULL");
  REFUSED(lamina_ensemble_options(ensemble, -1, &own), "lamina_ensemble_options: member is -1");
  REFUSED(lamina_ensemble_options(ensemble, 0, NULL), "lamina_ensemble_options: out is NULL");
  REFUSED(lamina_ensemble_on_progress(NULL, progress, NULL, 1), "lamina_ensemble_on_progress: ensemble is NULL");
  REFUSED(lamina_ensemble_on_progress(ensemble, progress, NULL, -1), "lamina_ensemble_on_progress: seconds is -1");
  CHECK(lamina_ensemble_on_progress(ensemble, NULL, NULL, 0) == LAMINA_OK);
  REFUSED(lamina_ensemble_run(NULL), "lamina_ensemble_run: ensemble is NULL");
  lamina_ensemble_stop(NULL);
  REFUSED(lamina_ensemble_status(NULL, 0, &status, &text), "lamina_ensemble_status: ensemble is NULL");
  REFUSED(lamina_ensemble_status(ensemble, 2, &status, &text), "lamina_ensemble_status: member is 2");
  REFUSED(lamina_ensemble_status(ensemble, 0, NULL, &text), "lamina_ensemble_status: status is NULL");
  REFUSED(lamina_ensemble_trajectory(NULL, 0, &table), "lamina_ensemble_trajectory: ensemble is NULL");
  REFUSED(lamina_ensemble_trajectory(ensemble, 2, &table), "lamina_ensemble_trajectory: member is 2");
  REFUSED(lamina_ensemble_trajectory(ensemble, 0, NULL), "lamina_ensemble_trajectory: out is NULL");
  REFUSED(lamina_ensemble_table(NULL, &table), "lamina_ensemble_table: ensemble is NULL");
  REFUSED(lamina_ensemble_table(ensemble, NULL), "lamina_ensemble_table: out is NULL");
  REFUSED(lamina_ensemble_summary(NULL, "loss", "seed", levels, 1, &table), "lamina_ensemble_summary: ensemble is NULL");
  REFUSED(lamina_ensemble_summary(ensemble, NULL, "seed", levels, 1, &table), "lamina_ensemble_summary: column is NULL");
  REFUSED(lamina_ensemble_summary(ensemble, "gain", "seed", levels, 1, &table), "lamina_ensemble_summary: column is \"gain\"");
  REFUSED(lamina_ensemble_summary(ensemble, "loss", "noise", levels, 1, &table), "lamina_ensemble_summary: over is \"noise\"");
  REFUSED(lamina_ensemble_summary(ensemble, "loss", NULL, NULL, 1, &table), "lamina_ensemble_summary: quantiles is NULL");
  REFUSED(lamina_ensemble_summary(ensemble, "loss", NULL, levels, -1, &table), "lamina_ensemble_summary: count is -1");
  REFUSED(lamina_ensemble_summary(ensemble, "loss", NULL, levels, 1, NULL), "lamina_ensemble_summary: out is NULL");
  REFUSED(lamina_ensemble_times(NULL, "loss", levels, 1, &table), "lamina_ensemble_times: ensemble is NULL");
  REFUSED(lamina_ensemble_times(ensemble, NULL, levels, 1, &table), "lamina_ensemble_times: column is NULL");
  REFUSED(lamina_ensemble_times(ensemble, "loss", NULL, 1, &table), "lamina_ensemble_times: levels is NULL");
  REFUSED(lamina_ensemble_times(ensemble, "loss", levels, 1, NULL), "lamina_ensemble_times: out is NULL");
  REFUSED(lamina_ensemble_exponents(NULL, "loss", "level", NULL, levels, 1, 0.9, &table), "lamina_ensemble_exponents: ensemble is NULL");
  REFUSED(lamina_ensemble_exponents(ensemble, NULL, "level", NULL, levels, 1, 0.9, &table), "lamina_ensemble_exponents: column is NULL");
  REFUSED(lamina_ensemble_exponents(ensemble, "loss", NULL, NULL, levels, 1, 0.9, &table), "lamina_ensemble_exponents: along is NULL");
  REFUSED(lamina_ensemble_exponents(ensemble, "loss", "noise", NULL, levels, 1, 0.9, &table), "lamina_ensemble_exponents: along is \"noise\"");
  REFUSED(lamina_ensemble_exponents(ensemble, "loss", "seed", NULL, levels, 1, 0.9, &table), "lamina_ensemble_exponents: along is seed, must be");
  REFUSED(lamina_ensemble_exponents(ensemble, "loss", "level", NULL, NULL, 1, 0.9, &table), "lamina_ensemble_exponents: levels is NULL");
  REFUSED(lamina_ensemble_exponents(ensemble, "loss", "level", NULL, levels, 1, 1, &table), "lamina_ensemble_exponents: confidence is 1");
  REFUSED(lamina_ensemble_exponents(ensemble, "loss", "level", NULL, levels, 1, 0.9, NULL), "lamina_ensemble_exponents: out is NULL");
  REFUSED(lamina_ensemble_save(NULL, "x"), "lamina_ensemble_save: ensemble is NULL");
  REFUSED(lamina_ensemble_save(ensemble, NULL), "lamina_ensemble_save: path is NULL");
  CHECK(lamina_ensemble_save(ensemble, "there/is/no/such/folder/file") == LAMINA_E_FILE);
  REFUSED(lamina_ensemble_load(NULL, NULL, &made), "lamina_ensemble_load: path is NULL");
  REFUSED(lamina_ensemble_load("x", NULL, NULL), "lamina_ensemble_load: out is NULL");
  CHECK(lamina_ensemble_load("there/is/no/such/file", NULL, &made) == LAMINA_E_FILE);
  CHECK(made == NULL && own == NULL && table == NULL && count == -7 && status == -7 && is_number == -7 && number == -7);
  CHECK(strcmp(text, "kept") == 0);
}

int main(void) {
  make();
  test_ensemble();
  lamina_ensemble_free(NULL), lamina_ensemble_free(ensemble), lamina_task_free(task);
  return report();
}
