"""The recorded table of a run, as a mapping from column names to arrays."""
from __future__ import annotations

import ctypes
from typing import Any, Dict, Iterator, List, Mapping, Tuple

import numpy as np
from numpy.typing import NDArray

from ._library import Handle, check, create, library


class Trajectory(Mapping[str, NDArray[np.float64]]):
    """One array per column: "step", "loss", "excess", then those of the probes. Row 0 is before the first update. A snapshot:
    later steps of the run do not change it."""

    def __init__(self, owner: Any, function: str = "lamina_trainer_trajectory", *arguments: Any) -> None:
        table = Handle(create(function, owner, *arguments), free="lamina_trajectory_free")
        rows, columns = ctypes.c_int64(), ctypes.c_int64()
        check(library.lamina_trajectory_rows(table, ctypes.byref(rows)))
        check(library.lamina_trajectory_columns(table, ctypes.byref(columns)))
        self.rows: int = rows.value
        self.definitions: Dict[str, str] = {}
        self._arrays: Dict[str, NDArray[Any]] = {}
        for index in range(columns.value):
            name, definition = ctypes.c_char_p(), ctypes.c_char_p()
            check(library.lamina_trajectory_column_name(table, index, ctypes.byref(name), ctypes.byref(definition)))
            array = np.empty(rows.value)
            check(library.lamina_trajectory_read(table, index, array.ctypes.data, array.size))
            column = (name.value or b"").decode()
            self._arrays[column] = array
            self.definitions[column] = (definition.value or b"").decode()

    @property
    def columns(self) -> Tuple[str, ...]:
        return tuple(self._arrays)

    def __getitem__(self, column: str) -> NDArray[np.float64]:
        try:
            return self._arrays[column]
        except KeyError:
            raise KeyError(f"{column!r} is not a column, must be one of {', '.join(self._arrays)}") from None

    def __contains__(self, column: object) -> bool:
        return column in self._arrays

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        """The number of columns, as of any mapping; the number of rows is `rows`."""
        return len(self._arrays)

    def to_pandas(self) -> Any:
        """A pandas.DataFrame indexed by step; its attrs["definitions"] says what each column is."""
        import pandas

        frame = pandas.DataFrame({name: array for name, array in self._arrays.items() if name != "step"},
                                 index=pandas.Index(self["step"].astype(np.int64), name="step"))
        frame.attrs["definitions"] = dict(self.definitions)
        return frame

    def __repr__(self) -> str:
        shown = list(range(self.rows)) if self.rows <= 10 else [*range(5), -1, *range(self.rows - 4, self.rows)]
        names = [name for name in self._arrays][:8]
        width = max(12, *(len(name) + 2 for name in names)) if names else 12
        lines: List[str] = ["".join(name.rjust(width) for name in names)]
        for row in shown:
            cells = ["..." if row < 0 else _cell(self._arrays[name][row]) for name in names]
            lines.append("".join(cell.rjust(width) for cell in cells))
        rest = self.columns[8:]
        if rest:
            lines.append("and " + ", ".join(rest))
        return "\n".join([f"{type(self).__name__} of {self.rows} rows"] + lines)


def _cell(value: Any) -> str:
    return str(value) if isinstance(value, str) else f"{value:.6g}"
