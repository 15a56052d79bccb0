"""Softmax, linear and ReLU attention written in PyTorch: P = map(scale Q K^T), O = P V, scale = 1 / sqrt(D), nothing divided by.

q, k, v, o [B, H, N, D]. Forms differ in speed alone. `*_manual` take the cotangent d_o (None: forward only), return
(o, d_q, d_k, d_v) and hold no N x N matrix: with them PyTorch does what an engineer would write by hand against its matmul.
"""
import torch

CHUNK = 64   # of causal linear attention: the masked part of a chunk costs as much as the state at width 64
BLOCK = 256  # queries at a time: scores of one head fit the second-level cache


def scores(q, k):
    return (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)


def softmax_matmul(q, k, v, causal):
    s = scores(q, k)
    if causal:
        s = s.masked_fill(torch.ones(s.shape[-2:], dtype=torch.bool).triu(1), float("-inf"))
    return torch.softmax(s, -1) @ v


def softmax_lanes(q, k, v, causal):
    """Without bmm, for compilation: sums over a last axis, sequences along the lanes."""
    s = ((q * q.shape[-1] ** -0.5).unsqueeze(-2) * k.unsqueeze(-3)).sum(-1)
    if causal:
        s = s.masked_fill(torch.ones(s.shape[-2:], dtype=torch.bool).triu(1), float("-inf"))
    return (torch.softmax(s, -1).unsqueeze(-1) * v.unsqueeze(-3)).sum(-2)


def linear_matmul(q, k, v, causal):
    if causal:
        return scores(q, k).tril() @ v
    return (q * q.shape[-1] ** -0.5) @ (k.transpose(-1, -2) @ v)


def linear_chunked(q, k, v, causal):
    """O = Q (state before the chunk) + (Q K^T lower) V within it; full attention is one state."""
    if not causal:
        return linear_matmul(q, k, v, causal)
    n, d = q.shape[-2:]
    c = min(CHUNK, n)
    q, k, v = (x.reshape(*x.shape[:2], n // c, c, d) for x in (q * d ** -0.5, k, v))
    states = k.transpose(-1, -2) @ v
    before = states.cumsum(2) - states
    return (q @ before + (q @ k.transpose(-1, -2)).tril() @ v).reshape(*q.shape[:2], n, d)


def linear_manual(q, k, v, causal, d_o):
    """Full: two states, A = K^T V and, backward, C = Q^T dO. Causal: the chunked form and its adjoint by hand."""
    n, d = q.shape[-2:]
    q, scale = q * d ** -0.5, d ** -0.5
    if not causal:
        a = k.transpose(-1, -2) @ v
        if d_o is None:
            return (q @ a,)
        c = q.transpose(-1, -2) @ d_o
        return q @ a, (d_o @ a.transpose(-1, -2)).mul_(scale), v @ c.transpose(-1, -2), k @ c
    size, shape = min(CHUNK, n), q.shape
    q, k, v = (x.reshape(*shape[:2], n // size, size, d) for x in (q, k, v))
    kv = k.transpose(-1, -2) @ v
    a = kv.cumsum(2).sub_(kv)
    p = (q @ k.transpose(-1, -2)).tril_()
    o = (q @ a).add_(p @ v)
    if d_o is None:
        return (o.reshape(shape),)
    g = d_o.reshape(q.shape)
    qg = q.transpose(-1, -2) @ g
    c = qg.sum(2, keepdim=True) - qg.cumsum(2)
    ds = (g @ v.transpose(-1, -2)).tril_()
    d_q = (g @ a.transpose(-1, -2)).add_(ds @ k).mul_(scale)
    d_k = (v @ c.transpose(-1, -2)).add_(ds.transpose(-1, -2) @ q)
    d_v = (k @ c).add_(p.transpose(-1, -2) @ g)
    return tuple(x.reshape(shape) for x in (o, d_q, d_k, d_v))


def relu_matmul(q, k, v, causal):
    s = torch.relu(scores(q, k))
    return (s.tril() if causal else s) @ v


def relu_lanes(q, k, v, causal):
    s = torch.relu(((q * q.shape[-1] ** -0.5).unsqueeze(-2) * k.unsqueeze(-3)).sum(-1))
    return ((s.tril() if causal else s).unsqueeze(-1) * v.unsqueeze(-3)).sum(-2)


def linear_lanes(q, k, v, causal):
    s = ((q * q.shape[-1] ** -0.5).unsqueeze(-2) * k.unsqueeze(-3)).sum(-1)
    return ((s.tril() if causal else s).unsqueeze(-1) * v.unsqueeze(-3)).sum(-2)


def relu_manual(q, k, v, causal, d_o):
    """Blocks of queries; a causal block reads the keys up to its last row, and masks in the last square only."""
    n, d = q.shape[-2:]
    scale, size = d ** -0.5, min(BLOCK, q.shape[-2])
    o = torch.empty_like(q)
    d_q, d_k, d_v = (torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)) if d_o is not None else (None,) * 3
    for begin in range(0, n, size):
        end = begin + size
        seen = slice(0, end if causal else n)
        qb = q[:, :, begin:end] * scale
        p = (qb @ k[:, :, seen].transpose(-1, -2)).relu_()
        if causal:
            p[..., begin:end].tril_()
        o[:, :, begin:end] = p @ v[:, :, seen]
        if d_o is None:
            continue
        g = d_o[:, :, begin:end]
        d_v[:, :, seen] += p.transpose(-1, -2) @ g
        ds = torch.where(p > 0, g @ v[:, :, seen].transpose(-1, -2), 0)
        d_q[:, :, begin:end] = (ds @ k[:, :, seen]).mul_(scale)
        d_k[:, :, seen] += ds.transpose(-1, -2) @ qb
    return (o,) if d_o is None else (o, d_q, d_k, d_v)


LINEAR = {"matmul": linear_matmul, "chunked": linear_chunked, "lanes": linear_lanes, "chunked_manual": linear_manual}
RELU = {"matmul": relu_matmul, "lanes": relu_lanes, "blocks_manual": relu_manual}
