"""Formulations of `w_free` (noiseless: V = I, F = 0, W free) without batched products.

With w = W^T x_H, n the token counts and C the pair counts of a prompt: xi = n * w_[:K] + C w_[K:], and with
r = p - e_label: dw = [n * r ; C^T r], dW = sum over prompts of x_H dw^T.
"""
import numpy as np
import torch

from local import ABSENT, COMMON, L, blocks_by_row, local_problem, order_by_row, reordered, tensor
from problem import D, K, STEP_SIZE


# Without it g++ keeps every multiply and add apart.
OPTIONS = {"cpp.enable_floating_point_contract_flag": "fast"}


class Steps:
    compiled = True

    def __init__(self, problem):
        self.problem = problem
        self.prepare()
        self.body = torch.compile(self.step, options=OPTIONS) if self.compiled else self.step
        self.reset()

    def reset(self):
        self.W = torch.tensor(self.problem.start["W"], dtype=torch.float32)

    def step(self, W, *data):
        loss, gradient = self.loss_and_gradient(W, *data)
        return W - STEP_SIZE * gradient * torch.rsqrt((gradient * gradient).sum()), loss

    @torch.no_grad()
    def run(self, steps):
        for _ in range(steps):
            self.W, _ = self.body(self.W, *self.data)

    def parameters(self):
        return {"W": np.asarray(self.W)}


class Counts(Steps):
    """Count matrices C [M, K, K] with elementwise multiply and sum; nothing known of the sampler."""

    count_type = torch.float32

    def prepare(self):
        pairs, single = self.problem.counts()
        assert pairs.max() < 256
        q, previous = self.problem.tokens[:, -1], self.problem.tokens[:, -2]
        self.data = (tensor(pairs).to(self.count_type), tensor(single, torch.float32), tensor(q, torch.int64),
                     tensor(K + previous, torch.int64), tensor(self.problem.label, torch.int64))

    def loss_and_gradient(self, W, pairs, single, q, previous, label):
        w = W[q] + W[previous]
        xi = single * w[:, :K] + (pairs * w[:, None, K:]).sum(2)
        shifted = xi - xi.amax(1, keepdim=True)
        z = torch.exp(shifted)
        total = z.sum(1, keepdim=True)
        hot = torch.arange(K) == label[:, None]
        loss = (torch.log(total[:, 0]) - (shifted * hot).sum(1)).mean()
        r = (z / total - hot.float()) / len(q)
        dw = torch.cat([single * r, (pairs * r[:, :, None]).sum(1)], 1)
        return loss, torch.zeros(D, D).index_add(0, q, dw).index_add(0, previous, dw)


class CountsEager(Counts):
    compiled = False


class CountBytes(Counts):
    count_type = torch.uint8


class Gather(Steps):
    """Look-ups and scatters over all positions: no count matrix."""

    def prepare(self):
        tokens, before = self.problem.tokens, self.problem.previous
        before = np.where(before < 0, D, K + before)  # column D of w is 0
        q, previous = tokens[:, -1], tokens[:, -2]
        self.data = (tensor(tokens, torch.int64), tensor(before, torch.int64), tensor(q, torch.int64),
                     tensor(K + previous, torch.int64), tensor(self.problem.label, torch.int64))

    def loss_and_gradient(self, W, tokens, before, q, previous, label):
        w = torch.nn.functional.pad(W[q] + W[previous], (0, 1))
        score = w.gather(1, tokens) + w.gather(1, before)
        xi = torch.zeros(len(q), K).scatter_add(1, tokens, score)
        logp = torch.log_softmax(xi, 1)
        hot = torch.arange(K) == label[:, None]
        loss = -(logp * hot).sum(1).mean()
        r = (logp.exp() - hot.float()) / len(q)
        ds = r.gather(1, tokens)
        dw = torch.zeros(len(q), D + 1).scatter_add(1, tokens, ds).scatter_add(1, before, ds)[:, :D]
        return loss, torch.zeros(D, D).index_add(0, q, dw).index_add(0, previous, dw)


class Local(Steps):
    """Tokens present: counts [M, L, L] as bytes, stored twice so that both products run along memory."""

    def prepare(self):
        self.given = reordered(self.problem, order_by_row(self.problem))
        ids, pairs, single = local_problem(self.given)
        q, previous = self.given.tokens[:, -1], self.given.tokens[:, -2]
        position = (ids == self.given.label[:, None]).argmax(1)
        self.common = tensor(np.concatenate([COMMON, K + COMMON]), torch.int64)
        hot = np.eye(L, dtype=np.float32)[position]
        self.pack(pairs, single, hot, q, previous, self.given.answer)

    def pack(self, pairs, single, hot, q, previous, answer):
        # Only the prompts' own rows are non-zero in x_H: one-hot rows of the triggers and of the tokens seen before the end.
        rows = np.unique(np.concatenate([q, K + previous]))
        reads = ((rows[:, None] == q) | (rows[:, None] == K + previous)).astype(np.float32)
        self.rows = tensor(rows, torch.int64)
        self.data = (tensor(pairs.transpose(0, 2, 1)), tensor(pairs), tensor(single), tensor(hot), tensor(reads),
                     tensor(q, torch.int64), tensor(K + previous, torch.int64), tensor(answer, torch.int64))

    def loss_and_gradient(self, W, by_previous, by_token, single, hot, reads, q, previous, answer):
        common = W[:, self.common]
        w = common[q] + common[previous]
        c = len(COMMON)
        own = torch.stack([W[q, q] + W[previous, q], W[q, answer] + W[previous, answer]], 1)
        own_before = torch.stack([W[q, K + q] + W[previous, K + q], W[q, K + answer] + W[previous, K + answer]], 1)
        now, before = torch.cat([w[:, :c], own], 1), torch.cat([w[:, c:], own_before], 1)
        xi = single * now + (by_previous * before[:, :, None]).sum(1)
        z = torch.exp(xi)
        total = z.sum(1, keepdim=True) + ABSENT
        loss = (torch.log(total[:, 0]) - (xi * hot).sum(1)).mean()
        r = (z / total - hot) / len(q)
        d_now, d_before = single * r, (by_token * r[:, :, None]).sum(1)
        return loss, self.scatter(d_now, d_before, reads, q, previous, answer)

    def scatter(self, d_now, d_before, reads, q, previous, answer):
        c = len(COMMON)
        dense = reads @ torch.cat([d_now[:, :c], d_before[:, :c]], 1)
        gradient = torch.zeros(D, D).index_put((self.rows[:, None], self.common[None, :]), dense)
        for row in (q, previous):
            for column, value in ((q, d_now[:, c]), (answer, d_now[:, c + 1]), (K + q, d_before[:, c]),
                                  (K + answer, d_before[:, c + 1])):
                gradient = gradient.view(-1).index_add(0, row * D + column, value).view(D, D)
        return gradient


class Blocks(Steps):
    """Tokens present, prompts in blocks of 16 that read the same rows of W: counts [B, L, L, 16], and one row w [B, D]
    for a block. Only the rows of W that any prompt reads are kept; the others never move. The labels' part of the
    gradient, G = - sum x_H [n * e_label ; C^T e_label]^T / M, is constant: it is summed once, and enters the loss as
    <W, G>. What remains is linear in z = exp(xi), so that the division is by prompt, not by logit."""

    lanes = 16
    count_type = torch.uint8

    def prepare(self):
        problem, self.c = self.problem, len(COMMON)
        M = len(problem.tokens)
        ids, pairs, single = local_problem(problem)
        index = blocks_by_row(problem, self.lanes)
        valid = index >= 0
        q, previous = problem.tokens[index[:, 0], -1], K + problem.tokens[index[:, 0], -2]
        self.rows = np.unique(np.concatenate([q, previous]))
        reads = ((self.rows == q[:, None]) | (self.rows == previous[:, None])).astype(np.float32)
        lay = lambda array: np.moveaxis(array[index], 1, -1)
        self.both = tensor(np.concatenate([COMMON, K + COMMON]), torch.int64)
        counts = tensor(lay(pairs) * valid[:, None, None, :].astype(np.uint8)).to(self.count_type)
        self.data = (counts, tensor(lay(single) * valid[:, None, :]).float(), tensor(valid / M).float(), tensor(reads),
                     tensor(reads.T), self.constant_gradient(), tensor(q, torch.int64), tensor(problem.answer[index], torch.int64))

    def constant_gradient(self):
        G = np.zeros((D, D))
        for tokens, before, label in zip(self.problem.tokens, self.problem.previous, self.problem.label):
            row = np.zeros(D)
            row[label] = (tokens == label).sum()
            np.add.at(row, K + before[1:][tokens[1:] == label], 1)
            G[tokens[-1]] -= row
            G[K + tokens[-2]] -= row
        return tensor(G[self.rows] / len(self.problem.tokens)).float()

    def reset(self):
        self.start = torch.tensor(self.problem.start["W"], dtype=torch.float32)
        self.W = self.start[self.rows].contiguous()

    def parameters(self):
        full = self.start.clone()
        full[self.rows] = self.W
        return {"W": np.asarray(full)}

    def loss_and_gradient(self, W, pairs, single, weight, reads, reads_t, constant, q, answer):
        c, lanes, B = self.c, self.lanes, len(q)
        w = reads @ W                                                  # [B, D]
        common = w[:, self.both]                                       # [B, 2 c]
        own = lambda shift: torch.stack([w.gather(1, (q + shift)[:, None]).expand(B, lanes), w.gather(1, answer + shift)], 1)
        now = torch.cat([common[:, :c, None].expand(B, c, lanes), own(0)], 1)       # [B, L, lanes]
        before = torch.cat([common[:, c:, None].expand(B, c, lanes), own(K)], 1)
        z = torch.exp(single * now + (pairs * before[:, None]).sum(2))
        total = z.sum(1) + ABSENT
        loss = (torch.log(total) * weight).sum() + (W * constant).sum()
        scale = (weight / total)[:, None]
        d_now, d_before = single * z * scale, (pairs * z[:, :, None]).sum(1) * scale
        dw = torch.zeros(B, D).index_copy(1, self.both, torch.cat([d_now[:, :c].sum(2), d_before[:, :c].sum(2)], 1))
        dw = dw.scatter_add(1, answer, d_now[:, c + 1]).scatter_add(1, K + answer, d_before[:, c + 1])
        dw = dw.scatter_add(1, torch.stack([q, K + q], 1), torch.stack([d_now[:, c].sum(1), d_before[:, c].sum(1)], 1))
        return loss, reads_t @ dw + constant


class BlocksFloat(Blocks):
    count_type = torch.float32


class BlocksBfloat(Blocks):
    count_type = torch.bfloat16


FORMULATIONS = {"counts_eager": CountsEager, "counts": Counts, "count_bytes": CountBytes, "gather": Gather, "local": Local,
                "blocks": Blocks, "blocks_float": BlocksFloat, "blocks_bfloat": BlocksBfloat}
