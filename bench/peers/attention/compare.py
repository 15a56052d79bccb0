#!/usr/bin/env python3
"""Attention beside PyTorch, oneDNN, ONNX Runtime and ggml on the same inputs, in one interleaved run: a table of ratios.

usage: compare.py ROOT BUILD [--quick | --all] [--groups E1 E4 ...] [--json FILE] [--readme FILE]
ROOT is a folder of make-root.sh, BUILD a build folder (meson setup; ninja). As root, for chroot. A row goes: every competitor
prepares the call and runs it once; outputs are compared with lamina's; the slow settings of a peer leave; then rounds of short
bursts, every competitor and the peak of fused multiply-adds once a round, in rotating order. A ratio is taken within a round.
A peer that fails is said so in the row. The first run compiles PyTorch's forms (some minutes more); later ones find them.
"""
import argparse
import json
import os
import statistics
import time

import numpy as np

import rows as table
from servers import Failed, Prepared, Servers

BURST = 0.012      # seconds
BUDGET = 1.5       # seconds of rounds a row, if the least number of rounds fits
ROUNDS = 3, 15     # least and most
LEAVE = 1.5        # a setting that first takes so many times the fastest peer's time is not timed again
TOLERANCE = {"f32": 2e-5, "f64": 1e-13}  # of the largest output; in f16 products of keys and values 2e-3

MARKS = "<!-- table: bench/peers/attention/compare.py, {} -->", "<!-- end of table -->"  # of each instruction set


class Inputs:
    """q, k, v, d_o from one generator, written once a shape and type, and outputs compared."""

    def __init__(self, folder):
        self.folder, self.key = folder, None

    def write(self, row):
        if self.key == (row.shape, row.element):
            return
        generator = np.random.default_rng(1)
        for name in ("q", "k", "v", "d_o"):
            values = generator.standard_normal(row.shape, dtype=np.float32)
            values.astype(np.float64 if row.element == "f64" else np.float32).tofile(f"{self.folder}/{name}")
        self.key = row.shape, row.element

    def outputs(self, row):
        names = ("o", "d_q", "d_k", "d_v") if row.direction == "both" else ("o",)
        dtype = np.float64 if row.element == "f64" else np.float32
        return [np.fromfile(f"{self.folder}/{name}", dtype) for name in names]


def difference(theirs, ours):
    return max(float(np.abs(a - b).max() / np.abs(b).max()) if a.shape == b.shape else float("inf") for a, b in zip(theirs, ours))


def quartiles(values):
    ordered = np.quantile(values, [0.25, 0.5, 0.75])
    return [float(x) for x in ordered]


def competitors(row):
    """(name, program, method, threads, isa) with lamina first."""
    ours = [("lamina", "python" if row.against == "python" else "lamina", "", row.threads, row.isa)]
    if row.against == "itself":
        return ours + [("lamina, 1 thread", "lamina", "", 1, row.isa)]
    return ours + [(f"{table.NAMES[program]} {method}", program, method, row.threads, row.isa) for program, method in table.methods(row)]


def measure(row, servers, inputs):
    """A dict of what was found: seconds of every round by competitor, the peak of every round, failures."""
    inputs.write(row)
    ready, failed, first, ours = [], {}, {}, None
    for name, program, method, threads, isa in competitors(row):
        try:
            call = Prepared(servers.get(program, threads, isa), row, method, threads)
            first[name] = call.first
            call.output()
            outputs = inputs.outputs(row)
            ours = outputs if ours is None else ours
            wrong = difference(outputs, ours)
            if wrong > (2e-3 if method == "f16" else TOLERANCE[row.element]):
                raise Failed(f"differs from lamina by {wrong:.1e}")
            ready.append((name, call))
        except Failed as why:
            failed[name] = str(why)
            if name == "lamina":
                return {"row": row, "failed": failed}
    peers = [name for name, _ in ready[1:]]
    fastest = min((first[name] for name in peers), default=0)
    torch = min((name for name in peers if name.startswith("PyTorch")), key=first.get, default=None)
    stay = [(name, call) for name, call in ready if name == "lamina" or first[name] <= LEAVE * fastest or name == torch]
    for name, call in ready:
        if (name, call) not in stay:
            call.release()
    seconds, peak, begin = {name: [] for name, _ in stay}, [], time.monotonic()
    for turn in range(ROUNDS[1]):
        if turn >= ROUNDS[0] and time.monotonic() - begin > BUDGET:
            break
        where = turn % len(stay)
        for name, call in stay[where:] + stay[:where]:
            if name == "lamina":
                peak.append(row.threads * servers.peak(row))
            seconds[name].append(call.burst(BURST))
    for _, call in stay:
        call.release()
    return {"row": row, "failed": failed, "first": first, "seconds": seconds, "peak": peak}


def measure_memory(row, servers, inputs):
    """How far a fresh process's resident set rises above its arrays (4 inputs, 4 outputs) in one call."""
    inputs.write(row)
    server = servers.start("lamina", row.threads, row.isa)
    try:
        before = int(server.ask("memory all"))
        call = Prepared(server, row, "", row.threads)
        arrays = 8 * int(np.prod(row.shape)) * (8 if row.element == "f64" else 4)
        above = int(server.ask("memory all")) - before - arrays
    except Failed as why:
        return {"row": row, "failed": {"lamina": str(why)}, "met": None}
    finally:
        server.close()
    return {"row": row, "failed": {}, "memory_above": above, "seconds": {"lamina": [call.first]}, "met": above <= row.memory}


def judge(found):
    """The measured figures of a row and whether its goals are met."""
    row = found["row"]
    if "seconds" not in found:
        return {**found, "met": None}
    ours = found["seconds"]["lamina"]
    shares = quartiles([row.flops / s / p for s, p in zip(ours, found["peak"])]) if all(found["peak"]) else [0.0] * 3
    ratios = {name: quartiles([t / o for t, o in zip(theirs, ours)]) for name, theirs in found["seconds"].items() if name != "lamina"}
    best = min(ratios, key=lambda name: statistics.median(found["seconds"][name]), default=None)
    torch = min((name for name in ratios if name.startswith("PyTorch")), key=lambda name: ratios[name][1], default=None)
    missed, goals = [], []
    for goal, what, value in ((row.ratio, "ratio", ratios[best][1] if best else None),
                              (row.pytorch, "PyTorch", ratios[torch][1] if torch else None), (row.share, "share", shares[1])):
        if goal:
            goals.append(f"{what} {goal:g}")
            if value is None or value < goal:
                missed.append(what)
    if row.seconds:
        goals.append(f"{row.seconds * 1e6:g} us")
        if statistics.median(ours) > row.seconds:
            missed.append("time")
    return {**found, "shares": shares, "ratios": ratios, "best": best, "goals": goals, "missed": missed,
            "met": not missed if goals else None}


HEAD = ("| group | B, H, N, D | map | direction | type | threads | lamina, GFLOP/s | share of peak | fastest peer | GFLOP/s "
        "| ratio [quartiles] | goal | met |\n" + "|---" * 13 + "|")


def line(judged):
    row = judged["row"]
    cells = [row.group, ", ".join(map(str, row.shape)), row.map + (", causal" if row.causal else ""),
             ("forward" if row.direction == "forward" else "forward + backward") + (", Python" if row.against == "python" else ""),
             row.element + (" AVX2" if row.isa == "avx2" else ""), str(row.threads)]
    if "memory_above" in judged:
        rate = row.flops / judged["seconds"]["lamina"][0] * 1e-9
        cells += [f"{rate:.1f}", "", "memory above inputs and outputs", f"{judged['memory_above'] / 2 ** 20:.1f} MB", "",
                  f"{row.memory / 2 ** 20:.0f} MB", "yes" if judged["met"] else "no"]
        return "| " + " | ".join(cells) + " |"
    failed = "; ".join(f"{name} failed: {why}" for name, why in judged["failed"].items())
    if "shares" not in judged:
        return "| " + " | ".join([*cells, failed, *[""] * 6]) + " |"
    ours = statistics.median(judged["seconds"]["lamina"])
    rate = f"{ours * 1e6:.3f} us" if row.seconds else f"{row.flops / ours * 1e-9:.1f}"
    cells += [rate, f"{judged['shares'][1]:.2f}"]
    if judged["best"]:
        theirs, (low, median, high) = statistics.median(judged["seconds"][judged["best"]]), judged["ratios"][judged["best"]]
        rate = f"{theirs * 1e6:.2f} us" if row.seconds else f"{row.flops / theirs * 1e-9:.1f}"
        cells += [judged["best"], rate, f"{median:.2f} [{low:.2f}, {high:.2f}]"]
    else:
        cells += [failed or "none", "", ""]
        failed = ""
    met = {None: "", True: "yes", False: "no: " + ", ".join(judged["missed"])}[judged["met"]]
    return "| " + " | ".join([*cells, "; ".join(judged["goals"]), met + (f" ({failed})" if failed else "")]) + " |"


def record(judged):
    row = judged.pop("row")
    return {**{key: getattr(row, key) for key in row.__dataclass_fields__}, **judged}


def publish(path, isa, lines):
    with open(path, encoding="ascii") as file:
        text = file.read()
    mark = MARKS[0].format(isa)
    before, table = text.split(mark)
    with open(path, "w", encoding="ascii") as file:
        file.write(before + mark + "\n" + "\n".join(lines) + "\n" + MARKS[1] + table.split(MARKS[1], 1)[1])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("root")
    parser.add_argument("build")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--quick", action="store_true", help="one shape of each kind, at most three minutes")
    which.add_argument("--all", action="store_true", help="every shape of every group, more than an hour")
    parser.add_argument("--groups", nargs="+", help="E1, E2, ...")
    parser.add_argument("--json", help="where every round is written")
    parser.add_argument("--readme", help="a page whose part between the MARKS of this instruction set is replaced by the table")
    arguments = parser.parse_args()
    servers = Servers(os.path.abspath(arguments.root), os.path.abspath(arguments.build))
    inputs = Inputs(servers.outside)
    chosen = table.rows("quick" if arguments.quick else "all" if arguments.all else "usual", servers.widest)
    chosen = [row for row in chosen if not arguments.groups or row.group in arguments.groups]
    lines, records, begin = [HEAD], [], time.monotonic()
    print(HEAD, flush=True)
    try:
        for row in chosen:
            judged = measure_memory(row, servers, inputs) if row.memory else judge(measure(row, servers, inputs))
            lines.append(line(judged))
            print(lines[-1], flush=True)
            records.append(record(judged))
    finally:
        servers.close()
    held = [r for r in records if r["met"] is not None]
    lines.append(f"\n{sum(r['met'] for r in held)} of {len(held)} rows with a goal meet it; "
                 f"{len(records)} rows in {time.monotonic() - begin:.0f} s.")
    print(lines[-1])
    if arguments.json:
        with open(arguments.json, "w", encoding="ascii") as file:
            json.dump({"machine": servers.machine(), "rows": records}, file, indent=1)
    if arguments.readme:
        publish(arguments.readme, servers.widest, [servers.describe(), "", *lines])


if __name__ == "__main__":
    main()
