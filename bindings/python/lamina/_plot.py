"""The picture of a run: excess against step on a log axis."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional

from ._task import theory

if TYPE_CHECKING:
    from ._run import Run

NORMS = ("l2", "l1", "sign")  # as the closed forms number them


def predicted_slope(run: Run) -> Optional[float]:
    """d ln(excess) / d step of the closed form; None where it says nothing about this run."""
    if "predicted" not in run.trajectory:
        return None
    options = run.options
    return float(theory("asymptotic_slope", options["step_size"], NORMS.index(options["normalisation"]), task=run.task))


def plot_run(run: Run, ax: Any = None) -> Any:
    try:
        from matplotlib import pyplot
    except ImportError:
        raise ImportError("run.plot() needs matplotlib, which is not installed; run.trajectory has the numbers") from None
    import numpy as np

    table = run.trajectory
    if not table.rows:
        raise ValueError("the run has no rows yet: run.continue_() first")
    if ax is None:
        ax = pyplot.subplots(figsize=(6.4, 4.2), layout="constrained")[1]
    step, excess = table["step"], table["excess"]
    # An excess of 0 or below, which sampling can give, has no place on a log axis.
    ax.plot(step, np.where(excess > 0, excess, np.nan), color="C0", zorder=3, label="excess")
    if "predicted" in table:
        predicted = table["predicted"]
        ax.plot(step, predicted, color="0.6", linewidth=5, solid_capstyle="butt", label="predicted")
        slope = predicted_slope(run)
        if slope is not None and len(step) > 1:
            late = slice(len(step) // 2, None)
            # The line of that slope through the predicted curve's end, a factor above it so that both can be seen.
            line = 4 * predicted[-1] * np.exp(slope * (step[late] - step[-1]))
            ax.plot(step[late], line, "k:", label=f"slope {slope:.4g} per step")
    ax.set_yscale("log")
    ax.set_xlabel("step")
    ax.set_ylabel("excess over the Bayes risk [nats]")
    ax.set_title(run.task.name)
    ax.legend(frameon=False)
    return ax
