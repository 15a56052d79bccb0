"""The picture of a run: excess against step on a log axis, or columns of one's choice with their crossings."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional, Sequence

from ._library import Error
from ._task import theory

if TYPE_CHECKING:
    from ._run import Run

NORMS = ("l2", "l1", "sign")  # as the closed forms number them


def predicted_slope(run: Run) -> Optional[float]:
    """d ln(excess) / d step of the closed form; None where it says nothing about this run."""
    if "predicted" not in run.trajectory:
        return None
    options = run.options
    try:
        return float(theory("asymptotic_slope", options["step_size"], NORMS.index(options["normalisation"]), task=run.task))
    except Error:  # not a form of this task
        return None


def plot_columns(run: Run, columns: Sequence[str], ax: Any) -> Any:
    """Rows at log-spaced steps get a log axis, and so do positive columns that span more than two decades."""
    import numpy as np

    table = run.trajectory
    for number, column in enumerate(columns):
        ax.plot(table["step"], table[column], color=f"C{number}", linestyle="--" if column == "predicted" else "-", label=column)
        found = [crossing for crossing in run.crossings if crossing.signal == column and crossing.step is not None]
        ax.plot([c.step for c in found], [c.after for c in found], "o", color=f"C{number}", fillstyle="none")
        for c in found:
            ax.annotate(str(c.step), (c.step, c.after), xytext=(5, -9), textcoords="offset points", color=f"C{number}", fontsize=8)
    values = np.concatenate([table[column] for column in columns])
    values = values[np.isfinite(values)]
    if run.options.get("record_per_decade"):
        ax.set_xscale("symlog", linthresh=1)
    if len(values) and values.min() > 0 and values.max() > 100 * values.min():
        ax.set_yscale("log")
    ax.set_xlabel("step")
    ax.set_title(run.task.name)
    ax.legend(frameon=False)
    return ax


def plot_run(run: Run, ax: Any = None, columns: Optional[Sequence[str]] = None) -> Any:
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
    if columns is not None:
        return plot_columns(run, [columns] if isinstance(columns, str) else columns, ax)
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
    bayes = "Bayes" in table.definitions["excess"]
    ax.set_ylabel("excess over the Bayes risk [nats]" if bayes else "excess over the infimum")
    ax.set_title(run.task.name)
    ax.legend(frameon=False)
    return ax
