"""The C header in ctypes: its constants, structs and prototypes, in the header's order. Nothing else."""
from __future__ import annotations

import ctypes
from ctypes import CFUNCTYPE, POINTER, Structure, c_char_p, c_double, c_int32, c_int64, c_size_t, c_uint32, c_uint64, c_void_p

ABI = 0  # the major version of the binary interface that the structs below describe

OK, STOPPED, DIVERGED = 0, 1, 2
STATUSES = {1: "stopped", 2: "diverged", 3: "gradient_vanished", 4: "target_reached", 5: "time_limit"}
KINDS = {1: "number", 2: "integer", 3: "word", 4: "text", 5: "array", 6: "name"}
F64, F32 = 1, 2
FORWARD, BACKWARD = 1, 2
MAPS = {"softmax": 1, "linear": 2, "relu": 3}
NORMALISERS = {"default": 0, "none": 1, "visible": 2, "row_sum": 3}
CAUSAL = {"none": 0, "top_left": 1, "bottom_right": 2}
SCALE_IS_ZERO, WITH_BIAS, WITH_MASK, WITH_LENGTHS = 1 << 0, 1 << 1, 1 << 2, 1 << 3
WITH_LSE, WITH_WEIGHTS, WITH_SCORES, WINDOW_LEFT, WINDOW_RIGHT = 1 << 4, 1 << 5, 1 << 6, 1 << 7, 1 << 8
WITH_OFFSETS = 1 << 9
SPLITS = {"train": 0, "test": 1, "unseen": 2}
PARTS = {"all": 0, "attention": 1, "feed_forward": 2}


class CatalogueEntry(Structure):
    _fields_ = [("struct_size", c_uint32), ("kind", c_int32), ("key", c_char_p), ("owner", c_char_p), ("fallback", c_char_p),
                ("minimum", c_double), ("maximum", c_double), ("words", c_char_p), ("summary", c_char_p),
                ("description", c_char_p)]


class Allocator(Structure):
    _fields_ = [("allocate", c_void_p), ("release", c_void_p), ("user", c_void_p)]


class AttentionSpec(Structure):
    _fields_ = [("struct_size", c_uint32), ("element", c_int32), ("map", c_int32), ("normaliser", c_int32), ("causal", c_int32),
                ("threads", c_int32), ("flags", c_uint32), ("reserved", c_uint32), ("batch", c_int64), ("heads", c_int64),
                ("kv_heads", c_int64), ("queries", c_int64), ("keys", c_int64), ("width", c_int64), ("value_width", c_int64),
                ("window_left", c_int64), ("window_right", c_int64), ("scale", c_double), ("relu_at_zero", c_double),
                ("isa", c_char_p), ("allocator", Allocator)]


class Strided(Structure):  # lamina_input and lamina_output
    _fields_ = [("data", c_void_p), ("stride", c_int64 * 4)]


class AttentionArrays(Structure):
    _fields_ = [("struct_size", c_uint32), ("reserved", c_uint32), ("q", Strided), ("k", Strided), ("v", Strided),
                ("bias", Strided), ("mask", Strided), ("query_lengths", c_void_p), ("key_lengths", c_void_p), ("o", Strided),
                ("lse", Strided), ("weights", Strided), ("scores", Strided), ("d_o", Strided), ("d_lse", Strided),
                ("d_weights", Strided), ("d_q", Strided), ("d_k", Strided), ("d_v", Strided), ("d_bias", Strided),
                ("d_scale", c_void_p), ("query_offsets", c_void_p), ("key_offsets", c_void_p)]


class TaskShape(Structure):
    _fields_ = [("struct_size", c_uint32), ("reserved", c_int32), ("length", c_int64), ("width", c_int64),
                ("target_width", c_int64), ("vocabulary", c_int64), ("outputs", c_int64)]


class TaskArrays(Structure):
    _fields_ = [("struct_size", c_uint32), ("reserved", c_uint32), ("prompts", c_void_p), ("targets", c_void_p),
                ("count", c_int64), ("length", c_int64), ("vocabulary", c_int64), ("noise", c_double)]


Sampler = CFUNCTYPE(c_int32, c_void_p, c_int32, c_uint64, c_int64, c_int64, POINTER(c_double), POINTER(c_double))


class TaskCallback(Structure):
    _fields_ = [("struct_size", c_uint32), ("reserved", c_uint32), ("sample", Sampler), ("user", c_void_p), ("length", c_int64),
                ("vocabulary", c_int64), ("noise", c_double)]


class Tensor(Structure):
    _fields_ = [("struct_size", c_uint32), ("trained", c_int32), ("name", c_char_p), ("rank", c_int64), ("shape", c_int64 * 4),
                ("offset", c_int64), ("count", c_int64)]


class ProgressRecord(Structure):
    _fields_ = [("struct_size", c_uint32), ("reserved", c_int32), ("step", c_int64), ("steps", c_int64), ("loss", c_double),
                ("excess", c_double), ("seconds", c_double), ("steps_per_second", c_double)]


class Crossing(Structure):
    _fields_ = [("struct_size", c_uint32), ("reserved", c_uint32), ("signal", c_char_p), ("value", c_double), ("step", c_int64),
                ("before", c_double), ("after", c_double), ("time", c_double)]


ProgressFunction = CFUNCTYPE(c_int32, c_void_p, POINTER(ProgressRecord))

class EnsembleProgressRecord(Structure):
    _fields_ = [("struct_size", c_uint32), ("reserved", c_int32), ("ended", c_int64), ("members", c_int64), ("failed", c_int64),
                ("seconds", c_double), ("steps", c_double), ("all_steps", c_double)]


EnsembleProgressFunction = CFUNCTYPE(c_int32, c_void_p, POINTER(EnsembleProgressRecord))

_text, _handle, _out, _array = c_char_p, c_void_p, POINTER(c_void_p), c_void_p
_count, _status = POINTER(c_int64), c_int32

# name: (result, arguments). None is void.
PROTOTYPES = {
    "lamina_version": (_text, []),
    "lamina_abi": (c_int32, []),
    "lamina_status_name": (_text, [c_int32]),
    "lamina_last_error": (_text, []),
    "lamina_isa_count": (c_int32, []),
    "lamina_isa_name": (_text, [c_int32]),
    "lamina_build_info": (_text, []),
    "lamina_options_create": (_status, [_out]),
    "lamina_options_free": (None, [_handle]),
    "lamina_options_set_number": (_status, [_handle, _text, c_double]),
    "lamina_options_set_text": (_status, [_handle, _text, _text]),
    "lamina_options_set_array": (_status, [_handle, _text, _array, c_int64]),
    "lamina_catalogue_count": (c_int64, [_text]),
    "lamina_catalogue_describe": (_status, [_text, c_int64, POINTER(CatalogueEntry)]),
    "lamina_catalogue_entry_init": (_status, [POINTER(CatalogueEntry), c_uint32]),
    "lamina_attention_spec_init": (_status, [POINTER(AttentionSpec), c_uint32]),
    "lamina_attention_arrays_init": (_status, [POINTER(AttentionArrays), c_uint32]),
    "lamina_attention_create": (_status, [POINTER(AttentionSpec), _out]),
    "lamina_attention_free": (None, [_handle]),
    "lamina_attention_workspace": (_status, [_handle, c_int32, POINTER(c_size_t)]),
    "lamina_attention_isa": (_text, [_handle]),
    "lamina_attention_forward": (_status, [_handle, POINTER(AttentionArrays), c_void_p, c_size_t]),
    "lamina_attention_backward": (_status, [_handle, POINTER(AttentionArrays), c_void_p, c_size_t]),
    "lamina_task_create": (_status, [_text, _handle, _out]),
    "lamina_task_arrays_init": (_status, [POINTER(TaskArrays), c_uint32]),
    "lamina_task_from_arrays": (_status, [POINTER(TaskArrays), _out]),
    "lamina_task_callback_init": (_status, [POINTER(TaskCallback), c_uint32]),
    "lamina_task_from_callback": (_status, [POINTER(TaskCallback), _out]),
    "lamina_task_free": (None, [_handle]),
    "lamina_task_name": (_text, [_handle]),
    "lamina_task_shape_init": (_status, [POINTER(TaskShape), c_uint32]),
    "lamina_task_get_shape": (_status, [_handle, POINTER(TaskShape)]),
    "lamina_task_sample": (_status, [_handle, c_int32, c_uint64, c_int64, c_int64, _array, _array]),
    "lamina_task_token": (_status, [_handle, c_int64, POINTER(c_char_p)]),
    "lamina_model_create": (_status, [_handle, _handle, _out]),
    "lamina_model_copy": (_status, [_handle, _out]),
    "lamina_model_free": (None, [_handle]),
    "lamina_model_isa": (_text, [_handle]),
    "lamina_model_parameter_count": (_status, [_handle, _count]),
    "lamina_model_get_parameters": (_status, [_handle, _array, c_int64]),
    "lamina_model_set_parameters": (_status, [_handle, _array, c_int64]),
    "lamina_model_tensor_count": (_status, [_handle, _count]),
    "lamina_tensor_init": (_status, [POINTER(Tensor), c_uint32]),
    "lamina_model_tensor_describe": (_status, [_handle, c_int64, POINTER(Tensor)]),
    "lamina_model_forward": (_status, [_handle, _array, c_int64, c_int64, c_int32, _array]),
    "lamina_model_attention": (_status, [_handle, _array, c_int64, c_int64, _array]),
    "lamina_model_loss_gradient": (_status, [_handle, _array, _array, c_int64, c_int64, POINTER(c_double), _array]),
    "lamina_theory_evaluate": (_status, [_text, _handle, _array, c_int64, _array, c_int64]),
    "lamina_trainer_create": (_status, [_handle, _handle, _handle, _out]),
    "lamina_trainer_free": (None, [_handle]),
    "lamina_trainer_watch": (_status, [_handle, _text]),
    "lamina_trainer_on_progress": (_status, [_handle, ProgressFunction, c_void_p, c_double]),
    "lamina_trainer_run": (_status, [_handle, c_int64]),
    "lamina_trainer_stop": (None, [_handle]),
    "lamina_trainer_step": (_status, [_handle, _count]),
    "lamina_crossing_init": (_status, [POINTER(Crossing), c_uint32]),
    "lamina_trainer_crossing_count": (_status, [_handle, _count]),
    "lamina_trainer_crossing": (_status, [_handle, c_int64, POINTER(Crossing)]),
    "lamina_trainer_option": (_status, [_handle, _text, POINTER(c_char_p)]),
    "lamina_trainer_model": (_status, [_handle, _out]),
    "lamina_trainer_task": (_status, [_handle, _out]),
    "lamina_trainer_trajectory": (_status, [_handle, _out]),
    "lamina_trainer_save": (_status, [_handle, _text]),
    "lamina_trainer_load": (_status, [_text, _handle, _out]),
    "lamina_trajectory_free": (None, [_handle]),
    "lamina_trajectory_rows": (_status, [_handle, _count]),
    "lamina_trajectory_columns": (_status, [_handle, _count]),
    "lamina_trajectory_column_name": (_status, [_handle, c_int64, POINTER(c_char_p), POINTER(c_char_p)]),
    "lamina_trajectory_read": (_status, [_handle, c_int64, _array, c_int64]),
    "lamina_ensemble_create": (_status, [_text, _handle, _handle, _out]),
    "lamina_ensemble_free": (None, [_handle]),
    "lamina_ensemble_vary": (_status, [_handle, _text, _text]),
    "lamina_ensemble_count": (_status, [_handle, _count]),
    "lamina_ensemble_axis_count": (_status, [_handle, _count]),
    "lamina_ensemble_axis": (_status, [_handle, c_int64, POINTER(c_char_p), _count]),
    "lamina_ensemble_axis_value": (_status, [_handle, c_int64, c_int64, POINTER(c_char_p), POINTER(c_double), POINTER(c_int32)]),
    "lamina_ensemble_option": (_status, [_handle, c_int64, _text, POINTER(c_char_p)]),
    "lamina_ensemble_options": (_status, [_handle, c_int64, _out]),
    "lamina_ensemble_on_progress": (_status, [_handle, EnsembleProgressFunction, c_void_p, c_double]),
    "lamina_ensemble_run": (_status, [_handle]),
    "lamina_ensemble_stop": (None, [_handle]),
    "lamina_ensemble_status": (_status, [_handle, c_int64, POINTER(c_int32), POINTER(c_char_p)]),
    "lamina_ensemble_trajectory": (_status, [_handle, c_int64, _out]),
    "lamina_ensemble_table": (_status, [_handle, _out]),
    "lamina_ensemble_summary": (_status, [_handle, _text, _text, _array, c_int64, _out]),
    "lamina_ensemble_times": (_status, [_handle, _text, _array, c_int64, _out]),
    "lamina_ensemble_exponents": (_status, [_handle, _text, _text, _text, _array, c_int64, c_double, _out]),
    "lamina_ensemble_save": (_status, [_handle, _text]),
    "lamina_ensemble_load": (_status, [_text, _handle, _out]),
}


def declare(library: ctypes.CDLL) -> None:
    for name, (result, arguments) in PROTOTYPES.items():
        function = getattr(library, name)
        function.restype = result
        function.argtypes = arguments
