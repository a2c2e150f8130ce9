"""Which of our variables is which tensor of a file: one line for both ways.

    Entry("head/kernel", "lm_head.weight", "v d -> d v")

A layout is a pattern of einops, from the tensor to the variable. Read from
right to left it is the way back, so that a family says each tensor once.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import einops
import jax.numpy as jnp
import numpy as np

from normjax import errors

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True, init=False)
class Entry:
  """One tensor, and the variable or the variables that it holds.

  Attributes:
    ours: paths of variables, as `nn.variables.split` gives them.
    theirs: the tensor's name, with the family's prefix.
    layout: a pattern of einops, from theirs to ours; "": the same layout. Where
      the tensor holds several variables, the first axis on the right tells them
      apart.
    sizes: of the axes that the pattern takes apart, on either side.
  """

  ours: tuple[str, ...]
  theirs: str
  layout: str
  sizes: Mapping[str, int]

  def __init__(
    self,
    ours: str | tuple[str, ...],
    theirs: str,
    layout: str = "",
    **sizes: int,
  ):
    """Declares it; see `Entry` for what the arguments are."""
    fused = not isinstance(ours, str)
    if fused:  # The name of the axis that counts the variables.
      sizes = {layout.partition("->")[2].split()[0]: len(ours), **sizes}
    object.__setattr__(self, "ours", tuple(ours) if fused else (ours,))
    object.__setattr__(self, "theirs", theirs)
    object.__setattr__(self, "layout", layout)
    object.__setattr__(self, "sizes", sizes)
    object.__setattr__(self, "_fused", fused)

  def to_ours(self, tensor: np.ndarray) -> dict[str, np.ndarray]:
    """The variables, by path, of the tensor; views where that is possible."""
    if self.layout:
      tensor = _rearrange(self.layout)(tensor, **self.sizes)
    values = list(tensor) if self._fused else [tensor]
    return dict(zip(self.ours, values, strict=True))

  def to_theirs(self, variables: Mapping[str, np.ndarray]) -> np.ndarray:
    """The tensor of the variables, by path."""
    values = [variables[path] for path in self.ours]
    return self._back(np.stack(values) if self._fused else values[0])

  def shape_of_theirs(self, shapes: Mapping[str, Shape]) -> Shape:
    """The shape that the tensor must have for variables of these shapes."""
    own = shapes[self.ours[0]]
    # All of it is one number in memory.
    leading = (len(self.ours),) if self._fused else ()
    return self._back(np.broadcast_to(np.int8(0), (*leading, *own))).shape

  def _back(self, value: np.ndarray) -> np.ndarray:
    if not self.layout:
      return value
    left, right = self.layout.split("->")
    return _rearrange(f"{right.strip()} -> {left.strip()}")(value, **self.sizes)


@dataclasses.dataclass(frozen=True)
class Fixed:
  """A tensor that says nothing: written, and not read.

  Attributes:
    theirs: the tensor's name.
    value: what is written.
  """

  theirs: str
  value: np.ndarray


@dataclasses.dataclass(frozen=True)
class Same:
  """A tensor that is another one by another name, as a tied head is.

  It need not be in a file; where it is, it must be equal. It is not written.

  Attributes:
    theirs: the tensor's name.
    twin: the other's name.
  """

  theirs: str
  twin: str


def cast(value: np.ndarray, dtype: np.dtype, name: str) -> np.ndarray:
  """An array in another dtype, contiguous.

  Args:
    value: finite or not.
    dtype: of the result.
    name: begins the message.

  Raises:
    UserError: a number of it is beyond the dtype's range.
  """
  with np.errstate(over="ignore"):
    # Not ascontiguousarray, which gives a single number an axis.
    found = np.asarray(value, dtype, order="C")
  narrows = jnp.issubdtype(dtype, jnp.floating) and (
    jnp.finfo(dtype).max < jnp.finfo(value.dtype).max
  )
  if narrows and np.isinf(found).sum() > np.isinf(value).sum():
    most = np.abs(value, where=np.isfinite(value), out=np.zeros_like(value))
    raise errors.UserError(
      f"{name} holds {float(most.max()):.3g}, beyond the range of {dtype};"
      " bfloat16 and float32 have a wider one."
    )
  return found


Declared = list[Entry | Fixed | Same]


@functools.cache
def _rearrange(pattern: str) -> Callable[..., Any]:
  """`einops.rearrange` of a pattern, without the sizes that it has no use for.

  A pattern that is turned round takes other axes apart.
  """
  left = pattern.partition("->")[0]
  names = {*left.replace("(", " ").replace(")", " ").split()}

  def rearrange(value: np.ndarray, **sizes: int) -> np.ndarray:
    known = {name: size for name, size in sizes.items() if name in names}
    return einops.rearrange(value, pattern, **known)

  return rearrange
