"""Training a part of the parameters: norms, output layer, all others.

Only what is trained reaches the optimizer, the clipping and the decay; the
rest keeps its initial value. Statistics of norms move all the same.
"""

from collections.abc import Mapping

from flax import nnx

from normjax import errors
from normjax.nn import variables as nn_variables
from normjax.nn.norm_layer import NormLayer
from normjax.types import PyTree

# Paths of what is trained; None is everything.
Trained = frozenset[str] | None

HEAD = "head"


def trained_paths(
  model: nnx.Module,
  *,
  norms_frozen: bool,
  output_frozen: bool,
  others_frozen: bool,
) -> Trained:
  """Which parameters move.

  With the last two this is training only the norms, arXiv:2003.00152.

  Args:
    model: its norms' parameters are those of its `NormLayer` modules, its
      output layer's those of its attribute `head`.
    norms_frozen: whether the norms' parameters stay.
    output_frozen: whether the output layer stays.
    others_frozen: whether everything else stays.

  Raises:
    UserError: nothing is left to train, or the model has no `head` and it
      matters whether a parameter is the output layer's.
  """
  if not (norms_frozen or output_frozen or others_frozen):
    return None
  every = nn_variables.owned_params(model, nnx.Module)
  norms = nn_variables.owned_params(model, NormLayer)
  output = {path for path in every if path.startswith(f"{HEAD}/")} - norms
  if not output and output_frozen != others_frozen:
    raise errors.UserError(
      f"train.output_frozen={output_frozen} and train.others_frozen="
      f"{others_frozen}: {type(model).__name__} has no output layer of its own"
      " (an attribute 'head'); both must be the same."
    )
  parts = (
    (norms_frozen, norms),
    (output_frozen, output),
    (others_frozen, every - norms - output),
  )
  trained = frozenset[str]().union(
    *(paths for is_frozen, paths in parts if not is_frozen)
  )
  if not trained:
    raise errors.UserError(
      "nothing is left to train: train.norms_frozen, output_frozen and"
      f" others_frozen are {norms_frozen}, {output_frozen}, {others_frozen};"
      f" {type(model).__name__} has {len(norms)} parameter arrays in norms,"
      f" {len(output)} in its output layer and"
      f" {len(every - norms - output)} others."
    )
  return trained


def select(params: PyTree, trained: Trained) -> PyTree:
  """The nested dict of what is trained alone."""
  return params if trained is None else _select(params, trained, "")


def _select(node: Mapping, trained: frozenset[str], prefix: str) -> PyTree:
  kept = {}
  for key, value in node.items():
    path = f"{prefix}{key}"
    if not isinstance(value, Mapping):
      if path in trained:
        kept[key] = value
    elif inner := _select(value, trained, f"{path}/"):
      kept[key] = inner
  return kept


def put_back(params: PyTree, selected: PyTree) -> PyTree:
  """All parameters, those in `selected` taken from there."""
  return {
    key: (
      put_back(value, selected.get(key, {}))
      if isinstance(value, Mapping)
      else selected.get(key, value)
    )
    for key, value in params.items()
  }
