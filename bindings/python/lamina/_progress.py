"""What is told while a run goes on: a record for the user's function, and the line that is shown on a terminal."""
from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Any, Callable, Optional, TextIO, Union

from . import _abi

QUIET_SECONDS = 0.5  # shorter runs show no line


@dataclass(frozen=True)
class Progress:
    """Updates made and asked for in all, loss and excess of the last (excess is nan where it is not defined), time."""

    step: int
    steps: int
    loss: float
    excess: float
    seconds: float
    steps_per_second: float

    @classmethod
    def read(cls, record: Any) -> Progress:
        at: _abi.ProgressRecord = record.contents
        return cls(at.step, at.steps, at.loss, at.excess, at.seconds, at.steps_per_second)

    def __str__(self) -> str:
        excess = "" if math.isnan(self.excess) else f"  excess {self.excess:.3e}"
        rate = self.steps_per_second
        left = f"  {(self.steps - self.step) / rate:.0f} s left" if rate > 0 else ""
        return f"step {self.step}/{self.steps}  loss {self.loss:.6f}{excess}  {rate:.0f} steps/s{left}"


Function = Callable[[Progress], Optional[bool]]


class Line:
    """A line on a terminal that is written again and again, and cleared at the end."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._shown = 0

    def __call__(self, progress: Any) -> None:
        if progress.seconds < QUIET_SECONDS:
            return
        text = str(progress)
        self._stream.write("\r" + text.ljust(self._shown))
        self._stream.flush()
        self._shown = len(text)

    def clear(self) -> None:
        if self._shown:
            self._stream.write("\r" + " " * self._shown + "\r")
            self._stream.flush()
            self._shown = 0


def reporter(progress: Union[str, bool, None, Function]) -> Union[Line, Function, None]:
    """"auto": a line if standard error is a terminal; True: a line; False or None: nothing; else the user's function."""
    if callable(progress):
        return progress
    if progress == "auto":
        progress = sys.stderr is not None and sys.stderr.isatty()
    if progress not in (True, False, None):
        raise TypeError(f"progress is {progress!r}, must be a function, \"auto\", True, False or None")
    return Line(sys.stderr) if progress else None
