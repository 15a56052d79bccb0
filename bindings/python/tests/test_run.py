"""Runs: closed form, chunks, save and load, interruption, progress, the picture."""
import gc
import math
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

import lamina
from conftest import ENDLESS, same_bits


def same_trajectory(a, b):
    return a.columns == b.columns and all(same_bits(a[name], b[name]) for name in a.columns)


def test_population_run_is_the_closed_form():
    run = lamina.run(data="population", noise=0.5, steps=300, step_size=0.1, probes="none")
    step = np.arange(301)
    # lambda = eta t / sqrt(|Q|) exactly, and the excess is that of the law of counts, summed here by hand: m uniform on 1..5,
    # n = max(Bin(m, 1/2), 1).
    law = np.zeros(6)
    for m in range(1, 6):
        for n in range(m + 1):
            law[max(n, 1)] += math.comb(m, n) * 0.5**m / 5
    rate = 0.1 / math.sqrt(5) * step
    expected = sum(law[n] * np.log1p(59 * 0.5 * np.exp(-rate * n)) for n in range(1, 6))
    np.testing.assert_allclose(run.trajectory["excess"], expected, rtol=1e-9)
    np.testing.assert_allclose(lamina.theory("excess_after", 0.1, step, 0, noise=0.5), expected, rtol=1e-12)
    np.testing.assert_allclose(run.parameters["lambda"], 30 / math.sqrt(5), rtol=1e-12)


def test_chunks_are_the_whole(small):
    whole = lamina.run(**small)
    parts = lamina.Run(**small)
    assert parts.status == "unfinished" and parts.trajectory.rows == 0
    for steps in (1, 5, 0):
        assert parts.continue_(steps) is parts
    assert parts.step == 20 and parts.status == "finished"
    assert same_trajectory(whole.trajectory, parts.trajectory)
    for name in whole.parameters:
        assert same_bits(whole.parameters[name], parts.parameters[name])


@pytest.mark.parametrize("options", [{}, dict(variant="original", initialisation="gaussian", optimiser="adam", step_size=1e-2),
                                     dict(data="fresh", batch=16, optimiser="momentum")])
def test_saved_and_loaded_goes_on_with_the_same_bits(small, tmp_path, options):
    whole = lamina.run(**small, **options)
    first = lamina.Run(**small, **options).continue_(7)
    first.save(tmp_path / "run.safetensors")
    del first
    loaded = lamina.load(tmp_path / "run.safetensors")
    assert loaded.step == 7 and loaded.trajectory.rows == 8
    assert loaded.task.name == "in_context_recall" and loaded.task.vocabulary == small["vocabulary"]
    loaded.continue_()
    assert same_trajectory(whole.trajectory, loaded.trajectory)
    for name in whole.parameters:
        assert same_bits(whole.parameters[name], loaded.parameters[name])


def test_interrupt_keeps_the_rows(interrupted_run):
    run, error = interrupted_run
    assert error.run is run and isinstance(error, KeyboardInterrupt)
    assert run.status == "stopped" and 0 < run.step < 10**9
    assert run.trajectory.rows == run.step // 1000 + 1
    assert str(run.step) in str(error)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    before = run.step
    run.continue_(5)
    assert run.step == before + 5


def test_interrupt_in_a_process_of_its_own_has_a_traceback_and_no_noise(small):
    code = ("import lamina\n"
            f"lamina.run(**{dict(small, **ENDLESS)!r}, progress=lambda p: print('going', flush=True))\n")
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env=dict(os.environ))
    assert process.stdout.readline() == "going\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode in (-signal.SIGINT, 1)
    assert "lamina.Interrupted" in errors.replace("_library.", "") and "stopped at step" in errors
    assert "Exception ignored" not in errors


def test_stop_from_another_thread(small):
    run = lamina.Run(**{**small, **ENDLESS}, progress=False)
    timer = threading.Timer(0.2, run.stop)
    timer.start()
    run.continue_()
    timer.join()
    assert run.status == "stopped" and run.step > 0


def test_a_run_in_another_thread_has_the_same_bits(small):
    made = []
    thread = threading.Thread(target=lambda: made.append(lamina.run(**small, progress=True)))
    thread.start()
    thread.join()
    assert same_trajectory(made[0].trajectory, lamina.run(**small).trajectory)


def test_progress_is_told_and_can_stop(small):
    seen = []

    def until_five(progress):
        seen.append(progress)
        return progress.step < 5

    run = lamina.run(**small, progress=until_five, progress_seconds=0)
    assert [p.step for p in seen] == [0, 1, 2, 3, 4, 5]
    assert all(p.steps == 20 for p in seen) and run.status == "stopped" and run.trajectory.rows == 6
    assert seen[3].loss == run.trajectory["loss"][3] and seen[3].excess == run.trajectory["excess"][3]
    assert run.continue_(1).step == 5  # told once more, and stopped once more
    run.progress = None
    assert run.continue_(1).step == 6
    assert lamina.run(**small, progress=lambda p: None).status == "finished"


def test_what_progress_raises_comes_out(small):
    def fail(progress):
        raise RuntimeError("from the host")

    run = lamina.Run(**small, progress=fail, progress_seconds=0)
    with pytest.raises(RuntimeError, match="from the host"):
        run.continue_()
    assert run.trajectory.rows == 1
    run.progress = False
    assert run.continue_().status == "finished"
    with pytest.raises(TypeError, match="progress is 'loud'"):
        lamina.Run(**small, progress="loud")


def test_the_run_can_be_read_while_it_goes_on(small):
    rows = []
    run = lamina.Run(**small, progress=lambda p: rows.append((p.step, run.step, run.trajectory.rows)), progress_seconds=0)
    run.continue_()
    assert rows == [(step, step, step + 1) for step in range(21)]


def test_divergence_is_told(small):
    with pytest.warns(RuntimeWarning, match="diverged at step"):
        run = lamina.run(**{**small, "steps": 200}, variant="original", initialisation="gaussian", optimiser="gd", step_size=1e6)
    assert run.status == "diverged" and not math.isfinite(run.loss + run.trajectory["excess"][-1])


def test_crossings_and_targets():
    balanced = {"task": "in_context_convergence", "features": 10, "prompt_length": math.inf, "steps": 1000}
    run = lamina.run(**balanced, probes="none", record_per_decade=1, crossings=["loss=0.1", "attention_0=0.5", "loss=1e-9"])
    assert [(c.signal, c.step) for c in run.crossings] == [("loss", 166), ("attention_0", 145), ("loss", None)]
    assert run.crossings[0].before > 0.1 >= run.crossings[0].after and math.isnan(run.crossings[2].after)
    assert [c.time for c in run.crossings[:2]] == [166, 145] and math.isnan(run.crossings[2].time)
    flow = lamina.run(**balanced, optimiser="flow", step_size=40, crossings="attention_0=0.5", stop_at_crossings="yes")
    assert flow.status == "target_reached" and flow.step - 1 < flow.crossings[0].time < flow.step
    assert abs(flow.crossings[0].time * 40 / float(lamina.theory("flow_time", 0.5, task=flow.task)) - 1) < 1e-7
    assert list(run.trajectory["step"]) == [0, 1, 10, 100, 145, 166, 1000]
    run = lamina.run(**balanced, excess_target=0.1)
    assert run.status == "target_reached" and run.step == 166 and run.crossings == []
    assert run.continue_().status == "finished" and run.step == 1000
    assert lamina.run(**{**balanced, "steps": 10**9}, record_every=10**9, time_limit=1e-3).status == "time_limit"


def test_trajectory_is_a_mapping(small):
    table = lamina.run(**small).trajectory
    assert table.columns[:3] == ("step", "loss", "excess") and len(table) == len(table.columns) == len(dict(table))
    assert table.rows == 21 and all(array.shape == (21,) for array in table.values())
    assert all(table.definitions[name] for name in table)
    assert "excess" in table and "nothing" not in table
    with pytest.raises(KeyError, match="must be one of step, loss"):
        table["nothing"]
    assert "excess" in repr(table)
    pandas = pytest.importorskip("pandas", reason="SKIPPED: pandas is not installed")
    frame = table.to_pandas()
    assert isinstance(frame, pandas.DataFrame) and same_bits(frame["excess"].to_numpy(), table["excess"])


def test_probes_by_name(small):
    assert lamina.run(**small, probes=["lambda", "mass"]).trajectory.columns == (
        "step", "loss", "excess", "lambda_0", "lambda_1", "lambda_2", "mass_answer", "mass_noise", "mass_other")
    run = lamina.Run(**small, probes="none").watch("lambda")
    assert run.continue_().trajectory.columns == ("step", "loss", "excess", "lambda_0", "lambda_1", "lambda_2")
    with pytest.raises(lamina.Error, match="before the first step"):
        run.watch("mass")


def test_plot(small, tmp_path):
    matplotlib = pytest.importorskip("matplotlib", reason="SKIPPED: matplotlib is not installed")
    matplotlib.use("Agg")
    run = lamina.run(**small)
    axes = run.plot()
    assert axes.get_yscale() == "log"
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels[0] == "excess" and "predicted" in labels and any(label.startswith("slope -0.0577") for label in labels)
    np.testing.assert_array_equal(axes.get_lines()[0].get_ydata(), run.trajectory["excess"])
    axes.figure.savefig(tmp_path / "run.svg")
    with pytest.raises(ValueError, match="no rows"):
        lamina.Run(**small).plot()
    balanced = lamina.run("in_context_convergence", features=10, prompt_length=math.inf, steps=1000, record_per_decade=10,
                          crossings="loss=0.1")
    assert balanced.plot().get_ylabel() == "excess over the infimum"
    axes = balanced.plot(columns=["loss", "predicted"])
    assert (axes.get_xscale(), axes.get_yscale()) == ("symlog", "log") and axes.texts[0].get_text() == "166"
    assert balanced.plot(columns="A_0").get_yscale() == "linear"
    axes.figure.savefig(tmp_path / "columns.png")
    matplotlib.pyplot.close("all")


def test_handles_are_freed_in_any_order(small):
    import itertools

    def sampler(split, seed, first, count):
        return np.tile([0, 3, 1, 0], (count, 1)), np.full(count, 3)

    for order in itertools.permutations(range(4)):
        task = lamina.Task.from_callback(sampler, length=4, vocabulary=6)
        run = lamina.Run(task, steps=3, data="fresh", samples=4, evaluation_samples=4, progress=False)
        objects = [task, run, run.model(), run.continue_(1).trajectory]
        kept = objects[order[-1]]
        del task, run
        for index in order:
            objects[index] = None
            gc.collect()
        if isinstance(kept, lamina.Run):  # its task's function must still be there
            assert kept.continue_().step == 3


def test_handles_are_not_copied(small):
    import copy

    with pytest.raises(TypeError, match="run.save"):
        copy.copy(lamina.Run(**small))
