"""What tests share: small runs, the oracle of attention, the tree that this package is a part of."""
import os
import pathlib
import signal

import numpy as np
import pytest

import lamina


def golden():
    """LAMINA_GOLDEN, or beside the build folder LAMINA_BUILD, or in the tree that this file is in."""
    if "LAMINA_GOLDEN" in os.environ:
        return pathlib.Path(os.environ["LAMINA_GOLDEN"])
    if "LAMINA_BUILD" in os.environ:
        return pathlib.Path(os.environ["LAMINA_BUILD"]).parent / "tests" / "golden"
    return pathlib.Path(__file__).resolve().parents[3] / "tests" / "golden"


GOLDEN = golden()
TREE = GOLDEN.parents[1]
# What a shell starts in the background ignores it, and so would the tests that send it.
signal.signal(signal.SIGINT, signal.default_int_handler)
SMALL = dict(vocabulary=20, triggers=3, outputs=5, unseen_outputs=3, prompt_length=24, occurrences=3, samples=64,
             evaluation_samples=32, steps=20)
# Gradient descent with so small a step comes to no end.
ENDLESS = dict(steps=10**9, record_every=1000, optimiser="gd", step_size=1e-6, probes="none")


@pytest.fixture
def small():
    return dict(SMALL)


def naive_attention(q, k, v, map="softmax", scale=None, causal=False, bias=0.0):
    """o and P by the definition in lamina.h, for kv_heads = heads."""
    s = np.einsum("...id,...jd->...ij", q, k) * (q.shape[-1] ** -0.5 if scale is None else scale) + bias
    seen = np.tri(q.shape[-2], k.shape[-2], dtype=bool) if causal else np.ones((q.shape[-2], k.shape[-2]), bool)
    if map == "softmax":
        p = np.exp(s - np.where(seen, s, -np.inf).max(-1, keepdims=True)) * seen
        p = p / p.sum(-1, keepdims=True)
    else:
        p = (s if map == "linear" else np.maximum(s, 0)) * seen
    return p @ v, p


def same_bits(a, b):
    return np.asarray(a).tobytes() == np.asarray(b).tobytes()


@pytest.fixture
def interrupted_run(small):
    """A run of a slow task that Ctrl-C (a real SIGINT to this process) ends long before its last step."""
    import os
    import signal
    import threading

    run = lamina.Run(**{**small, **ENDLESS}, progress=False)
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        with pytest.raises(lamina.Interrupted) as caught:
            run.continue_()
    finally:
        timer.cancel()
        timer.join()
    return run, caught.value
