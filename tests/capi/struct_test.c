/* Structs that carry their size: every init, output and input struct, with every released size, sizes before the first and
 * after the last, each against a page that must not be touched. */
#define _DEFAULT_SOURCE
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"

/* The last bytes before a page without access: one byte too far is a crash. What lies before is a pattern. */
static unsigned char* page_end;
static size_t page_size;

static void make_page(void) {
  page_size = (size_t)sysconf(_SC_PAGESIZE);
  unsigned char* memory = mmap(NULL, 3 * page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) exit(1);
  page_end = memory + 2 * page_size;
  if (mprotect(page_end, page_size, PROT_NONE) != 0) exit(1);
}

static void* place(size_t size) {
  memset(page_end - 2 * page_size, 0xa5, 2 * page_size);
  return page_end - size;
}

static int all_are(const unsigned char* from, const unsigned char* to, unsigned char value) {
  for (; from < to; ++from)
    if (*from != value) return 0;
  return 1;
}

static int before_is_untouched(const void* placed) {
  return all_are(page_end - 2 * page_size, placed, 0xa5);
}
static int untouched(void) {
  return before_is_untouched(page_end);
}

typedef lamina_status (*init_function)(void* given, uint32_t size);
#define INIT(name, type)                                         \
  static lamina_status init_##name(void* given, uint32_t size) { \
    return lamina_##name##_init((type*)given, size);             \
  }
INIT(catalogue_entry, lamina_catalogue_entry)
INIT(attention_spec, lamina_attention_spec)
INIT(attention_arrays, lamina_attention_arrays)
INIT(task_shape, lamina_task_shape)
INIT(task_arrays, lamina_task_arrays)
INIT(task_callback, lamina_task_callback)
INIT(tensor, lamina_tensor)
INIT(crossing, lamina_crossing)

/* Every released size, oldest first (64-bit pointers). A version that appends fields adds its size here. */
static const struct {
  init_function init;
  uint32_t released[1];
} structs[] = {{init_catalogue_entry, {72}}, {init_attention_spec, {152}}, {init_attention_arrays, {688}},
               {init_task_shape, {48}},      {init_task_arrays, {56}},     {init_task_callback, {48}},
               {init_tensor, {72}},          {init_crossing, {56}}};

static void test_init(void) {
  for (size_t s = 0; s < sizeof structs / sizeof structs[0]; ++s) {
    const init_function init = structs[s].init;
    const uint32_t size = structs[s].released[0];
    const uint32_t good[] = {size, size + 8, size + 64, 4096}, bad[] = {0, 4, size - 1, 4097, UINT32_MAX};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; ++i) {
      unsigned char* given = place(good[i]);
      CHECK(init(given, good[i]) == LAMINA_OK);
      CHECK(before_is_untouched(given));
      CHECK(*(uint32_t*)(void*)given == good[i]);
      CHECK(all_are(given + 4, page_end, 0));
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; ++i) {
      CHECK(init(place(bad[i] < 4096 ? bad[i] : 4096), bad[i]) == LAMINA_E_ARGUMENT);
      CHECK(strstr(lamina_last_error(), "_init: size is ") != NULL);
      CHECK(untouched());
    }
    CHECK(init(NULL, size) == LAMINA_E_ARGUMENT);
  }
}

/* Fills an output struct of a struct_size that the caller wrote itself. */
typedef lamina_status (*fill_function)(void* out);
static lamina_task* task;
static lamina_model* model;
static lamina_status fill_entry(void* out) {
  return lamina_catalogue_describe("tasks", 0, out);
}
static lamina_status fill_shape(void* out) {
  return lamina_task_get_shape(task, out);
}
static lamina_status fill_tensor(void* out) {
  return lamina_model_tensor_describe(model, 0, out);
}
static lamina_trainer* trainer;
static lamina_status fill_crossing(void* out) {
  return lamina_trainer_crossing(trainer, 0, out);
}

static void test_output(fill_function fill, uint32_t size) {
  const uint32_t good[] = {size, size + 8, size + 64}, bad[] = {0, 4, size - 8, 4104, UINT32_MAX};
  for (size_t i = 0; i < sizeof good / sizeof good[0]; ++i) {
    unsigned char* out = place(good[i]);
    memset(out, 0, good[i]);
    *(uint32_t*)(void*)out = good[i];
    CHECK(fill(out) == LAMINA_OK);
    CHECK(before_is_untouched(out));
    CHECK(*(uint32_t*)(void*)out == good[i]);
    CHECK(all_are(out + size, page_end, 0));
    CHECK(!all_are(out + 4, out + size, 0));
  }
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; ++i) {
    /* As much memory as the size says would be refused too, but must not even be read. */
    unsigned char* out = place(bad[i] < size ? (bad[i] < 8 ? 8 : bad[i]) : size);
    *(uint32_t*)(void*)out = bad[i];
    CHECK(fill(out) == LAMINA_E_ARGUMENT);
    CHECK(strstr(lamina_last_error(), ": out->struct_size is ") != NULL);
    CHECK(*(uint32_t*)(void*)out == bad[i]);
    CHECK(all_are(out + 4, page_end, 0xa5));
  }
  /* A later version's field that is in use is a request that this version cannot serve. */
  unsigned char* out = place(size + 8);
  memset(out, 0, size + 8);
  *(uint32_t*)(void*)out = size + 8;
  out[size + 7] = 1;
  CHECK(fill(out) == LAMINA_E_ARGUMENT);
  CHECK(all_are(out + 4, out + size + 7, 0));
}

static int32_t sample(void* user, int32_t split, uint64_t seed, int64_t first, int64_t count, double* prompts,
                      double* targets) {
  (void)user, (void)split, (void)seed, (void)first, (void)count, (void)prompts, (void)targets;
  return 1;
}

static void test_input(void) {
  const double prompts[] = {0, 1, 0}, targets[] = {1, 1};
  lamina_task_arrays arrays;
  CHECK(lamina_task_arrays_init(&arrays, sizeof arrays) == LAMINA_OK);
  arrays.prompts = prompts, arrays.targets = targets;
  arrays.count = 1, arrays.length = 3, arrays.vocabulary = 2;
  lamina_task_callback callback;
  CHECK(lamina_task_callback_init(&callback, sizeof callback) == LAMINA_OK);
  callback.sample = sample, callback.length = 3, callback.vocabulary = 2;
  for (int kind = 0; kind < 2; ++kind) {
    const void* source = kind == 0 ? (const void*)&arrays : (const void*)&callback;
    const uint32_t size = kind == 0 ? sizeof arrays : sizeof callback;
    const uint32_t sizes[] = {size, size + 8, 0, 4, size - 8, 4104, UINT32_MAX};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; ++i) {
      unsigned char* given = place(sizes[i] == size + 8 ? size + 8 : size);
      memset(given, 0, (size_t)(page_end - given));
      memcpy(given, source, size);
      *(uint32_t*)(void*)given = sizes[i];
      lamina_task* out = NULL;
      const lamina_status status = kind == 0 ? lamina_task_from_arrays((const lamina_task_arrays*)(const void*)given, &out)
                                             : lamina_task_from_callback((const lamina_task_callback*)(const void*)given, &out);
      CHECK(status == (i < 2 ? LAMINA_OK : LAMINA_E_ARGUMENT));
      CHECK((out != NULL) == (i < 2));
      lamina_task_free(out);
      if (sizes[i] != size + 8) continue;
      given[size] = 1;
      CHECK((kind == 0
                 ? lamina_task_from_arrays((const lamina_task_arrays*)(const void*)given, &out)
                 : lamina_task_from_callback((const lamina_task_callback*)(const void*)given, &out)) == LAMINA_E_ARGUMENT);
    }
  }
}

int main(void) {
  make_page();
  CHECK(lamina_task_create("in_context_recall", NULL, &task) == LAMINA_OK);
  CHECK(lamina_model_create(task, NULL, &model) == LAMINA_OK);
  lamina_options* options = NULL;
  CHECK(lamina_options_create(&options) == LAMINA_OK);
  CHECK(lamina_options_set_text(options, "crossings", "loss=0.5") == LAMINA_OK);
  CHECK(lamina_trainer_create(task, NULL, options, &trainer) == LAMINA_OK);
  lamina_options_free(options);
  test_init();
  test_output(fill_entry, sizeof(lamina_catalogue_entry));
  test_output(fill_shape, sizeof(lamina_task_shape));
  test_output(fill_tensor, sizeof(lamina_tensor));
  test_output(fill_crossing, sizeof(lamina_crossing));
  test_input();
  lamina_trainer_free(trainer);
  lamina_model_free(model);
  lamina_task_free(task);
  return report();
}
