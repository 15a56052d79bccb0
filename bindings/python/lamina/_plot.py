"""The picture of a run: excess against step on a log axis, or columns of one's choice with their crossings; that of a sweep."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence, Tuple, Union

from ._library import Error
from ._task import theory

if TYPE_CHECKING:
    from ._run import Run
    from ._sweep import Sweep

DASHES = ("-", "--", ":", "-.")
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


def new_axes() -> Any:
    try:
        from matplotlib import pyplot
    except ImportError:
        raise ImportError("plot() needs matplotlib, which is not installed; the tables have the numbers") from None
    return pyplot.subplots(figsize=(6.4, 4.2), layout="constrained")[1]


def step_axis(ax: Any, per_decade: Optional[str]) -> None:
    """Rows at log-spaced steps get a log axis, with a place for step 0."""
    if per_decade and float(per_decade) > 0:
        ax.set_xscale("symlog", linthresh=1)
        ax.set_xlim(0, ax.dataLim.xmax)
    ax.set_xlabel("step")


def plot_columns(run: Run, columns: Sequence[str], ax: Any) -> Any:
    """Positive columns that span more than two decades get a log axis."""
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
    if len(values) and values.min() > 0 and values.max() > 100 * values.min():
        ax.set_yscale("log")
    step_axis(ax, run.options.get("record_per_decade"))
    ax.set_title(run.task.name)
    ax.legend(frameon=False)
    return ax


def plot_run(run: Run, ax: Any = None, columns: Optional[Sequence[str]] = None) -> Any:
    import numpy as np

    table = run.trajectory
    if not table.rows:
        raise ValueError("the run has no rows yet: run.continue_() first")
    if ax is None:
        ax = new_axes()
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
    step_axis(ax, run.options.get("record_per_decade"))
    bayes = "Bayes" in table.definitions["excess"]
    ax.set_ylabel("excess over the Bayes risk [nats]" if bayes else "excess over the infimum")
    ax.set_title(run.task.name)
    ax.legend(frameon=False)
    return ax


def plot_sweep(sweep: Sweep, column: str, over: Union[str, Sequence[str]], quantiles: Sequence[float], ax: Any) -> Any:
    import numpy as np

    table = sweep.summary(column, over, quantiles)
    if ax is None:
        ax = new_axes()
    axes = sweep.axes
    pooled = [over] if isinstance(over, str) else list(over)
    keys = [key for key in axes if key not in pooled]
    low, middle, high = (table[name] for name in list(table)[-3:])
    curves: Dict[Tuple[Any, ...], List[int]] = {}
    for row in range(table.rows):
        curves.setdefault(tuple(table[key][row] for key in keys), []).append(row)
    # Two axes: a colour for each value of the one, a dash for each of the other; else a colour a curve.
    values = [list(dict.fromkeys(at[k] for at in curves)) for k in range(len(keys))]
    two = len(keys) == 2 and len(values[1]) <= len(DASHES)
    for number, (at, rows) in enumerate(curves.items()):
        colour = f"C{(values[0].index(at[0]) if two else number) % 10}"
        dash = DASHES[values[1].index(at[1])] if two else "-"
        words = (f"{key}={value}" if isinstance(value, str) else f"{key}={value:g}" for key, value in zip(keys, at))
        ax.plot(table["step"][rows], middle[rows], color=colour, linestyle=dash, label=", ".join(words))
        ax.fill_between(table["step"][rows], low[rows], high[rows], color=colour, alpha=0.2, linewidth=0)
    if np.nanmax(middle) > 0:
        ax.set_yscale("log", nonpositive="mask")
    step_axis(ax, sweep.option(0, "record_per_decade"))
    ax.set_ylabel(column)
    runs = int(np.prod([len(axes[key]) for key in pooled if key in axes]))
    if runs > 1:
        title = f"quantiles {quantiles[1]:g} (line), {quantiles[0]:g} to {quantiles[2]:g} (band) of {runs} runs by {', '.join(pooled)}"
        ax.set_title(title, fontsize="medium")
    if keys:
        ax.legend(frameon=False, fontsize="small")
    return ax
