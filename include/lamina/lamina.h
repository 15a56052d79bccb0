/* lamina.h: the whole public surface of lamina, an engine for one-layer transformers: attention with gradients, and
 * training by gradient descent. Plain C11; the sections follow the data flow.
 *
 * The rules, without exception:
 *  - A function that can fail returns lamina_status: 0 success, negative failure, positive "the run ended early, and why".
 *    On failure every output is untouched and lamina_last_error() says "function: argument, its value, the allowed range".
 *  - What comes out through T** is the caller's and is freed by lamina_<noun>_free, which takes NULL. What a getter returns
 *    is borrowed and lives as long as its parent. Handles share what they need: any order of freeing is right.
 *  - A handle is used by one thread at a time; const handles (const T*) by any number. lamina_trainer_stop is the exception.
 *  - A struct that crosses begins with struct_size = sizeof of the caller's struct; in every field 0 means the default.
 *  - Arrays are the caller's; a call that is given NULL where an array is optional skips it. Outputs may overlap nothing.
 *  - Nothing here prints, exits, aborts, changes the locale, the floating-point state or a signal handler. */
#ifndef LAMINA_H
#define LAMINA_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define LAMINA_API __attribute__((visibility("default")))
#else
#define LAMINA_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- library ------------------------------------------------------------------------------------------------------ */

typedef int32_t lamina_status;
enum {
  LAMINA_OK = 0,
  LAMINA_STOPPED = 1,            /* the run was stopped by lamina_trainer_stop or by a callback */
  LAMINA_DIVERGED = 2,           /* the loss or the gradient is no longer finite */
  LAMINA_GRADIENT_VANISHED = 3,  /* normalised descent met a gradient of norm below 1e-30 */
  LAMINA_TARGET_REACHED = 4,     /* a target holds, or the run stops at its last crossing; once for each, then the run goes on */
  LAMINA_TIME_LIMIT = 5,         /* the run has trained for time_limit seconds; continued, it has as many again */
  LAMINA_E_ARGUMENT = -1,        /* an argument is NULL or outside its range */
  LAMINA_E_OPTION = -2,          /* an option's key is unknown or its value outside its range */
  LAMINA_E_MEMORY = -3,          /* memory could not be allocated */
  LAMINA_E_FILE = -4,            /* a file could not be opened, read or written */
  LAMINA_E_FORMAT = -5,          /* a file was read and its content is not what it should be */
  LAMINA_E_UNSUPPORTED = -6,     /* a valid request that this build, this CPU or this version cannot serve */
  LAMINA_E_STATE = -7,           /* a valid call at the wrong time */
  LAMINA_E_INTERNAL = -8         /* an error of lamina itself: please report it */
};

/* "MAJOR.MINOR.PATCH"; static. */
LAMINA_API const char* lamina_version(void);
/* The major version of the binary interface, also the soname. */
LAMINA_API int32_t lamina_abi(void);
/* "LAMINA_OK", ...; "unknown status" for any other number; static, never NULL. */
LAMINA_API const char* lamina_status_name(lamina_status status);
/* The text of this thread's last failure, "" if none; never NULL; valid until this thread's next failing call. */
LAMINA_API const char* lamina_last_error(void);
/* How many instruction sets this build has and this CPU can run; at least 1. Fastest first; the last is "reference". */
LAMINA_API int32_t lamina_isa_count(void);
/* The name of instruction set `index` in 0..count-1: "avx512", "avx2", "neon64", "reference"; NULL outside. Static. The
 * environment variable LAMINA_ISA or an option `isa` forces one; an unknown or unsupported name fails every create. */
LAMINA_API const char* lamina_isa_name(int32_t index);
/* Compiler, flags and libraries of this build, one line; static. */
LAMINA_API const char* lamina_build_info(void);

/* ---- options ------------------------------------------------------------------------------------------------------ */

/* A set of named values for a task, a model and a trainer together; each create takes the keys that are its own. A key that
 * no object knows fails when it is set; a key of another task, or a value out of bounds, fails at the create. */
typedef struct lamina_options lamina_options;

LAMINA_API lamina_status lamina_options_create(lamina_options** out);
LAMINA_API void lamina_options_free(lamina_options* options);
/* Sets `key` to a number (INFINITY where the catalogue's maximum is infinite). Later calls replace earlier ones. */
LAMINA_API lamina_status lamina_options_set_number(lamina_options* options, const char* key, double value);
/* Sets `key` to a word; for a numeric key the text of a number ("0.1", "inf"), in the C locale, UTF-8. Copied. */
LAMINA_API lamina_status lamina_options_set_text(lamina_options* options, const char* key, const char* value);
/* Sets `key` to `count` numbers, copied. */
LAMINA_API lamina_status lamina_options_set_array(lamina_options* options, const char* key, const double* values,
                                                  int64_t count);

enum { LAMINA_KIND_NUMBER = 1, LAMINA_KIND_INTEGER = 2, LAMINA_KIND_WORD = 3, LAMINA_KIND_TEXT = 4, LAMINA_KIND_ARRAY = 5,
       LAMINA_KIND_NAME = 6 /* not an option: the name of a task, probe, closed form */ };

typedef struct lamina_catalogue_entry {
  uint32_t struct_size;
  int32_t kind;            /* LAMINA_KIND_* */
  const char* key;         /* the option's key, or the name listed; all strings are static and never NULL */
  const char* owner;       /* "task", "model", "trainer" for an option; for a probe the tasks that have it, separated by "|";
                            * "task" for a closed form that reads one; else "" */
  const char* fallback;    /* the default as text; for a closed form options and arguments of an example, as the command line
                            * takes them, where defaults will not do; "" if there is none */
  double minimum, maximum; /* bounds, inclusive; of the length for an array; for a closed form its number of arguments (-1: any)
                            * and of results (-1: as many); 0, 0 where they mean nothing */
  const char* words;       /* the words a LAMINA_KIND_WORD takes, or the tasks that a closed form reads, separated by "|"; else "" */
  const char* summary;     /* one sentence */
  const char* description; /* for a task: the paper, and what is stated, derived, a choice; for a closed form:
                            * "arguments -> results"; else "" */
} lamina_catalogue_entry;

/* The number of entries of `scope`: "tasks", "probes", "theory", or the name of a task, which lists every option of a run of
 * that task. -1 for an unknown scope. */
LAMINA_API int64_t lamina_catalogue_count(const char* scope);
/* Fills `out` (struct_size set by lamina_catalogue_entry_init) with entry `index` in 0..count-1 of `scope`. */
LAMINA_API lamina_status lamina_catalogue_describe(const char* scope, int64_t index, lamina_catalogue_entry* out);
LAMINA_API lamina_status lamina_catalogue_entry_init(lamina_catalogue_entry* entry, uint32_t size);

/* ---- attention ---------------------------------------------------------------------------------------------------- */

/* For every batch b, head h, query i (shapes [batch, head, position, feature], notation of src/attention/attention.hpp):
 *   S[i,j] = scale * sum_d Q[i,d] K[j,d] + bias[i,j]  over the keys j that i sees;  P = map(S);  O[i,:] = sum_j P[i,j] V[j,:]
 *   softmax: P = exp(S - lse),  lse = log sum_j exp(S);  linear: P = S;  relu: P = max(S, 0); linear and relu are divided by
 *   nothing, by the number of visible keys, or by their row sum. A row that sees no key gives O = 0, lse = -inf, gradients 0.
 * A bias of -inf hides a key; a finite one, also the least number of the type, is added: a row full of it weighs its keys alike.
 * Long linear attention takes time linear in the length, unless it is divided by the row sum or has a bias, a mask, a left window, weights
 * or scores, or numbers of q, k, v or d_o of the key head that are not finite, or too large or small for sums of K V and Q d_o: these round
 * differently, all else gives the same bits. Zeros and sizes of 1e-15 to 1e9 (float64: 1e-140 to 1e90) are not, to 2^26 keys, scale 1.
 * Softmax is off by at most u max|V| (128 + 4 max(scale sum|q||k| + |bias|)), u the unit roundoff, to 65 536 keys, where q scale
 * log2(e) and keys max|V| are in the type's range; by 8 instead of 128 where values have both signs.
 * Backward needs about 10 MB a thread, and computes scores again above 16384 keys (float32; 8192 in float64). */
enum { LAMINA_F64 = 1, LAMINA_F32 = 2 };                                         /* element; 0 means LAMINA_F64 */
enum { LAMINA_SOFTMAX = 1, LAMINA_LINEAR = 2, LAMINA_RELU = 3 };                 /* map; 0 means LAMINA_SOFTMAX */
enum { LAMINA_NORMALISE_DEFAULT = 0, LAMINA_NORMALISE_NONE = 1, LAMINA_NORMALISE_VISIBLE = 2, LAMINA_NORMALISE_ROW_SUM = 3 };
enum { LAMINA_CAUSAL_NONE = 0, LAMINA_CAUSAL_TOP_LEFT = 1, LAMINA_CAUSAL_BOTTOM_RIGHT = 2 };
enum { LAMINA_FORWARD = 1, LAMINA_BACKWARD = 2 };                                /* directions of lamina_attention_workspace */
enum {                                                                           /* spec.flags */
  LAMINA_SCALE_IS_ZERO = 1 << 0,   /* the scale is exactly 0 (a field of 0 means 1/sqrt(width)) */
  LAMINA_WITH_BIAS = 1 << 1,       /* calls carry a bias [batch, heads, queries, keys], added before the map */
  LAMINA_WITH_MASK = 1 << 2,       /* calls carry a mask, one byte an element, non-zero = visible */
  LAMINA_WITH_LENGTHS = 1 << 3,    /* calls carry query_lengths and key_lengths, [batch] int64 each */
  LAMINA_WITH_LSE = 1 << 4,        /* calls may ask for the log-sum-exp (softmax) and give its cotangent */
  LAMINA_WITH_WEIGHTS = 1 << 5,    /* calls may ask for P and give its cotangent */
  LAMINA_WITH_SCORES = 1 << 6,     /* calls may ask for S */
  LAMINA_WINDOW_LEFT = 1 << 7,     /* window_left counts, also when it is 0 (absent: no limit to the left) */
  LAMINA_WINDOW_RIGHT = 1 << 8,    /* window_right counts, also when it is 0 (absent: no limit to the right) */
  LAMINA_WITH_OFFSETS = 1 << 9     /* sequences of any length, packed: calls carry query_offsets and key_offsets, [batch + 1] int64 each */
};

/* Where arrays and workspaces come from; both functions or neither. allocate returns NULL when it cannot; alignment is a
 * power of two; both may be called from the calling thread only. */
typedef struct lamina_allocator {
  void* (*allocate)(void* user, size_t bytes, size_t alignment);
  void (*release)(void* user, void* memory, size_t bytes);
  void* user;
} lamina_allocator;

typedef struct lamina_attention_spec {
  uint32_t struct_size;
  int32_t element;                   /* LAMINA_F64, LAMINA_F32 */
  int32_t map;                       /* LAMINA_SOFTMAX, LAMINA_LINEAR, LAMINA_RELU */
  int32_t normaliser;                /* LAMINA_NORMALISE_*: default is the row sum for softmax, none for linear and relu */
  int32_t causal;                    /* LAMINA_CAUSAL_*: top left: j <= i; bottom right: j <= i + keys - queries */
  int32_t threads;                   /* at most so many threads per call; 0 means all available */
  uint32_t flags;
  uint32_t reserved;                 /* 0 */
  int64_t batch, heads, kv_heads;    /* kv_heads divides heads; 0 means heads (query head h reads h * kv_heads / heads) */
  int64_t queries, keys;             /* S_q, S_k; maxima where lengths or offsets are given */
  int64_t width, value_width;        /* D >= 1 of Q and K; D_v of V and O, 0 means width */
  int64_t window_left, window_right; /* visible: i + shift - left <= j <= i + shift + right, shift of the alignment; see flags */
  double scale;                      /* 0 means 1/sqrt(width) */
  double relu_at_zero;               /* the derivative of relu at 0, in [0, 1] */
  const char* isa;                   /* instruction set; NULL means the environment's or the fastest */
  lamina_allocator allocator;        /* all NULL means the library's own */
} lamina_attention_spec;

/* Sets struct_size and zeroes the rest; `size` is sizeof(lamina_attention_spec) of the caller. */
LAMINA_API lamina_status lamina_attention_spec_init(lamina_attention_spec* spec, uint32_t size);

/* An array with four strides in elements for [batch, head, position, feature]; 0 (broadcast) and negative are allowed on
 * inputs. For bias, mask, weights, scores the last two are [query, key]; for lse the last is unused. data NULL = absent.
 * With LAMINA_WITH_OFFSETS sequence b stands at positions offsets[b] <= i < offsets[b+1] of one axis, and the batch stride of
 * q, o, lse, d_o, d_lse, d_q (query_offsets) and of k, v, d_k, d_v (key_offsets) is not read: they are [H, offsets[B], feature].
 * What is [query, key] stays [B,H,S_q,S_k], positions counted from the start of each sequence.
 * From the first byte of an output to its last no input may stand, nor the workspace. Outputs may lie between each other's
 * elements but share none: d_q, d_k, d_v may be parts of one array [B,S,3,H,D], or with H_kv < H of [B,S,H+2*H_kv,D].
 * Strides of an output are positive, but that d_bias may have stride 0 along axes where bias has: there it is the sum, of
 * batches, heads, queries, keys in ascending order, in double. */
typedef struct lamina_input { const void* data; int64_t stride[4]; } lamina_input;
typedef struct lamina_output { void* data; int64_t stride[4]; } lamina_output;

typedef struct lamina_attention_arrays {
  uint32_t struct_size;
  uint32_t reserved;
  lamina_input q, k, v;                       /* [B,H,S_q,D], [B,H_kv,S_k,D], [B,H_kv,S_k,D_v] */
  lamina_input bias, mask;                    /* [B,H,S_q,S_k]: with LAMINA_WITH_BIAS, LAMINA_WITH_MASK */
  const int64_t* query_lengths;               /* [B]: with LAMINA_WITH_LENGTHS; each in 0..S_q, 0..S_k */
  const int64_t* key_lengths;
  lamina_output o, lse, weights, scores;      /* forward: o [B,H,S_q,D_v] is required, the others optional */
  lamina_input d_o, d_lse, d_weights;         /* backward: cotangents; d_o is required, the others optional */
  lamina_output d_q, d_k, d_v, d_bias;        /* backward: each optional; written, not added to */
  double* d_scale;                            /* backward: optional, one number */
  const int64_t* query_offsets;               /* [B+1]: with LAMINA_WITH_OFFSETS; 0 first, then ascending by at most S_q, S_k; */
  const int64_t* key_offsets;                 /* lengths, where also given, count within these: each in 0..offsets[b+1]-offsets[b] */
} lamina_attention_arrays;

LAMINA_API lamina_status lamina_attention_arrays_init(lamina_attention_arrays* arrays, uint32_t size);

/* A plan: everything about a call but the pointers. Immutable; may run on several threads at once. */
typedef struct lamina_attention lamina_attention;
LAMINA_API lamina_status lamina_attention_create(const lamina_attention_spec* spec, lamina_attention** out);
LAMINA_API void lamina_attention_free(lamina_attention* attention);
/* The name of the instruction set the plan runs; borrowed, static; NULL for NULL. */
LAMINA_API const char* lamina_attention_isa(const lamina_attention* attention);
/* Bytes of workspace (64-byte aligned) that one call in `direction` needs whatever the strides; one call at a time each. */
LAMINA_API lamina_status lamina_attention_workspace(const lamina_attention* attention, int32_t direction, size_t* bytes);
/* Runs the plan. workspace NULL: the call allocates and frees its own; else nothing is allocated. */
LAMINA_API lamina_status lamina_attention_forward(const lamina_attention* attention, const lamina_attention_arrays* arrays,
                                                  void* workspace, size_t workspace_bytes);
/* Gradients of sum(O . dO) + sum(lse . dlse) + sum(P . dP); recomputes P from q, k, bias: no output of forward is read. */
LAMINA_API lamina_status lamina_attention_backward(const lamina_attention* attention, const lamina_attention_arrays* arrays,
                                                   void* workspace, size_t workspace_bytes);

/* ---- task --------------------------------------------------------------------------------------------------------- */

/* The law of the data: what a prompt is made of and what is to be predicted. All arrays are doubles (a token is its number):
 *   prompts [count, length, width], targets [count, target_width], row-major.
 * For the recall tasks width = 1 and targets are (label, answer): label in 0..vocabulary is what is scored, answer is the token
 * the context identifies; token `vocabulary` is tau, the noise token. For in_context_convergence a prompt is the numbers
 * x_1, y_1, .., x_N, y_N, x_query (x the number of a feature, y its label) and targets are (y_query, x_query). For
 * linear_regression it is the same, each x as its d numbers, and targets are (y_query, y_query). For mesa_optimisation
 * a prompt is Re, Im of each coordinate of x_1 .. x_T, and targets are 0, for the sequence is its own target. For next_token a
 * prompt is a sentence of tokens in 0..vocabulary-1 and targets are (next token, optimal token). For causal_structure tokens are in
 * 0..vocabulary-1 and targets [count, vocabulary] are the law of what follows. */
typedef struct lamina_task lamina_task;

enum { LAMINA_SPLIT_TRAIN = 0, LAMINA_SPLIT_TEST = 1, LAMINA_SPLIT_UNSEEN = 2 /* answers that never occur in training */ };

typedef struct lamina_task_shape {
  uint32_t struct_size;
  int32_t reserved;
  int64_t length, width, target_width; /* length -1: infinite prompts, which cannot be sampled */
  int64_t vocabulary;  /* tokens 0..vocabulary-1, and vocabulary itself for tau where outputs is one more; 0: prompts of numbers */
  int64_t outputs;     /* logits a model of this task has: vocabulary + 1 where there is tau, vocabulary where not; or values */
} lamina_task_shape;

typedef struct lamina_task_arrays {
  uint32_t struct_size;
  uint32_t reserved;
  const double* prompts;   /* [count, length]: tokens in 0..vocabulary; the last token is the query; copied */
  const double* targets;   /* [count, 2]: label, answer; copied */
  int64_t count, length, vocabulary;
  double noise;            /* the probability that the label is tau, in [0, 1): fixes the soft loss and the Bayes risk */
} lamina_task_arrays;

/* Fills prompts [count, length] and targets [count, 2] for prompts first..first+count-1 of `split`; every number must be a
 * function of (seed, split, index) alone. Returns 0, or non-zero to cancel. Called on the thread that called lamina. */
typedef int32_t (*lamina_task_sampler)(void* user, int32_t split, uint64_t seed, int64_t first, int64_t count,
                                       double* prompts, double* targets);
typedef struct lamina_task_callback {
  uint32_t struct_size;
  uint32_t reserved;
  lamina_task_sampler sample;
  void* user;
  int64_t length, vocabulary;
  double noise;
} lamina_task_callback;

/* The task `name` of the catalogue's scope "tasks"; options may be NULL. */
LAMINA_API lamina_status lamina_task_create(const char* name, const lamina_options* options, lamina_task** out);
LAMINA_API lamina_status lamina_task_arrays_init(lamina_task_arrays* arrays, uint32_t size);
/* The host's own prompts as a task (sampling returns them in order, again from the start past the end). */
LAMINA_API lamina_status lamina_task_from_arrays(const lamina_task_arrays* arrays, lamina_task** out);
LAMINA_API lamina_status lamina_task_callback_init(lamina_task_callback* callback, uint32_t size);
/* The host's own sampler as a task; `user` must outlive every handle made from it. */
LAMINA_API lamina_status lamina_task_from_callback(const lamina_task_callback* callback, lamina_task** out);
LAMINA_API void lamina_task_free(lamina_task* task);
LAMINA_API const char* lamina_task_name(const lamina_task* task); /* borrowed; NULL for NULL */
LAMINA_API lamina_status lamina_task_shape_init(lamina_task_shape* shape, uint32_t size);
LAMINA_API lamina_status lamina_task_get_shape(const lamina_task* task, lamina_task_shape* out);
/* Prompts first..first+count-1 of `split` under `seed` (0..2^53): prompt i depends on (seed, split, i) alone. */
LAMINA_API lamina_status lamina_task_sample(const lamina_task* task, int32_t split, uint64_t seed, int64_t first,
                                            int64_t count, double* prompts, double* targets);
/* The token's text: "q0", "o3", "z7", "tau" for in_context_recall, the word or character for text_recall; UTF-8; borrowed. */
LAMINA_API lamina_status lamina_task_token(const lamina_task* task, int64_t token, const char** out);

/* ---- model -------------------------------------------------------------------------------------------------------- */

/* A one-layer transformer for a task. Its parameters are named tensors laid one after the other in one vector of doubles. */
typedef struct lamina_model lamina_model;

typedef struct lamina_tensor {
  uint32_t struct_size;
  int32_t trained;     /* 1 if a trainer moves it, 0 if it is held fixed */
  const char* name;    /* "lambda", "W", "V", "U", "F", ...; borrowed from the model */
  int64_t rank;        /* 1 or 2; row-major */
  int64_t shape[4];
  int64_t offset;      /* of the first element in the parameter vector */
  int64_t count;
} lamina_tensor;

/* Parts of the logits: all, what attention alone gives (U phi), what the feed-forward part alone gives (U F g). */
enum { LAMINA_LOGITS = 0, LAMINA_LOGITS_ATTENTION = 1, LAMINA_LOGITS_FEED_FORWARD = 2 };

LAMINA_API lamina_status lamina_model_create(const lamina_task* task, const lamina_options* options, lamina_model** out);
LAMINA_API lamina_status lamina_model_copy(const lamina_model* model, lamina_model** out);
LAMINA_API void lamina_model_free(lamina_model* model);
LAMINA_API const char* lamina_model_isa(const lamina_model* model); /* the instruction set it runs; static; NULL for NULL */
LAMINA_API lamina_status lamina_model_parameter_count(const lamina_model* model, int64_t* out);
/* count must be the parameter count; values must be finite. */
LAMINA_API lamina_status lamina_model_get_parameters(const lamina_model* model, double* out, int64_t count);
LAMINA_API lamina_status lamina_model_set_parameters(lamina_model* model, const double* values, int64_t count);
LAMINA_API lamina_status lamina_model_tensor_count(const lamina_model* model, int64_t* out);
LAMINA_API lamina_status lamina_tensor_init(lamina_tensor* tensor, uint32_t size);
LAMINA_API lamina_status lamina_model_tensor_describe(const lamina_model* model, int64_t index, lamina_tensor* out);
/* Logits, or predictions, [count, outputs] of prompts [count, length, width] as the task samples them, part is LAMINA_LOGITS*. The
 * length may differ from the task's where the kind of task allows it: of tokens any >= 2. */
LAMINA_API lamina_status lamina_model_forward(const lamina_model* model, const double* prompts, int64_t count, int64_t length,
                                              int32_t part, double* logits);
/* Attention weights [count, length] of the last position over all positions. */
LAMINA_API lamina_status lamina_model_attention(const lamina_model* model, const double* prompts, int64_t count,
                                                int64_t length, double* weights);
/* The mean over the prompts of the loss that a run's column "loss" has (cross-entropy in nats for tokens, half the squared error
 * for real labels), and its gradient [parameter_count] (NULL to skip; 0 for held tensors). */
LAMINA_API lamina_status lamina_model_loss_gradient(const lamina_model* model, const double* prompts, const double* targets,
                                                    int64_t count, int64_t length, double* loss, double* gradient);

/* ---- theory ------------------------------------------------------------------------------------------------------- */

/* The closed form `name` (scope "theory" lists names, arguments and results) for `task`, whose options fix the law; NULL
 * where the entry says that no task is read. arguments [argument_count], out [out_count] as the entry says. */
LAMINA_API lamina_status lamina_theory_evaluate(const char* name, const lamina_task* task, const double* arguments,
                                                int64_t argument_count, double* out, int64_t out_count);

/* ---- trainer ------------------------------------------------------------------------------------------------------ */

typedef struct lamina_trainer lamina_trainer;
typedef struct lamina_trajectory lamina_trajectory;

typedef struct lamina_progress {
  uint32_t struct_size;
  int32_t reserved;
  int64_t step, steps;       /* updates made, and asked for in all */
  double loss, excess;       /* of the last step; excess is NaN where it is not defined */
  double seconds;            /* spent in lamina_trainer_run so far */
  double steps_per_second;
} lamina_progress;
/* Non-zero cancels the run, which then returns LAMINA_STOPPED. Called on the thread that called lamina_trainer_run. */
typedef int32_t (*lamina_progress_function)(void* user, const lamina_progress* progress);

/* A run: a copy of `model` (NULL: one is made from the options) descending the task's objective under the options. The probe
 * "predicted" is of the initial parameters that the model's options give: a model with others has no such column. */
LAMINA_API lamina_status lamina_trainer_create(const lamina_task* task, const lamina_model* model,
                                               const lamina_options* options, lamina_trainer** out);
LAMINA_API void lamina_trainer_free(lamina_trainer* trainer);
/* Adds a probe of the scope "probes" as columns of the trajectory; before the first step only. */
LAMINA_API lamina_status lamina_trainer_watch(lamina_trainer* trainer, const char* probe);
/* Calls `function` about every `seconds` (0: after every step) during a run; NULL takes it away. */
LAMINA_API lamina_status lamina_trainer_on_progress(lamina_trainer* trainer, lamina_progress_function function, void* user,
                                                    double seconds);
/* Makes at most `steps` more updates, never beyond the option `steps`; 0 means all that remain. A positive status says why it ended early;
 * what was recorded stays, and the run may be continued. */
LAMINA_API lamina_status lamina_trainer_run(lamina_trainer* trainer, int64_t steps);
/* One lock-free store: safe from any thread and from a signal handler; the run ends after the step under way. */
LAMINA_API void lamina_trainer_stop(lamina_trainer* trainer);
LAMINA_API lamina_status lamina_trainer_step(const lamina_trainer* trainer, int64_t* out); /* updates made so far */
/* One pair of the option `crossings`: the first step at which a column reached a value, and the moment on the way to it. */
typedef struct lamina_crossing {
  uint32_t struct_size;
  uint32_t reserved;
  const char* signal;   /* the column's name; borrowed from the trainer */
  double value;         /* and what it is to reach, from the side of its first value */
  int64_t step;         /* -1: not yet */
  double before, after; /* the column at step - 1 and at step; NaN where there is none */
  double time;          /* in steps: under optimiser=flow the moment in [step - 1, step], as the option says; else step; NaN: not yet */
} lamina_crossing;

LAMINA_API lamina_status lamina_crossing_init(lamina_crossing* crossing, uint32_t size);
/* As many as the option names, in its order, whether reached or not. */
LAMINA_API lamina_status lamina_trainer_crossing_count(const lamina_trainer* trainer, int64_t* out);
LAMINA_API lamina_status lamina_trainer_crossing(const lamina_trainer* trainer, int64_t index, lamina_crossing* out);
/* The value of option `key` that holds in this run, given or default, as lamina_options_set_text takes it (an array: numbers
 * with commas). Borrowed. A key that no part of the run has fails; a value that is not set is "". */
LAMINA_API lamina_status lamina_trainer_option(const lamina_trainer* trainer, const char* key, const char** out);
/* The task of the run, also of one that was loaded; the caller's. */
LAMINA_API lamina_status lamina_trainer_task(const lamina_trainer* trainer, lamina_task** out);
/* A copy of the model as it stands; the caller's. */
LAMINA_API lamina_status lamina_trainer_model(const lamina_trainer* trainer, lamina_model** out);
/* The recorded rows as they stand; the caller's, and unchanged by later steps. */
LAMINA_API lamina_status lamina_trainer_trajectory(const lamina_trainer* trainer, lamina_trajectory** out);
/* Writes everything that is needed to continue with the same bits to one safetensors file, whole or not at all. */
LAMINA_API lamina_status lamina_trainer_save(const lamina_trainer* trainer, const char* path);
/* Reads it back. A task made from arrays or a callback is not in the file: pass it as `task`; else `task` may be NULL. */
LAMINA_API lamina_status lamina_trainer_load(const char* path, const lamina_task* task, lamina_trainer** out);

/* ---- trajectory --------------------------------------------------------------------------------------------------- */

/* A table of doubles: columns "step", "loss", "excess", then one or more per probe; row 0 is before the first update. */
LAMINA_API void lamina_trajectory_free(lamina_trajectory* trajectory);
LAMINA_API lamina_status lamina_trajectory_rows(const lamina_trajectory* trajectory, int64_t* out);
LAMINA_API lamina_status lamina_trajectory_columns(const lamina_trajectory* trajectory, int64_t* out);
/* Borrowed; `definition` (may be NULL) is set to the column's one-line definition. */
LAMINA_API lamina_status lamina_trajectory_column_name(const lamina_trajectory* trajectory, int64_t column, const char** name,
                                                       const char** definition);
/* Copies column `column` into out [capacity >= rows]. */
LAMINA_API lamina_status lamina_trajectory_read(const lamina_trajectory* trajectory, int64_t column, double* out,
                                                int64_t capacity);

/* ---- ensemble ----------------------------------------------------------------------------------------------------- */

/* One run for every element of a product of lists of option values (seeds, step sizes, sizes, variants ...), the last axis
 * fastest. A member's trajectory has the bits of that run alone, for every number of threads. Each member is trained by one
 * thread, and the option `threads` (0: all) says how many share the members; members that differ only in their descent and record
 * share the prompts they draw. In memory are the trajectories of all that have ended, and of at most 16 members a thread the
 * model, gradient, optimiser and drawn prompts. */
typedef struct lamina_ensemble lamina_ensemble;

typedef struct lamina_ensemble_progress {
  uint32_t struct_size;
  int32_t reserved;
  int64_t ended, members;    /* runs that have ended, and in all */
  int64_t failed;            /* of those that have ended */
  double seconds;            /* spent in lamina_ensemble_run so far */
  double steps, all_steps;   /* updates made, and of all runs to their ends; a run that has ended counts as whole */
} lamina_ensemble_progress;
/* Non-zero cancels, and lamina_ensemble_run returns LAMINA_STOPPED. Called on the thread that called lamina_ensemble_run. */
typedef int32_t (*lamina_ensemble_progress_function)(void* user, const lamina_ensemble_progress* progress);

/* An ensemble of one member: a run of task `name` under the options. task NULL: each member makes its task from the options,
 * equal ones once; else it is everybody's, `name` is its name or NULL, and no option of the task may be varied. Members of a task
 * from a callback are trained one by one on the calling thread. */
LAMINA_API lamina_status lamina_ensemble_create(const char* name, const lamina_task* task, const lamina_options* options,
                                                lamina_ensemble** out);
LAMINA_API void lamina_ensemble_free(lamina_ensemble* ensemble);
/* Adds an axis: the values of one option of task, model or trainer but `threads`, each as lamina_options_set_text takes it, with
 * commas between them, or semicolons for texts and arrays; "0..199" is 200 integers. Each value is checked here; whether values
 * fit each other is seen in the run. Before the first run only; at most a million members. */
LAMINA_API lamina_status lamina_ensemble_vary(lamina_ensemble* ensemble, const char* key, const char* values);
LAMINA_API lamina_status lamina_ensemble_count(const lamina_ensemble* ensemble, int64_t* out); /* members */
LAMINA_API lamina_status lamina_ensemble_axis_count(const lamina_ensemble* ensemble, int64_t* out);
/* Key and number of values of axis 0..axis_count-1. Strings here are borrowed. */
LAMINA_API lamina_status lamina_ensemble_axis(const lamina_ensemble* ensemble, int64_t axis, const char** key, int64_t* count);
/* Value `index` of an axis as text and as it stands in tables: the number, or `index` for words, texts and arrays, where
 * `is_number` is set to 0. Outputs but text may be NULL. */
LAMINA_API lamina_status lamina_ensemble_axis_value(const lamina_ensemble* ensemble, int64_t axis, int64_t index, const char** text,
                                                    double* number, int32_t* is_number);
/* The value of `key` in one member, as text: its axis's, or what was set, or the catalogue's default. Borrowed. */
LAMINA_API lamina_status lamina_ensemble_option(const lamina_ensemble* ensemble, int64_t member, const char* key,
                                                const char** out);
/* All options of one member, for lamina_task_create and lamina_trainer_create to make that run alone; the caller's. */
LAMINA_API lamina_status lamina_ensemble_options(const lamina_ensemble* ensemble, int64_t member, lamina_options** out);
/* Calls `function` about every `seconds` (at least 0.02) during a run, and at its end; NULL takes it away. */
LAMINA_API lamina_status lamina_ensemble_on_progress(lamina_ensemble* ensemble, lamina_ensemble_progress_function function,
                                                     void* user, double seconds);
/* Trains members that have not ended, goes on for as long again with those out of time, and tries again those that failed. LAMINA_OK when
 * all have ended, each in its own way; LAMINA_STOPPED after a stop: run again to go on with the same bits. */
LAMINA_API lamina_status lamina_ensemble_run(lamina_ensemble* ensemble);
/* One lock-free store: safe from any thread and from a signal handler; each thread ends the few steps under way. */
LAMINA_API void lamina_ensemble_stop(lamina_ensemble* ensemble);
/* How one member ended, as lamina_trainer_run or a create would return it; LAMINA_STOPPED for one that has not. text (may be
 * NULL): why it failed, else ""; borrowed until the next run. A failed member takes nothing from the others. */
LAMINA_API lamina_status lamina_ensemble_status(const lamina_ensemble* ensemble, int64_t member, lamina_status* status,
                                                const char** text);
/* The trajectory of a member that has ended and not failed; the caller's. */
LAMINA_API lamina_status lamina_ensemble_trajectory(const lamina_ensemble* ensemble, int64_t member, lamina_trajectory** out);

/* Tables (lamina_trajectory, the caller's). An axis is a column as lamina_ensemble_axis_value has it. Members that have not ended
 * are not in them.
 * The tidy table: "member", the axes, "status", then every column of the members' trajectories, by name, NaN where a member has
 * none. A failed member has one row. A copy: 8 bytes times rows times columns. */
LAMINA_API lamina_status lamina_ensemble_table(const lamina_ensemble* ensemble, lamina_trajectory** out);
/* Mean and quantiles of `column` by step over members that agree on every axis but `over` (keys with commas; "" or NULL: none), at the
 * steps that all which have not ended recorded: the other axes, "step", "members" (with a number), "ended" (of these; by a target or a
 * vanished gradient, and so at their last number), "mean", "q0.5" ... for quantiles [count] in [0, 1], linear between order statistics. */
LAMINA_API lamina_status lamina_ensemble_summary(const lamina_ensemble* ensemble, const char* column, const char* over,
                                                 const double* quantiles, int64_t count, lamina_trajectory** out);
/* "member", the axes, "status", "level", "time": the first step at which `column` is at one of levels [count] or on the other side of
 * it than at the start; NaN if never. Exact for a column and level that the option `crossings` names (under optimiser=flow the moment
 * between steps), else the first such row. count 0: the levels of crossings. */
LAMINA_API lamina_status lamina_ensemble_times(const lamina_ensemble* ensemble, const char* column, const double* levels,
                                               int64_t count, lamina_trajectory** out);
/* d log time / d log x by least squares over the members that agree on every axis but `along` and `over`: x is the value of axis
 * `along`, one line for each level; or with along "level" 1/level, one line through all levels. Columns: the other axes, "level",
 * "exponent", "error", "lower", "upper" (Student's t, points - 2 degrees of freedom, `confidence` in (0, 1): a confidence interval if
 * the runs are independent; times of one run to several levels are not), "intercept", "r_squared", "points", "missing" (runs without
 * that time, or at step 0: left out). */
LAMINA_API lamina_status lamina_ensemble_exponents(const lamina_ensemble* ensemble, const char* column, const char* along,
                                                   const char* over, const double* levels, int64_t count, double confidence,
                                                   lamina_trajectory** out);
/* Writes what the ensemble is, the members that have ended and the states of those under way or out of time to one file, whole or not at
 * all: after a load they go on from there, the others from their beginning, to the same bits. */
LAMINA_API lamina_status lamina_ensemble_save(const lamina_ensemble* ensemble, const char* path);
/* Reads it back; `task` as in lamina_trainer_load. */
LAMINA_API lamina_status lamina_ensemble_load(const char* path, const lamina_task* task, lamina_ensemble** out);

#ifdef __cplusplus
}
#endif
#endif
