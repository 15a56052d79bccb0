"""The natural script: dense embeddings x_h in R^128, batched products over all positions, autograd."""
import numpy as np
import torch

from problem import D, K, STEP_SIZE, matrices

WIDTH = 128


class Natural:
    """One class for the three variants: what is trained differs, the arithmetic does not."""

    def __init__(self, problem):
        self.problem = problem
        M, H = problem.tokens.shape
        x = torch.zeros(M, H, WIDTH)
        x.scatter_(2, torch.from_numpy(problem.tokens).long().unsqueeze(2), 1.0)
        x[:, 1:].scatter_(2, K + torch.from_numpy(problem.tokens[:, :-1]).long().unsqueeze(2), 1.0)
        self.x, self.last = x, x[:, -1].contiguous()
        self.label = torch.from_numpy(problem.label).long()
        self.reset()

    def reset(self):
        start = {name: torch.tensor(value, dtype=torch.float32) for name, value in self.problem.start.items()}
        held = dict(zip("WVUF", (self.pad(name, m) for name, m in zip("WVUF", matrices(self.problem, self.problem.start)))))
        self.W, self.V, self.U, self.F = held["W"], held["V"], held["U"], held["F"]
        self.trained = {}
        if self.problem.variant == "full":
            self.trained["lambda"] = start["lambda"]
        for name in {"full": "", "w_free": "W", "original": "WVU"}[self.problem.variant]:
            self.trained[name] = held[name]
        for value in self.trained.values():
            value.requires_grad_(True)
        self.has_feed_forward = self.problem.variant == "full"

    @staticmethod
    def pad(name, matrix):
        padded = torch.zeros(K if name == "U" else WIDTH, WIDTH)
        padded[: matrix.shape[0], :D] = torch.from_numpy(matrix).float()
        return padded

    def merged(self):
        """W = sum_q lambda_q E(q) Et(q)^T for `full`; the free matrix otherwise."""
        if self.problem.variant != "full":
            return self.W
        values = self.trained["lambda"]
        q = torch.arange(len(values))
        return torch.zeros(WIDTH, WIDTH).index_put((q, K + q), values)

    def loss(self):
        score = torch.einsum("md,mhd->mh", self.last @ self.merged(), self.x)
        c = torch.einsum("mh,mhd->md", score, self.x)
        phi = c @ self.V.T
        out = phi
        if self.has_feed_forward:
            out = phi + (self.last + phi) @ self.F.T
        return torch.nn.functional.cross_entropy(out @ self.U.T, self.label)

    def run(self, steps):
        values = list(self.trained.values())
        for _ in range(steps):
            gradients = torch.autograd.grad(self.loss(), values)
            norm = torch.sqrt(sum((g * g).sum() for g in gradients))
            with torch.no_grad():
                for value, gradient in zip(values, gradients):
                    value -= STEP_SIZE / norm * gradient

    def parameters(self):
        rows = {"U": K}
        return {name: np.asarray(value.detach()[: rows.get(name, D), :D] if value.dim() == 2 else value.detach())
                for name, value in self.trained.items()}
