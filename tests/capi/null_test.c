/* NULL for every pointer argument that must be given, and numbers outside their range: the status, and a text that names the
 * function, the argument and its value; no output is touched. */
#include <math.h>

#include "check.h"

static lamina_options* options;
static lamina_task* task;
static lamina_model* model;
static lamina_trainer* trainer;
static lamina_trajectory* trajectory;

static void make(void) {
  CHECK(lamina_options_create(&options) == LAMINA_OK);
  CHECK(lamina_options_set_number(options, "samples", 16) == LAMINA_OK);
  CHECK(lamina_options_set_number(options, "steps", 2) == LAMINA_OK);
  CHECK(lamina_options_set_text(options, "crossings", "loss=1") == LAMINA_OK);
  CHECK(lamina_task_create("in_context_recall", options, &task) == LAMINA_OK);
  CHECK(lamina_model_create(task, options, &model) == LAMINA_OK);
  CHECK(lamina_trainer_create(task, model, options, &trainer) == LAMINA_OK);
  CHECK(lamina_trainer_run(trainer, 0) == LAMINA_OK);
  CHECK(lamina_trainer_trajectory(trainer, &trajectory) == LAMINA_OK);
}

static void test_options(void) {
  const double values[] = {1, 2};
  lamina_catalogue_entry entry;
  CHECK(lamina_catalogue_entry_init(&entry, sizeof entry) == LAMINA_OK);
  REFUSED(lamina_options_create(NULL), "lamina_options_create: out is NULL");
  REFUSED(lamina_options_set_number(NULL, "noise", 1), "lamina_options_set_number: options is NULL");
  REFUSED(lamina_options_set_number(options, NULL, 1), "lamina_options_set_number: key is NULL");
  REFUSED(lamina_options_set_text(NULL, "noise", "1"), "lamina_options_set_text: options is NULL");
  REFUSED(lamina_options_set_text(options, NULL, "1"), "lamina_options_set_text: key is NULL");
  REFUSED(lamina_options_set_text(options, "noise", NULL), "lamina_options_set_text: value is NULL");
  REFUSED(lamina_options_set_array(NULL, "noise", values, 2), "lamina_options_set_array: options is NULL");
  REFUSED(lamina_options_set_array(options, NULL, values, 2), "lamina_options_set_array: key is NULL");
  REFUSED(lamina_options_set_array(options, "noise", NULL, 2), "lamina_options_set_array: values is NULL");
  REFUSED(lamina_options_set_array(options, "noise", values, -1), "lamina_options_set_array: count is -1");
  REFUSED(lamina_catalogue_describe(NULL, 0, &entry), "lamina_catalogue_describe: scope is NULL");
  REFUSED(lamina_catalogue_describe("tasks", 0, NULL), "lamina_catalogue_describe: out is NULL");
  REFUSED(lamina_catalogue_describe("tasks", -1, &entry), "lamina_catalogue_describe: index is -1");
  REFUSED(lamina_catalogue_describe("tasks", 1000, &entry), "lamina_catalogue_describe: index is 1000");
  REFUSED(lamina_catalogue_describe("unheard", 0, &entry), "lamina_catalogue_describe: scope is \"unheard\"");
  CHECK(entry.key == NULL && entry.kind == 0);
  CHECK(lamina_catalogue_count(NULL) == -1);
  CHECK(lamina_catalogue_count("unheard") == -1);
}

static void test_task(void) {
  double prompts[3 * 256], targets[6];
  lamina_task* made = NULL;
  lamina_task_shape shape;
  const char* text = "kept";
  CHECK(lamina_task_shape_init(&shape, sizeof shape) == LAMINA_OK);
  REFUSED(lamina_task_create(NULL, NULL, &made), "lamina_task_create: name is NULL");
  REFUSED(lamina_task_create("in_context_recall", NULL, NULL), "lamina_task_create: out is NULL");
  REFUSED(lamina_task_create("unheard", NULL, &made),
          "lamina_task_create: task is \"unheard\", must be one of in_context_recall");
  REFUSED(lamina_task_from_arrays(NULL, &made), "lamina_task_from_arrays: arrays is NULL");
  REFUSED(lamina_task_from_callback(NULL, &made), "lamina_task_from_callback: callback is NULL");
  CHECK(made == NULL);
  REFUSED(lamina_task_get_shape(NULL, &shape), "lamina_task_get_shape: task is NULL");
  REFUSED(lamina_task_get_shape(task, NULL), "lamina_task_get_shape: out is NULL");
  CHECK(lamina_task_name(NULL) == NULL);
  REFUSED(lamina_task_token(NULL, 0, &text), "lamina_task_token: task is NULL");
  REFUSED(lamina_task_token(task, 0, NULL), "lamina_task_token: out is NULL");
  REFUSED(lamina_task_token(task, -1, &text), "lamina_task_token: token is -1, must be in [0, 60]");
  REFUSED(lamina_task_token(task, 61, &text), "lamina_task_token: token is 61, must be in [0, 60]");
  CHECK(strcmp(text, "kept") == 0);
  prompts[0] = targets[0] = -7;
  REFUSED(lamina_task_sample(NULL, 0, 1, 0, 3, prompts, targets), "lamina_task_sample: task is NULL");
  REFUSED(lamina_task_sample(task, 0, 1, 0, 3, NULL, targets), "lamina_task_sample: prompts is NULL");
  REFUSED(lamina_task_sample(task, 0, 1, 0, 3, prompts, NULL), "lamina_task_sample: targets is NULL");
  REFUSED(lamina_task_sample(task, 3, 1, 0, 3, prompts, targets), "lamina_task_sample: split is 3, must be in [0, 2]");
  REFUSED(lamina_task_sample(task, -1, 1, 0, 3, prompts, targets), "lamina_task_sample: split is -1");
  REFUSED(lamina_task_sample(task, 0, 1, -1, 3, prompts, targets), "lamina_task_sample: first is -1");
  REFUSED(lamina_task_sample(task, 0, 1, 0, -3, prompts, targets), "lamina_task_sample: count is -3");
  REFUSED(lamina_task_sample(task, 0, 1, 0, INT64_MAX, prompts, targets), "lamina_task_sample: count is 9223372036854775807");
  REFUSED(lamina_task_sample(task, 0, 1, 0, INT64_C(1) << 44, prompts, targets),
          "lamina_task_sample: count is 17592186044416 and the task's length is 256, their product must be at most");
  REFUSED(lamina_task_sample(task, 0, (UINT64_C(1) << 53) + 1, 0, 3, prompts, targets),
          "lamina_task_sample: seed is 9007199254740993, must be in [0, 9007199254740992]");
  REFUSED(lamina_task_sample(task, 0, 1, 0, 3, prompts, prompts + 10), "lamina_task_sample: prompts overlaps targets");
  CHECK(prompts[0] == -7 && targets[0] == -7);
  CHECK(lamina_task_sample(task, 0, 1, 0, 0, NULL, NULL) == LAMINA_OK);
}

static void test_model(void) {
  enum { length = 4, most = 4096 };
  static double many[most];
  double prompts[] = {0, 40, 41, 0}, targets[] = {40, 40}, loss = -7, gradient[64];
  lamina_model* made = NULL;
  lamina_tensor tensor;
  int64_t count = -7, parameters = 0;
  CHECK(lamina_tensor_init(&tensor, sizeof tensor) == LAMINA_OK);
  CHECK(lamina_model_parameter_count(model, &parameters) == LAMINA_OK && parameters > 0 && parameters <= 64);
  REFUSED(lamina_model_create(NULL, NULL, &made), "lamina_model_create: task is NULL");
  REFUSED(lamina_model_create(task, NULL, NULL), "lamina_model_create: out is NULL");
  REFUSED(lamina_model_copy(NULL, &made), "lamina_model_copy: model is NULL");
  REFUSED(lamina_model_copy(model, NULL), "lamina_model_copy: out is NULL");
  CHECK(made == NULL);
  CHECK(lamina_model_isa(NULL) == NULL);
  REFUSED(lamina_model_parameter_count(NULL, &count), "lamina_model_parameter_count: model is NULL");
  REFUSED(lamina_model_parameter_count(model, NULL), "lamina_model_parameter_count: out is NULL");
  REFUSED(lamina_model_tensor_count(NULL, &count), "lamina_model_tensor_count: model is NULL");
  REFUSED(lamina_model_tensor_count(model, NULL), "lamina_model_tensor_count: out is NULL");
  REFUSED(lamina_model_tensor_describe(NULL, 0, &tensor), "lamina_model_tensor_describe: model is NULL");
  REFUSED(lamina_model_tensor_describe(model, 0, NULL), "lamina_model_tensor_describe: out is NULL");
  REFUSED(lamina_model_tensor_describe(model, -1, &tensor), "lamina_model_tensor_describe: index is -1");
  REFUSED(lamina_model_tensor_describe(model, 99, &tensor), "lamina_model_tensor_describe: index is 99");
  CHECK(count == -7 && tensor.name == NULL);

  many[0] = -7;
  REFUSED(lamina_model_get_parameters(NULL, many, parameters), "lamina_model_get_parameters: model is NULL");
  REFUSED(lamina_model_get_parameters(model, NULL, parameters), "lamina_model_get_parameters: out is NULL");
  REFUSED(lamina_model_get_parameters(model, many, parameters + 1), "lamina_model_get_parameters: count is ");
  REFUSED(lamina_model_set_parameters(NULL, many, parameters), "lamina_model_set_parameters: model is NULL");
  REFUSED(lamina_model_set_parameters(model, NULL, parameters), "lamina_model_set_parameters: values is NULL");
  REFUSED(lamina_model_set_parameters(model, many, parameters - 1), "lamina_model_set_parameters: count is ");
  many[0] = NAN;
  REFUSED(lamina_model_set_parameters(model, many, parameters),
          "lamina_model_set_parameters: values[0] is nan, must be finite");
  many[0] = -7;

  REFUSED(lamina_model_forward(NULL, prompts, 1, length, 0, many), "lamina_model_forward: model is NULL");
  REFUSED(lamina_model_forward(model, NULL, 1, length, 0, many), "lamina_model_forward: prompts is NULL");
  REFUSED(lamina_model_forward(model, prompts, 1, length, 0, NULL), "lamina_model_forward: logits is NULL");
  REFUSED(lamina_model_forward(model, prompts, -1, length, 0, many), "lamina_model_forward: count is -1");
  REFUSED(lamina_model_forward(model, prompts, 1, 1, 0, many), "lamina_model_forward: length is 1");
  REFUSED(lamina_model_forward(model, prompts, INT64_C(1) << 40, INT64_C(1) << 40, 0, many), "lamina_model_forward: count is ");
  REFUSED(lamina_model_forward(model, prompts, 1, length, 3, many), "lamina_model_forward: part is 3, must be in [0, 2]");
  REFUSED(lamina_model_forward(model, many, 1, length, 0, many), "lamina_model_forward: logits overlaps prompts");
  REFUSED(lamina_model_attention(NULL, prompts, 1, length, many), "lamina_model_attention: model is NULL");
  REFUSED(lamina_model_attention(model, NULL, 1, length, many), "lamina_model_attention: prompts is NULL");
  REFUSED(lamina_model_attention(model, prompts, 1, length, NULL), "lamina_model_attention: weights is NULL");
  REFUSED(lamina_model_attention(model, prompts, 1, 0, many), "lamina_model_attention: length is 0");
  prompts[1] = 0.5;
  REFUSED(lamina_model_forward(model, prompts, 1, length, 0, many),
          "lamina_model_forward: prompts[0, 1] is 0.5, must be an integer in [0, 60]");
  prompts[1] = 61;
  REFUSED(lamina_model_attention(model, prompts, 1, length, many), "lamina_model_attention: prompts[0, 1] is 61");
  prompts[1] = NAN;
  REFUSED(lamina_model_loss_gradient(model, prompts, targets, 1, length, &loss, gradient),
          "lamina_model_loss_gradient: prompts[0, 1] is nan");
  prompts[1] = 40;
  CHECK(many[0] == -7);

  gradient[0] = -7;
  REFUSED(lamina_model_loss_gradient(NULL, prompts, targets, 1, length, &loss, gradient),
          "lamina_model_loss_gradient: model is NULL");
  REFUSED(lamina_model_loss_gradient(model, NULL, targets, 1, length, &loss, gradient),
          "lamina_model_loss_gradient: prompts is NULL");
  REFUSED(lamina_model_loss_gradient(model, prompts, NULL, 1, length, &loss, gradient),
          "lamina_model_loss_gradient: targets is NULL");
  REFUSED(lamina_model_loss_gradient(model, prompts, targets, 1, length, NULL, gradient),
          "lamina_model_loss_gradient: loss is NULL");
  REFUSED(lamina_model_loss_gradient(model, prompts, targets, 0, length, &loss, gradient),
          "lamina_model_loss_gradient: count is 0");
  REFUSED(lamina_model_loss_gradient(model, prompts, targets, 1, length, &loss, prompts),
          "lamina_model_loss_gradient: gradient overlaps prompts");
  REFUSED(lamina_model_loss_gradient(model, prompts, targets, 1, length, gradient, gradient),
          "lamina_model_loss_gradient: gradient overlaps loss");
  targets[0] = -1;
  REFUSED(lamina_model_loss_gradient(model, prompts, targets, 1, length, &loss, gradient),
          "lamina_model_loss_gradient: targets[0, 0] is -1, must be an integer in [0, 60]");
  targets[0] = 40;
  CHECK(loss == -7 && gradient[0] == -7);
  CHECK(lamina_model_loss_gradient(model, prompts, targets, 1, length, &loss, NULL) == LAMINA_OK && loss > 0);
}

static void test_theory(void) {
  double out = -7;
  REFUSED(lamina_theory_evaluate(NULL, NULL, NULL, 0, &out, 1), "lamina_theory_evaluate: name is NULL");
  REFUSED(lamina_theory_evaluate("unheard", NULL, NULL, 0, &out, 1), "lamina_theory_evaluate: ");
  /* Every closed form, with everything wrong in turn. */
  const int64_t forms = lamina_catalogue_count("theory");
  CHECK(forms > 0);
  for (int64_t i = 0; i < forms; ++i) {
    lamina_catalogue_entry entry;
    CHECK(lamina_catalogue_entry_init(&entry, sizeof entry) == LAMINA_OK);
    CHECK(lamina_catalogue_describe("theory", i, &entry) == LAMINA_OK);
    static double arguments[64], results[64];
    const int64_t count = entry.minimum < 0 ? 1 : (int64_t)entry.minimum;
    const int64_t result_count = entry.maximum < 0 ? count : (int64_t)entry.maximum;
    CHECK(count <= 64 && result_count >= 1 && result_count <= 64);
    REFUSED(lamina_theory_evaluate(entry.key, task, arguments, count, NULL, result_count),
            "lamina_theory_evaluate: out is NULL");
    REFUSED(lamina_theory_evaluate(entry.key, task, arguments, count, results, result_count + 1),
            "lamina_theory_evaluate: out_count is ");
    REFUSED(lamina_theory_evaluate(entry.key, task, arguments, -1, results, result_count),
            "lamina_theory_evaluate: argument_count is -1");
    if (count > 0) {
      REFUSED(lamina_theory_evaluate(entry.key, task, NULL, count, results, result_count),
              "lamina_theory_evaluate: arguments is NULL");
      arguments[0] = NAN;
      REFUSED(lamina_theory_evaluate(entry.key, task, arguments, count, results, result_count),
              "lamina_theory_evaluate: arguments[0] is nan");
      arguments[0] = 0;
    }
    if (entry.owner[0] != 0)
      REFUSED(lamina_theory_evaluate(entry.key, NULL, arguments, count, results, result_count),
              "lamina_theory_evaluate: task is NULL");
  }
  CHECK(out == -7);
}

static int32_t progress(void* user, const lamina_progress* now) {
  (void)user, (void)now;
  return 0;
}

static void test_trainer(void) {
  lamina_trainer* made = NULL;
  lamina_model* copy = NULL;
  lamina_task* own = NULL;
  lamina_trajectory* table = NULL;
  const char* text = "kept";
  int64_t step = -7;
  REFUSED(lamina_trainer_create(NULL, NULL, NULL, &made), "lamina_trainer_create: task is NULL");
  REFUSED(lamina_trainer_create(task, NULL, NULL, NULL), "lamina_trainer_create: out is NULL");
  REFUSED(lamina_trainer_watch(NULL, "lambda"), "lamina_trainer_watch: trainer is NULL");
  REFUSED(lamina_trainer_watch(trainer, NULL), "lamina_trainer_watch: probe is NULL");
  REFUSED(lamina_trainer_on_progress(NULL, progress, NULL, 1), "lamina_trainer_on_progress: trainer is NULL");
  REFUSED(lamina_trainer_on_progress(trainer, progress, NULL, -1), "lamina_trainer_on_progress: seconds is -1");
  REFUSED(lamina_trainer_on_progress(trainer, progress, NULL, NAN), "lamina_trainer_on_progress: seconds is nan");
  CHECK(lamina_trainer_on_progress(trainer, NULL, NULL, 0) == LAMINA_OK);
  REFUSED(lamina_trainer_run(NULL, 1), "lamina_trainer_run: trainer is NULL");
  REFUSED(lamina_trainer_run(trainer, -1), "lamina_trainer_run: steps is -1");
  lamina_trainer_stop(NULL);
  REFUSED(lamina_trainer_step(NULL, &step), "lamina_trainer_step: trainer is NULL");
  REFUSED(lamina_trainer_step(trainer, NULL), "lamina_trainer_step: out is NULL");
  lamina_crossing crossing;
  CHECK(lamina_crossing_init(&crossing, sizeof crossing) == LAMINA_OK);
  REFUSED(lamina_crossing_init(NULL, sizeof crossing), "lamina_crossing_init: crossing is NULL");
  REFUSED(lamina_trainer_crossing_count(NULL, &step), "lamina_trainer_crossing_count: trainer is NULL");
  REFUSED(lamina_trainer_crossing_count(trainer, NULL), "lamina_trainer_crossing_count: out is NULL");
  REFUSED(lamina_trainer_crossing(NULL, 0, &crossing), "lamina_trainer_crossing: trainer is NULL");
  REFUSED(lamina_trainer_crossing(trainer, 0, NULL), "lamina_trainer_crossing: out is NULL");
  REFUSED(lamina_trainer_crossing(trainer, -1, &crossing), "lamina_trainer_crossing: index is -1");
  REFUSED(lamina_trainer_crossing(trainer, 1, &crossing), "lamina_trainer_crossing: index is 1");
  CHECK(crossing.signal == NULL && step == -7);
  REFUSED(lamina_trainer_task(NULL, &own), "lamina_trainer_task: trainer is NULL");
  REFUSED(lamina_trainer_task(trainer, NULL), "lamina_trainer_task: out is NULL");
  REFUSED(lamina_trainer_option(NULL, "noise", &text), "lamina_trainer_option: trainer is NULL");
  REFUSED(lamina_trainer_option(trainer, NULL, &text), "lamina_trainer_option: key is NULL");
  REFUSED(lamina_trainer_option(trainer, "noise", NULL), "lamina_trainer_option: out is NULL");
  check_refused(lamina_trainer_option(trainer, "file", &text), LAMINA_E_OPTION,
                "lamina_trainer_option: key is \"file\", must be an option of this run", "an option of another task", __LINE__);
  CHECK(own == NULL && strcmp(text, "kept") == 0);
  CHECK(lamina_trainer_option(trainer, "samples", &text) == LAMINA_OK && strcmp(text, "16") == 0);
  CHECK(lamina_trainer_option(trainer, "noise", &text) == LAMINA_OK && strcmp(text, "0.5") == 0);
  CHECK(lamina_trainer_option(trainer, "variant", &text) == LAMINA_OK && strcmp(text, "full") == 0);
  CHECK(lamina_trainer_task(trainer, &own) == LAMINA_OK && strcmp(lamina_task_name(own), "in_context_recall") == 0);
  lamina_task_free(own);
  REFUSED(lamina_trainer_model(NULL, &copy), "lamina_trainer_model: trainer is NULL");
  REFUSED(lamina_trainer_model(trainer, NULL), "lamina_trainer_model: out is NULL");
  REFUSED(lamina_trainer_trajectory(NULL, &table), "lamina_trainer_trajectory: trainer is NULL");
  REFUSED(lamina_trainer_trajectory(trainer, NULL), "lamina_trainer_trajectory: out is NULL");
  REFUSED(lamina_trainer_save(NULL, "x"), "lamina_trainer_save: trainer is NULL");
  REFUSED(lamina_trainer_save(trainer, NULL), "lamina_trainer_save: path is NULL");
  REFUSED(lamina_trainer_load(NULL, NULL, &made), "lamina_trainer_load: path is NULL");
  REFUSED(lamina_trainer_load("x", NULL, NULL), "lamina_trainer_load: out is NULL");
  CHECK(lamina_trainer_load("there/is/no/such/file", NULL, &made) == LAMINA_E_FILE);
  CHECK(strncmp(lamina_last_error(), "lamina_trainer_load: ", 21) == 0);
  CHECK(lamina_trainer_save(trainer, "there/is/no/such/folder/file") == LAMINA_E_FILE);
  CHECK(made == NULL && copy == NULL && table == NULL && step == -7);
}

static void test_trajectory(void) {
  int64_t rows = -7, columns = 0;
  const char *name = "kept", *definition = "kept";
  double values[8] = {-7};
  REFUSED(lamina_trajectory_rows(NULL, &rows), "lamina_trajectory_rows: trajectory is NULL");
  REFUSED(lamina_trajectory_rows(trajectory, NULL), "lamina_trajectory_rows: out is NULL");
  REFUSED(lamina_trajectory_columns(NULL, &rows), "lamina_trajectory_columns: trajectory is NULL");
  REFUSED(lamina_trajectory_columns(trajectory, NULL), "lamina_trajectory_columns: out is NULL");
  REFUSED(lamina_trajectory_column_name(NULL, 0, &name, &definition), "lamina_trajectory_column_name: trajectory is NULL");
  REFUSED(lamina_trajectory_column_name(trajectory, 0, NULL, &definition), "lamina_trajectory_column_name: name is NULL");
  REFUSED(lamina_trajectory_column_name(trajectory, -1, &name, &definition), "lamina_trajectory_column_name: column is -1");
  REFUSED(lamina_trajectory_column_name(trajectory, 999, &name, &definition), "lamina_trajectory_column_name: column is 999");
  REFUSED(lamina_trajectory_read(NULL, 0, values, 8), "lamina_trajectory_read: trajectory is NULL");
  REFUSED(lamina_trajectory_read(trajectory, 0, NULL, 8), "lamina_trajectory_read: out is NULL");
  REFUSED(lamina_trajectory_read(trajectory, 0, values, 2), "lamina_trajectory_read: capacity is 2, must be in [3, ");
  REFUSED(lamina_trajectory_read(trajectory, -1, values, 8), "lamina_trajectory_read: column is -1");
  CHECK(rows == -7 && values[0] == -7 && strcmp(name, "kept") == 0 && strcmp(definition, "kept") == 0);
  CHECK(lamina_trajectory_rows(trajectory, &rows) == LAMINA_OK && rows == 3);
  CHECK(lamina_trajectory_columns(trajectory, &columns) == LAMINA_OK && columns >= 3);
  const char* first[] = {"step", "loss", "excess"};
  for (int64_t column = 0; column < columns; ++column) {
    CHECK(lamina_trajectory_column_name(trajectory, column, &name, NULL) == LAMINA_OK);
    CHECK(lamina_trajectory_column_name(trajectory, column, &name, &definition) == LAMINA_OK);
    CHECK(name[0] != 0 && definition[0] != 0 && strchr(definition, '\n') == NULL);
    if (column < 3) CHECK(strcmp(name, first[column]) == 0);
  }
  CHECK(lamina_trajectory_read(trajectory, 0, values, 8) == LAMINA_OK);
  CHECK(values[0] == 0 && values[1] == 1 && values[2] == 2);
}

int main(void) {
  make();
  test_options();
  test_task();
  test_model();
  test_theory();
  test_trainer();
  test_trajectory();
  lamina_options_free(NULL), lamina_task_free(NULL), lamina_model_free(NULL);
  lamina_trainer_free(NULL), lamina_trajectory_free(NULL);
  lamina_options_free(options), lamina_task_free(task), lamina_model_free(model);
  lamina_trainer_free(trainer), lamina_trajectory_free(trajectory);
  return report();
}
