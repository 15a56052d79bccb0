"""Sweeps: one run for every combination of values, in parallel, each with the bits of that run alone; and statistics over them."""
from __future__ import annotations

import ctypes
import os
import threading
from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from . import _abi
from ._catalogue import Entry, entries
from ._interrupt import Deferred, call_host
from ._library import Handle, Interrupted, Options, check, create, finish, library
from ._progress import reporter
from ._task import Task
from ._trajectory import Trajectory

INTERVAL = 0.1  # seconds between two looks at Ctrl-C and two lines of progress


class SweepProgress(NamedTuple):
    """Runs that have ended and in all, of those that failed, time; updates made, and of all runs to their ends."""

    ended: int
    members: int
    failed: int
    seconds: float
    steps: float
    all_steps: float

    def __str__(self) -> str:
        left = ""
        if self.steps:
            left = f"  {100 * self.steps / self.all_steps:.1f} % of steps  {self.seconds * (self.all_steps / self.steps - 1):.0f} s left"
        return f"run {self.ended}/{self.members}{f'  failed {self.failed}' if self.failed else ''}{left}"


class Table(Trajectory):
    """A table of a sweep, a mapping from column names to arrays; words, texts and arrays of axes stand as texts."""

    def __init__(self, sweep: Sweep, function: str, *arguments: Any) -> None:
        super().__init__(sweep, function, *arguments)
        for key, texts in sweep._words().items():
            if key in self._arrays:
                self._arrays[key] = np.array(texts)[self._arrays[key].astype(int)]

    def to_pandas(self) -> Any:
        """A pandas.DataFrame; its attrs["definitions"] says what each column is."""
        import pandas

        frame = pandas.DataFrame(dict(self._arrays))
        frame.attrs["definitions"] = dict(self.definitions)
        return frame


def _text(value: Any) -> str:
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (str, os.PathLike)):
        return os.fspath(value)
    if isinstance(value, Iterable):
        return ",".join(_text(item) for item in value)
    return str(int(value)) if float(value) == value and float(value).is_integer() and abs(value) < 2**63 else repr(float(value))


def _axis(entry: Optional[Entry], value: Any) -> Optional[str]:
    """The values of an axis as the library takes them; None for a single value. One level of nesting more than a run takes."""
    if value is None or isinstance(value, (str, os.PathLike)) or not isinstance(value, Iterable) or entry is None:
        return None
    values = list(value)
    if entry.kind in ("text", "array"):
        nested = bool(values) and all(isinstance(item, Iterable) and not isinstance(item, str) for item in values)
        return ";".join(_text(item) for item in values) if nested else None
    return ",".join(_text(item) for item in values)


class Sweep(Handle):
    """A sweep, made but not begun: sweep.continue_() trains its runs. lamina.sweep(...) does both.

    `options` are those of lamina.run; a list of values is an axis, and there is a run for every combination, the last axis
    fastest (an option that takes an array or a text varies over a list of lists). `threads` says how many runs go at once."""

    _free = "lamina_ensemble_free"

    def __init__(self, task: Union[str, Task] = "in_context_recall", *, progress: Any = "auto", progress_seconds: float = INTERVAL,
                 **options: Any) -> None:
        reporter(progress)
        name = task if isinstance(task, str) else task.name
        known = {entry.name: entry for entry in entries(name)}
        axes = {key: _axis(known.get(key), value) for key, value in options.items()}
        fixed = Options({key: value for key, value in options.items() if axes[key] is None})
        made = None if isinstance(task, str) else task
        pointer = create("lamina_ensemble_create", name.encode(), made, fixed)
        self._adopt(pointer, made, progress, progress_seconds)
        for key, values in axes.items():
            if values is not None:
                check(library.lamina_ensemble_vary(self, key.encode(), os.fsencode(values)))

    def _adopt(self, pointer: ctypes.c_void_p, task: Optional[Task], progress: Any, progress_seconds: float) -> None:
        super().__init__(pointer, task._alive if task else ())
        self.task, self.progress, self.progress_seconds = task, progress, progress_seconds
        self._lock = threading.RLock()

    def continue_(self) -> Sweep:
        """Trains the runs that have not ended, goes on for as long again with those that time_limit ended, and tries again those that
        failed. Returns the sweep. Ctrl-C raises lamina.Interrupted;
        what has ended stays, and the sweep can be continued with the same bits."""
        with self._lock, Deferred() as interrupt:
            failures: List[BaseException] = []
            report = reporter(self.progress)

            def tell(user: Any, record: Any) -> int:
                at = record.contents
                now = SweepProgress(at.ended, at.members, at.failed, at.seconds, at.steps, at.all_steps)
                stop = report is not None and call_host(report, failures, now) is False
                return 1 if stop or failures or interrupt.pending else 0

            function = _abi.EnsembleProgressFunction(tell)
            check(library.lamina_ensemble_on_progress(self, function, None, self.progress_seconds if report else INTERVAL))
            try:
                status = library.lamina_ensemble_run(self)
            finally:
                library.lamina_ensemble_on_progress(self, _abi.EnsembleProgressFunction(), None, 0)
                if hasattr(report, "clear"):
                    report.clear()
            if self.task:
                failures += self.task._failures
                self.task._failures.clear()
            if interrupt.pending:
                raise Interrupted(self)
            finish(status, failures)
        return self

    def stop(self) -> None:
        """Ends the runs after the few steps under way; from any thread."""
        library.lamina_ensemble_stop(self)

    def __len__(self) -> int:
        """How many runs there are."""
        count = ctypes.c_int64()
        check(library.lamina_ensemble_count(self, ctypes.byref(count)))
        return count.value

    def _axes(self) -> List[Tuple[str, List[Tuple[str, Optional[float]]]]]:
        count, key, text = ctypes.c_int64(), ctypes.c_char_p(), ctypes.c_char_p()
        number, is_number = ctypes.c_double(), ctypes.c_int32()
        check(library.lamina_ensemble_axis_count(self, ctypes.byref(count)))
        axes = []
        for axis in range(count.value):
            size = ctypes.c_int64()
            check(library.lamina_ensemble_axis(self, axis, ctypes.byref(key), ctypes.byref(size)))
            values: List[Tuple[str, Optional[float]]] = []
            for index in range(size.value):
                check(library.lamina_ensemble_axis_value(self, axis, index, ctypes.byref(text), ctypes.byref(number), ctypes.byref(is_number)))
                values.append((os.fsdecode(text.value or b""), number.value if is_number.value else None))
            axes.append(((key.value or b"").decode(), values))
        return axes

    def _words(self) -> Dict[str, List[str]]:
        return {key: [text for text, _ in values] for key, values in self._axes() if values and values[0][1] is None}

    @property
    def axes(self) -> Dict[str, List[Any]]:
        """The options that vary and their values, in order."""
        return {key: [text if number is None else number for text, number in values] for key, values in self._axes()}

    @property
    def statuses(self) -> List[str]:
        """How each run ended: "finished", "not ended", "diverged", "target_reached" ..., or why it failed."""
        status, text, found = ctypes.c_int32(), ctypes.c_char_p(), []
        for member in range(len(self)):
            check(library.lamina_ensemble_status(self, member, ctypes.byref(status), ctypes.byref(text)))
            words = {**_abi.STATUSES, 0: "finished", 1: "not ended"}
            found.append(words.get(status.value) or os.fsdecode(text.value or b""))
        return found

    def trajectory(self, member: int) -> Trajectory:
        """What one run recorded, as run.trajectory."""
        return Trajectory(self, "lamina_ensemble_trajectory", member)

    def option(self, member: int, key: str) -> str:
        """The value of an option in one run, as text."""
        out = ctypes.c_char_p()
        check(library.lamina_ensemble_option(self, member, key.encode(), ctypes.byref(out)))
        return os.fsdecode(out.value or b"")

    @property
    def table(self) -> Table:
        """Every recorded row of every run that has ended: "member", the axes, "status", then the columns of the runs."""
        return Table(self, "lamina_ensemble_table")

    def _over(self, over: Union[str, Sequence[str]]) -> bytes:
        keys = [over] if isinstance(over, str) else list(over)
        return ",".join(key for key in keys if key != "seed" or key in self.axes).encode()

    def summary(self, column: str = "excess", over: Union[str, Sequence[str]] = "seed", quantiles: Sequence[float] = (0.1, 0.5, 0.9)) -> Table:
        """Mean and quantiles of a column by step over the runs that agree on every axis but `over`, at the steps that all which have not
        ended recorded. A run that ended by a target or a vanished gradient counts with its last value from then on (column "ended")."""
        values = np.asarray(quantiles, dtype=np.float64)
        return Table(self, "lamina_ensemble_summary", column.encode(), self._over(over), values.ctypes.data, values.size)

    def times(self, column: str = "excess", levels: Sequence[float] = ()) -> Table:
        """The first step at which each run reaches each level; no levels: those of the option crossings, found to the step."""
        values = np.asarray(levels, dtype=np.float64)
        return Table(self, "lamina_ensemble_times", column.encode(), values.ctypes.data, values.size)

    def exponents(self, column: str = "excess", along: str = "level", levels: Sequence[float] = (), over: Union[str, Sequence[str]] = "seed",
                  confidence: float = 0.95) -> Table:
        """d log time / d log of the axis `along`, or of 1/level with along="level", by least squares, with its confidence interval."""
        values = np.asarray(levels, dtype=np.float64)
        return Table(self, "lamina_ensemble_exponents", column.encode(), along.encode(), self._over(over), values.ctypes.data, values.size,
                     confidence)

    def plot(self, column: str = "excess", over: Union[str, Sequence[str]] = "seed", quantiles: Sequence[float] = (0.1, 0.5, 0.9),
             ax: Any = None) -> Any:
        """A curve of a column's middle quantile for every combination of values but those of `over`, in a band from the lowest to the
        highest of the three; on log axes where values are positive and rows stand at log-spaced steps. Returns the matplotlib axes."""
        from ._plot import plot_sweep

        return plot_sweep(self, column, over, quantiles, ax)

    def save(self, path: Union[str, os.PathLike[str]]) -> None:
        """Writes the sweep and the runs that have ended to one file, whole or not at all."""
        with self._lock:
            check(library.lamina_ensemble_save(self, os.fsencode(path)))

    def __repr__(self) -> str:
        axes = ", ".join(f"{key}: {len(values)}" for key, values in self.axes.items())
        counts: Dict[str, int] = {}
        for status in self.statuses:
            counts[status] = counts.get(status, 0) + 1
        return f"<lamina.Sweep of {len(self)} runs ({axes}): " + ", ".join(f"{n} {s}" for s, n in counts.items()) + ">"


def sweep(task: Union[str, Task] = "in_context_recall", *, progress: Union[str, bool, None, Callable[[SweepProgress], Optional[bool]]] = "auto",
          progress_seconds: float = INTERVAL, **options: Any) -> Sweep:
    """Trains one run for every combination of values: makes a lamina.Sweep, whose arguments these are, and all its runs."""
    return Sweep(task, progress=progress, progress_seconds=progress_seconds, **options).continue_()


def load_sweep(path: Union[str, os.PathLike[str]], task: Optional[Task] = None, *, progress: Any = "auto",
               progress_seconds: float = INTERVAL) -> Sweep:
    """A sweep that was saved; continue_() trains the rest, with the same bits. `task` as in lamina.load."""
    loaded = Sweep.__new__(Sweep)
    loaded._adopt(create("lamina_ensemble_load", os.fsencode(path), task), task, progress, progress_seconds)
    return loaded
