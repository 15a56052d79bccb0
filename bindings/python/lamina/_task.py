"""Tasks: what prompts are made of, by name, from arrays, or from a function; and samples of them."""
from __future__ import annotations

import ctypes
from typing import Any, Callable, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _abi
from ._catalogue import Entry, entries
from ._interrupt import Deferred, call_host
from ._library import Handle, Options, check, choice, create, finish, initialised, library

Sampler = Callable[[str, int, int, int], Tuple[ArrayLike, ArrayLike]]


class Sample(NamedTuple):
    """prompts [count, length], tokens; targets [count, 2]: the label that is scored, the answer that the context identifies."""

    prompts: NDArray[np.int64]
    targets: NDArray[np.int64]

    @property
    def labels(self) -> NDArray[np.int64]:
        return self.targets[:, 0]

    @property
    def answers(self) -> NDArray[np.int64]:
        return self.targets[:, 1]


class Task(Handle):
    """The law of the data. `options` are those of the task in lamina.describe(name)."""

    _free = "lamina_task_free"

    def __init__(self, name: str = "in_context_recall", **options: Any) -> None:
        owners = {entry.name: entry.owner for entry in entries(name)}
        for key in options:
            if owners.get(key, "task") != "task":
                raise TypeError(f"{key} is an option of the {owners[key]}, not of a task: give it to lamina.run")
        self._adopt(create("lamina_task_create", name.encode(), Options(options)))

    def _adopt(self, pointer: ctypes.c_void_p, alive: Tuple[Any, ...] = (),
               failures: Optional[list[BaseException]] = None) -> None:
        super().__init__(pointer, alive)
        # Exceptions that the function of from_callback raised, until the call that it was raised in ends.
        self._failures: list[BaseException] = [] if failures is None else failures
        self._texts: Optional[Tuple[str, ...]] = None
        shape = initialised(_abi.TaskShape, "lamina_task_shape_init")
        check(library.lamina_task_get_shape(pointer, ctypes.byref(shape)))
        self.name: str = library.lamina_task_name(pointer).decode()
        self.length: Optional[int] = shape.length if shape.length >= 0 else None  # None: infinite
        self.vocabulary: int = shape.vocabulary
        self.outputs: int = shape.outputs
        self.target_width: int = shape.target_width

    @classmethod
    def _from_pointer(cls, pointer: ctypes.c_void_p, alive: Tuple[Any, ...] = (),
                      failures: Optional[list[BaseException]] = None) -> Task:
        task = cls.__new__(cls)
        task._adopt(pointer, alive, failures)
        return task

    @classmethod
    def from_arrays(cls, prompts: ArrayLike, targets: ArrayLike, *, vocabulary: int, noise: float = 0.0) -> Task:
        """Your own prompts [count, length] and targets: [count, 2] of (label, answer), or [count] where both are the same.
        Tokens are 0..vocabulary-1, and `vocabulary` is tau; `noise` is the probability that the label is tau."""
        rows = np.ascontiguousarray(prompts, dtype=np.float64)
        if rows.ndim != 2:
            raise ValueError(f"prompts has {rows.ndim} dimensions, must have 2: [count, length]")
        pairs = as_targets(targets, rows.shape[0])
        arrays = initialised(_abi.TaskArrays, "lamina_task_arrays_init")
        arrays.prompts, arrays.targets = rows.ctypes.data, pairs.ctypes.data
        arrays.count, arrays.length = rows.shape
        arrays.vocabulary, arrays.noise = vocabulary, noise
        return cls._from_pointer(create("lamina_task_from_arrays", ctypes.byref(arrays)))

    @classmethod
    def from_callback(cls, function: Sampler, *, length: int, vocabulary: int, noise: float = 0.0) -> Task:
        """Your own sampler. function(split, seed, first, count) returns prompts [count, length] and targets as in
        from_arrays, for prompts number first..first+count-1 of `split` ("train", "test", "unseen"); each prompt must be a
        function of (seed, split, its number) alone. It is called on the thread that calls lamina."""
        failures: list[BaseException] = []
        splits = list(_abi.SPLITS)

        def fill(split: int, seed: int, first: int, count: int, prompts: Any, targets: Any) -> bool:
            rows, pairs = function(splits[split], seed, first, count)
            np.ctypeslib.as_array(prompts, (count, length))[...] = rows
            np.ctypeslib.as_array(targets, (count, 2))[...] = as_targets(pairs, count)
            return True

        def sample(user: Any, split: int, seed: int, first: int, count: int, prompts: Any, targets: Any) -> int:
            return 0 if call_host(fill, failures, split, seed, first, count, prompts, targets) else 1

        callback = initialised(_abi.TaskCallback, "lamina_task_callback_init")
        pointer = _abi.Sampler(sample)
        callback.sample, callback.length, callback.vocabulary, callback.noise = pointer, length, vocabulary, noise
        made = create("lamina_task_from_callback", ctypes.byref(callback))
        return cls._from_pointer(made, (pointer,), failures)

    def sample(self, count: int, *, split: str = "train", seed: int = 1, first: int = 0) -> Sample:
        """Prompts first..first+count-1 of `split` ("train", "test", "unseen"); each depends on (seed, split, number) alone."""
        if self.length is None:
            raise ValueError(f"task {self.name} has infinite prompts, which cannot be sampled")
        prompts, targets = np.empty((max(count, 0), self.length)), np.empty((max(count, 0), self.target_width))
        with Deferred() as interrupt:
            status = library.lamina_task_sample(self, choice("split", split, _abi.SPLITS), seed, first, count,
                                                prompts.ctypes.data, targets.ctypes.data)
        if interrupt.pending:
            raise KeyboardInterrupt
        finish(status, self._failures)
        if self.vocabulary == 0:  # prompts of features and labels, not of tokens
            return Sample(prompts, targets)
        if self.target_width != 2:  # a law, not tokens
            return Sample(prompts.astype(np.int64), targets)
        return Sample(prompts.astype(np.int64), targets.astype(np.int64))

    @property
    def tau(self) -> int:
        """The number of the noise token."""
        return self.vocabulary

    @property
    def tokens(self) -> Tuple[str, ...]:
        """The text of every token; where there is tau, it is the last."""
        if self._texts is None:
            out = ctypes.c_char_p()
            texts = []
            for token in range(self.outputs):
                check(library.lamina_task_token(self, token, ctypes.byref(out)))
                texts.append((out.value or b"").decode())
            self._texts = tuple(texts)
        return self._texts

    def decode(self, tokens: ArrayLike) -> NDArray[np.str_]:
        """The texts of an array of tokens."""
        return np.asarray(self.tokens)[np.asarray(tokens)]

    def encode(self, texts: ArrayLike) -> NDArray[np.int64]:
        """The tokens of an array of texts."""
        numbers = {text: number for number, text in enumerate(self.tokens)}
        given = np.asarray(texts)
        for text in given.flat:
            if text not in numbers:
                raise ValueError(f"{str(text)!r} is not a token of {self.name}; its tokens are in task.tokens")
        return np.array([numbers[text] for text in given.flat], dtype=np.int64).reshape(given.shape)

    def __repr__(self) -> str:
        length = "infinite" if self.length is None else self.length
        what = "numbers"
        if self.vocabulary:
            what = f"tokens out of {self.vocabulary}" + (" and tau" if self.outputs > self.vocabulary else "")
        return f"<lamina.Task {self.name}: prompts of {length} {what}>"


def as_prompts(prompts: ArrayLike, task: Task) -> NDArray[np.float64]:
    """[count, length] doubles of tokens or of their texts."""
    given = np.asarray(prompts)
    rows = np.ascontiguousarray(task.encode(given) if given.dtype.kind == "U" else given, dtype=np.float64)
    if rows.ndim not in (1, 2):
        raise ValueError(f"prompts has {rows.ndim} dimensions, must have 1 or 2: [length] or [count, length]")
    return np.atleast_2d(rows)


def as_targets(targets: ArrayLike, count: int, width: int = 2) -> NDArray[np.float64]:
    pairs = np.asarray(targets, dtype=np.float64)
    if pairs.ndim == 1 and width == 2:
        pairs = np.stack([pairs, pairs], axis=1)
    if pairs.shape != (count, width):
        raise ValueError(f"targets has shape {pairs.shape}, must be ({count}, {width})" + (f" or ({count},)" if width == 2 else ""))
    return np.ascontiguousarray(pairs)


def as_task(task: Union[str, Task], options: dict[str, Any]) -> Tuple[Task, Options]:
    """The task itself, or the one of that name under the options; and the options, for what is made next."""
    given = Options(options)
    if isinstance(task, str):
        return Task._from_pointer(create("lamina_task_create", task.encode(), given)), given
    if not isinstance(task, Task):
        raise TypeError(f"task is {task!r}, must be a name or a lamina.Task")
    for entry in entries(task.name):
        if entry.owner == "task" and options.get(entry.name) is not None:
            raise TypeError(f"{entry.name} is an option of the task, which is made already: give it to lamina.Task")
    return task, given


def sample(task: Union[str, Task] = "in_context_recall", count: int = 1, *, split: str = "train", seed: int = 1,
           first: int = 0, **options: Any) -> Sample:
    """Prompts of a task: see Task.sample. `options` are those of a task given by name."""
    made = Task(task, **options) if isinstance(task, str) else as_task(task, options)[0]
    return made.sample(count, split=split, seed=seed, first=first)


def theory(name: str, *arguments: ArrayLike, task: Union[str, Task, None] = None, **options: Any) -> Any:
    """The closed form `name` of lamina.list("theory") at its arguments; `options` are those of the task, where it reads one (by
    default the first it knows). Arguments may be arrays, which are broadcast; several results lie along a last axis. A form of a
    matrix takes it whole, and a gradient by it has its shape."""
    form = {entry.name: entry for entry in entries("theory")}.get(name)
    law = None
    if form is None or form.owner == "task":
        chosen = task if task is not None else form.words[0] if form else "in_context_recall"
        law = Task(chosen, **options) if isinstance(chosen, str) else as_task(chosen, options)[0]
    elif options:
        raise TypeError(f"{name} reads no task: {', '.join(options)} would mean nothing")
    if form and form.minimum < 0:
        return _whole(form, law, *arguments)
    results = int(form.maximum) if form else 1
    grid = np.broadcast_arrays(*(np.asarray(argument, dtype=np.float64) for argument in arguments)) if arguments else []
    shape: Sequence[int] = grid[0].shape if grid else ()
    points = np.ascontiguousarray(np.stack(grid, axis=-1).reshape(-1, len(grid)) if grid else np.empty((1, 0)))
    out = np.empty((len(points), results))
    for point, row in zip(points, out):
        check(library.lamina_theory_evaluate(name.encode(), law, point.ctypes.data, point.size,
                                             row.ctypes.data, row.size))
    answer = out.reshape(*shape, results) if results > 1 else out.reshape(shape)
    return float(answer) if answer.ndim == 0 else answer


def _whole(form: Entry, law: Optional[Task], *arguments: ArrayLike) -> Any:
    if len(arguments) != 1:
        raise TypeError(f"{form.name} takes one array, {len(arguments)} arguments were given: it is {form.description}")
    point = np.ascontiguousarray(arguments[0], dtype=np.float64)
    out = np.empty(point.shape if form.maximum < 0 else int(form.maximum))
    check(library.lamina_theory_evaluate(form.name.encode(), law, point.ctypes.data, point.size, out.ctypes.data, out.size))
    return out if out.size != 1 or form.maximum < 0 else float(out[0])
