"""What an op is tried on: named shapes that tests and benchmarks share."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any


@dataclasses.dataclass(frozen=True)
class ArgumentSpec:
  """Arguments of one op, without their values.

  Attributes:
    name: for tables, as in "8192 x 4096 bfloat16".
    shapes: the positional arguments that are arrays; None for one left out;
      a tuple where an argument is a tree of leaves.
    ideal_bytes: each input read once and each output written once.
    options: keyword arguments of the op.
    differentiated: positions of the arguments that a backward pass
      differentiates; empty for an op that has none.
    ideal_backward_bytes: of the backward pass alone, with what the forward pass
      must keep at least.
    donated: positions of the arguments that an op that updates in place
      overwrites; its first results take their places, in this order.
  """

  name: str
  shapes: tuple[Any, ...]
  ideal_bytes: int
  options: Mapping[str, Any] = MappingProxyType({})
  differentiated: tuple[int, ...] = ()
  ideal_backward_bytes: int = 0
  donated: tuple[int, ...] = ()
