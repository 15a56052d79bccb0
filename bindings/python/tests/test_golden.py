"""The golden trajectories, bit for bit. Their format is in tests/golden/README.md."""
import numpy as np
import pytest

import lamina
from conftest import GOLDEN


def read(path):
    lines = path.read_text(encoding="ascii").splitlines()
    settings = dict(line[2:].split("=", 1) for line in lines if line.startswith("# "))
    table = [line.split(",") for line in lines if not line.startswith("# ")]
    return settings, table[0], np.array([[float.fromhex(value) for value in row] for row in table[1:]])


def test_there_are_golden_trajectories():
    assert list(GOLDEN.glob("*.csv")), f"none in {GOLDEN}; LAMINA_GOLDEN may name the folder"


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.csv")), ids=lambda path: path.stem)
@pytest.mark.parametrize("threads", [1, 3])
def test_golden(path, threads):
    settings, columns, rows = read(path)
    table = lamina.run(settings.pop("task"), **settings, threads=threads).trajectory
    assert list(table.columns) == columns
    for index, column in enumerate(columns):
        assert table[column].tobytes() == np.ascontiguousarray(rows[:, index]).tobytes(), column
