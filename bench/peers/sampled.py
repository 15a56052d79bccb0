#!/usr/bin/env python3
"""Sampled training of in-context convergence, new prompts at every step: lamina beside PyTorch, interleaved, sampling included.

usage: sampled.py ROOT LIBRARY [--features 10 20 32] [--batches 256 1024] [--threads 1 2] [--rounds 5] [--clock wall|cpu]
       [--peers natural lookup counts]
ROOT is a folder of make-root.sh. Each round times every competitor once, in rotating order, on the same number of steps; ratios are
taken within a round, and the table has medians. Both sides must have learnt the same: the mean of diag Q after 1000 steps agrees to
2 %. lamina computes in float64, PyTorch in float32. --clock cpu counts processor time, for a machine that others use too.
"""
import argparse
import ctypes
import json
import os
import shutil
import statistics
import subprocess
import sys
import time

import lamina_client
from training import SETTINGS

HERE = os.path.dirname(os.path.abspath(__file__))
LENGTH, STEPS = 100, 200
PEERS = ("natural", "lookup", "counts")


class Lamina:
    name = "lamina"

    def __init__(self, library, batch, features, threads):
        self.call = lamina_client.Library(library)
        self.settings = {"data": "fresh", "features": features, "prompt_length": LENGTH, "batch": batch, "threads": threads, "probes": "none",
                         "record_every": 10**6, "step_size": 1}
        self.features = features

    def measure(self, steps):
        options = self.call.handle("options_create")
        for key, value in {**self.settings, "steps": steps}.items():
            self.call("options_set_text", options, key.encode(), str(value).encode())
        task = self.call.handle("task_create", b"in_context_convergence", options)
        trainer = self.call.handle("trainer_create", task, None, options)
        wall, cpu = time.perf_counter(), time.process_time()
        self.call("trainer_run", trainer, ctypes.c_int64(0))
        report = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        model = self.call.handle("trainer_model", trainer)
        values = (ctypes.c_double * self.features**2)()
        self.call("model_get_parameters", model, values, ctypes.c_int64(len(values)))
        report["diagonal"] = statistics.mean(values[:: self.features + 1])
        for kind, handle in ("model", model), ("trainer", trainer), ("task", task), ("options", options):
            getattr(self.call.c, f"lamina_{kind}_free")(handle)
        return report

    def close(self):
        pass


class Peer:
    def __init__(self, root, folder, name, batch, features, threads):
        self.name = name
        settings = {**SETTINGS, "OMP_NUM_THREADS": str(threads), "TORCHINDUCTOR_CACHE_DIR": folder + "/inductor"}
        command = ["chroot", root, "/usr/bin/env", "-i", *(f"{key}={value}" for key, value in settings.items()), "python3",
                   folder + "/sampled_peers.py", name, str(batch), str(LENGTH), str(features), str(threads)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/")
        self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the peer {self.name} ended with status {self.process.wait()}")
        return json.loads(line)

    def measure(self, steps):
        print(steps, file=self.process.stdin, flush=True)
        return self.answer()

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def compare(arguments, batch, features, threads):
    folder = "/tmp/lamina-peers"
    os.makedirs(arguments.root + folder, exist_ok=True)
    shutil.copy(f"{HERE}/sampled_peers.py", arguments.root + folder)
    all_of = [Lamina(arguments.library, batch, features, threads)]
    all_of += [Peer(arguments.root, folder, name, batch, features, threads) for name in arguments.peers]
    learnt = {competitor.name: competitor.measure(1000 if competitor.name != "natural" else STEPS)["diagonal"] for competitor in all_of}
    seconds = {competitor.name: [] for competitor in all_of}
    for turn in range(arguments.rounds):
        order = all_of[turn % len(all_of):] + all_of[: turn % len(all_of)]
        for competitor in order:
            seconds[competitor.name].append(competitor.measure(STEPS)[arguments.clock] / STEPS)
    wrong = 0
    ours = statistics.median(seconds["lamina"])
    for competitor in all_of[1:]:
        name = competitor.name
        ratio = statistics.median(theirs / mine for theirs, mine in zip(seconds[name], seconds["lamina"]))
        same = name == "natural" or abs(learnt[name] - learnt["lamina"]) <= 0.02 * abs(learnt["lamina"])
        wrong += not same
        print(f"| {features} | {batch} | {threads} | {name} | {1e3 * statistics.median(seconds[name]):.3f} | {1e3 * ours:.3f} | {ratio:.1f} | "
              f"{batch / ours / 1e6:.2f} | {'equal' if same else 'DIFFERS: ' + str(learnt)} |", flush=True)
        competitor.close()
    return wrong


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("root")
    parser.add_argument("library")
    parser.add_argument("--features", nargs="+", type=int, default=[10, 20, 32])
    parser.add_argument("--batches", nargs="+", type=int, default=[256, 1024])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=PEERS)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    arguments = parser.parse_args()
    arguments.root = os.path.abspath(arguments.root)
    print(f"| K | B | threads | peer | peer, ms a step | lamina, ms a step ({arguments.clock}) | ratio | lamina, million prompts a second | learnt |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    wrong = 0
    for threads in arguments.threads:
        for features in arguments.features:
            for batch in arguments.batches:
                wrong += compare(arguments, batch, features, threads)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
