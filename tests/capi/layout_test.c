/* The binary interface, pinned: a size or an offset that changes breaks every program that was built before. Fields are added
 * at the end of a struct alone; then the old size stays an accepted one (capi/check.hpp). For machines with 64-bit pointers. */
#include "lamina/lamina.h"

#define SIZE(type, size) _Static_assert(sizeof(type) == size, #type)
#define FIELD(type, field, offset) _Static_assert(offsetof(type, field) == offset, #type "." #field)
#define VALUE(name, value) _Static_assert(name == value, #name)

#if UINTPTR_MAX == UINT64_MAX

SIZE(lamina_catalogue_entry, 72);
FIELD(lamina_catalogue_entry, struct_size, 0);
FIELD(lamina_catalogue_entry, kind, 4);
FIELD(lamina_catalogue_entry, key, 8);
FIELD(lamina_catalogue_entry, owner, 16);
FIELD(lamina_catalogue_entry, fallback, 24);
FIELD(lamina_catalogue_entry, minimum, 32);
FIELD(lamina_catalogue_entry, maximum, 40);
FIELD(lamina_catalogue_entry, words, 48);
FIELD(lamina_catalogue_entry, summary, 56);
FIELD(lamina_catalogue_entry, description, 64);

SIZE(lamina_allocator, 24);
FIELD(lamina_allocator, allocate, 0);
FIELD(lamina_allocator, release, 8);
FIELD(lamina_allocator, user, 16);

SIZE(lamina_attention_spec, 152);
FIELD(lamina_attention_spec, struct_size, 0);
FIELD(lamina_attention_spec, element, 4);
FIELD(lamina_attention_spec, map, 8);
FIELD(lamina_attention_spec, normaliser, 12);
FIELD(lamina_attention_spec, causal, 16);
FIELD(lamina_attention_spec, threads, 20);
FIELD(lamina_attention_spec, flags, 24);
FIELD(lamina_attention_spec, reserved, 28);
FIELD(lamina_attention_spec, batch, 32);
FIELD(lamina_attention_spec, heads, 40);
FIELD(lamina_attention_spec, kv_heads, 48);
FIELD(lamina_attention_spec, queries, 56);
FIELD(lamina_attention_spec, keys, 64);
FIELD(lamina_attention_spec, width, 72);
FIELD(lamina_attention_spec, value_width, 80);
FIELD(lamina_attention_spec, window_left, 88);
FIELD(lamina_attention_spec, window_right, 96);
FIELD(lamina_attention_spec, scale, 104);
FIELD(lamina_attention_spec, relu_at_zero, 112);
FIELD(lamina_attention_spec, isa, 120);
FIELD(lamina_attention_spec, allocator, 128);

SIZE(lamina_input, 40);
FIELD(lamina_input, data, 0);
FIELD(lamina_input, stride, 8);

SIZE(lamina_output, 40);
FIELD(lamina_output, data, 0);
FIELD(lamina_output, stride, 8);

SIZE(lamina_attention_arrays, 688);
FIELD(lamina_attention_arrays, struct_size, 0);
FIELD(lamina_attention_arrays, reserved, 4);
FIELD(lamina_attention_arrays, q, 8);
FIELD(lamina_attention_arrays, k, 48);
FIELD(lamina_attention_arrays, v, 88);
FIELD(lamina_attention_arrays, bias, 128);
FIELD(lamina_attention_arrays, mask, 168);
FIELD(lamina_attention_arrays, query_lengths, 208);
FIELD(lamina_attention_arrays, key_lengths, 216);
FIELD(lamina_attention_arrays, o, 224);
FIELD(lamina_attention_arrays, lse, 264);
FIELD(lamina_attention_arrays, weights, 304);
FIELD(lamina_attention_arrays, scores, 344);
FIELD(lamina_attention_arrays, d_o, 384);
FIELD(lamina_attention_arrays, d_lse, 424);
FIELD(lamina_attention_arrays, d_weights, 464);
FIELD(lamina_attention_arrays, d_q, 504);
FIELD(lamina_attention_arrays, d_k, 544);
FIELD(lamina_attention_arrays, d_v, 584);
FIELD(lamina_attention_arrays, d_bias, 624);
FIELD(lamina_attention_arrays, d_scale, 664);
FIELD(lamina_attention_arrays, query_offsets, 672);
FIELD(lamina_attention_arrays, key_offsets, 680);

SIZE(lamina_task_shape, 48);
FIELD(lamina_task_shape, struct_size, 0);
FIELD(lamina_task_shape, reserved, 4);
FIELD(lamina_task_shape, length, 8);
FIELD(lamina_task_shape, width, 16);
FIELD(lamina_task_shape, target_width, 24);
FIELD(lamina_task_shape, vocabulary, 32);
FIELD(lamina_task_shape, outputs, 40);

SIZE(lamina_task_arrays, 56);
FIELD(lamina_task_arrays, struct_size, 0);
FIELD(lamina_task_arrays, reserved, 4);
FIELD(lamina_task_arrays, prompts, 8);
FIELD(lamina_task_arrays, targets, 16);
FIELD(lamina_task_arrays, count, 24);
FIELD(lamina_task_arrays, length, 32);
FIELD(lamina_task_arrays, vocabulary, 40);
FIELD(lamina_task_arrays, noise, 48);

SIZE(lamina_task_callback, 48);
FIELD(lamina_task_callback, struct_size, 0);
FIELD(lamina_task_callback, reserved, 4);
FIELD(lamina_task_callback, sample, 8);
FIELD(lamina_task_callback, user, 16);
FIELD(lamina_task_callback, length, 24);
FIELD(lamina_task_callback, vocabulary, 32);
FIELD(lamina_task_callback, noise, 40);

SIZE(lamina_tensor, 72);
FIELD(lamina_tensor, struct_size, 0);
FIELD(lamina_tensor, trained, 4);
FIELD(lamina_tensor, name, 8);
FIELD(lamina_tensor, rank, 16);
FIELD(lamina_tensor, shape, 24);
FIELD(lamina_tensor, offset, 56);
FIELD(lamina_tensor, count, 64);

SIZE(lamina_progress, 56);
FIELD(lamina_progress, struct_size, 0);
FIELD(lamina_progress, reserved, 4);
FIELD(lamina_progress, step, 8);
FIELD(lamina_progress, steps, 16);
FIELD(lamina_progress, loss, 24);
FIELD(lamina_progress, excess, 32);
FIELD(lamina_progress, seconds, 40);
FIELD(lamina_progress, steps_per_second, 48);

SIZE(lamina_crossing, 56);
FIELD(lamina_crossing, struct_size, 0);
FIELD(lamina_crossing, reserved, 4);
FIELD(lamina_crossing, signal, 8);
FIELD(lamina_crossing, value, 16);
FIELD(lamina_crossing, step, 24);
FIELD(lamina_crossing, before, 32);
FIELD(lamina_crossing, after, 40);
FIELD(lamina_crossing, time, 48);

SIZE(lamina_ensemble_progress, 56);
FIELD(lamina_ensemble_progress, struct_size, 0);
FIELD(lamina_ensemble_progress, reserved, 4);
FIELD(lamina_ensemble_progress, ended, 8);
FIELD(lamina_ensemble_progress, members, 16);
FIELD(lamina_ensemble_progress, failed, 24);
FIELD(lamina_ensemble_progress, seconds, 32);
FIELD(lamina_ensemble_progress, steps, 40);
FIELD(lamina_ensemble_progress, all_steps, 48);
#endif

VALUE(LAMINA_OK, 0);
VALUE(LAMINA_STOPPED, 1);
VALUE(LAMINA_DIVERGED, 2);
VALUE(LAMINA_GRADIENT_VANISHED, 3);
VALUE(LAMINA_TARGET_REACHED, 4);
VALUE(LAMINA_TIME_LIMIT, 5);
VALUE(LAMINA_E_ARGUMENT, -1);
VALUE(LAMINA_E_OPTION, -2);
VALUE(LAMINA_E_MEMORY, -3);
VALUE(LAMINA_E_FILE, -4);
VALUE(LAMINA_E_FORMAT, -5);
VALUE(LAMINA_E_UNSUPPORTED, -6);
VALUE(LAMINA_E_STATE, -7);
VALUE(LAMINA_E_INTERNAL, -8);
VALUE(LAMINA_KIND_NUMBER, 1);
VALUE(LAMINA_KIND_INTEGER, 2);
VALUE(LAMINA_KIND_WORD, 3);
VALUE(LAMINA_KIND_TEXT, 4);
VALUE(LAMINA_KIND_ARRAY, 5);
VALUE(LAMINA_KIND_NAME, 6);
VALUE(LAMINA_F64, 1);
VALUE(LAMINA_F32, 2);
VALUE(LAMINA_SOFTMAX, 1);
VALUE(LAMINA_LINEAR, 2);
VALUE(LAMINA_RELU, 3);
VALUE(LAMINA_NORMALISE_DEFAULT, 0);
VALUE(LAMINA_NORMALISE_NONE, 1);
VALUE(LAMINA_NORMALISE_VISIBLE, 2);
VALUE(LAMINA_NORMALISE_ROW_SUM, 3);
VALUE(LAMINA_CAUSAL_NONE, 0);
VALUE(LAMINA_CAUSAL_TOP_LEFT, 1);
VALUE(LAMINA_CAUSAL_BOTTOM_RIGHT, 2);
VALUE(LAMINA_FORWARD, 1);
VALUE(LAMINA_BACKWARD, 2);
VALUE(LAMINA_SCALE_IS_ZERO, 1);
VALUE(LAMINA_WITH_BIAS, 2);
VALUE(LAMINA_WITH_MASK, 4);
VALUE(LAMINA_WITH_LENGTHS, 8);
VALUE(LAMINA_WITH_LSE, 16);
VALUE(LAMINA_WITH_WEIGHTS, 32);
VALUE(LAMINA_WITH_SCORES, 64);
VALUE(LAMINA_WINDOW_LEFT, 128);
VALUE(LAMINA_WINDOW_RIGHT, 256);
VALUE(LAMINA_WITH_OFFSETS, 512);
VALUE(LAMINA_SPLIT_TRAIN, 0);
VALUE(LAMINA_SPLIT_TEST, 1);
VALUE(LAMINA_SPLIT_UNSEEN, 2);
VALUE(LAMINA_LOGITS, 0);
VALUE(LAMINA_LOGITS_ATTENTION, 1);
VALUE(LAMINA_LOGITS_FEED_FORWARD, 2);
_Static_assert(sizeof(lamina_status) == 4, "lamina_status");

int main(void) {
  return 0;
}
