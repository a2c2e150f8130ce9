"""Rules that say which axes of a mesh split a parameter, by its role.

    what                     tensor                     fsdp
    a statistic              whole                      whole
    a matrix that is held, and not trained: as one that is
    a norm, a bias, a gain   whole                      whole
    few entries              whole                      whole
    a table, the output      vocabulary, else features  an axis that is left
    a matrix                 heads, hidden features     an axis that is left

The first rule that takes a variable decides. `fsdp` splits the first axis that
it divides; that of a convolution's window, of stacked layers or of the features
of a head is none.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from jax.sharding import PartitionSpec

from normjax import errors
from normjax.nn.model_roles import STACKED
from normjax.nn.roles import TABLE_KINDS, Kind, Role

Shape = tuple[int, ...]
# Optimizers see heads and their features as one side of a matrix, of which a
# part of every head is no block.
_UNCUT = frozenset({None, STACKED, "height", "width", "head_dim"})


class Rule(NamedTuple):
  """What is done with the variables that a rule takes.

  Attributes:
    what: in words.
    takes: (role, shape, entries below which a parameter is whole) -> whether.
    tensor: names of the axes that `tensor` may split, in order of preference.
    any_of: whether `tensor` takes the first of them that it divides; else it
      must divide the first that there is.
    whole: whether nothing splits it.
  """

  what: str
  takes: Callable[[Role, Shape, int], bool]
  tensor: tuple[str, ...] = ()
  any_of: bool = False
  whole: bool = False


def _is_outer(role: Role) -> bool:
  return role.kind in TABLE_KINDS or role.layer == "output"


def _is_statistic(role: Role) -> bool:
  """A matrix that no gradient moves is none: it has as many entries as one."""
  return role.kind is Kind.STATISTIC and role.dims is None


RULES = (
  Rule("a statistic", lambda r, s, n: _is_statistic(r), whole=True),
  Rule(
    "no matrix",
    lambda r, s, n: len(s) < 2 or not (r.dims or r.kind is Kind.OTHER),
    whole=True,
  ),
  Rule(
    "below train.layout.min_size", lambda r, s, n: math.prod(s) < n, whole=True
  ),
  Rule(
    "a table or the output layer",
    lambda r, s, n: _is_outer(r),
    tensor=("vocab", "classes", "embed"),
    any_of=True,
  ),
  Rule(
    "a matrix", lambda r, s, n: True, tensor=("heads", "kv_heads", "mlp", "out")
  ),
)


def _sides(
  axis: str,
  rule: Rule,
  names: Sequence[str | None],
  taken: Sequence[str | None],
) -> list[int]:
  """Those of a variable's axes that an axis of the mesh may split, in order."""
  if axis == "tensor":
    return [names.index(name) for name in rule.tensor if name in names]
  # What no one named may be split anywhere.
  uncut = _UNCUT if any(names) else ()
  sides = zip(names, taken, strict=True)
  return [
    n
    for n, (name, other) in enumerate(sides)
    if other is None and name not in uncut
  ]


class Splitting(NamedTuple):
  """Decides for one mesh.

  Attributes:
    sizes: devices per axis of the mesh.
    min_size: entries below which a parameter is whole on every device.
  """

  sizes: Mapping[str, int]
  min_size: int

  def rule(self, role: Role, shape: Shape) -> Rule:
    """The first rule that takes a variable."""
    return next(r for r in RULES if r.takes(role, shape, self.min_size))

  def __call__(self, path: str, role: Role, shape: Shape) -> PartitionSpec:
    """The axes of the mesh that split a variable, by its axes.

    Args:
      path: of the variable, for the message.
      role: see `nn.roles`.
      shape: of the variable.

    Raises:
      UserError: an axis of the mesh that does not divide it.
    """
    rule = self.rule(role, shape)
    if rule.whole:
      return PartitionSpec()
    names = [*role.axes, *[None] * (len(shape) - len(role.axes))]
    spec: list[str | None] = [None] * len(shape)
    for axis in ("tensor", "fsdp"):
      size = self.sizes.get(axis, 1)
      sides = _sides(axis, rule, names, spec)
      if size == 1 or (axis == "tensor" and not sides):
        continue
      is_strict = axis == "tensor" and not rule.any_of
      tried = sides[:1] if is_strict else sides
      even = [n for n in tried if shape[n] % size == 0]
      if not even:
        raise self._uneven(axis, tried, path, names, shape)
      spec[even[0]] = axis
    return PartitionSpec(*spec)

  def describe(self, path: str, role: Role, shape: Shape) -> str:
    """Where a variable lies, or why it is whole, in words.

    Args:
      path: as for a call.
      role: likewise.
      shape: likewise.
    """
    rule, spec = self.rule(role, shape), self(path, role, shape)
    names = [name or f"axis {n}" for n, name in enumerate(role.axes)]
    cut = [
      f"{name} by {axis}"
      for name, axis in zip(names, spec, strict=False)
      if axis is not None
    ]
    return ", ".join(cut) or f"whole: {rule.what}"

  def _uneven(self, axis, chosen, path, names, shape) -> errors.UserError:
    sides = ", ".join(f"{names[n] or f'axis {n}'}={shape[n]}" for n in chosen)
    return errors.UserError(
      f"train.layout.{axis}={self.sizes[axis]} does not divide {path}, of shape"
      f" {shape}: {sides or 'no axis is left'}. Choose a size of the model or"
      f" of train.layout that comes out even, or train.layout.min_size="
      f"{math.prod(shape) + 1}, which leaves this and all smaller parameters"
      " whole."
    )
