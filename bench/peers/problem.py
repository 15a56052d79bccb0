"""The training problem that every PyTorch formulation solves: data S1 of in-context recall, and the loss in float64.

Tokens 0..N-1 are triggers, outputs and neutral tokens; tau = N; K = N + 1 logits. x_h = E(z_h) + Et(z_{h-1}) in the
one-hot basis of size D = 2 K: E(j) = e_j, Et(j) = e_{K+j}. One update is theta -= step_size * g / ||g||_2 on the
mean cross-entropy of all samples at the last position.
"""
import dataclasses

import numpy as np

N, TRIGGERS, OUTPUTS, UNSEEN = 60, 5, 25, 10
K, D, TAU = N + 1, 2 * (N + 1), N
STEP_SIZE, INITIAL_SCALE = 0.1, 0.05


@dataclasses.dataclass
class Problem:
    """Prompts [M, H], the label that is scored and the answer that the context identifies [M], and the start."""
    variant: str
    tokens: np.ndarray
    label: np.ndarray
    answer: np.ndarray
    start: dict

    @property
    def previous(self):
        """z_{h-1} for every h; -1 at the first position, where there is none."""
        first = np.full((len(self.tokens), 1), -1, dtype=self.tokens.dtype)
        return np.concatenate([first, self.tokens[:, :-1]], axis=1)

    @property
    def log_odds(self):
        """ln(a / (1 - a)) of the labels' own noise level, which the feed-forward part of `full` holds."""
        a = np.mean(self.label == TAU)
        return float(np.log(a / (1 - a)))

    def counts(self):
        """C [M, K, K] with C[m, j, i] = #{h : z_h = j, z_{h-1} = i}, and n [M, K] with n[m, j] = #{h : z_h = j}."""
        m = np.repeat(np.arange(len(self.tokens)), self.tokens.shape[1] - 1)
        pairs = np.zeros((len(self.tokens), K, K), dtype=np.int32)
        np.add.at(pairs, (m, self.tokens[:, 1:].ravel(), self.tokens[:, :-1].ravel()), 1)
        single = np.stack([(self.tokens == j).sum(axis=1) for j in range(K)], axis=1)
        return pairs, single


def sample_s1(count, length, noise, seed, occurrences=5):
    """Sampler S1: m ~ Unif{1..occurrences} slots at pairwise distance >= 2, the rest uniform on the neutral tokens."""
    generator = np.random.default_rng(seed)
    neutral = np.arange(TRIGGERS + OUTPUTS + UNSEEN, N)
    tokens = generator.choice(neutral, size=(count, length)).astype(np.int32)
    label, answer = np.empty(count, np.int32), np.empty(count, np.int32)
    for row in range(count):
        q = generator.integers(TRIGGERS)
        y = TRIGGERS + generator.integers(OUTPUTS)
        m = generator.integers(1, occurrences + 1)
        # m of the positions 0..length-3 with gaps: choose in a line shortened by the m - 1 gaps, then spread.
        slots = np.sort(generator.choice(length - 2 - (m - 1), size=m, replace=False)) + np.arange(m)
        successor = np.where(generator.random(m) < noise, TAU, y)
        if not (successor == y).any():
            successor[generator.integers(m)] = y
        tokens[row, slots], tokens[row, slots + 1], tokens[row, -1] = q, successor, q
        answer[row] = y
        label[row] = TAU if generator.random() < noise else y
    return tokens, label, answer


def make_problem(variant, count=2048, length=256, seed=1):
    """Data drawn here; the driver gives lamina's own data instead, so that the losses can be compared digit by digit."""
    tokens, label, answer = sample_s1(count, length, 0.5 if variant == "full" else 0.0, seed)
    generator = np.random.default_rng(seed + 1)
    shapes = {"full": {}, "w_free": {"W": (D, D)}, "original": {"W": (D, D), "V": (D, D), "U": (K, D)}}[variant]
    start = {name: INITIAL_SCALE * generator.standard_normal(shape) for name, shape in shapes.items()}
    if variant == "full":
        start["lambda"] = np.zeros(TRIGGERS)
    return Problem(variant, tokens, label, answer, start)


def load_problem(variant, path):
    """A file written by lamina_data.py."""
    with np.load(path) as file:
        start = {name[6:]: file[name] for name in file.files if name.startswith("start_")}
        return Problem(variant, file["tokens"], file["label"], file["answer"], start)


def loss(problem, parameters):
    """Mean cross-entropy in nats, in float64, straight from the definition: independent of every formulation."""
    W, V, U, F = matrices(problem, parameters)
    total = 0.0
    for tokens, previous, label in zip(problem.tokens, problem.previous, problem.label):
        w = W[tokens[-1]] + W[K + tokens[-2]]
        score = w[tokens] + np.where(previous >= 0, w[K + previous], 0.0)
        c = np.bincount(tokens, weights=score, minlength=D)
        c += np.bincount(K + previous[1:], weights=score[1:], minlength=D)
        phi = V @ c
        g = phi.copy()
        g[tokens[-1]] += 1.0
        g[K + tokens[-2]] += 1.0
        logits = U @ (phi + F @ g)
        top = logits.max()
        total += top + np.log(np.exp(logits - top).sum()) - logits[label]
    return total / len(problem.tokens)


def matrices(problem, parameters):
    """W, V, U, F of the variant; `full` is the construction N1*, whose feed-forward part moves mass to tau."""
    W, V, U, F = np.zeros((D, D)), np.eye(D), np.eye(K, D), np.zeros((D, D))
    if problem.variant == "full":
        for q in range(TRIGGERS):
            W[q, K + q] = parameters["lambda"][q]
        V[TAU, TAU] = 0.0
        F[TAU, :N] = 1.0
        F[TAU, :TRIGGERS] = problem.log_odds
    else:
        W = np.asarray(parameters["W"], dtype=np.float64)
    if problem.variant == "original":
        V, U = np.asarray(parameters["V"], np.float64), np.asarray(parameters["U"], np.float64)
    return W, V, U, F
