"""PyTorch on in-context convergence with new prompts at every step, sampling included: K features, N tokens, B prompts, float32.

Run inside a root of make-root.sh by sampled.py. With Q [K, K], s_i = Q[x_i, x_query], a = softmax(s), yhat = sum_i a_i y_i and
f ~ N(0, I) drawn anew for each prompt: natural is the script one writes, with one-hot features and autograd; lookup and counts have
the gradient by hand, sampling and update in one compiled call.
"""
import argparse
import json
import sys
import time

import torch
import torch.nn.functional as F


def natural(Q, B, N, K, eta):
    tokens = torch.randint(K, (B, N + 1))
    x = F.one_hot(tokens, K).float()
    y = torch.einsum("bnk,bk->bn", x, torch.randn(B, K))
    attention = torch.softmax(torch.einsum("bnk,kl,bl->bn", x[:, :N], Q, x[:, N]), 1)
    loss = 0.5 * ((attention * y[:, :N]).sum(1) - y[:, N]).square().mean()
    loss.backward()
    with torch.no_grad():
        Q -= eta * Q.grad
        Q.grad = None
    return Q


def lookup(Q, B, N, K, eta):
    x, q, f = torch.randint(K, (B, N)), torch.randint(K, (B,)), torch.randn(B, K)
    y, target = f.gather(1, x), f.gather(1, q[:, None])
    attention = torch.softmax(Q.T[q].gather(1, x), 1)
    yhat = (attention * y).sum(1, keepdim=True)
    slope = (yhat - target) * attention * (y - yhat) / B
    return Q - eta * torch.zeros(K * K).index_add(0, (x * K + q[:, None]).flatten(), slope.flatten()).view(K, K)


def counts(Q, B, N, K, eta):
    x, q, f = torch.randint(K, (B, N)), torch.randint(K, (B,)), torch.randn(B, K)
    count = torch.zeros(B, K).scatter_add(1, x, torch.ones(B, N))
    weight = count * torch.exp(Q.T - Q.T.amax(1, keepdim=True))[q]
    weight = weight / weight.sum(1, keepdim=True)
    yhat = (weight * f).sum(1, keepdim=True)
    slope = (yhat - f.gather(1, q[:, None])) * weight * (f - yhat) / B
    return Q - eta * torch.zeros(K, K).index_add(0, q, slope).T


STEPS = {"natural": natural, "lookup": lookup, "counts": counts}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=STEPS)
    parser.add_argument("sizes", type=int, nargs=4, help="B N K threads")
    parser.add_argument("--eta", type=float, default=1.0)
    arguments = parser.parse_args()
    B, N, K, threads = arguments.sizes
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    step = STEPS[arguments.name]
    if arguments.name != "natural":
        step = torch.no_grad()(torch.compile(step))
    Q = torch.zeros(K, K, requires_grad=arguments.name == "natural")
    for _ in range(5):
        step(Q.clone().detach().requires_grad_(Q.requires_grad), B, N, K, arguments.eta)
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:  # as many steps from 0 as the line says
        Q = torch.zeros(K, K, requires_grad=arguments.name == "natural")
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(int(line)):
            Q = step(Q, B, N, K, arguments.eta)
        report = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "diagonal": Q.diagonal().mean().item()}
        print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
