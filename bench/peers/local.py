"""Tokens present: every prompt of S1 holds the neutral tokens, tau, its trigger and its answer, and no other token.

With local names 0..L-1 (L = 23) a prompt's pair counts shrink from 61 x 61 to 23 x 23 bytes. Local names: neutral tokens,
tau, trigger, answer, in this order, so that the first L - 2 mean the same token in every prompt.
"""
import numpy as np
import torch

from problem import K, N, OUTPUTS, TAU, TRIGGERS, UNSEEN

NEUTRAL = np.arange(TRIGGERS + OUTPUTS + UNSEEN, N)
COMMON = np.append(NEUTRAL, TAU)   # tokens with one local name for all prompts
L = len(COMMON) + 2
ABSENT = K - L


def local_problem(problem):
    """ids [M, L]: the token of every local name; pairs [M, L, L] uint8 with pairs[m, j, i] = C[m, ids j, ids i];
    single [M, L]: counts of z_h = j over all h."""
    M = len(problem.tokens)
    q = problem.tokens[:, -1]
    ids = np.concatenate([np.tile(COMMON, (M, 1)), q[:, None], problem.answer[:, None]], axis=1)
    name = np.full((M, K), -1)
    np.put_along_axis(name, ids, np.tile(np.arange(L), (M, 1)), axis=1)
    tokens = np.take_along_axis(name, problem.tokens, axis=1)
    assert (tokens >= 0).all(), "a prompt holds a token without a local name"
    m = np.repeat(np.arange(M), tokens.shape[1] - 1)
    pairs = np.zeros((M, L, L), dtype=np.int64)
    np.add.at(pairs, (m, tokens[:, 1:].ravel(), tokens[:, :-1].ravel()), 1)
    assert pairs.max() < 256
    single = np.stack([(tokens == j).sum(1) for j in range(L)], axis=1)
    return ids, pairs.astype(np.uint8), single.astype(np.float32)


def order_by_row(problem):
    """The order of prompts by the rows of W they read: first z_{H-1}, then q."""
    return np.lexsort((problem.tokens[:, -1], problem.tokens[:, -2]))


def reordered(problem, order):
    import dataclasses
    return dataclasses.replace(problem, tokens=problem.tokens[order], label=problem.label[order], answer=problem.answer[order])


def tensor(array, dtype=None):
    value = torch.from_numpy(np.ascontiguousarray(array))
    return value.to(dtype) if dtype else value


def blocks_by_row(problem, lanes):
    """Prompts in blocks of `lanes` that read the same two rows of W, (q, K + z_{H-1}): indices [B, lanes], -1 = empty."""
    q, previous = problem.tokens[:, -1], problem.tokens[:, -2]
    blocks = []
    for key in np.unique(q.astype(np.int64) * K + previous):
        members = np.flatnonzero(q.astype(np.int64) * K + previous == key)
        for first in range(0, len(members), lanes):
            part = members[first:first + lanes]
            blocks.append(np.pad(part, (0, lanes - len(part)), constant_values=-1))
    return np.array(blocks)
