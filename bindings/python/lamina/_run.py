"""Runs: a model descends an objective, and a trajectory is recorded."""
from __future__ import annotations

import ctypes
import os
import threading
import warnings
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _abi
from ._catalogue import entries
from ._interrupt import Deferred, call_host
from ._library import Handle, Interrupted, check, create, finish, initialised, library
from ._model import Model, Parameters
from ._progress import Function, Line, Progress, reporter
from ._task import Task, as_task
from ._trajectory import Trajectory

Array = NDArray[np.float64]
ProgressOption = Union[str, bool, None, Function]
INTERVAL = 0.1  # seconds between two looks at Ctrl-C and two lines of progress


class Crossing(NamedTuple):
    """The first step at which a column of the trajectory reached a value."""

    signal: str  # the column
    value: float
    step: Optional[int]  # None: not yet
    before: float  # the column at step - 1, and
    after: float  # at step; nan where there is none
    time: float  # in steps: under optimiser="flow" the moment on the way to step, else step; nan: not yet


class Run(Handle):
    """A run, made but not begun: run.continue_() makes its steps, all or some. lamina.run(...) does both.

    `task` is a name or a lamina.Task, `model` a lamina.Model to start from (it is copied; else one is made), `options` are those
    of lamina.describe(name). `progress` is "auto" (a line if standard error is a terminal), True, False, or a function of a
    lamina.Progress that is called about every `progress_seconds` (0: after every step) and may return False to stop the run."""

    _free = "lamina_trainer_free"

    def __init__(self, task: Union[str, Task] = "in_context_recall", *, model: Optional[Model] = None,
                 progress: ProgressOption = "auto", progress_seconds: float = INTERVAL, **options: Any) -> None:
        reporter(progress)
        made, given = as_task(task, options)
        with Deferred() as interrupt:
            try:
                pointer = create("lamina_trainer_create", made, model, given,
                                 failures=made._failures)
            finally:
                if interrupt.pending:
                    raise KeyboardInterrupt
        self._adopt(pointer, made, progress, progress_seconds)

    def _adopt(self, pointer: ctypes.c_void_p, task: Task, progress: ProgressOption, progress_seconds: float) -> None:
        super().__init__(pointer, task._alive)
        self.task = task
        self.progress, self.progress_seconds = progress, progress_seconds
        self._lock = threading.RLock()  # a handle serves one thread at a time, and calls release the interpreter's own lock
        self._status = _abi.OK
        self._snapshot: Optional[Trajectory] = None

    def continue_(self, steps: int = 0) -> Run:
        """Makes at most `steps` more updates, 0: all that remain of the option `steps`. Returns the run itself. Ctrl-C raises
        lamina.Interrupted after the step under way; what was computed stays, and the run can be continued."""
        with self._lock:
            self._snapshot = None
            failures: List[BaseException] = []
            report = reporter(self.progress)
            with Deferred() as interrupt:

                def tell(user: Any, record: Any) -> int:
                    stop = report is not None and call_host(report, failures, Progress.read(record)) is False
                    return 1 if stop or failures or interrupt.pending else 0

                function = _abi.ProgressFunction(tell)
                every = self.progress_seconds if report is not None else INTERVAL
                check(library.lamina_trainer_on_progress(self, function, None, every))
                try:
                    status = library.lamina_trainer_run(self, steps)
                finally:
                    library.lamina_trainer_on_progress(self, _abi.ProgressFunction(), None, 0)
                    if isinstance(report, Line):
                        report.clear()
            if status >= 0:
                self._status = status
            failures += self.task._failures
            self.task._failures.clear()
            if interrupt.pending or any(isinstance(failure, KeyboardInterrupt) for failure in failures):
                raise Interrupted(self)
            finish(status, failures)
            if status == _abi.DIVERGED:
                warnings.warn(f"the run diverged at step {self.step}: loss or gradient is no longer finite", RuntimeWarning,
                              stacklevel=2)
            return self

    def stop(self) -> None:
        """Ends the run after the step under way; from any thread."""
        library.lamina_trainer_stop(self)

    def watch(self, probe: str) -> Run:
        """Adds a probe of lamina.list("probes") to the trajectory; before the first step only."""
        with self._lock:
            self._snapshot = None
            check(library.lamina_trainer_watch(self, probe.encode()))
        return self

    @property
    def options(self) -> Dict[str, Any]:
        """The value of every option that holds in this run, given or default."""
        with self._lock:
            values, out = {}, ctypes.c_char_p()
            for entry in entries(self.task.name):
                check(library.lamina_trainer_option(self, entry.name.encode(), ctypes.byref(out)))
                values[entry.name] = entry.value(os.fsdecode(out.value or b""))
            return values

    @property
    def steps(self) -> int:
        """Updates in all, the option `steps`."""
        return int(self.options["steps"])

    @property
    def step(self) -> int:
        """Updates made so far."""
        with self._lock:
            made = ctypes.c_int64()
            check(library.lamina_trainer_step(self, ctypes.byref(made)))
            return made.value

    @property
    def status(self) -> str:
        """"finished", "unfinished", "stopped", "diverged", "gradient_vanished", "target_reached" or "time_limit"."""
        return _abi.STATUSES.get(self._status) or ("finished" if self.step == self.steps and self.trajectory.rows else "unfinished")

    @property
    def trajectory(self) -> Trajectory:
        """The rows recorded so far, a mapping from column names to arrays."""
        with self._lock:
            if self._snapshot is None or self._snapshot.rows == 0 or self._snapshot["step"][-1] != self.step:
                self._snapshot = Trajectory(self)
            return self._snapshot

    @property
    def crossings(self) -> List[Crossing]:
        """The pairs of the option `crossings`, such as crossings=["excess=1e-3", "loss=0.5"], and where each was reached;
        pandas.DataFrame(run.crossings) is their table. Of sampled data loss and excess are the batch's; population_loss and
        population_excess (probe population) are of the exact law, and stop_at_crossings="yes" ends the run at the last of them."""
        with self._lock:
            count = ctypes.c_int64()
            check(library.lamina_trainer_crossing_count(self, ctypes.byref(count)))
            found = []
            for index in range(count.value):
                record = initialised(_abi.Crossing, "lamina_crossing_init")
                check(library.lamina_trainer_crossing(self, index, ctypes.byref(record)))
                step = None if record.step < 0 else record.step
                found.append(Crossing(record.signal.decode(), record.value, step, record.before, record.after, record.time))
            return found

    @property
    def loss(self) -> float:
        """The last recorded loss."""
        return self._last("loss")

    @property
    def excess(self) -> float:
        """The last recorded excess: soft loss minus the Bayes risk."""
        return self._last("excess")

    def _last(self, column: str) -> float:
        table = self.trajectory
        return float(table[column][-1]) if table.rows else float("nan")

    def model(self) -> Model:
        """A copy of the model as it stands, whose parameters can be set."""
        with self._lock:
            return Model._from_pointer(create("lamina_trainer_model", self), self.task)

    @property
    def parameters(self) -> Parameters:
        """The parameters as they stand, by name, to be read; those of run.model() can be set."""
        return Parameters(self.model(), frozen=True)

    def predict(self, prompts: ArrayLike, part: str = "all") -> Array:
        """Logits on prompts of your own: see Model.predict."""
        return self.model().predict(prompts, part)

    def attention(self, prompts: ArrayLike) -> Array:
        """Attention weights on prompts of your own: see Model.attention."""
        return self.model().attention(prompts)

    def loss_gradient(self, prompts: ArrayLike, targets: ArrayLike) -> Tuple[float, Dict[str, Array]]:
        """Loss and gradient on prompts of your own: see Model.loss_gradient."""
        return self.model().loss_gradient(prompts, targets)

    def save(self, path: Union[str, os.PathLike[str]]) -> None:
        """Writes everything needed to continue with the same bits to one safetensors file, whole or not at all."""
        with self._lock:
            check(library.lamina_trainer_save(self, os.fsencode(path)))

    def plot(self, ax: Any = None, columns: Union[str, Sequence[str], None] = None) -> Any:
        """The excess on a log axis, with the predicted curve and slope beside it where they are known; or these columns of the
        trajectory, their crossings marked. Needs matplotlib. Returns the axes."""
        from ._plot import plot_run

        return plot_run(self, ax, columns)

    def __repr__(self) -> str:
        table = self.trajectory
        options = self.options
        lines = [f"<lamina.Run of {self.task.name}: step {self.step} of {options['steps']}, {self.status}>"]
        if table.rows:
            predicted = f", predicted {table['predicted'][-1]:.3e}" if "predicted" in table else ""
            lines.append(f"  loss {self.loss:.6f}, excess {self.excess:.3e}{predicted}")
        usual = {entry.name: entry.value(entry.default) for entry in entries(self.task.name)}
        chosen = [f"{key}={value!r}" for key, value in options.items() if value != usual[key]]
        if chosen:
            lines.append("  " + ", ".join(chosen))
        return "\n".join(lines)


def run(task: Union[str, Task] = "in_context_recall", *, model: Optional[Model] = None, progress: ProgressOption = "auto",
        progress_seconds: float = INTERVAL, **options: Any) -> Run:
    """Trains: makes a lamina.Run, whose arguments these are, and all its steps."""
    return Run(task, model=model, progress=progress, progress_seconds=progress_seconds, **options).continue_()


def load(path: Union[str, os.PathLike[str]], task: Optional[Task] = None, *, progress: ProgressOption = "auto",
         progress_seconds: float = INTERVAL) -> Run:
    """A run that was saved; continue_() goes on with the same bits. A task made from arrays or a function is not in the file:
    give it as `task`."""
    reporter(progress)
    pointer = create("lamina_trainer_load", os.fsencode(path), task,
                     failures=task._failures if task else [])
    loaded = Run.__new__(Run)
    if task is None:
        task = Task._from_pointer(create("lamina_trainer_task", pointer))
    loaded._adopt(pointer, task, progress, progress_seconds)
    return loaded
