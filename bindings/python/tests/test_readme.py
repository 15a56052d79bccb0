"""The pages keep their word: their Python lines run as they stand, and end with a run that has learnt."""
import re

import pytest

from conftest import TREE


@pytest.mark.parametrize("page", ["README.md", "bindings/python/README.md"])
def test_lines_of(page, monkeypatch):
    pytest.importorskip("matplotlib", reason="SKIPPED: matplotlib is not installed").use("Agg")
    if not (TREE / page).exists():
        pytest.skip(f"SKIPPED: {TREE} has no {page}; LAMINA_GOLDEN, a folder of the tree, says where it is")
    blocks = re.findall(r"```python\n(.*?)```", (TREE / page).read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 1
    pasted = {}
    exec(blocks[0], pasted)
    excess = pasted["run"].trajectory["excess"]
    assert len(excess) == 401 and excess[0] > 1 and excess[-1] < 1e-2
