/* Random calls of the whole C interface: wrong orders, NULLs, huge and non-finite numbers, callbacks that fail, free what calls them or
 * write nonsense, an allocator that has nothing, damaged files. Whatever happens: a known status, never LAMINA_E_INTERNAL; after a failure
 * a text that names the function, and outputs as they were. Sanitizers and a limit on memory see the rest.
 * LAMINA_FUZZ_CASES sets how many cases (default 300), LAMINA_FUZZ_SEED where they start. */
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "check.h"

enum { KINDS = 3, CALLS = 60, LENGTH = 24, VOCABULARY = 60, ROOM = 4096 };

/* Handles of one case, several of each type; any may be NULL. */
static lamina_options* options[KINDS]; static lamina_task* tasks[KINDS];
static lamina_model* models[KINDS]; static lamina_trainer* trainers[KINDS];
static lamina_trajectory* trajectories[KINDS]; static lamina_attention* plans[KINDS];

static uint64_t state, seed;
static long counts[16]; /* by status, from LAMINA_E_INTERNAL up */
static char file[64];
static double room[ROOM], outputs[ROOM];

static uint64_t next(void) { /* splitmix64 */
  uint64_t z = (state += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u, z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}
static int below(int n) { return (int)(next() % (uint64_t)n); }
static int chance(int percent) { return below(100) < percent; }

static double number(void) {
  static const double odd[] = {NAN,   INFINITY, -INFINITY, -1,    -0.0, 1e300,  -1e300, 9007199254740992.0, 9007199254740994.0, 1e-320,
                               0.999, 0.5,      1e10,      1e18,  2.5,  1e-12};
  return chance(60) ? (double)below(12) : odd[below((int)(sizeof odd / sizeof *odd))];
}
static int64_t integer(void) {
  static const int64_t odd[] = {-1, INT64_MIN, INT64_MAX, INT64_MAX / 8, INT64_C(1) << 32, INT32_MAX, INT64_C(1) << 53};
  return chance(70) ? below(40) : odd[below((int)(sizeof odd / sizeof *odd))];
}

/* What a status promises. */
static lamina_status seen(lamina_status status, const char* function) {
  if (status >= LAMINA_E_INTERNAL && status <= LAMINA_TIME_LIMIT) ++counts[status - LAMINA_E_INTERNAL];
  CHECK(status > LAMINA_E_INTERNAL && status <= LAMINA_TIME_LIMIT);
  if (status < 0) check(strncmp(lamina_last_error(), function, strlen(function)) == 0, function, __LINE__);
  return status;
}
#define CALL(function, ...) seen(function(__VA_ARGS__), #function)

/* A create into a slot: a handle on success, the slot as it was on failure. */
#define CREATE(type, slots, free, function, ...)                                     \
  do {                                                                               \
    type* made = (type*)&made;                                                       \
    type** slot = &slots[below(KINDS)];                                              \
    if (CALL(function, __VA_ARGS__, chance(2) ? NULL : &made) == LAMINA_OK) {        \
      CHECK(made != NULL && made != (type*)&made);                                   \
      free(*slot);                                                                   \
      *slot = made;                                                                  \
    } else {                                                                         \
      CHECK(made == (type*)&made);                                                   \
    }                                                                                \
  } while (0)
#define ANY(slots) (chance(3) ? NULL : slots[below(KINDS)])

static void untouched(lamina_status status) {
  if (status >= 0) return;
  for (int i = 0; i < ROOM; ++i)
    if (outputs[i] != -7) {
      check(0, "a failed call wrote", __LINE__);
      return;
    }
}
static double* fresh_outputs(void) {
  for (int i = 0; i < ROOM; ++i) outputs[i] = -7;
  return chance(3) ? NULL : outputs;
}

static void random_calls(int calls);
static int depth;

/* From inside a callback: the outputs of the call under way are its own. */
static void calls_inside(void) {
  if (depth > 1) return;
  double* kept = malloc(sizeof outputs);
  if (!kept) return;
  memcpy(kept, outputs, sizeof outputs);
  random_calls(3);
  memcpy(outputs, kept, sizeof outputs);
  free(kept);
}

static int32_t on_progress(void* user, const lamina_progress* progress) {
  CHECK(user == room && progress->struct_size == sizeof *progress);
  if (chance(10)) calls_inside(); /* may free the trainer that calls */
  return chance(20) ? (int32_t)next() : 0;
}

static int32_t sample(void* user, int32_t split, uint64_t from, int64_t first, int64_t rows, double* prompts, double* targets) {
  CHECK(user == room && rows > 0);
  if (chance(5)) calls_inside();
  for (int64_t i = 0; i < rows * LENGTH; ++i) prompts[i] = (double)((from + (uint64_t)(first + i + split)) % VOCABULARY);
  for (int64_t i = 0; i < rows * 2; ++i) targets[i] = (double)((uint64_t)(first + i) % VOCABULARY);
  if (chance(5)) prompts[below(LENGTH)] = number();
  if (chance(5)) targets[below(2)] = number();
  return chance(5);
}

static void* allocate(void* user, size_t bytes, size_t alignment) {
  CHECK(user == room);
  return chance(50) || bytes > (1 << 24) ? NULL : aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
}
static void release(void* user, void* memory, size_t bytes) {
  CHECK(user == room && bytes > 0);
  free(memory);
}

/* Any task that the library has; borrowed, static. */
static const char* task_name(void) {
  lamina_catalogue_entry entry;
  CALL(lamina_catalogue_entry_init, &entry, sizeof entry);
  CHECK(CALL(lamina_catalogue_describe, "tasks", below((int)lamina_catalogue_count("tasks")), &entry) == LAMINA_OK);
  return entry.key;
}

static void set_options(void) {
  const char* scope = chance(80) ? task_name() : "callback";
  lamina_catalogue_entry entry;
  CALL(lamina_catalogue_entry_init, &entry, sizeof entry);
  if (CALL(lamina_catalogue_describe, scope, chance(5) ? integer() : below((int)lamina_catalogue_count(scope)), &entry) != LAMINA_OK) return;
  lamina_options* to = ANY(options);
  char word[256];
  const char* bar = strchr(entry.words, '|');
  snprintf(word, sizeof word, "%.*s", bar && chance(50) ? (int)(bar - entry.words) : 99, bar && chance(50) ? bar + 1 : entry.words);
  if (strchr(word, '|')) *strchr(word, '|') = 0;
  /* In range, but for a run that would take too long: sizes stay small. */
  const int how = below(5);
  const char* key = how > 2 && chance(10) ? "unheard" : entry.key;
  if (how == 0) CALL(lamina_options_set_number, to, key, number());
  if (how == 1) CALL(lamina_options_set_text, to, key, chance(70) ? word : chance(50) ? "loss=1,excess=0.1" : chance(50) ? "9007199254740993" : "");
  if (how == 2) CALL(lamina_options_set_number, to, key, entry.kind == LAMINA_KIND_NUMBER ? entry.minimum : entry.maximum * 2);
  if (how == 3) {
    for (int i = 0; i < 8; ++i) room[i] = number();
    CALL(lamina_options_set_array, to, key, room, chance(90) ? below(8) : -1);
  }
  if (how == 4) CALL(lamina_options_set_text, to, key, entry.fallback);
}

/* Small sizes, whatever else is set later. */
static void create_options(void) {
  static const char* const small[][2] = {{"samples", "16"}, {"evaluation_samples", "8"}, {"prompt_length", "24"}, {"occurrences", "3"}};
  const int k = below(KINDS);
  lamina_options_free(options[k]), options[k] = NULL;
  if (CALL(lamina_options_create, chance(2) ? NULL : &options[k]) != LAMINA_OK) return;
  for (int i = 0; i < 4; ++i) CHECK(lamina_options_set_text(options[k], small[i][0], small[i][1]) == LAMINA_OK);
}

static void create_task(void) {
  CREATE(lamina_task, tasks, lamina_task_free, lamina_task_create, chance(90) ? task_name() : "unheard", ANY(options));
}

static void host_task(void) {
  lamina_task_arrays arrays;
  lamina_task_callback callback;
  CALL(lamina_task_arrays_init, &arrays, sizeof arrays);
  CALL(lamina_task_callback_init, &callback, sizeof callback);
  for (int i = 0; i < ROOM; ++i) room[i] = chance(1) && chance(5) ? number() : below(VOCABULARY);
  arrays.prompts = room, arrays.targets = room + 100 * LENGTH;
  arrays.count = chance(90) ? 1 + below(100) : chance(50) ? -1 : INT64_MAX, arrays.length = LENGTH;
  arrays.vocabulary = chance(95) ? VOCABULARY : integer(), arrays.noise = chance(90) ? 0.5 : number();
  callback.sample = chance(95) ? sample : NULL, callback.user = room;
  callback.length = LENGTH, callback.vocabulary = VOCABULARY, callback.noise = chance(90) ? 0.5 : number();
  if (chance(50))
    CREATE(lamina_task, tasks, lamina_task_free, lamina_task_from_arrays, &arrays);
  else
    CREATE(lamina_task, tasks, lamina_task_free, lamina_task_from_callback, &callback);
}

static void use_task(void) {
  lamina_task* task = ANY(tasks);
  lamina_task_shape shape;
  const char* text = NULL;
  CALL(lamina_task_shape_init, &shape, sizeof shape);
  if (CALL(lamina_task_get_shape, task, &shape) == LAMINA_OK && shape.length > ROOM / 4) return;
  CALL(lamina_task_token, task, integer(), &text);
  const int64_t rows = chance(80) ? below(4) : chance(50) ? -below(9) : INT64_MAX - below(9);
  untouched(CALL(lamina_task_sample, task, below(5) - 1, chance(90) ? (uint64_t)below(9) : next(), integer(), rows, fresh_outputs(),
                 outputs + ROOM - 64));
}

static void create_model(void) {
  if (chance(70))
    CREATE(lamina_model, models, lamina_model_free, lamina_model_create, ANY(tasks), ANY(options));
  else
    CREATE(lamina_model, models, lamina_model_free, lamina_model_copy, ANY(models));
}

static void use_model(void) {
  lamina_model* model = ANY(models);
  int64_t parameters = -1, tensors = -1;
  lamina_tensor tensor;
  CALL(lamina_tensor_init, &tensor, sizeof tensor);
  CALL(lamina_model_tensor_count, model, &tensors);
  CALL(lamina_model_tensor_describe, model, integer(), &tensor);
  if (CALL(lamina_model_parameter_count, model, &parameters) != LAMINA_OK) return;
  double* values = calloc((size_t)parameters + 1, sizeof *values);
  if (!values) return;
  untouched(CALL(lamina_model_get_parameters, model, fresh_outputs(), parameters <= ROOM ? parameters : integer() & 15));
  if (chance(30)) values[0] = number();
  CALL(lamina_model_set_parameters, model, chance(95) ? values : NULL, chance(90) ? parameters : integer());
  for (int i = 0; i < ROOM; ++i) room[i] = chance(1) && chance(2) ? number() : below(12);
  const int64_t count = chance(90) ? 1 + below(4) : chance(50) ? -1 : INT64_MAX / 3, length = chance(90) ? LENGTH : below(4) - 1;
  double loss = -7;
  if (CALL(lamina_model_loss_gradient, model, room, room + 1000, count, length, &loss, chance(50) ? values : NULL) < 0) CHECK(loss == -7);
  if (count <= ROOM / 61 && parameters < 100000)
    untouched(CALL(lamina_model_attention, model, room, count, length, fresh_outputs()));
  free(values);
}

static void create_trainer(void) {
  lamina_options* with = ANY(options);
  CALL(lamina_options_set_number, with, "steps", below(6));
  CREATE(lamina_trainer, trainers, lamina_trainer_free, lamina_trainer_create, ANY(tasks), chance(60) ? NULL : ANY(models), with);
}

static void use_trainer(void) {
  static const char* const words[] = {"lambda", "weights", "unheard", "steps", "isa", "noise", "", "predicted"};
  lamina_trainer* trainer = ANY(trainers);
  const char* text = NULL;
  int64_t step = -1;
  CALL(lamina_trainer_step, trainer, &step);
  CALL(lamina_trainer_option, trainer, words[below(8)], &text);
  CALL(lamina_trainer_watch, trainer, words[below(8)]);
  CALL(lamina_trainer_on_progress, trainer, chance(70) ? on_progress : NULL, room, chance(80) ? 0 : number());
  if (chance(20)) lamina_trainer_stop(trainer);
  CALL(lamina_trainer_run, trainer, chance(95) ? below(4) : -1 - below(9));
}

static void look_at_trainer(void) {
  lamina_trainer* trainer = ANY(trainers);
  lamina_crossing crossing;
  int64_t count = -1;
  CALL(lamina_crossing_init, &crossing, sizeof crossing);
  CALL(lamina_trainer_crossing_count, trainer, &count);
  CALL(lamina_trainer_crossing, trainer, chance(80) ? 0 : integer(), &crossing);
  if (chance(33))
    CREATE(lamina_model, models, lamina_model_free, lamina_trainer_model, trainer);
  else if (chance(50))
    CREATE(lamina_task, tasks, lamina_task_free, lamina_trainer_task, trainer);
  else
    CREATE(lamina_trajectory, trajectories, lamina_trajectory_free, lamina_trainer_trajectory, trainer);
}

static void use_trajectory(void) {
  lamina_trajectory* table = ANY(trajectories);
  const char *name = NULL, *definition = NULL;
  int64_t rows = -1, columns = -1;
  CALL(lamina_trajectory_columns, table, &columns), CALL(lamina_trajectory_rows, table, &rows);
  CALL(lamina_trajectory_column_name, table, integer(), &name, chance(50) ? &definition : NULL);
  untouched(CALL(lamina_trajectory_read, table, chance(80) ? below(4) : integer(), fresh_outputs(), chance(90) ? ROOM : -1));
}

/* Saves a run, damages the file, reads it back. */
static void save_and_load(void) {
  if (CALL(lamina_trainer_save, ANY(trainers), chance(95) ? file : "/") == LAMINA_OK && chance(80)) {
    FILE* stream = fopen(file, "r+b");
    if (!stream) return;
    fseek(stream, 0, SEEK_END);
    const long size = ftell(stream);
    for (int i = below(4); i > 0; --i) {
      fseek(stream, chance(50) ? below(600) % size : (long)(next() % (uint64_t)size), SEEK_SET);
      fputc(chance(50) ? '0' + below(10) : below(256), stream);
    }
    fclose(stream);
    if (chance(20) && truncate(file, below((int)size)) != 0) return;
  }
  CREATE(lamina_trainer, trainers, lamina_trainer_free, lamina_trainer_load, chance(95) ? file : "/no/such/file", chance(70) ? NULL : ANY(tasks));
}

static void theory(void) {
  lamina_catalogue_entry entry;
  CALL(lamina_catalogue_entry_init, &entry, sizeof entry);
  if (CALL(lamina_catalogue_describe, "theory", below((int)lamina_catalogue_count("theory")), &entry) != LAMINA_OK) return;
  for (int i = 0; i < 16; ++i) room[i] = number();
  untouched(CALL(lamina_theory_evaluate, entry.key, ANY(tasks), room, chance(90) && entry.minimum >= 0 ? (int64_t)entry.minimum : below(6),
                 fresh_outputs(), chance(95) ? (int64_t)entry.maximum : integer()));
}

static void create_attention(void) {
  lamina_attention_spec spec;
  CALL(lamina_attention_spec_init, &spec, sizeof spec);
  spec.element = chance(90) ? below(3) : (int32_t)next(), spec.map = chance(90) ? below(4) : (int32_t)next();
  spec.normaliser = chance(70) ? 0 : below(6), spec.causal = chance(90) ? below(3) : (int32_t)next();
  spec.flags = chance(70) ? 0 : (uint32_t)next() & 0xfff, spec.threads = chance(90) ? below(4) : (int32_t)next();
  spec.batch = chance(90) ? 1 + below(2) : integer(), spec.heads = chance(90) ? 1 + below(2) : integer();
  spec.queries = chance(90) ? below(9) : integer(), spec.keys = chance(90) ? below(9) : integer();
  spec.width = chance(90) ? 1 + below(9) : integer(), spec.scale = chance(70) ? 0 : number();
  if (chance(50)) spec.allocator.allocate = allocate, spec.allocator.release = release, spec.allocator.user = room;
  CREATE(lamina_attention, plans, lamina_attention_free, lamina_attention_create, &spec);
  size_t bytes = 0;
  CALL(lamina_attention_workspace, ANY(plans), below(4), &bytes);
}

/* A plan of 2 heads of 8 queries and keys of 8 features, its arrays in one row of `room`. */
static void use_attention(void) {
  lamina_attention_spec spec;
  lamina_attention_arrays arrays;
  lamina_attention* plan = NULL;
  CALL(lamina_attention_spec_init, &spec, sizeof spec);
  CALL(lamina_attention_arrays_init, &arrays, sizeof arrays);
  spec.batch = 1, spec.heads = 2, spec.queries = spec.keys = spec.width = 8, spec.map = below(4), spec.causal = below(3);
  if (chance(50)) spec.allocator.allocate = allocate, spec.allocator.release = release, spec.allocator.user = room;
  if (CALL(lamina_attention_create, &spec, &plan) != LAMINA_OK) return;
  for (int i = 0; i < ROOM; ++i) room[i] = chance(1) ? number() : 0.1 * below(20);
  lamina_input* const in[] = {&arrays.q, &arrays.k, &arrays.v, &arrays.d_o};
  lamina_output* const out[] = {&arrays.o, &arrays.d_q, &arrays.d_k, &arrays.d_v};
  fresh_outputs();
  for (int i = 0; i < 4; ++i) {
    const int64_t stride[4] = {128, 64, 8, 1};
    in[i]->data = chance(97) ? (const void*)(room + 128 * i) : (const char*)room + 1, out[i]->data = chance(95) ? outputs + 128 * i : NULL;
    memcpy(in[i]->stride, stride, sizeof stride), memcpy(out[i]->stride, stride, sizeof stride);
    if (chance(5)) out[i]->stride[below(4)] = 0; /* overlaps itself */
  }
  if (chance(3)) arrays.struct_size = (uint32_t)next();
  untouched(CALL(lamina_attention_forward, chance(97) ? plan : NULL, &arrays, NULL, 0));
  fresh_outputs();
  untouched(CALL(lamina_attention_backward, plan, &arrays, chance(95) ? NULL : room, chance(50) ? 0 : 64));
  lamina_attention_free(plan);
}

/* Frees the handle of each type in slot i, or the one of type `which`. */
#define FREE(type, slots, free) \
  if (which < 0 || which == type) free(slots[i]), slots[i] = NULL
static void free_handles(int i, int which) {
  FREE(0, options, lamina_options_free);
  FREE(1, tasks, lamina_task_free);
  FREE(2, models, lamina_model_free);
  FREE(3, trainers, lamina_trainer_free);
  FREE(4, trajectories, lamina_trajectory_free);
  FREE(5, plans, lamina_attention_free);
}
static void free_one(void) { free_handles(below(KINDS), below(6)); }

static void random_calls(int calls) {
  static void (*const all[])(void) = {set_options,     create_options, create_task,      host_task,        use_task,      create_model,
                                      use_model,       create_trainer, use_trainer,      look_at_trainer,  use_trajectory, save_and_load,
                                      theory,          use_attention,  create_attention, free_one,         set_options,   use_trainer};
  ++depth;
  for (int i = 0; i < calls; ++i) all[below((int)(sizeof all / sizeof *all))]();
  --depth;
}

static void hangs(int signal_number) {
  char text[64];
  const int length = snprintf(text, sizeof text, "case %llu does not end\n", (unsigned long long)seed);
  if (write(2, text, (size_t)length) == length) _exit(signal_number);
  _exit(1);
}

static uint64_t from_environment(const char* name, uint64_t fallback) {
  const char* text = getenv(name);
  return text && *text ? strtoull(text, NULL, 10) : fallback;
}

int main(void) {
  const uint64_t cases = from_environment("LAMINA_FUZZ_CASES", 300), first = from_environment("LAMINA_FUZZ_SEED", 1);
  snprintf(file, sizeof file, "lamina_fuzz_%ld.safetensors", (long)getpid());
  signal(SIGALRM, hangs);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  const struct rlimit memory = {(rlim_t)4 << 30, (rlim_t)4 << 30}; /* what is too large is refused, not computed for an hour */
  setrlimit(RLIMIT_AS, &memory);
#endif
  for (seed = first; seed < first + cases && failures == 0; ++seed) {
    state = seed, alarm(300);
    static void (*const first_calls[])(void) = {create_options, create_task, host_task, create_model, create_trainer, look_at_trainer};
    for (int i = 0; i < 6; ++i)
      for (int k = 0; k < 2 * KINDS; ++k) first_calls[i]();
    random_calls(CALLS);
    for (int i = 0; i < 40; ++i) free_one();
    for (int i = 0; i < KINDS; ++i) free_handles(i, -1);
  }
  unlink(file);
  if (failures) printf("in case %llu\n", (unsigned long long)(seed - 1));
  for (int status = LAMINA_E_INTERNAL; status <= LAMINA_TIME_LIMIT; ++status)
    printf("%s %ld  ", lamina_status_name(status), counts[status - LAMINA_E_INTERNAL]);
  printf("\n");
  return report();
}
