"""Attention and its gradient on numpy arrays of any strides, without a copy of any."""
from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Any, Dict, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _abi
from ._library import Handle, check, choice, create, initialised, library

Array = NDArray[Any]
ELEMENTS = {"float64": _abi.F64, "float32": _abi.F32}
ALSO = {"lse": _abi.WITH_LSE, "weights": _abi.WITH_WEIGHTS, "scores": _abi.WITH_SCORES}


class Attention(NamedTuple):
    """What attention(..., also=...) gives: o, and those of lse, weights, scores that were asked for."""

    o: Array
    lse: Optional[Array] = None
    weights: Optional[Array] = None
    scores: Optional[Array] = None


class AttentionGradient(NamedTuple):
    """Derivatives of sum(o * d_o) (+ sum(lse * d_lse) + sum(weights * d_weights)); d_bias only where there is a bias. Like bias,
    d_bias has the shape [batch, heads, queries, keys], also where the bias was broadcast to it."""

    d_q: Array
    d_k: Array
    d_v: Array
    d_bias: Optional[Array]
    d_scale: float


@lru_cache(maxsize=128)
def _plan(fields: Tuple[Tuple[str, Any], ...]) -> Handle:
    """The plan of these fields of lamina_attention_spec; plans are immutable, so one serves all threads."""
    spec = initialised(_abi.AttentionSpec, "lamina_attention_spec_init")
    for name, value in fields:
        setattr(spec, name, value)
    return Handle(create("lamina_attention_create", ctypes.byref(spec)), free="lamina_attention_free")


class _Call:
    """One call: the arrays checked, the plan found, the struct filled. Ranks 2, 3, 4 are [position, feature], with heads
    before, with batch before."""

    def __init__(self, q: Array, k: Array, v: Array, bias: Optional[ArrayLike], mask: Optional[ArrayLike],
                 query_lengths: Optional[ArrayLike], key_lengths: Optional[ArrayLike], query_offsets: Optional[ArrayLike],
                 key_offsets: Optional[ArrayLike], flags: int, options: Dict[str, Any]) -> None:
        self.rank = q.ndim if isinstance(q, np.ndarray) else 0
        self.dtype = q.dtype if isinstance(q, np.ndarray) else np.dtype(object)
        if self.dtype.name not in ELEMENTS or not self.dtype.isnative:
            raise TypeError(f"q is {_kind(q)}, must be a numpy array of float32 or float64")
        if self.rank not in (2, 3, 4):
            raise ValueError(f"q has {self.rank} dimensions, must have 2 to 4: [batch, head, position, feature]")
        self.arrays = initialised(_abi.AttentionArrays, "lamina_attention_arrays_init")
        self._kept: list[Any] = []
        batch, heads, queries, width = self._full(q.shape)
        k_shape, v_shape = self._given("k", k), self._given("v", v)
        if k_shape != (batch, k_shape[1], k_shape[2], width):
            raise ValueError(f"k has shape {k.shape}, q {q.shape}: batch and features must agree")
        if v_shape[:3] != k_shape[:3]:
            raise ValueError(f"v has shape {v.shape}, k {k.shape}: all but the features must agree")
        self.o_shape, self.column = (batch, heads, queries, v_shape[3]), (batch, heads, queries, 1)
        keys = k_shape[2]
        self.packed = query_offsets is not None
        if self.packed:
            if batch != 1:
                raise ValueError(f"q has a batch of {batch}, must be 1: offsets pack all sequences along the positions")
            flags |= _abi.WITH_OFFSETS
            batch, queries = self._offsets("query_offsets", query_offsets, queries)
            key_batch, keys = self._offsets("key_offsets", query_offsets if key_offsets is None else key_offsets, keys)
            if key_batch != batch:
                raise ValueError(f"key_offsets are of {key_batch} sequences, query_offsets of {batch}")
        elif key_offsets is not None:
            raise ValueError("key_offsets are given, must be together with query_offsets")
        self.square = (batch, heads, queries, keys)
        for name, array in (("q", q), ("k", k), ("v", v)):
            self.place(name, array)
        if bias is not None:
            flags |= _abi.WITH_BIAS
            self._broadcast("bias", np.asarray(bias, dtype=None if isinstance(bias, np.ndarray) else self.dtype), self.dtype)
        if mask is not None:
            flags |= _abi.WITH_MASK
            self._broadcast("mask", np.asarray(mask), np.dtype(bool))
        if query_lengths is not None or key_lengths is not None:
            flags |= _abi.WITH_LENGTHS
            self._lengths("query_lengths", query_lengths, batch, queries)
            self._lengths("key_lengths", key_lengths, batch, keys)
        fields = {"element": ELEMENTS[self.dtype.name], "batch": batch, "heads": heads, "kv_heads": k_shape[1],
                  "queries": queries, "keys": keys, "width": width, "value_width": v_shape[3],
                  **_fields(options, flags)}
        self.plan = _plan(tuple(fields.items()))

    def _full(self, shape: Sequence[int]) -> Tuple[int, ...]:
        return (1,) * (4 - len(shape)) + tuple(shape)

    def _given(self, name: str, array: Array) -> Tuple[int, ...]:
        if not isinstance(array, np.ndarray) or array.dtype != self.dtype:
            raise TypeError(f"{name} is {_kind(array)}, must be a numpy array of {self.dtype}, as q is")
        if array.ndim != self.rank:
            raise ValueError(f"{name} has {array.ndim} dimensions, q {self.rank}")
        return self._full(array.shape)

    def place(self, name: str, array: Array) -> None:
        """The field `name` is to point at the array, with its strides."""
        size = array.itemsize
        field = getattr(self.arrays, name)
        field.data = array.ctypes.data
        for axis, stride in enumerate(array.strides):
            if stride % size and array.shape[axis] > 1:
                raise ValueError(f"{name} has a stride of {stride} bytes, must be a multiple of {size}: its elements are of "
                                 "a structure; np.ascontiguousarray makes a copy that will do")
            field.stride[4 - array.ndim + axis] = stride // size
        self._kept.append(array)

    def _broadcast(self, name: str, array: Array, dtype: np.dtype[Any]) -> None:
        if array.dtype != dtype:
            raise TypeError(f"{name} is of {array.dtype}, must be of {dtype}")
        self.place(name, np.broadcast_to(array, self.square_shape()))

    def _lengths(self, name: str, lengths: Optional[ArrayLike], batch: int, most: int) -> None:
        array = np.ascontiguousarray(np.full(batch, most) if lengths is None else lengths, dtype=np.int64).reshape(-1)
        if array.size != batch:
            raise ValueError(f"{name} has {array.size} numbers, must have one for each of {batch} sequences")
        setattr(self.arrays, name, array.ctypes.data)
        self._kept.append(array)

    def _offsets(self, name: str, offsets: Any, positions: int) -> Tuple[int, int]:
        """The number of sequences and the length of the longest; that they start at 0 and ascend is checked by the library."""
        array = np.ascontiguousarray(offsets, dtype=np.int64).reshape(-1)
        if array.size < 2 or array[-1] != positions:
            raise ValueError(f"{name} ends with {array[-1] if array.size else None}, must have one number more than there are "
                             f"sequences and end with the {positions} positions")
        setattr(self.arrays, name, array.ctypes.data)
        self._kept.append(array)
        return array.size - 1, max(int(np.diff(array).max()), 0)

    def cotangent(self, name: str, array: Array, shape: Tuple[int, ...]) -> None:
        if not isinstance(array, np.ndarray) or array.dtype != self.dtype or array.shape != shape:
            raise ValueError(f"{name} is {_kind(array)} of shape {np.shape(array)}, must be {self.dtype} of shape {shape}")
        self.place(name, array)

    def output(self, name: str, shape: Tuple[int, ...], out: Optional[Array], like: Optional[Array] = None) -> Array:
        """`out`, or a new array in the memory order of `like`."""
        if out is None:
            out = np.empty(shape, self.dtype) if like is None else np.empty_like(like, shape=shape, subok=False)
        elif not isinstance(out, np.ndarray) or out.dtype != self.dtype or out.shape != shape or not out.flags.writeable:
            raise ValueError(f"out for {name} is {_kind(out)} of shape {np.shape(out)}, must be a writable numpy array of "
                             f"{self.dtype} of shape {shape}")
        self.place(name, out)
        return out

    def ranked(self, shape: Tuple[int, ...]) -> Tuple[int, ...]:
        """The last dimensions of a shape of 4, as many as q has."""
        return shape[4 - self.rank:]

    def square_shape(self) -> Tuple[int, ...]:
        """That of what is [query, key]: with offsets of 4 dimensions always."""
        return self.square if self.packed else self.ranked(self.square)

    def run(self, direction: str) -> None:
        check(getattr(library, direction)(self.plan, ctypes.byref(self.arrays), None, 0))


def _kind(value: Any) -> str:
    return f"an array of {value.dtype}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"


def _fields(options: Dict[str, Any], flags: int) -> Dict[str, Any]:
    """The rest of the plan from the arguments that forward and gradient share."""
    causal, scale, window = options["causal"], options["scale"], options["window"]
    word = {False: "none", True: "top_left"}.get(causal, causal) if not isinstance(causal, str) else causal
    if not (window is None or isinstance(window, (tuple, list)) and len(window) == 2):
        raise TypeError(f"window is {window!r}, must be (left, right), None for no limit")
    left, right = window if window is not None else (None, None)
    flags |= _abi.WINDOW_LEFT if left is not None else 0
    flags |= _abi.WINDOW_RIGHT if right is not None else 0
    flags |= _abi.SCALE_IS_ZERO if scale is not None and scale == 0 else 0
    isa = options["isa"]
    return {"map": choice("map", options["map"], _abi.MAPS), "causal": choice("causal", word, _abi.CAUSAL),
            "normaliser": choice("normaliser", options["normaliser"], _abi.NORMALISERS), "threads": options["threads"],
            "flags": flags, "window_left": left or 0, "window_right": right or 0, "scale": float(scale or 0),
            "relu_at_zero": options["relu_at_zero"], "isa": None if isa is None else isa.encode()}


def attention(q: Array, k: Array, v: Array, *, causal: Union[bool, str] = False, map: str = "softmax",
              normaliser: str = "default", scale: Optional[float] = None, bias: Optional[ArrayLike] = None,
              mask: Optional[ArrayLike] = None, query_lengths: Optional[ArrayLike] = None,
              key_lengths: Optional[ArrayLike] = None, query_offsets: Optional[ArrayLike] = None,
              key_offsets: Optional[ArrayLike] = None, window: Optional[Tuple[Optional[int], Optional[int]]] = None,
              threads: int = 0, isa: Optional[str] = None, out: Optional[Array] = None,
              also: Union[str, Sequence[str]] = ()) -> Union[Array, Attention]:
    """o = map(scale * q k^T + bias) v, for every batch and head.

    q [batch, heads, queries, features], k and v [batch, kv_heads, keys, features] (ranks 2 and 3 leave out batch and heads), all
    float32 or all float64, with any strides (0 and negative too), read where they are; kv_heads divides heads. For arrays in
    another order pass q.transpose(...), which copies nothing. map is "softmax", "linear" or "relu"; normaliser "default"
    (row sums for softmax, none else), "none", "visible" (the number of visible keys) or "row_sum"; scale 1/sqrt(features) by
    default; causal False, True ("top_left") or "bottom_right"; window (left, right), None for no limit; bias and mask (bool,
    True is visible) are broadcast to [batch, heads, queries, keys]. With query_offsets [sequences + 1] (0 first, ascending; and
    key_offsets, by default the same) q is [heads, positions, features], sequence b its positions offsets[b] to offsets[b + 1];
    bias, mask, weights, scores are then [sequences, heads, longest query, longest key]. The result is a new array in the memory order of q, or
    `out`. With also="weights", or several of "lse", "weights", "scores", the result is a lamina.Attention."""
    asked = (also,) if isinstance(also, str) else tuple(also)
    flags = 0
    for name in asked:
        flags |= choice("also", name, ALSO)
    call = _Call(q, k, v, bias, mask, query_lengths, key_lengths, query_offsets, key_offsets, flags,
                 dict(causal=causal, map=map, normaliser=normaliser, scale=scale, window=window, threads=threads, isa=isa,
                      relu_at_zero=0.0))
    o = call.output("o", call.ranked(call.o_shape), out, q)
    square, row = call.square_shape(), call.ranked(call.column)
    extras = {name: call.output(name, row if name == "lse" else square, None) for name in asked}
    call.run("lamina_attention_forward")
    if not asked:
        return o
    if "lse" in extras:
        extras["lse"] = extras["lse"][..., 0]
    return Attention(o, **extras)


def attention_gradient(q: Array, k: Array, v: Array, d_o: Array, *, causal: Union[bool, str] = False, map: str = "softmax",
                       normaliser: str = "default", scale: Optional[float] = None, bias: Optional[ArrayLike] = None,
                       mask: Optional[ArrayLike] = None, query_lengths: Optional[ArrayLike] = None,
                       key_lengths: Optional[ArrayLike] = None, query_offsets: Optional[ArrayLike] = None,
                       key_offsets: Optional[ArrayLike] = None,
                       window: Optional[Tuple[Optional[int], Optional[int]]] = None, threads: int = 0,
                       isa: Optional[str] = None, relu_at_zero: float = 0.0, d_lse: Optional[Array] = None,
                       d_weights: Optional[Array] = None,
                       out: Tuple[Optional[Array], Optional[Array], Optional[Array]] = (None, None, None)) -> AttentionGradient:
    """The gradient of sum(attention(q, k, v, ...) * d_o) with respect to q, k, v, bias and scale; arguments as in attention.
    d_lse and d_weights are the cotangents of those outputs. Gradients are new arrays in the memory order of q, k, v, or the
    three of `out`. Where an input was broadcast (stride 0), the gradient is that of each element of the broadcast array."""
    flags = (_abi.WITH_LSE if d_lse is not None else 0) | (_abi.WITH_WEIGHTS if d_weights is not None else 0)
    call = _Call(q, k, v, bias, mask, query_lengths, key_lengths, query_offsets, key_offsets, flags,
                 dict(causal=causal, map=map, normaliser=normaliser, scale=scale, window=window, threads=threads, isa=isa,
                      relu_at_zero=float(relu_at_zero)))
    call.cotangent("d_o", d_o, call.ranked(call.o_shape))
    if d_lse is not None:
        call.cotangent("d_lse", d_lse[..., None], call.ranked(call.column))
    if d_weights is not None:
        call.cotangent("d_weights", d_weights, call.square_shape())
    d_q, d_k, d_v = (call.output("d_" + name, given.shape, place, given)
                     for name, given, place in zip("qkv", (q, k, v), out))
    d_bias = call.output("d_bias", call.square_shape(), None) if bias is not None else None
    d_scale = ctypes.c_double()
    call.arrays.d_scale = ctypes.addressof(d_scale)
    call.run("lamina_attention_backward")
    return AttentionGradient(d_q, d_k, d_v, d_bias, d_scale.value)
