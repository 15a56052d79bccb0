"""Attention against the definition, gradients against difference quotients, on arrays of every stride, copied nowhere."""
import threading
import tracemalloc

import numpy as np
import pytest

import lamina
from conftest import naive_attention, same_bits

SHAPE = (2, 3, 7, 5)


def arrays(seed=0, dtype=float, queries=7, keys=9, kv_heads=3, width=5, value_width=4):
    rng = np.random.default_rng(seed)
    shapes = [(2, 3, queries, width), (2, kv_heads, keys, width), (2, kv_heads, keys, value_width)]
    return [rng.normal(size=shape).astype(dtype) for shape in shapes]


@pytest.mark.parametrize("map", ["softmax", "linear", "relu"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-12), (np.float32, 1e-5)])
def test_forward_is_the_definition(map, causal, dtype, tolerance):
    q, k, v = arrays(dtype=dtype)
    o, p = naive_attention(*(a.astype(float) for a in (q, k, v)), map=map, causal=causal)
    got = lamina.attention(q, k, v, map=map, causal=causal, also=("weights", "lse") if map == "softmax" else "weights")
    assert got.o.dtype == dtype
    np.testing.assert_allclose(got.o, o, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(got.weights, p, rtol=tolerance, atol=tolerance)
    assert got.scores is None
    if map == "softmax" and not causal:
        np.testing.assert_allclose(got.lse, np.log(np.exp(np.einsum("bhid,bhjd->bhij", q, k) / 5**0.5).sum(-1)), rtol=tolerance)


@pytest.mark.parametrize("map", ["softmax", "linear", "relu"])
def test_gradient_is_the_difference_quotient(map):
    q, k, v = arrays(1)
    rng = np.random.default_rng(2)
    bias, d_o, d_p = rng.normal(size=(2, 3, 7, 9)), rng.normal(size=(2, 3, 7, 4)), rng.normal(size=(2, 3, 7, 9))

    def loss(q, k, v, bias, scale):
        o, p = naive_attention(q, k, v, map=map, scale=scale, bias=bias, causal=True)
        return (o * d_o).sum() + (p * d_p).sum()

    given = [q, k, v, bias, 0.7]
    gradient = lamina.attention_gradient(q, k, v, d_o, map=map, scale=0.7, bias=bias, causal=True, d_weights=d_p)
    for index, slope in enumerate(gradient):
        direction, h = rng.normal(size=np.shape(slope)), 1e-6
        ends = []
        for sign in (1, -1):
            moved = list(given)
            moved[index] = moved[index] + sign * h * direction
            ends.append(loss(*moved))
        assert np.sum(slope * direction) == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-7, abs=1e-7)


def views(array):
    """The same values in other places: transposed memory, negative strides, a slice of something larger."""
    yield np.ascontiguousarray(array.transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3)
    yield np.asfortranarray(array)
    yield np.ascontiguousarray(array[::-1, :, ::-1, ::-1])[::-1, :, ::-1, ::-1]
    larger = np.full(tuple(2 * n + 1 for n in array.shape), np.nan, array.dtype)
    larger[1::2, ::2, 1::2, 1::2][..., :array.shape[1], :, :] = array
    yield larger[1::2, ::2, 1::2, 1::2][:, :array.shape[1]]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_strides_change_no_bit(dtype):
    q, k, v = arrays(3, dtype)
    d_o = np.random.default_rng(4).normal(size=(2, 3, 7, 4)).astype(dtype)
    o, gradient = lamina.attention(q, k, v), lamina.attention_gradient(q, k, v, d_o)
    for qs, ks, vs, ds in zip(*map(views, (q, k, v, d_o))):
        assert same_bits(np.ascontiguousarray(lamina.attention(qs, ks, vs)), o)
        for a, b in zip(lamina.attention_gradient(qs, ks, vs, ds), gradient):
            assert (a is None and b is None) or same_bits(np.ascontiguousarray(a), b)


def test_broadcast_inputs_are_read_in_place():
    q, k, v = arrays(5)
    one = k[:1, :1]
    np.testing.assert_array_equal(lamina.attention(q, np.broadcast_to(one, k.shape), v),
                                  lamina.attention(q, np.tile(one, (2, 3, 1, 1)), v))
    bias = np.random.default_rng(6).normal(size=(7, 9))
    o, _ = naive_attention(q, k, v, bias=bias)
    np.testing.assert_allclose(lamina.attention(q, k, v, bias=bias), o, rtol=1e-12, atol=1e-12)
    seen = np.tri(7, 9, dtype=bool)
    assert same_bits(lamina.attention(q, k, v, mask=seen), lamina.attention(q, k, v, causal=True))


def test_nothing_is_copied():
    n = 2_000_000
    q = np.ones((1, 1, n, 4))[:, :, ::-2]
    k = v = np.ones((1, 1, 3, 4))[..., ::-1]
    out = np.empty(q.shape)
    tracemalloc.start()
    lamina.attention(q, k, v, out=out)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (out == 1).all() and peak < 1_000_000


def test_memory_order_of_q_is_kept_and_out_is_written():
    q, k, v = arrays(7)
    swapped = [np.ascontiguousarray(a.transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3) for a in (q, k, v)]
    o = lamina.attention(*swapped)
    assert o.transpose(0, 2, 1, 3).flags.c_contiguous
    out = np.zeros((2, 3, 7, 8))[..., ::2]
    assert lamina.attention(q, k, v, out=out) is out and same_bits(np.ascontiguousarray(out), np.ascontiguousarray(o))
    d_q = np.empty_like(q)
    assert lamina.attention_gradient(q, k, v, o, out=(d_q, None, None)).d_q is d_q


def test_ranks_and_groups_of_heads():
    q, k, v = arrays(8)
    o = lamina.attention(q, k, v)
    assert same_bits(lamina.attention(q[0], k[0], v[0]), o[0]) and same_bits(lamina.attention(q[0, 0], k[0, 0], v[0, 0]), o[0, 0])
    grouped = lamina.attention(q, k[:, :1], v[:, :1])
    assert same_bits(grouped, lamina.attention(q, np.repeat(k[:, :1], 3, 1), np.repeat(v[:, :1], 3, 1)))
    assert lamina.attention(q[0, 0], k[0, 0], v[0, 0], also="lse").lse.shape == (7,)
    gradient = lamina.attention_gradient(q, k, v, o, d_lse=np.ones((2, 3, 7)))
    assert not np.array_equal(gradient.d_q, lamina.attention_gradient(q, k, v, o).d_q)


def test_windows_lengths_and_scale_zero():
    q, k, v = arrays(9, keys=7)
    distance = np.arange(7)[:, None] - np.arange(7)
    seen = (distance <= 2) & (distance >= -1)
    assert same_bits(lamina.attention(q, k, v, window=(2, 1)), lamina.attention(q, k, v, mask=seen))
    assert same_bits(lamina.attention(q, k, v, window=(0, 0)), v)
    lengths = lamina.attention(q, k, v, key_lengths=[7, 4])
    assert same_bits(lengths[1], lamina.attention(q[1], k[1, :, :4], v[1, :, :4]))
    np.testing.assert_allclose(lamina.attention(q, k, v, scale=0), np.repeat(v.mean(2, keepdims=True), 7, 2), atol=1e-15)
    bottom = lamina.attention(q[:, :, :3], k, v, causal="bottom_right")
    np.testing.assert_allclose(bottom, lamina.attention(q, k, v, mask=np.tri(7, 7, 4, dtype=bool))[:, :, :3], atol=1e-15)


def test_packed_sequences_are_a_loop_over_them():
    rng = np.random.default_rng(11)
    rows, cols = np.array([0, 3, 3, 10]), np.array([0, 5, 9, 10])
    q, k, v = rng.normal(size=(4, 10, 5)), rng.normal(size=(2, 10, 5)), rng.normal(size=(2, 10, 3))
    d_o, bias = rng.normal(size=(4, 10, 3)), rng.normal(size=(3, 1, 7, 5))
    got = lamina.attention(q, k, v, query_offsets=rows, key_offsets=cols, bias=bias, causal="bottom_right", also=("lse", "weights"))
    assert got.o.shape == (4, 10, 3) and got.lse.shape == (4, 10) and got.weights.shape == (3, 4, 7, 5)
    gradient = lamina.attention_gradient(q, k, v, d_o, query_offsets=rows, key_offsets=cols, bias=bias, causal="bottom_right")
    for b in range(3):
        i, j = slice(rows[b], rows[b + 1]), slice(cols[b], cols[b + 1])
        n, m = rows[b + 1] - rows[b], cols[b + 1] - cols[b]
        own = dict(bias=bias[b, :, :n, :m], causal="bottom_right")
        one = lamina.attention(q[:, i], k[:, j], v[:, j], also=("lse", "weights"), **own)
        assert same_bits(got.o[:, i], one.o) and same_bits(got.lse[:, i], one.lse)
        assert same_bits(got.weights[b, :, :n, :m], one.weights) and not got.weights[b, :, n:].any()
        one = lamina.attention_gradient(q[:, i], k[:, j], v[:, j], d_o[:, i], **own)
        assert same_bits(gradient.d_q[:, i], one.d_q) and same_bits(gradient.d_k[:, j], one.d_k)
        assert same_bits(gradient.d_v[:, j], one.d_v) and same_bits(gradient.d_bias[b, :, :n, :m], one.d_bias)
    same = lamina.attention(q, q, q, query_offsets=rows)
    assert same_bits(same[:, 3:], lamina.attention(q[:, 3:], q[:, 3:], q[:, 3:]))
    with pytest.raises(ValueError, match="query_offsets ends with 9"):
        lamina.attention(q, k, v, query_offsets=[0, 9])
    with pytest.raises(ValueError, match="together with query_offsets"):
        lamina.attention(q, k, v, key_offsets=[0, 10])
    with pytest.raises(lamina.Error, match=r"query_offsets\[2\] is 3"):
        lamina.attention(q, k, v, query_offsets=[0, 5, 3, 10], key_offsets=[0, 5, 9, 10])


def test_wrong_arrays_are_refused():
    q, k, v = arrays()
    with pytest.raises(TypeError, match="q is an array of int64"):
        lamina.attention(q.astype(int), k, v)
    with pytest.raises(TypeError, match="q is a list"):
        lamina.attention([[1.0]], k, v)
    with pytest.raises(TypeError, match="k is an array of float32, must be a numpy array of float64"):
        lamina.attention(q, k.astype(np.float32), v)
    with pytest.raises(ValueError, match="batch and features must agree"):
        lamina.attention(q, k[..., :2], v)
    with pytest.raises(ValueError, match="all but the features"):
        lamina.attention(q, k, v[:, :, :2])
    with pytest.raises(ValueError, match="map is 'cubic', must be one of softmax, linear, relu"):
        lamina.attention(q, k, v, map="cubic")
    with pytest.raises(TypeError, match=r"window is 2, must be \(left, right\)"):
        lamina.attention(q, k, v, window=2)
    with pytest.raises(TypeError, match="mask is of int64, must be of bool"):
        lamina.attention(q, k, v, mask=np.ones((7, 9), int))
    with pytest.raises(ValueError, match="out for o is"):
        lamina.attention(q, k, v, out=np.empty((1, 2)))
    with pytest.raises(ValueError, match="a stride of 60 bytes"):
        lamina.attention(np.zeros((7, 5), [("x", "f8"), ("y", "f4")])["x"], k[0, 0], v[0, 0])
    with pytest.raises(TypeError, match="q is an array of >f8"):
        lamina.attention(q.astype(">f8"), k, v)
    with pytest.raises(lamina.Error, match="overlaps"):
        lamina.attention(q, k, q[:, :, :, :][:, :, [0] * 9], out=q)
    with pytest.raises(lamina.Error, match="kv_heads"):
        lamina.attention(q, k[:, :2], v[:, :2])
    with pytest.raises(lamina.Error, match="isa"):
        lamina.attention(q, k, v, isa="abacus")


def test_every_instruction_set_and_several_threads():
    q, k, v = arrays(10, queries=33, keys=65)
    expected, _ = naive_attention(q, k, v)
    for isa in lamina.instruction_sets():
        np.testing.assert_allclose(lamina.attention(q, k, v, isa=isa), expected, rtol=1e-12, atol=1e-12)
    results = []
    threads = [threading.Thread(target=lambda: results.append(lamina.attention(q, k, v, threads=1))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8 and all(same_bits(o, results[0]) for o in results)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_prepared_call_reads_what_the_arrays_hold_by_then(dtype):
    q, k, v = arrays(21, dtype=dtype)
    d_o = np.random.default_rng(22).normal(size=(2, 3, 7, 4)).astype(dtype)
    step = lamina.PreparedAttention(q, k, v, d_o, causal=True, map="relu", normaliser="row_sum", threads=1)
    for _ in range(2):
        assert step.forward() is step.o
        expected = lamina.attention_gradient(q, k, v, d_o, causal=True, map="relu", normaliser="row_sum")
        assert same_bits(step.o, lamina.attention(q, k, v, causal=True, map="relu", normaliser="row_sum"))
        assert all(same_bits(a, b) for a, b in zip(step.backward(), expected[:3]))
        q *= 0.5
        v += 1


def test_prepared_call_checks_what_it_can():
    q, k, v = arrays(23)
    with pytest.raises(TypeError, match="unknown argument colour"):
        lamina.PreparedAttention(q, k, v, colour="red")
    with pytest.raises(ValueError, match="d_o was not given"):
        lamina.PreparedAttention(q, k, v).backward()
    lengths = np.array([7, 9])
    step = lamina.PreparedAttention(q, k, v, key_lengths=lengths)
    step.forward()
    lengths[0] = 10
    with pytest.raises(lamina.Error, match="key_lengths"):
        step.forward()
