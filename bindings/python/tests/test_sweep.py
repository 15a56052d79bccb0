"""Sweeps: each run is the run alone, tables are what the runs recorded, interrupts and files keep what has ended."""
import os
import signal
import threading

import numpy as np
import pytest

import lamina

BASE = dict(data="fresh", batch=16, prompt_length=20, steps=30, record_every=3, progress=False)
CONVERGENCE = "in_context_convergence"


def test_each_run_is_the_run_alone():
    sweep = lamina.sweep(CONVERGENCE, attention=["softmax", "relu"], seed=range(3), step_size=np.array([0.5, 2]), threads=2, **BASE)
    assert len(sweep) == 12 and sweep.axes == {"attention": ["softmax", "relu"], "seed": [0, 1, 2], "step_size": [0.5, 2]}
    table = sweep.table
    for member in range(12):
        chosen = {key: sweep.option(member, key) for key in sweep.axes}
        alone = lamina.run(CONVERGENCE, **chosen, **BASE).trajectory
        mine = table["member"] == member
        assert set(table["attention"][mine]) == {chosen["attention"]}
        for column in alone:
            assert np.array_equal(alone[column], sweep.trajectory(member)[column])
            assert np.array_equal(alone[column], table[column][mine])
    assert set(sweep.statuses) == {"finished"} and "12 finished" in repr(sweep) and "softmax" in repr(table)


def test_summary_times_and_exponents():
    sweep = lamina.sweep(CONVERGENCE, features=[4, 6, 9], seed=range(5), crossings="loss=0.3", **dict(BASE, steps=200))
    table, summary = sweep.table, sweep.summary("loss", quantiles=[0, 0.25, 0.5])
    for row in range(summary.rows):
        these = (table["features"] == summary["features"][row]) & (table["step"] == summary["step"][row])
        assert np.allclose(np.quantile(table["loss"][these], [0, 0.25, 0.5]), [summary[q][row] for q in ("q0", "q0.25", "q0.5")], rtol=1e-14)
    times = sweep.times("loss")
    assert times.rows == 15 and np.all(times["level"] == 0.3)
    reached = ~np.isnan(times["time"])
    slope = np.polyfit(np.log(times["features"][reached]), np.log(times["time"][reached]), 1)[0]
    fit = sweep.exponents("loss", "features")
    assert fit["exponent"][0] == pytest.approx(slope, rel=1e-9) and fit["lower"][0] < slope < fit["upper"][0]
    assert fit["points"][0] + fit["missing"][0] == 15


def test_plot():
    matplotlib = pytest.importorskip("matplotlib", reason="SKIPPED: matplotlib is not installed")
    matplotlib.use("Agg")
    sweep = lamina.sweep(CONVERGENCE, features=[4, 6], step_size=[0.5, 1], seed=range(3), **dict(BASE, steps=20))
    axes = sweep.plot("loss")
    assert axes.get_xscale() == "linear" and axes.get_yscale() == "log" and "of 3 runs by seed" in axes.get_title()
    assert [(line.get_label(), line.get_color(), line.get_linestyle()) for line in axes.lines] == [
        ("features=4, step_size=0.5", "C0", "-"), ("features=4, step_size=1", "C0", "--"),
        ("features=6, step_size=0.5", "C1", "-"), ("features=6, step_size=1", "C1", "--")]
    summary = sweep.summary("loss")
    first = (summary["features"] == 4) & (summary["step_size"] == 0.5)
    assert np.array_equal(axes.lines[0].get_ydata(), summary["q0.5"][first])
    spaced = lamina.sweep(CONVERGENCE, attention=["softmax", "linear"], prompt_length=float("inf"), steps=100, record_per_decade=5,
                          features=5, probes="none", progress=False)
    axes = spaced.plot()
    assert axes.get_xscale() == "symlog" and axes.get_xlim() == (0, 100)
    assert [line.get_label() for line in axes.lines] == ["attention=softmax", "attention=linear"]
    with pytest.raises(lamina.Error, match="no member has ended"):
        lamina.Sweep(CONVERGENCE, seed=range(2), **BASE).plot()
    matplotlib.pyplot.close("all")


def test_failures_are_kept_apart():
    sweep = lamina.sweep(CONVERGENCE, dimension=[0, 2], **BASE)
    assert sweep.statuses[0] == "finished" and "dimension is 2" in sweep.statuses[1]
    with pytest.raises(lamina.Error, match="dimension is 2"):
        sweep.trajectory(1)
    with pytest.raises(lamina.Error, match="twice"):
        lamina.sweep(CONVERGENCE, seed=[1, 1], **BASE)
    with pytest.raises(lamina.Error, match="threads is an axis"):
        lamina.sweep(CONVERGENCE, threads=[1, 2], **BASE)


def test_arrays_and_texts_vary_over_lists_of_lists():
    sweep = lamina.sweep(CONVERGENCE, features=2, feature_weights=[[1, 1], [1, 3]], probes=[["weights"], ["weights", "attention"]], **BASE)
    assert sweep.axes == {"feature_weights": ["1,1", "1,3"], "probes": ["weights", "weights,attention"]}
    assert lamina.sweep(CONVERGENCE, features=2, feature_weights=[1, 3], **BASE).axes == {}


def test_interrupt_save_and_load(tmp_path):
    long = dict(BASE, steps=2000, record_every=100, seed=range(30), step_size=[0.5, 1])
    sweep = lamina.Sweep(CONVERGENCE, **long)
    timer = threading.Timer(0.15, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        sweep.continue_()
    except lamina.Interrupted as interrupted:
        assert interrupted.run is sweep and "not ended" in str(interrupted)
    timer.join()
    sweep.save(tmp_path / "sweep.safetensors")
    resumed = lamina.load_sweep(tmp_path / "sweep.safetensors", progress=False).continue_()
    whole = lamina.sweep(CONVERGENCE, **long)
    assert all(np.array_equal(whole.table[column], resumed.table[column], equal_nan=True) for column in whole.table)


def test_own_tasks_and_progress():
    def sampler(split, seed, first, count):
        tokens = (np.arange(first, first + count)[:, None] * 7 + np.arange(9) ** 2 + seed) % 6
        return tokens, tokens[:, 3]

    task = lamina.Task.from_callback(sampler, length=9, vocabulary=6, noise=0.2)
    seen = []
    sweep = lamina.sweep(task, seed=[1, 2], step_size=[0.1, 0.2], data="fresh", batch=8, steps=5, probes="none", progress=seen.append,
                         progress_seconds=0)
    assert seen[-1].ended == seen[-1].members == 4
    alone = lamina.run(task, seed=2, step_size=0.1, data="fresh", batch=8, steps=5, probes="none", progress=False)
    assert np.array_equal(alone.trajectory["loss"], sweep.trajectory(2)["loss"])
    assert len(lamina.sweep(CONVERGENCE, seed=range(3), **dict(BASE, progress=lambda at: False))) == 3
