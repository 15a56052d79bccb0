"""The rows of the comparison: what is timed, against whom, and what is held to be good.

A goal is a ratio (time of the fastest peer / time of lamina), a share of the peak, a time, or several of these.
"""
import dataclasses
from typing import Optional, Tuple

LONG = [(1, 8, 512, 64), (1, 8, 1024, 64), (1, 8, 2048, 64), (1, 8, 4096, 64), (1, 1, 8192, 64), (1, 16, 1024, 128)]
MEDIUM = [(4, 8, 128, 64), (64, 4, 64, 32)]
SMALL = [(1024, 1, 32, 16), (4096, 1, 16, 8)]
ONE = (1, 1, 8, 8)
QUICK = {(1, 8, 512, 64), (64, 4, 64, 32), (1024, 1, 32, 16), (4096, 1, 16, 8), ONE}


@dataclasses.dataclass(frozen=True)
class Row:
    group: str
    shape: Tuple[int, int, int, int]
    map: str = "softmax"
    causal: bool = False
    direction: str = "forward"  # or "both": forward and backward
    element: str = "f32"
    threads: int = 1
    isa: str = ""                       # "": the widest of the machine
    ratio: Optional[float] = None       # against the fastest peer
    pytorch: Optional[float] = None     # against PyTorch
    share: Optional[float] = None       # of the peak
    seconds: Optional[float] = None     # a call, at most
    memory: Optional[float] = None      # bytes of resident memory above inputs and outputs, at most
    against: str = "peers"              # or "itself": lamina on one thread; "python": the binding

    @property
    def flops(self):
        b, h, n, d = self.shape
        return (14 if self.direction == "both" else 4) * b * h * n * n * d * (0.5 if self.causal else 1)

    @property
    def quick(self):
        if self.group == "E9" and self.shape[2] < 64 or self.group == "two threads":
            return False
        return self.shape in QUICK and (self.group not in ("E5", "E8", "E12") or not self.causal) and self.against != "itself"


def by(shape, *goals):
    """One goal for each of N = 512, 1024, ... (the last goes on); or for D = 32, 16, 8 of the small shapes."""
    n, d = shape[2], shape[3]
    place = {512: 0, 1024: 1, 2048: 2}.get(n, 3) if n >= 512 else {64: 0, 32: 0, 16: 1, 8: 2}[d]
    return goals[min(place, len(goals) - 1)]


def softmax():
    for s in LONG:
        yield Row("E1", s, ratio=1.1, pytorch=1.25, share=0.88)
        yield Row("E2", s, causal=True, ratio=by(s, 2.0, 1.9, 1.6, 1.45), share=0.85 if s[2] >= 1024 else None)
    for s, full, causal in zip(MEDIUM, (1.2, 2.1), (1.7, 3)):
        yield Row("E3", s, ratio=full)
        yield Row("E3", s, ratio=causal, causal=True)
    for s, full, causal in zip(SMALL, (3, 5.5), (5, 9)):
        yield Row("E4", s, ratio=full)
        yield Row("E4", s, ratio=causal, causal=True)
    for s in LONG + MEDIUM + SMALL:
        long = s[3] >= 64
        for causal in (False, True):
            ratio = 1.6 if long else by(s, 3, 6, 12)
            yield Row("E5", s, element="f64", causal=causal, ratio=ratio, share=0.85 if s in LONG else None)
    for s in LONG:
        yield Row("E6", s, direction="both", ratio=1.3, share=0.88)
        yield Row("E6", s, direction="both", causal=True, ratio=by(s, 2.3, 1.75, 1.4))
    for s in MEDIUM[1:] + SMALL:
        yield Row("E7", s, direction="both", ratio=by(s, 1.9, 2.6, 6))
        yield Row("E7", s, direction="both", causal=True, ratio=by(s, 2.5, 4, 8))
    for s in LONG + MEDIUM[1:] + SMALL:
        for causal in (False, True):
            yield Row("E8", s, direction="both", element="f64", causal=causal, ratio=1.6 if s in LONG else by(s, 2.5, 4, 8))


def other_maps(elements=("f32",)):
    for element in elements:
        for s in LONG + MEDIUM + SMALL:
            long = s in LONG
            for causal in (False, True):
                for direction in ("forward", "both"):
                    yield Row("E9", s, "relu", causal, direction, element, ratio=3 if causal or not long else 1.4)
                    yield Row("E9", s, "linear", causal, direction, element, ratio=5 if causal or not long else 1.25)


def rest():
    yield Row("E10", ONE, seconds=0.15e-6)
    yield Row("E10", ONE, direction="both", seconds=0.4e-6)
    yield Row("E10", ONE, seconds=1e-6, against="python")
    yield Row("E18", (1, 1, 65536, 64), direction="both", threads=2, memory=64 * 2 ** 20)
    for s in ((1, 8, 1024, 64), (1, 1, 8192, 64), *MEDIUM, *SMALL):
        for direction in ("forward", "both"):
            for causal in (False, True):
                yield Row("E11", s, causal=causal, direction=direction, threads=2, ratio=1.95, against="itself")
    for s in ((1, 8, 1024, 64), *MEDIUM, *SMALL):
        yield Row("two threads", s, threads=2)
        yield Row("two threads", s, threads=2, direction="both")
        yield Row("two threads", s, threads=2, direction="both", causal=True)
    for s in LONG + MEDIUM + SMALL:
        for causal in (False, True):
            yield Row("E12", s, causal=causal, isa="avx2", share=0.85 if s in LONG and not causal else None,
                      pytorch=1.5 if s in SMALL else None)


def rows(which, widest):
    """`which`: quick (two minutes), usual (a quarter of an hour), all (an hour: every shape of every group). `widest`: the
    instruction set of rows that name none."""
    everything = [*softmax(), *other_maps(("f32", "f64") if which == "all" else ("f32",)), *rest()]
    everything = [dataclasses.replace(row, isa=row.isa or widest) for row in everything]
    if which == "quick":
        return [row for row in everything if row.quick]
    if which == "usual":  # what costs most and says least: the longest shapes in float64, of the other maps, and under AVX2
        heavy = {(1, 8, 4096, 64), (1, 1, 8192, 64), (1, 16, 1024, 128)}
        return [row for row in everything if not (row.shape in heavy and row.group in ("E5", "E8", "E9", "E12"))]
    return everything


def methods(row):
    """(program, method) of every peer worth timing on a row; what is slow on the first burst is not timed again."""
    small = row.shape[2] <= 128
    torch = {"softmax": ["sdpa"] + ["tuned_matmul"] * small,
             "linear": (["matmul", "compiled_chunked_manual"] if not row.causal else ["compiled_matmul"] if small else
                        ["compiled_chunked_manual", "chunked_manual"]) + ["tuned_matmul", "compiled_lanes"] * small,
             "relu": (["blocks_manual"] * (not small) + ["compiled_matmul"] * (row.shape[2] <= 1024) +
                      ["tuned_matmul", "compiled_lanes"] * small)}
    found = [("torch", method) for method in torch[row.map]]
    if row.against == "python":
        return found[:1]
    if row.map == "softmax" and row.direction == "forward" and row.group != "E12":
        if row.element == "f32":
            found += [("onednn", "added"), ("ggml", "f32"), ("onnx", "MultiHeadAttention")]
        if small or row.element == "f32":
            found += [("onnx", "MatMul")]
    return found


NAMES = {"torch": "PyTorch", "onednn": "oneDNN Graph", "ggml": "ggml", "onnx": "ONNX Runtime"}
