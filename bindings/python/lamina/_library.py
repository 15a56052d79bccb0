"""Finds and loads liblamina; statuses as exceptions; handles that free themselves; options."""
from __future__ import annotations

import ctypes
import ctypes.util
import numbers
import os
import subprocess
import sys
import weakref
from typing import Any, Callable, Iterable, Mapping, Optional

import numpy as np

from . import _abi

Finder = Callable[[], Iterable[str]]


class Error(Exception):
    """A call that lamina refused. `status` is the number, `status_name` its name, `text` what the library says."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(status, text)
        self.status = status
        self.status_name: str = library.lamina_status_name(status).decode()
        self.text = text

    def __str__(self) -> str:
        return self.text or self.status_name


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a run or a sweep. `run` is it with everything computed so far; it can be read, saved and continued."""

    def __init__(self, run: Any) -> None:
        super().__init__(run)
        self.run = run

    def __str__(self) -> str:
        where = f"stopped at step {self.run.step} of {self.run.steps}" if hasattr(self.run, "steps") else f"stopped: {self.run!r}"
        return f"{where}; what was computed so far is `run` of this exception (at the prompt: sys.last_value.run)"


def _from_environment() -> Iterable[str]:
    path = os.environ.get("LAMINA_LIBRARY")
    return [path] if path else []


def _file_name() -> str:
    return f"liblamina.{_abi.ABI}.dylib" if sys.platform == "darwin" else f"liblamina.so.{_abi.ABI}"


def _from_loader() -> Iterable[str]:
    yield _file_name()
    found = ctypes.util.find_library("lamina")
    if found:
        yield found


def _from_pkg_config() -> Iterable[str]:
    try:
        answer = subprocess.run(["pkg-config", "--variable=libdir", "lamina"], capture_output=True, text=True, check=False)
    except OSError:
        return
    folder = answer.stdout.strip()
    if answer.returncode == 0 and folder:
        yield os.path.join(folder, _file_name())


def _load() -> ctypes.CDLL:
    tried = []
    finders: list[Finder] = [_from_environment, _from_loader, _from_pkg_config]
    for finder in finders:
        for path in finder():
            try:
                loaded = ctypes.CDLL(path)
            except OSError as error:
                tried.append(str(error))
                if finder is not _from_environment:
                    continue
                # What the user has named is what is meant: no other library in its stead.
                raise ImportError(f"lamina: LAMINA_LIBRARY is {path}, which cannot be loaded: {error}") from None
            abi = loaded.lamina_abi() if hasattr(loaded, "lamina_abi") else None
            if abi != _abi.ABI:
                tried.append(f"{path}: binary interface {abi}, this package needs {_abi.ABI}")
                continue
            _abi.declare(loaded)
            return loaded
    raise ImportError("lamina: the library liblamina was not found. Install it, or set LAMINA_LIBRARY to the path of "
                      + _file_name() + ". Tried: " + "; ".join(tried))


library = _load()


def check(status: int) -> int:
    """Raises Error for a negative status, else returns it."""
    if status < 0:
        raise Error(status, library.lamina_last_error().decode())
    return status


def finish(status: int, failures: list[BaseException]) -> int:
    """As check, but an exception that a callback of the host raised comes first, and a cancelled create is an error."""
    if failures:
        failure = failures.pop()
        failures.clear()
        raise failure
    return check(status)


class Handle:
    """Owns one handle of the library; it is freed when the object goes. Keeps `alive` (a callback) at least as long."""

    _free = ""

    def __init__(self, pointer: ctypes.c_void_p, alive: tuple[Any, ...] = (), free: str = "") -> None:
        self._as_parameter_ = pointer  # a handle is passed to the library as it is, and so lives through the call
        self._alive = alive
        weakref.finalize(self, _release, free or self._free, pointer, alive)

    def __reduce__(self) -> Any:
        raise TypeError(f"{type(self).__name__} cannot be pickled or copied; a run can be saved with run.save(path)")


def _release(function: str, pointer: ctypes.c_void_p, alive: tuple[Any, ...]) -> None:
    getattr(library, function)(pointer)
    del alive


def create(name: str, *arguments: Any, failures: Optional[list[BaseException]] = None) -> ctypes.c_void_p:
    """Calls a function whose last argument is where the handle is put."""
    pointer = ctypes.c_void_p()
    status = finish(getattr(library, name)(*arguments, ctypes.byref(pointer)), failures if failures is not None else [])
    if status != _abi.OK:
        raise Error(status, library.lamina_last_error().decode())
    return pointer


def initialised(kind: type, initialise: str) -> Any:
    """A struct of `kind` as its lamina_*_init leaves it."""
    struct = kind()
    check(getattr(library, initialise)(ctypes.byref(struct), ctypes.sizeof(struct)))
    return struct


class Options(Handle):
    """A set of options; None leaves an option at its default."""

    _free = "lamina_options_free"

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__(create("lamina_options_create"))
        for key, value in values.items():
            if value is not None:
                self._set(key, value)

    def _set(self, key: str, value: Any) -> None:
        name = key.encode()
        if isinstance(value, (bool, np.bool_)):
            value = "yes" if value else "no"
        if isinstance(value, numbers.Integral) and float(value) != value:
            value = str(value)  # lamina says that no double is this integer
        if isinstance(value, numbers.Real):
            check(library.lamina_options_set_number(self, name, float(value)))
        elif isinstance(value, (str, os.PathLike)):
            check(library.lamina_options_set_text(self, name, os.fsencode(value)))
        elif isinstance(value, (list, tuple)) and value and all(isinstance(item, str) for item in value):
            check(library.lamina_options_set_text(self, name, ",".join(value).encode()))
        else:
            try:
                array = np.ascontiguousarray(value, dtype=np.float64).reshape(-1)
            except (TypeError, ValueError):
                raise TypeError(f"option {key} is {value!r}, must be a number, a word or numbers") from None
            check(library.lamina_options_set_array(self, name, array.ctypes.data, array.size))


def choice(name: str, value: str, known: Mapping[str, int]) -> int:
    """The constant of a word, or ValueError that names the known words."""
    try:
        return known[value]
    except (KeyError, TypeError):
        raise ValueError(f"{name} is {value!r}, must be one of {', '.join(known)}") from None


def version() -> str:
    """The version of the library that is loaded."""
    return library.lamina_version().decode()


def build_info() -> str:
    """Compiler, flags and libraries of the library that is loaded."""
    return library.lamina_build_info().decode()


def instruction_sets() -> list[str]:
    """The instruction sets that this CPU can run, fastest first; each may be given as option `isa`."""
    return [library.lamina_isa_name(index).decode() for index in range(library.lamina_isa_count())]
