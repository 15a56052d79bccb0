"""A call of attention that is checked once and run many times."""
from __future__ import annotations

import ctypes
from functools import partial
from typing import Any, Callable, Dict, List, Optional, Tuple

import numpy as np

from . import _abi
from ._attention import Array, _Call
from ._library import check, library

DEFAULTS: Dict[str, Any] = {"causal": False, "map": "softmax", "normaliser": "default", "scale": None, "window": None, "threads": 0,
                            "isa": None, "relu_at_zero": 0.0}
INPUTS = ("bias", "mask", "query_lengths", "key_lengths", "query_offsets", "key_offsets")


class PreparedAttention:
    """Attention on the same arrays again and again: forward() and backward() read what q, k, v, d_o, bias, mask hold by then and
    write into the same o, d_q, d_k, d_v. Arguments as in attention and attention_gradient; without d_o there is no backward.

    For small shapes, where the checks of attention() take longer than the arithmetic: a call costs half a microsecond above it and
    allocates nothing. One object serves one thread at a time. The arrays are kept alive; they are not to be resized."""

    o: Array
    d_q: Optional[Array] = None
    d_k: Optional[Array] = None
    d_v: Optional[Array] = None

    def __init__(self, q: Array, k: Array, v: Array, d_o: Optional[Array] = None, *, out: Optional[Array] = None,
                 **options: Any) -> None:
        unknown = sorted(set(options) - set(DEFAULTS) - set(INPUTS))
        if unknown:
            raise TypeError(f"unknown argument {unknown[0]}, must be one of {', '.join((*INPUTS, *DEFAULTS))}")
        settings = {name: options.get(name, value) for name, value in DEFAULTS.items()}
        self._call = _Call(q, k, v, *(options.get(name) for name in INPUTS), 0, settings)  # type: ignore[arg-type]
        self.o = self._call.output("o", self._call.ranked(self._call.o_shape), out, q)
        self._workspaces: List[Array] = []
        self._forward = self._bound("lamina_attention_forward", _abi.FORWARD)
        self._backward: Optional[Callable[[], int]] = None
        if d_o is not None:
            self._call.cotangent("d_o", d_o, self._call.ranked(self._call.o_shape))
            self.d_q, self.d_k, self.d_v = (self._call.output("d_" + name, given.shape, None, given)
                                            for name, given in zip("qkv", (q, k, v)))
            self._backward = self._bound("lamina_attention_backward", _abi.BACKWARD)

    def _bound(self, name: str, direction: int) -> Callable[[], int]:
        """The C function with its arguments converted, once."""
        size = ctypes.c_size_t()
        check(library.lamina_attention_workspace(self._call.plan, direction, ctypes.byref(size)))
        workspace = np.empty(size.value + 64, np.uint8)
        self._workspaces.append(workspace)
        address = (workspace.ctypes.data + 63) // 64 * 64
        function = library[name]  # an object of its own: without argument types, which would be asked at every call
        function.restype = ctypes.c_int32
        return partial(function, self._call.plan._as_parameter_, ctypes.byref(self._call.arrays), ctypes.c_void_p(address), size)

    def forward(self) -> Array:
        """Writes and returns o."""
        status = self._forward()
        if status:
            check(status)
        return self.o

    def backward(self) -> Tuple[Array, Array, Array]:
        """Writes and returns d_q, d_k, d_v."""
        if self._backward is None:
            raise ValueError("d_o was not given, so there is nothing to derive")
        status = self._backward()
        if status:
            check(status)
        return self.d_q, self.d_k, self.d_v  # type: ignore[return-value]
