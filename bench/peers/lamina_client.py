"""lamina through its C library: times a run, and writes its training set and initial weights for the peers.

With the same prompts, labels and start, the loss of a peer after s steps must equal lamina's to float32 accuracy.
"""
import ctypes
import os
import subprocess
import sys
import time

import numpy as np


def capability(root, settings):
    """PyTorch's version and instruction set, in words. torch.compile without vectors would flatter lamina up to tenfold: not accepted."""
    question = ("import torch; from torch._inductor import cpu_vec_isa as isa; print(bool(isa.pick_vec_isa()), 'PyTorch', "
                "torch.__version__, torch.backends.cpu.get_cpu_capability())")
    command = ["chroot", root, "/usr/bin/env", "-i", *(f"{key}={value}" for key, value in settings.items()), "python3", "-c", question]
    vectors, words = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd="/").stdout.strip().split(" ", 1)
    if vectors != "True":
        sys.exit(f"torch.compile in {root} emits scalar code (no sleef.h?): run make-root.sh {root}")
    return words


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
        if getattr(self.c, "lamina_" + name)(*arguments) < 0:
            raise RuntimeError(self.c.lamina_last_error().decode())

    def handle(self, name, *arguments):
        out = ctypes.c_void_p()
        self(name, *arguments, ctypes.byref(out))
        return out


def doubles(shape):
    array = np.empty(shape)
    return array, array.ctypes.data_as(ctypes.c_void_p)


class Run:
    """One configuration of `lamina run in_context_recall`: a dict of options, `seed`, `samples` and `steps` among them."""

    def __init__(self, library_path, options):
        self.call, self.settings = Library(library_path), options
        self.options = self.call.handle("options_create")
        for key, value in options.items():
            self.call("options_set_text", self.options, key.encode(), str(value).encode())
        self.task = self.call.handle("task_create", b"in_context_recall", self.options)
        self.model = self.call.handle("model_create", self.task, self.options)
        self.call.c.lamina_model_isa.restype = ctypes.c_char_p
        self.isa = self.call.c.lamina_model_isa(self.model).decode()

    def number(self, name, handle):
        out = ctypes.c_int64()
        self.call(name, handle, ctypes.byref(out))
        return out.value

    def seconds_and_losses(self):
        """The time of all steps, and the loss before the first and after each of them. No probes are watched."""
        trainer = self.call.handle("trainer_create", self.task, None, self.options)
        begin = time.perf_counter()
        self.call("trainer_run", trainer, ctypes.c_int64(0))
        seconds = time.perf_counter() - begin
        trajectory = self.call.handle("trainer_trajectory", trainer)
        losses, losses_at = doubles(self.number("trajectory_rows", trajectory))
        self.call("trajectory_read", trajectory, ctypes.c_int64(1), losses_at, ctypes.c_int64(len(losses)))  # step, loss, excess
        self.call.c.lamina_trajectory_free(trajectory)
        self.call.c.lamina_trainer_free(trainer)
        return seconds, losses

    def write(self, path):
        """The training set and the initial weights, for problem.load_problem."""
        shape = Shape(struct_size=ctypes.sizeof(Shape))
        self.call("task_get_shape", self.task, ctypes.byref(shape))
        count = int(self.settings["samples"])
        prompts, prompts_at = doubles((count, shape.length))
        targets, targets_at = doubles((count, shape.target_width))
        self.call("task_sample", self.task, 0, ctypes.c_uint64(int(self.settings["seed"])), ctypes.c_int64(0),
                  ctypes.c_int64(count), prompts_at, targets_at)
        values, values_at = doubles(self.number("model_parameter_count", self.model))
        self.call("model_get_parameters", self.model, values_at, ctypes.c_int64(len(values)))
        start = {}
        for index in range(self.number("model_tensor_count", self.model)):
            tensor = Tensor(struct_size=ctypes.sizeof(Tensor))
            self.call("model_tensor_describe", self.model, ctypes.c_int64(index), ctypes.byref(tensor))
            if tensor.trained:
                part = values[tensor.offset:tensor.offset + tensor.count]
                start["start_" + tensor.name.decode()] = part.reshape(tuple(tensor.shape)[:tensor.rank])
        np.savez(path, tokens=prompts.astype(np.int32), label=targets[:, 0].astype(np.int32),
                 answer=targets[:, 1].astype(np.int32), **start)
