"""Ctrl-C while the library runs. An exception must not pass through C, and Python's handler raises wherever it happens to run
in a callback; so SIGINT is noted meanwhile, and raises only inside the host's own functions, whose exceptions are caught."""
from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Callable, Optional, Type

_inside_host_code = False


class Deferred:
    """While this context is entered, Ctrl-C sets `pending`. Does nothing off the main thread or under a handler of the host."""

    def __init__(self) -> None:
        self.pending = False
        self._before: Any = None

    def __enter__(self) -> Deferred:
        if threading.current_thread() is threading.main_thread():
            if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
                self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException],
                 trace: Optional[TracebackType]) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _note(self, number: int, frame: Optional[FrameType]) -> None:
        if _inside_host_code:
            signal.default_int_handler(number, frame)
        self.pending = True


def call_host(function: Callable[..., Any], failures: list[BaseException], *arguments: Any) -> Any:
    """function(*arguments); an exception is put into `failures` and gives None."""
    global _inside_host_code
    before = _inside_host_code
    try:
        _inside_host_code = True
        result = function(*arguments)
        _inside_host_code = before
        return result
    except BaseException as error:  # every exception must stop here: C is below
        _inside_host_code = before
        failures.append(error)
        return None
