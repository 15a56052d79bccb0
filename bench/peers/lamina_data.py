"""Writes the fixed training set and the initial weights of a lamina run to a file for the peers, through the C library.

With the same prompts, labels and start, the loss of a peer after s steps must equal lamina's to float32 accuracy.
"""
import ctypes
import os

import numpy as np


class Tensor(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_uint32), ("trained", ctypes.c_int32), ("name", ctypes.c_char_p),
                ("rank", ctypes.c_int64), ("shape", ctypes.c_int64 * 4), ("offset", ctypes.c_int64), ("count", ctypes.c_int64)]


class Shape(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_uint32), ("reserved", ctypes.c_int32), ("length", ctypes.c_int64),
                ("width", ctypes.c_int64), ("target_width", ctypes.c_int64), ("vocabulary", ctypes.c_int64),
                ("outputs", ctypes.c_int64)]


class Library:
    def __init__(self, path):
        self.c = ctypes.CDLL(os.path.abspath(path))
        self.c.lamina_last_error.restype = ctypes.c_char_p

    def __call__(self, name, *arguments):
        if getattr(self.c, "lamina_" + name)(*arguments) != 0:
            raise RuntimeError(self.c.lamina_last_error().decode())

    def handle(self, name, *arguments):
        out = ctypes.c_void_p()
        self(name, *arguments, ctypes.byref(out))
        return out


def doubles(shape):
    array = np.empty(shape)
    return array, array.ctypes.data_as(ctypes.c_void_p)


def write(library_path, options, path):
    """options: what is given to `lamina run in_context_recall`, as a dict; `seed` and `samples` among them."""
    call = Library(library_path)
    handle = call.handle("options_create")
    for key, value in options.items():
        call("options_set_text", handle, key.encode(), str(value).encode())
    task = call.handle("task_create", b"in_context_recall", handle)
    shape = Shape(struct_size=ctypes.sizeof(Shape))
    call("task_get_shape", task, ctypes.byref(shape))
    count = int(options["samples"])
    prompts, prompts_at = doubles((count, shape.length))
    targets, targets_at = doubles((count, shape.target_width))
    call("task_sample", task, 0, ctypes.c_uint64(int(options["seed"])), ctypes.c_int64(0), ctypes.c_int64(count),
         prompts_at, targets_at)

    model = call.handle("model_create", task, handle)
    number = ctypes.c_int64()
    call("model_parameter_count", model, ctypes.byref(number))
    values, values_at = doubles(number.value)
    call("model_get_parameters", model, values_at, number)
    call("model_tensor_count", model, ctypes.byref(number))
    start = {}
    for index in range(number.value):
        tensor = Tensor(struct_size=ctypes.sizeof(Tensor))
        call("model_tensor_describe", model, ctypes.c_int64(index), ctypes.byref(tensor))
        part = values[tensor.offset:tensor.offset + tensor.count].reshape(tuple(tensor.shape)[:tensor.rank])
        if tensor.trained:
            start["start_" + tensor.name.decode()] = part
    np.savez(path, tokens=prompts.astype(np.int32), label=targets[:, 0].astype(np.int32),
             answer=targets[:, 1].astype(np.int32), **start)
