"""What a method of context is: which examples make the statistics."""

import dataclasses
from collections.abc import Callable

import jax
from flax import nnx

from normjax import errors, norms
from normjax.context import averaged
from normjax.nn import calling, norm_sites
from normjax.nn import variables as nn_variables
from normjax.nn.output import as_output
from normjax.types import Array, PyTree

# Statistics of the batch in prediction: nothing moves, and nothing is dropped.
BATCH = norms.Mode(statistics="batch")


@dataclasses.dataclass(frozen=True)
class Bound:
  """A model with variables, to be called; arrays may be traced."""

  structure: nn_variables.Structure
  params: PyTree
  stats: PyTree
  key: Array | None = None

  def __call__(
    self, inputs: Array, mode: norms.Mode, stats: PyTree | None = None
  ) -> tuple[Array, PyTree]:
    """The logits (b, c), and the statistics after the call.

    Args:
      inputs: (b, …).
      mode: of the call.
      stats: those to begin with; None: its own.
    """
    stats = self.stats if stats is None else stats
    return self._call(self.structure, inputs, mode, stats)

  def measure(self, inputs: Array, stats: PyTree | None = None) -> PyTree:
    """The statistics that a batch gives by itself, as constants.

    What training would average into the running ones, of every norm, and the
    mean over its calls where there are several; with `stats`, what becomes of
    those with the momentum of each norm.

    Args:
      inputs: (b, …).
      stats: see above.

    Raises:
      UserError: a norm whose running statistics are no average with momentum.
    """
    structure = self.structure
    if stats is None:
      structure, stats = _without_memory(structure, self.params, self.stats)
    moves = dataclasses.replace(BATCH, update=True)
    moved = self._call(structure, inputs, moves, stats)[1]
    return jax.lax.stop_gradient(averaged.without_calls(moved))

  def _call(
    self,
    structure: nn_variables.Structure,
    inputs: Array,
    mode: norms.Mode,
    stats: PyTree,
  ) -> tuple[Array, PyTree]:
    held = {"params": self.params, "stats": stats, "grad_stats": {}}
    model = nn_variables.merge(structure, held, self.key)
    returned = calling.call(model, inputs, train=mode, key=self.key)
    moved = nn_variables.new_stats(structure, model, stats)
    return as_output(returned).logits, moved


# (model, queries, controls, train) -> (logits of the queries, new statistics).
Forward = Callable[[Bound, Array, Array, bool], tuple[Array, PyTree]]


@dataclasses.dataclass(frozen=True)
class Method:
  """Where the statistics of a prediction come from.

  Attributes:
    name: in the table.
    forward: (model, queries (b, …), controls (m, …), train) -> (the queries'
      logits, the new statistics). Controls have no labels and no loss.
    needs_controls: whether it reads them.
    of_one_domain: whether the examples of a training batch are of one domain,
      or mixed.
  """

  name: str
  forward: Forward
  needs_controls: bool = False
  of_one_domain: bool = True


def start_of(
  structure: nn_variables.Structure, params: PyTree, stats: PyTree
) -> PyTree:
  """The running statistics that a model begins with: of norms, the start."""
  held = {"params": params, "stats": stats, "grad_stats": {}}
  model = nn_variables.merge(structure, held)
  for path, module in norm_sites.find(model):
    if isinstance(module, nnx.BatchNorm):
      first = {"mean": 0 * module.mean[...], "var": 0 * module.var[...] + 1}
    else:
      own = nn_variables.own_variables(module)["stats"]
      features = (own["mean"].shape[0],) if "mean" in own else (1,)
      first = module.norm.init(features)["stats"]
      if {k: v.shape for k, v in first.items()} != {
        k: v.shape for k, v in own.items()
      }:
        raise errors.UserError(_no_average(path, module.norm.name))
    for name, value in first.items():
      getattr(module, name)[...] = value
  return nn_variables.split(model)[1]["stats"]


def _without_memory(
  structure: nn_variables.Structure, params: PyTree, stats: PyTree
) -> tuple[nn_variables.Structure, PyTree]:
  """The model whose running statistics are those of the last batch."""
  held = {"params": params, "stats": stats, "grad_stats": {}}
  model = nn_variables.merge(structure, held)
  replaced = {}
  for path, module in norm_sites.find(model):
    norm, own = norm_sites.read("context", path, module)
    if "momentum" not in norm.options:
      raise errors.UserError(_no_average(path, norm.name))
    try:
      made = norms.make(norm.name, **{**norm.options, "momentum": 0.0})
    except errors.UserError as error:
      raise errors.UserError(_no_average(path, norm.name)) from error
    norm = dataclasses.replace(norm, options=made.options)
    replaced[id(module)] = averaged.Averaged(norm, own, module.dtype)
  model = norm_sites.replace(model, replaced)
  found, variables = nn_variables.split(model)
  return found, variables["stats"]


def _no_average(path: str, norm: str) -> str:
  return (
    f"the running statistics of norm {norm!r} at {path!r} are no average that"
    " one batch can replace; allowed: norms with an option momentum that may be"
    " 0, as batch_norm."
  )
