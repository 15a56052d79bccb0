"""Models: named parameters, and what they predict on the user's own prompts."""
from __future__ import annotations

import ctypes
from typing import Any, Dict, Iterator, Mapping, NamedTuple, Tuple, Union

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _abi
from ._library import Handle, check, choice, create, finish, initialised, library
from ._task import Task, as_prompts, as_targets, as_task

Array = NDArray[np.float64]


class Tensor(NamedTuple):
    """Where a parameter lies in the vector of all."""

    name: str
    shape: Tuple[int, ...]
    trained: bool
    offset: int
    count: int


class Parameters(Mapping[str, Array]):
    """Parameters by name. What is read is a copy, not writable; p["W"] = array and p.update(W=array) change the model."""

    def __init__(self, model: Model, frozen: bool = False) -> None:
        self._model, self._frozen = model, frozen
        self._tensors = {tensor.name: tensor for tensor in model.tensors}

    def __getitem__(self, name: str) -> Array:
        array = split_vector(self._model._vector(), (self._tensors[name],))[name]
        array.flags.writeable = False
        return array

    def __setitem__(self, name: str, value: ArrayLike) -> None:
        self.update({name: value})

    def update(self, values: Mapping[str, ArrayLike] = {}, **named: ArrayLike) -> None:
        """Sets several at once, all or none; a number fills a whole parameter."""
        if self._frozen:
            raise TypeError("the parameters of a run are what it computed: change those of a copy, model = run.model()")
        vector = self._model._vector()
        for name, value in {**values, **named}.items():
            if name not in self._tensors:
                raise KeyError(f"{name!r} is not a parameter, must be one of {', '.join(self)}")
            tensor, array = self._tensors[name], np.asarray(value, dtype=np.float64)
            if array.ndim and array.shape != tensor.shape:
                raise ValueError(f"parameter {name} has shape {tensor.shape}, the value {array.shape}")
            vector[tensor.offset:tensor.offset + tensor.count] = np.broadcast_to(array, tensor.shape).ravel()
        check(library.lamina_model_set_parameters(self._model, vector.ctypes.data, vector.size))

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __repr__(self) -> str:
        return "\n".join(f"{t.name} {list(t.shape)} {'trained' if t.trained else 'held'}" for t in self._tensors.values())


class Model(Handle):
    """A one-layer transformer for a task. `options` are those of the task (given by name) and of the model."""

    _free = "lamina_model_free"

    def __init__(self, task: Union[str, Task] = "in_context_recall", **options: Any) -> None:
        made, given = as_task(task, options)
        self._adopt(create("lamina_model_create", made, given, failures=made._failures), made)

    def _adopt(self, pointer: ctypes.c_void_p, task: Task) -> None:
        super().__init__(pointer)
        self.task = task

    @classmethod
    def _from_pointer(cls, pointer: ctypes.c_void_p, task: Task) -> Model:
        model = cls.__new__(cls)
        model._adopt(pointer, task)
        return model

    def copy(self) -> Model:
        """An independent model with the same parameters."""
        return Model._from_pointer(create("lamina_model_copy", self), self.task)

    @property
    def isa(self) -> str:
        """The instruction set that it runs."""
        return library.lamina_model_isa(self).decode()

    @property
    def tensors(self) -> Tuple[Tensor, ...]:
        count = ctypes.c_int64()
        check(library.lamina_model_tensor_count(self, ctypes.byref(count)))
        found = []
        for index in range(count.value):
            tensor = initialised(_abi.Tensor, "lamina_tensor_init")
            check(library.lamina_model_tensor_describe(self, index, ctypes.byref(tensor)))
            shape = tuple(tensor.shape[axis] for axis in range(tensor.rank))
            found.append(Tensor(tensor.name.decode(), shape, bool(tensor.trained), tensor.offset, tensor.count))
        return tuple(found)

    def _vector(self) -> Array:
        count = ctypes.c_int64()
        check(library.lamina_model_parameter_count(self, ctypes.byref(count)))
        vector = np.empty(count.value)
        check(library.lamina_model_get_parameters(self, vector.ctypes.data, vector.size))
        return vector

    @property
    def parameters(self) -> Parameters:
        """Parameters by name, to be read and set."""
        return Parameters(self)

    @parameters.setter
    def parameters(self, values: Mapping[str, ArrayLike]) -> None:
        Parameters(self).update(values)

    def predict(self, prompts: ArrayLike, part: str = "all") -> Array:
        """Logits [count, vocabulary + 1] of prompts [count, length], tokens or their texts; of one prompt [length], [vocabulary
        + 1]. part is "all", "attention" (what attention alone gives) or "feed_forward" (what that part alone gives)."""
        rows = as_prompts(prompts, self.task)
        logits = np.empty((rows.shape[0], self.task.outputs))
        check(library.lamina_model_forward(self, rows.ctypes.data, *rows.shape, choice("part", part, _abi.PARTS),
                                           logits.ctypes.data))
        return logits if np.ndim(prompts) == 2 else logits[0]

    def attention(self, prompts: ArrayLike) -> Array:
        """The weights of the last position over all positions, in the shape of the prompts."""
        rows = as_prompts(prompts, self.task)
        weights = np.empty(rows.shape)
        check(library.lamina_model_attention(self, rows.ctypes.data, *rows.shape, weights.ctypes.data))
        return weights if np.ndim(prompts) == 2 else weights[0]

    def loss_gradient(self, prompts: ArrayLike, targets: ArrayLike) -> Tuple[float, Dict[str, Array]]:
        """Mean cross-entropy in nats, and its gradient by parameter (zero for those that are held)."""
        rows = as_prompts(prompts, self.task)
        pairs = as_targets(targets, rows.shape[0], self.task.target_width)
        loss, gradient = ctypes.c_double(), self._vector()
        finish(library.lamina_model_loss_gradient(self, rows.ctypes.data, pairs.ctypes.data, *rows.shape,
                                                  ctypes.byref(loss), gradient.ctypes.data), self.task._failures)
        return loss.value, split_vector(gradient, self.tensors)

    def __repr__(self) -> str:
        return f"<lamina.Model of {self.task.name}, running {self.isa}>\n{self.parameters!r}"


def split_vector(vector: Array, tensors: Tuple[Tensor, ...]) -> Dict[str, Array]:
    return {t.name: vector[t.offset:t.offset + t.count].reshape(t.shape).copy() for t in tensors}


def loss_gradient(model: Any, prompts: ArrayLike, targets: ArrayLike) -> Tuple[float, Dict[str, Array]]:
    """model.loss_gradient(prompts, targets), of a model or a run."""
    return model.loss_gradient(prompts, targets)
