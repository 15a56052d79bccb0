/* Reproduces a golden trajectory through the C interface and compares every bit, for several numbers of threads; with --update
 * writes the rows again instead. The format is in README.md. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lamina/lamina.h"

enum { LINE = 1 << 16, SKIPPED = 77 };

static void fail(const char* what, const char* detail) {
  fprintf(stderr, "golden: %s: %s\n", what, detail);
  exit(1);
}

static void check(lamina_status status) {
  if (status < 0) fail(lamina_status_name(status), lamina_last_error());
}

/* The next line of `file` without its end, in static memory; NULL at the end of the file. */
static char* read_line(FILE* file) {
  static char line[LINE];
  if (!fgets(line, sizeof line, file)) return NULL;
  const size_t length = strlen(line);
  if (length == 0 || line[length - 1] != '\n') fail("a line is too long or has no end", line);
  line[length - 1] = 0;
  return line;
}

typedef struct {
  char task[64];
  lamina_options* options;
  char settings[LINE]; /* the lines "# key=value" as they stand */
} golden_run;

/* Reads the settings; `file` then stands behind them and the returned line is the first that is not one (NULL: none). */
static char* read_settings(FILE* file, golden_run* run) {
  run->task[0] = run->settings[0] = 0;
  check(lamina_options_create(&run->options));
  char* line;
  while ((line = read_line(file)) && strncmp(line, "# ", 2) == 0) {
    if (strlen(run->settings) + strlen(line) + 2 > sizeof run->settings) fail("too many settings", line);
    strcat(strcat(run->settings, line), "\n");
    char* value = strchr(line, '=');
    if (!value) fail("a setting without =", line);
    *value++ = 0;
    const char* key = line + 2;
    if (strcmp(key, "task") == 0)
      snprintf(run->task, sizeof run->task, "%s", value);
    else
      check(lamina_options_set_text(run->options, key, value));
  }
  if (!run->task[0]) fail("no line \"# task=NAME\"", "is this a golden file?");
  return line;
}

static lamina_trajectory* compute(const golden_run* run, int threads, char isa[32]) {
  lamina_task* task;
  lamina_trainer* trainer;
  lamina_model* model;
  lamina_trajectory* trajectory;
  check(lamina_options_set_number(run->options, "threads", threads));
  check(lamina_task_create(run->task, run->options, &task));
  check(lamina_trainer_create(task, NULL, run->options, &trainer));
  const lamina_status status = lamina_trainer_run(trainer, 0);
  check(status);
  if (status != LAMINA_OK) fail("the run ended early", lamina_status_name(status));
  check(lamina_trainer_trajectory(trainer, &trajectory));
  check(lamina_trainer_model(trainer, &model));
  snprintf(isa, 32, "%s", lamina_model_isa(model));
  lamina_model_free(model);
  lamina_trainer_free(trainer);
  lamina_task_free(task);
  return trajectory;
}

/* All columns of a trajectory, column-major [columns][rows]; the caller's. */
static double* read_table(const lamina_trajectory* trajectory, int64_t* rows, int64_t* columns) {
  check(lamina_trajectory_rows(trajectory, rows));
  check(lamina_trajectory_columns(trajectory, columns));
  double* table = malloc((size_t)(*rows * *columns) * sizeof(double));
  if (!table) fail("memory", "could not be allocated");
  for (int64_t c = 0; c < *columns; ++c) check(lamina_trajectory_read(trajectory, c, table + c * *rows, *rows));
  return table;
}

static const char* name_of(const lamina_trajectory* trajectory, int64_t column) {
  const char* name;
  check(lamina_trajectory_column_name(trajectory, column, &name, NULL));
  return name;
}

static void update(const char* path, const golden_run* run) {
  char isa[32];
  lamina_trajectory* trajectory = compute(run, 1, isa);
  int64_t rows, columns;
  double* table = read_table(trajectory, &rows, &columns);
  FILE* file = fopen(path, "w");
  if (!file) fail(path, strerror(errno));
  fputs(run->settings, file);
  for (int64_t c = 0; c < columns; ++c) fprintf(file, "%s%c", name_of(trajectory, c), c + 1 < columns ? ',' : '\n');
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < columns; ++c) {
      const double value = table[c * rows + r];
      if (!(value - value == 0)) fail("not finite", name_of(trajectory, c));
      fprintf(file, "%a%c", value, c + 1 < columns ? ',' : '\n');
    }
  if (fclose(file) != 0) fail(path, strerror(errno));
  printf("%s: %lld rows of %lld columns written by %s\n", path, (long long)rows, (long long)columns, isa);
  free(table);
  lamina_trajectory_free(trajectory);
}

/* Compares the rest of `file`, from the line of column names on, with a computed run; returns the number of differences. */
static long compare(FILE* file, char* header, const golden_run* run, int threads, const char* wanted_isa) {
  char isa[32];
  lamina_trajectory* trajectory = compute(run, threads, isa);
  if (wanted_isa && strcmp(isa, wanted_isa) != 0) fail("another instruction set ran", isa);
  int64_t rows, columns, r = 0;
  double* table = read_table(trajectory, &rows, &columns);
  long differences = 0;
  int64_t c = 0;
  for (char* name = strtok(header, ","); name; name = strtok(NULL, ","), ++c)
    if (c >= columns || strcmp(name, name_of(trajectory, c)) != 0) fail("column missing or in another place", name);
  if (c != columns) fail("the run has a column that the file has not", name_of(trajectory, c));
  for (char* line; (line = read_line(file)); ++r) {
    if (r >= rows) fail("the file has more rows than the run", line);
    char* at = line;
    for (c = 0; c < columns; ++c) {
      char* end;
      const double value = strtod(at, &end);
      if (end == at || *end != (c + 1 < columns ? ',' : 0)) fail("not a number, or a row of another length", at);
      if (memcmp(&value, &table[c * rows + r], sizeof value) != 0 && ++differences <= 10)
        printf("row %lld, %s: expected %a, obtained %a\n", (long long)r, name_of(trajectory, c), value, table[c * rows + r]);
      at = end + 1;
    }
  }
  if (r != rows) fail("the run has more rows than the file", run->task);
  printf("%s, %d threads: %lld rows of %lld columns, %ld differences\n", isa, threads, (long long)rows, (long long)columns,
         differences);
  free(table);
  lamina_trajectory_free(trajectory);
  return differences;
}

static int is_available(const char* isa) {
  for (int32_t i = 0; i < lamina_isa_count(); ++i)
    if (strcmp(lamina_isa_name(i), isa) == 0) return 1;
  return 0;
}

int main(int argc, char** argv) {
  const int updating = argc == 3 && strcmp(argv[1], "--update") == 0;
  const char* wanted_isa = argc == 4 && strcmp(argv[1], "--isa") == 0 ? argv[2] : NULL;
  if (argc != 2 && !updating && !wanted_isa) fail("usage", "golden [--update | --isa NAME] FILE.csv");
  if (wanted_isa && !is_available(wanted_isa)) {
    printf("SKIPPED: this CPU has no %s\n", wanted_isa);
    return SKIPPED;
  }
  const char* path = argv[argc - 1];
  FILE* file = fopen(path, "r");
  if (!file) fail(path, strerror(errno));
  static golden_run run;
  char* line = read_settings(file, &run);
  if (updating) {
    fclose(file);
    update(path, &run);
    lamina_options_free(run.options);
    return 0;
  }
  if (!line) fail(path, "has no rows");
  char* header = malloc(strlen(line) + 1);
  char* names = malloc(strlen(line) + 1);
  if (!header || !names) fail("memory", "could not be allocated");
  strcpy(header, line);
  const long body = ftell(file);
  long differences = 0;
  const int threads[] = {1, 3};
  for (size_t i = 0; i < sizeof threads / sizeof *threads; ++i) {
    if (fseek(file, body, SEEK_SET) != 0) fail(path, strerror(errno));
    differences += compare(file, strcpy(names, header), &run, threads[i], wanted_isa);
  }
  free(names);
  free(header);
  fclose(file);
  lamina_options_free(run.options);
  return differences == 0 ? 0 : 1;
}
