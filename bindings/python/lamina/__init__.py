"""One-layer transformers: attention with gradients, and training by gradient descent, by the library liblamina.

    import lamina
    run = lamina.run("in_context_recall", noise=0.5, steps=400)
    run.plot()

lamina.list() says which tasks there are, lamina.describe(name) what options a run of one has."""
from ._attention import Attention, AttentionGradient, attention, attention_gradient
from ._catalogue import Description, Entry, Listing, describe
from ._catalogue import list_names as list
from ._library import Error, Interrupted, build_info, instruction_sets, version
from ._model import Model, Parameters, Tensor, loss_gradient
from ._prepared import PreparedAttention
from ._progress import Progress
from ._run import Crossing, Run, load, run
from ._sweep import Sweep, SweepProgress, Table, load_sweep, sweep
from ._task import Sample, Task, sample, theory
from ._trajectory import Trajectory

__version__ = "0.1.0"
__all__ = ["Attention", "AttentionGradient", "Crossing", "Description", "Entry", "Error", "Interrupted", "Listing", "Model", "Parameters",
           "PreparedAttention", "Progress", "Run", "Sample", "Sweep", "SweepProgress", "Table", "Task", "Tensor", "Trajectory", "attention", "attention_gradient", "build_info",
           "describe", "instruction_sets", "list", "load", "load_sweep", "loss_gradient", "run", "sample", "sweep", "theory", "version"]
