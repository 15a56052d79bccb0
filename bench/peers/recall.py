"""One PyTorch peer: trains one variant of in-context recall in one formulation and prints JSON lines.

usage: recall.py VARIANT FORMULATION [--threads T] [--steps S] [--rounds R] [--data FILE] [--serve]
With --serve one measurement is made for every line read from standard input, so that a driver can interleave peers.
"""
import argparse
import importlib
import json
import statistics
import sys
import time

import torch

import problem as definition


def formulations(variant):
    from natural import Natural
    return {"natural": Natural, **importlib.import_module(variant).FORMULATIONS}


def timed(trainer, steps):
    trainer.reset()
    begin = time.perf_counter()
    trainer.run(steps)
    return (time.perf_counter() - begin) / steps


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("variant", choices=["full", "w_free", "original"])
    parser.add_argument("formulation", help="a name, or `list`")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--data", help="file of lamina_data.py; without it the data are drawn here")
    parser.add_argument("--serve", action="store_true")
    options = parser.parse_args()
    known = formulations(options.variant)
    if options.formulation == "list":
        print(" ".join(known))
        return
    torch.set_num_threads(options.threads)
    given = definition.load_problem(options.variant, options.data) if options.data else definition.make_problem(options.variant)
    trainer = known[options.formulation](given)
    timed(trainer, min(options.steps, 100))  # compiles, and touches every page

    def report(seconds):
        print(json.dumps({"variant": options.variant, "formulation": options.formulation, "threads": options.threads,
                          "steps": options.steps, "seconds_per_step": seconds,
                          "loss": definition.loss(given, trainer.parameters()), "torch": torch.__version__}), flush=True)

    if options.serve:
        print(json.dumps({"ready": True}), flush=True)
        for _ in sys.stdin:
            report(timed(trainer, options.steps))
    else:
        seconds = [timed(trainer, options.steps) for _ in range(options.rounds)]
        report(statistics.median(seconds))


if __name__ == "__main__":
    main()
