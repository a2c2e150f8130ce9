"""Training a part of the parameters: norms, output layer, all others.

Only what is trained reaches the optimizer, the clipping and the decay; the
rest keeps its initial value. Statistics of norms move all the same.
"""

from collections.abc import Mapping

from normjax import errors
from normjax.nn.model_roles import Roles
from normjax.nn.roles import NORM_KINDS
from normjax.types import PyTree

# Paths of what is trained; None is everything.
Trained = frozenset[str] | None


def trained_paths(
  roles: Roles,
  *,
  norms_frozen: bool,
  output_frozen: bool,
  others_frozen: bool,
) -> Trained:
  """Which parameters move.

  With the last two this is training only the norms, arXiv:2003.00152.

  Args:
    roles: of the model's parameters; norms of weights count as others.
    norms_frozen: whether the norms' parameters stay.
    output_frozen: whether the output layer stays.
    others_frozen: whether everything else stays.

  Raises:
    UserError: nothing is left to train, or the model has no output layer and
      it matters whether a parameter is the output layer's.
  """
  if not (norms_frozen or output_frozen or others_frozen):
    return None
  norms, output, others = set(), set(), set()
  for path, role in roles.params():
    if role.kind in NORM_KINDS:
      norms.add(path)
    elif role.layer == "output":
      output.add(path)
    else:
      others.add(path)
  if not output and output_frozen != others_frozen:
    raise errors.UserError(
      f"train.output_frozen={output_frozen} and train.others_frozen="
      f"{others_frozen}: {roles.model} has no output layer of its own (one"
      " called 'head', or which its class says in end_layers); both must be"
      " the same."
    )
  parts = (
    (norms_frozen, norms),
    (output_frozen, output),
    (others_frozen, others),
  )
  trained = frozenset[str]().union(
    *(paths for is_frozen, paths in parts if not is_frozen)
  )
  if not trained:
    raise errors.UserError(
      "nothing is left to train: train.norms_frozen, output_frozen and"
      f" others_frozen are {norms_frozen}, {output_frozen}, {others_frozen};"
      f" {roles.model} has {len(norms)} parameter arrays in norms,"
      f" {len(output)} in its output layer and {len(others)} others."
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
