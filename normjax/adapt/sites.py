"""The norms of a model, each set to what a method wants of it.

Of what moves at test time a model's own `train` says nothing: some of its
norms may be frozen, and a model of a user may know no `train` at all. So each
norm with running statistics is replaced by one that computes in a mode of its
own, whatever it is called with; parameters and statistics keep their values
and paths.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
from flax import nnx
from flax.nnx import bridge

from normjax import errors, norms
from normjax.nn import norm_sites
from normjax.nn.conv_norm import ConvNorm
from normjax.nn.norm_layer import NormLayer
from normjax.nn.variables import attach_variables
from normjax.norms import modes
from normjax.types import Array, PyTree

WEIGHT = "batch_weight"


class BatchWeight(nnx.Variable):
  """The share of the batch in blended statistics."""


class PinnedNorm(NormLayer):
  """A norm that computes in one mode, whatever its call says."""

  def __init__(
    self,
    norm: norms.Norm,
    variables: norm_sites.NormVariables,
    *,
    dtype: Any = None,
    statistics: modes.Statistics = "running",
    update: bool = False,
    batch_weight: float | None = None,
  ):
    """Takes variables over.

    Args:
      norm: what runs here.
      variables: of it.
      dtype: of the output; None keeps the input's.
      statistics: of `Mode`.
      update: of `Mode`.
      batch_weight: of "blended"; it becomes a variable.
    """
    self.norm, self.dtype = norm, dtype
    self.statistics: modes.Statistics = statistics
    self.update = update
    attach_variables(self, variables)
    if statistics == "blended":
      self.batch_weight = BatchWeight(jnp.asarray(batch_weight))

  def __call__(
    self,
    x: Array,
    use_running_average: bool | None = None,
    *,
    train: modes.Train = None,
    mask: Array | None = None,
    context: Any = None,
  ) -> Array:
    """Normalises x in the mode of this module; `Norm.apply` says the rest."""
    del use_running_average, train
    weight = None
    if self.statistics == "blended":
      weight = self.batch_weight[...]
    mode = modes.Mode(
      statistics=self.statistics, update=self.update, batch_weight=weight
    )
    return super().__call__(x, train=mode, mask=mask, context=context)


# The norm and the variables of a site to those that it shall have.
Change = Callable[
  [norms.Norm, norm_sites.NormVariables],
  tuple[norms.Norm, norm_sites.NormVariables],
]


def _keep(
  norm: norms.Norm, variables: norm_sites.NormVariables
) -> tuple[norms.Norm, norm_sites.NormVariables]:
  return norm, variables


def pin(
  method: str,
  model: nnx.Module,
  *,
  needs: str = "",
  change: Change = _keep,
  statistics: modes.Statistics = "running",
  update: bool = False,
  batch_weight: float | None = None,
) -> nnx.Module:
  """A copy of the model whose norms compute in one mode.

  Args:
    method: who asks, for messages.
    model: stays as it is.
    needs: "": nothing; "statistics": a norm with running ones; "blends": such
      norms alone as can be mixed; else the name that all of them must have.
    change: what runs at each site in place of what does.
    statistics: of `Mode`.
    update: of `Mode`.
    batch_weight: of "blended".

  Raises:
    UserError: no norm with running statistics where `needs` asks for one, or
      one that is another.
  """
  moves = statistics != "running" or update
  if needs or moves:
    _check_is_no_bridge(method, model)
  model = nnx.clone(model)
  sites = dict(norm_sites.find(model))
  if needs:
    _check(method, model, sites, needs)
  replaced: dict[int, PinnedNorm] = {}
  for path, site in sites.items():
    if not (needs or moves) and not norm_sites.is_readable(site):
      continue  # Evaluation has it as it shall be.
    replaced[id(site)] = PinnedNorm(
      *change(*_read(method, path, site)),
      dtype=site.dtype,
      statistics=statistics,
      update=update,
      batch_weight=batch_weight,
    )
  model = norm_sites.replace(model, replaced)
  left = [p for p, site in norm_sites.find(model) if id(site) in replaced]
  if left:
    raise errors.UserError(
      f"{method}: the norms {errors.few(left)} are held by what is neither a"
      " module nor a list, tuple or dict; allowed: such holders."
    )
  for _, module in nnx.iter_modules(model):
    if isinstance(module, ConvNorm) and module.mode == "tune":
      module.mode = "train"  # What is folded calls no norm.
  return model


def with_weight(stats: PyTree, weight: Array) -> PyTree:
  """Statistics with another share of the batch at every site."""
  return {
    name: with_weight(value, weight)
    if isinstance(value, dict)
    else (jnp.asarray(weight, value.dtype) if name == WEIGHT else value)
    for name, value in stats.items()
  }


def by_site(stats: PyTree) -> dict[str, dict[str, Array]]:
  """Mean and variance of each norm that has both, by its path."""
  found: dict[str, dict[str, Array]] = {}

  def visit(path: str, tree: PyTree) -> None:
    if {"mean", "var"} <= set(tree):
      found[path] = {"mean": tree["mean"], "var": tree["var"]}
    for name, value in tree.items():
      if isinstance(value, dict):
        visit(f"{path}/{name}".strip("/"), value)

  visit("", stats)
  return found


def with_options(norm: norms.Norm, **options: Any) -> norms.Norm:
  """The norm with other options."""
  return dataclasses.replace(norm, options={**norm.options, **options})


def _read(
  method: str, path: str, site: Any
) -> tuple[norms.Norm, norm_sites.NormVariables]:
  """As `norm_sites.read`; a batch is one, not cut into ghosts."""
  norm, variables = norm_sites.read(method, path, site)
  if norm.options.get("virtual_batch_size"):
    norm = with_options(norm, virtual_batch_size=None)
  return norm, variables


_FITTING = {
  "statistics": "batch_norm",
  "blends": "norms whose statistics can be mixed, as batch_norm",
}


def _fits(norm: norms.Norm, needs: str) -> bool:
  if needs == "blends":
    return norm.traits.blends
  return needs == "statistics" or norm.name == needs


def _check_is_no_bridge(method: str, model: nnx.Module) -> None:
  for _, module in nnx.iter_modules(model):
    if isinstance(module, bridge.ToNNX):
      raise errors.UserError(
        f"{method}: the norms of {type(module.to_nnx__module).__name__}, a"
        " Linen module in a bridge, are out of reach; allowed: source, or a"
        " model of nnx modules."
      )


def _check(
  method: str, model: nnx.Module, sites: Mapping[str, Any], needs: str
) -> None:
  fitting = _FITTING.get(needs, needs)
  if not sites:
    others = sorted(
      {
        module.norm.name
        for _, module in nnx.iter_modules(model)
        if isinstance(module, NormLayer)
      }
    )
    raise errors.UserError(
      f"{method} adapts running statistics, and {type(model).__name__} has"
      f" none (its norms: {', '.join(others) or 'none'}); needed: a model with"
      f" {fitting}. tent, eata and sar adapt group and layer norm as well."
    )
  for path, site in sites.items():
    norm = _read(method, path, site)[0]
    if _fits(norm, needs):
      continue
    raise errors.UserError(
      f"{method} is for {fitting}; the norm of {type(model).__name__} at"
      f" {path or 'its top'} is {norm.name!r}."
    )
