"""Where norms sit around a residual branch, as data.

h = input_norm(x)  or x
y = branch(h)
x <- stream_norm(x + y)  or x + y
"""

import dataclasses
from collections.abc import Callable, Mapping

from normjax import errors
from normjax.registry import near_misses
from normjax.types import Array


@dataclasses.dataclass(frozen=True)
class Placement:
  """The slots of a block that hold a norm.

  Attributes:
    name: as in a config.
    slots: of each branch: "input" normalizes what the branch reads, "stream"
      the stream after the branch was added.
    final_norm: whether the stream is normalized once more before the head.
  """

  name: str
  slots: frozenset[str]
  final_norm: bool


# Pre: Xiong et al. 2020, arXiv:2002.04745, figure 1b; post: figure 1a, as in
# Vaswani et al. 2017, arXiv:1706.03762, whose stream ends normalized.
PRE = Placement("pre", frozenset({"input"}), final_norm=True)
POST = Placement("post", frozenset({"stream"}), final_norm=False)
TABLE = {placement.name: placement for placement in (PRE, POST)}

NormFn = Callable[[Array], Array]


def resolve(placement: str | Placement) -> Placement:
  """The placement of that name.

  Raises:
    UnknownNameError: no such name.
  """
  if isinstance(placement, Placement):
    return placement
  # Another type may not be hashable.
  if placement not in tuple(TABLE):
    raise errors.UnknownNameError(
      f"unknown placement {placement!r}.{near_misses(placement, TABLE)}"
      f" Known: {', '.join(TABLE)}."
    )
  return TABLE[placement]


def residual(
  x: Array, branch: Callable[[Array], Array], norms: Mapping[str, NormFn]
) -> Array:
  """One residual branch with its norms.

  Args:
    x: the stream, (b, t, d).
    branch: of the same shape.
    norms: by slot; a slot without a norm passes its input on.

  Returns:
    The stream after the branch.
  """
  branch_input = norms["input"](x) if "input" in norms else x
  x = x + branch(branch_input)
  return norms["stream"](x) if "stream" in norms else x
