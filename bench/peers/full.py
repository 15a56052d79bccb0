"""Formulations of `full` without batched products: from token look-ups down to statistics collapsed by hand.

With W = sum_q lambda_q E(q) Et(q)^T and construction N1*, xi_y = lambda_q n_y, xi_tau = lambda_q n_y + ln(a/(1-a)), and
the other N - 1 logits are 0, where n_y = #{h : z_{h-1} = q, z_h = y}.
"""
import numpy as np
import torch

from problem import N, STEP_SIZE, TAU, TRIGGERS


def normalised_step(lam, gradient):
    return lam - STEP_SIZE * gradient / torch.sqrt((gradient * gradient).sum())


class Steps:
    """Runs `unroll` updates in one compiled call, so that the cost of entering compiled code is shared."""

    unroll = 1
    compiled = True

    def __init__(self, problem):
        self.problem, self.odds = problem, problem.log_odds
        self.prepare()
        self.body = torch.compile(self.several) if self.compiled else self.several
        self.reset()

    def reset(self):
        self.lam = torch.tensor(self.problem.start["lambda"], dtype=torch.float32)

    def several(self, lam, *data):
        losses = []
        for _ in range(self.unroll):
            loss, gradient = self.loss_and_gradient(lam, *data)
            lam = normalised_step(lam, gradient)
            losses.append(loss)
        return lam, torch.stack(losses)

    @torch.no_grad()
    def run(self, steps):
        assert steps % self.unroll == 0
        for _ in range(steps // self.unroll):
            self.lam, _ = self.body(self.lam, *self.data)

    def parameters(self):
        return {"lambda": np.asarray(self.lam)}


class Lookup(Steps):
    """Scores by look-up over all positions, gradient by masks: nothing known beyond the tokens."""

    def prepare(self):
        tokens, previous = self.problem.tokens, self.problem.previous
        q = tokens[:, -1]
        self.q = torch.from_numpy(q).long()
        follows = torch.from_numpy((previous == q[:, None]).astype(np.uint8))
        answers = torch.from_numpy((tokens == self.problem.answer[:, None]).astype(np.uint8))
        self.noisy = torch.from_numpy((self.problem.label == TAU).astype(np.float32))
        self.data = (self.q, follows, answers, self.noisy)

    def loss_and_gradient(self, lam, q, follows, answers, noisy):
        score = lam[q].unsqueeze(1) * follows
        xi = (score * answers).sum(1)
        z = torch.exp(xi) * (1 + np.exp(self.odds))
        loss = (torch.log(N - 1 + z) - xi - self.odds * noisy).mean()
        r = (N - 1) / (N - 1 + z) / len(q)
        da = r.unsqueeze(1) * answers * follows
        return loss, torch.zeros(TRIGGERS).index_add(0, q, -da.sum(1))


class Statistics(Steps):
    """One count n_y per prompt: what is left of a prompt once the scores are known to vanish elsewhere."""

    def prepare(self):
        tokens, previous = self.problem.tokens, self.problem.previous
        q = tokens[:, -1]
        n = ((previous == q[:, None]) & (tokens == self.problem.answer[:, None])).sum(1)
        hot = (q[None, :] == np.arange(TRIGGERS)[:, None]).astype(np.float32)
        self.data = tuple(torch.from_numpy(a) for a in (q.astype(np.int64), hot, n.astype(np.float32),
                                                       (self.problem.label == TAU).astype(np.float32)))

    def loss_and_gradient(self, lam, q, hot, n, noisy):
        xi = lam[q] * n
        z = torch.exp(xi) * (1 + np.exp(self.odds))
        loss = (torch.log(N - 1 + z) - xi - self.odds * noisy).mean()
        return loss, -(hot * (n * (N - 1) / (N - 1 + z) / len(q))).sum(1)


class Collapsed(Steps):
    """Equal prompts merged: a [triggers, n] table of weights; the label enters by its frequency alone."""

    unroll = 10

    def prepare(self):
        tokens, previous = self.problem.tokens, self.problem.previous
        q = tokens[:, -1]
        n = ((previous == q[:, None]) & (tokens == self.problem.answer[:, None])).sum(1)
        weight = np.zeros((TRIGGERS, n.max()))
        np.add.at(weight, (q, n - 1), 1 / len(q))
        self.noise = float((self.problem.label == TAU).mean())
        self.data = (torch.tensor(weight, dtype=torch.float32), torch.arange(1.0, n.max() + 1))

    def loss_and_gradient(self, lam, weight, n):
        xi = lam.unsqueeze(1) * n
        z = torch.exp(xi) * (1 + np.exp(self.odds))
        loss = (weight * (torch.log(N - 1 + z) - xi)).sum() - self.odds * self.noise
        return loss, -(weight * n * (N - 1) / (N - 1 + z)).sum(1)


class CollapsedEager(Collapsed):
    compiled, unroll = False, 1


class CollapsedUnroll1(Collapsed):
    unroll = 1


class CollapsedUnroll50(Collapsed):
    unroll = 50


class StatisticsUnroll10(Statistics):
    unroll = 10


FORMULATIONS = {"lookup": Lookup, "statistics": Statistics, "statistics_unroll10": StatisticsUnroll10,
                "collapsed_eager": CollapsedEager, "collapsed": CollapsedUnroll1, "collapsed_unroll10": Collapsed,
                "collapsed_unroll50": CollapsedUnroll50}
