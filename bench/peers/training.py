#!/usr/bin/env python3
"""lamina beside PyTorch on the same training, in one interleaved run: a table of ratios (peer time / lamina time).

usage: training.py ROOT LIBRARY [--variants ...] [--threads 1 2] [--rounds 5] [--all]
ROOT is a folder of make-root.sh; LIBRARY is liblamina.so (or the command line program beside it in a build folder). As root, for
chroot. Every peer is compiled and warm before the first round; each round times every competitor once, in rotating order; a
ratio is taken within a round, and the table has medians. Both sides compute the loss at every step, and nothing else beside the
update (lamina the excess too, which its trajectory has); reading the prompts once before the first step is timed on neither
side. Kinds of peers: natural, the script that one writes; general, the fastest of those that know of a prompt what lamina is
told, its tokens; by hand, those that use what their author knows of this sampler (README.md).
"""
import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys

import lamina_client

HERE = os.path.dirname(os.path.abspath(__file__))
STEPS = {"full": 400, "w_free": 100, "original": 50}
NATURAL_STEPS = 5
GENERAL = {"full": ["lookup"], "w_free": ["count_bytes"], "original": ["counts"]}
BY_HAND = {"full": ["statistics_unroll10", "collapsed_unroll50"], "w_free": ["local", "blocks"], "original": ["local"]}
SAMPLES, LENGTH = 2048, 256
# glibc's page faults cost PyTorch up to 2x on large tensors; LD_PRELOAD is what lets torch.compile emit vector code.
SETTINGS = {"PATH": "/usr/bin:/bin", "HOME": "/root", "LD_PRELOAD": "libsleef.so.3", "LD_LIBRARY_PATH": "/usr/lib/x86_64-linux-gnu/openblas-openmp", "MALLOC_MMAP_THRESHOLD_": "8589934592",
            "MALLOC_TRIM_THRESHOLD_": "17179869184", "MALLOC_TOP_PAD_": "268435456"}


def kind_of(name):
    if name == "natural":
        return name
    by_hand = name.startswith(("local", "blocks", "collapsed", "statistics"))
    return "by hand" if by_hand else "general"


def recall_options(variant, threads, steps, precision):
    return {"variant": variant, "noise": 0.5 if variant == "full" else 0, "samples": SAMPLES, "prompt_length": LENGTH, "seed": 1,
            "precision": precision, "optimiser": "ngd", "step_size": 0.1, "steps": steps, "threads": threads, "record_every": 1, "probes": "none",
            **({} if variant == "full" else {"feed_forward": "none", "initialisation": "gaussian", "initial_scale": 0.05})}


class Lamina:
    def __init__(self, library, variant, threads, precision):
        self.name, self.steps = "lamina " + precision, STEPS[variant]
        self.run = lamina_client.Run(library, recall_options(variant, threads, self.steps, precision))
        self.losses = []
        self.measure()

    def measure(self):
        seconds, self.losses = self.run.seconds_and_losses()
        return seconds / self.steps

    def close(self):
        pass


class Peer:
    def __init__(self, root, folder, variant, name, threads, data):
        self.name, self.steps = name, NATURAL_STEPS if name == "natural" else STEPS[variant]
        settings = {**SETTINGS, "OMP_NUM_THREADS": str(threads), "TORCHINDUCTOR_CACHE_DIR": folder + "/inductor"}
        command = ["chroot", root, "/usr/bin/env", "-i", *(f"{key}={value}" for key, value in settings.items()), "python3",
                   folder + "/recall.py", variant, name, "--threads", str(threads), "--steps", str(self.steps), "--data", data, "--serve"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/")
        self.answer()
        self.loss = None

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the peer {self.name} ended with status {self.process.wait()}")
        return json.loads(line)

    def measure(self):
        print(file=self.process.stdin, flush=True)
        report = self.answer()
        self.loss = report["loss"]
        return report["seconds_per_step"]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def compare(arguments, variant, threads):
    folder = "/tmp/lamina-peers"
    outside = arguments.root + folder
    os.makedirs(outside, exist_ok=True)
    for script in ("problem", "local", "natural", "full", "w_free", "original", "recall"):
        shutil.copy(f"{HERE}/{script}.py", outside)
    lamina, double = (Lamina(arguments.library, variant, threads, precision) for precision in ("f32", "f64"))
    lamina.run.write(f"{outside}/{variant}.npz")
    names = ["natural", *GENERAL[variant], *BY_HAND[variant]]
    if arguments.all:
        listing = ["chroot", arguments.root, "/usr/bin/env", "-i", "PATH=/usr/bin:/bin", "python3", folder + "/recall.py", variant, "list"]
        names = subprocess.run(listing, check=True, stdout=subprocess.PIPE, text=True, cwd="/").stdout.split()
    peers = [Peer(arguments.root, folder, variant, name, threads, f"{folder}/{variant}.npz") for name in names]
    seconds = {competitor.name: [] for competitor in [lamina, double, *peers]}
    for turn in range(arguments.rounds):
        order = [lamina, double, *peers]
        for competitor in order[turn % len(order):] + order[:turn % len(order)]:
            seconds[competitor.name].append(competitor.measure())
    wrong = 0
    for peer in peers:
        ratios = sorted(theirs / ours for theirs, ours in zip(seconds[peer.name], seconds["lamina f32"]))
        expected = lamina.losses[peer.steps]
        same = abs(peer.loss - expected) <= 1e-4 * abs(expected) + 1e-6
        wrong += not same
        middle = {name: f"{1e3 * statistics.median(times):.4f}" for name, times in seconds.items()}
        print(f"| {variant} | {threads} | {peer.name} | {kind_of(peer.name)} | {middle[peer.name]} | {middle['lamina f32']} | "
              f"{middle['lamina f64']} | {statistics.median(ratios):.1f} | {ratios[0]:.1f} - {ratios[-1]:.1f} | "
              f"{peer.loss:.6f} at {peer.steps}, {'equal' if same else f'DIFFERS: {expected:.6f}'} |", flush=True)
        peer.close()
    return wrong, lamina.run.isa


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("root")
    parser.add_argument("library")
    parser.add_argument("--variants", nargs="+", default=list(STEPS), choices=list(STEPS))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--all", action="store_true", help="every formulation, not only the natural and the fastest ones")
    arguments = parser.parse_args()
    arguments.root, arguments.library = os.path.abspath(arguments.root), os.path.abspath(arguments.library)
    if ".so" not in os.path.basename(arguments.library):
        arguments.library = os.path.join(os.path.dirname(arguments.library), "..", "..", "capi", "liblamina.so")
    capability = lamina_client.capability(arguments.root, SETTINGS)
    print(f"in-context recall, S1, N = 60, |Q| = 5, |O| = 25, H = {LENGTH}, M = {SAMPLES}, linear attention, full batch, NGD, float32; {capability}")
    print("| variant | threads | peer | kind | peer, ms a step | lamina f32 | lamina f64 | ratio to f32 | spread | loss, and whether lamina's equals it |")
    print("|---|---|---|---|---|---|---|---|---|---|", flush=True)
    wrong, isa = 0, "?"
    for variant in arguments.variants:
        for threads in arguments.threads:
            failures, isa = compare(arguments, variant, threads)
            wrong += failures
    print(f"lamina's instruction set: {isa}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
