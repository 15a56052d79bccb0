"""Formulations of `original` (noiseless: W, V, U free, F = 0) without batched products.

With w = W^T x_H, n and n' the counts of z_h and of z_{h-1}, and C the pair counts of a prompt, linear attention gives
c = sum_h s_h x_h = [n * w_now + C w_before ; n' * w_before + C^T w_now], xi = U V c. The same map takes dc to dw.
"""
import numpy as np
import torch

from local import COMMON, L, local_problem, order_by_row, reordered, tensor
from problem import D, K, STEP_SIZE

OPTIONS = {"cpp.enable_floating_point_contract_flag": "fast"}


class Steps:
    compiled = True

    def __init__(self, problem):
        self.problem = problem
        self.prepare()
        self.body = torch.compile(self.step, options=OPTIONS) if self.compiled else self.step
        self.reset()

    def reset(self):
        self.values = tuple(torch.tensor(self.problem.start[name], dtype=torch.float32) for name in "WVU")

    def step(self, W, V, U, *data):
        loss, gradients = self.loss_and_gradients(W, V, U, *data)
        scale = STEP_SIZE * torch.rsqrt(sum((g * g).sum() for g in gradients))
        return W - scale * gradients[0], V - scale * gradients[1], U - scale * gradients[2], loss

    @torch.no_grad()
    def run(self, steps):
        for _ in range(steps):
            *self.values, _ = self.body(*self.values, *self.data)

    def parameters(self):
        return {name: np.asarray(value) for name, value in zip("WVU", self.values)}


def residual(xi, label):
    """Loss, and r = (p - e_label) / M."""
    z = torch.exp(xi - xi.amax(1, keepdim=True))
    p = z / z.sum(1, keepdim=True)
    hot = torch.arange(K) == label[:, None]
    loss = -torch.log((p * hot).sum(1)).mean()
    return loss, (p - hot.float()) / len(label)


class Counts(Steps):
    """Count matrices C [M, K, K] with elementwise multiply and sum; U and V applied one after the other."""

    def prepare(self):
        pairs, single = self.problem.counts()
        assert pairs.max() < 256
        tokens = self.problem.tokens
        self.data = (tensor(pairs).to(torch.uint8), tensor(np.concatenate([single, pairs.sum(1)], 1), torch.float32),
                     tensor(tokens[:, -1], torch.int64), tensor(K + tokens[:, -2], torch.int64), tensor(self.problem.label, torch.int64))

    @staticmethod
    def attend(pairs, single, w):
        return single * w + torch.cat([(pairs * w[:, None, K:]).sum(2), (pairs * w[:, :K, None]).sum(1)], 1)

    def loss_and_gradients(self, W, V, U, pairs, single, q, previous, label):
        c = self.attend(pairs, single, W[q] + W[previous])
        phi = c @ V.T
        loss, r = residual(phi @ U.T, label)
        dphi = r @ U
        dw = self.attend(pairs, single, dphi @ V)
        return loss, (torch.zeros(D, D).index_add(0, q, dw).index_add(0, previous, dw), dphi.T @ c, r.T @ phi)


class CountsEager(Counts):
    compiled = False


class Gather(Counts):
    """Look-ups and scatters over all positions: no count matrix."""

    def prepare(self):
        super().prepare()
        before = self.problem.previous
        both = np.stack([self.problem.tokens, np.where(before < 0, D, K + before)], 2).reshape(len(before), -1)
        self.data = (tensor(both, torch.int64), *self.data[1:])

    @staticmethod
    def attend(both, single, w):
        padded = torch.nn.functional.pad(w, (0, 1))                    # column D is 0: no token before the first
        M, H = both.shape[0], both.shape[1] // 2
        score = padded.gather(1, both).view(M, H, 2).sum(2, keepdim=True).expand(M, H, 2).reshape(M, 2 * H)
        return torch.zeros(M, D + 1).scatter_add(1, both, score)[:, :D]


class Local(Steps):
    """Tokens present: counts [M, L, L] as bytes in both orders, so that each product adds scaled rows; and P = U V merged,
    dU = dP V^T, dV = U^T dP, so that three products over the prompts remain. Columns of c that no prompt reaches are left out."""

    def prepare(self):
        given = reordered(self.problem, order_by_row(self.problem))
        ids, pairs, single = local_problem(given)
        own = np.setdiff1d(np.unique(ids), COMMON)
        q, previous = given.tokens[:, -1], K + given.tokens[:, -2]
        rows = np.unique(np.concatenate([q, previous]))
        reads = ((rows == q[:, None]) | (rows == previous[:, None])).astype(np.float32)
        self.rows, self.columns = rows, np.concatenate([COMMON, own, K + COMMON, K + own])
        self.half, self.common = len(COMMON) + len(own), len(COMMON)
        place = np.searchsorted(own, ids[:, -2:]) + self.common                    # of trigger and answer in a half row
        self.data = (tensor(pairs), tensor(pairs.transpose(0, 2, 1)), tensor(single), tensor(pairs.sum(1), torch.float32),
                     tensor(reads), tensor(reads.T), tensor(place, torch.int64), tensor(given.label, torch.int64))

    def reset(self):
        W, V, U = (torch.tensor(self.problem.start[name], dtype=torch.float32) for name in "WVU")
        self.start = W, V
        self.values = W[self.rows][:, self.columns].contiguous(), V[:, self.columns].contiguous(), U

    def parameters(self):
        W, V = (value.clone() for value in self.start)
        W[torch.tensor(self.rows)[:, None], torch.tensor(self.columns)] = self.values[0]
        V[:, self.columns] = self.values[1]
        return {"W": np.asarray(W), "V": np.asarray(V), "U": np.asarray(self.values[2])}

    def attend(self, by_token, by_previous, single, single_before, place, w):
        """[M, columns] -> [M, columns]."""
        h, c = self.half, self.common
        pick = lambda half: torch.cat([half[:, :c], half.gather(1, place)], 1)     # [M, L]
        now, before = pick(w[:, :h]), pick(w[:, h:])
        out_now = single * now + (by_previous * before[:, :, None]).sum(1)
        out_before = single_before * before + (by_token * now[:, :, None]).sum(1)
        at = torch.arange(c, h)
        spread = lambda out: torch.cat([out[:, :c], out[:, c, None] * (at == place[:, :1]) + out[:, c + 1, None] * (at == place[:, 1:])], 1)
        return torch.cat([spread(out_now), spread(out_before)], 1)

    def loss_and_gradients(self, W, V, U, by_token, by_previous, single, single_before, reads, reads_t, place, label):
        P = U @ V
        c = self.attend(by_token, by_previous, single, single_before, place, reads @ W)
        loss, r = residual(c @ P.T, label)
        dP = r.T @ c
        dw = self.attend(by_token, by_previous, single, single_before, place, r @ P)
        return loss, (reads_t @ dw, U.T @ dP, dP @ V.T)


FORMULATIONS = {"counts_eager": CountsEager, "counts": Counts, "gather": Gather, "local": Local}
