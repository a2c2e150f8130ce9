"""What a sweep and its report say in the same words: methods and their keys."""

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# What a diverged final run is: a verdict of its method, or the worst rank.
VERDICT, WORST = "verdict", "worst"
DIVERGENCE = (VERDICT, WORST)


@dataclasses.dataclass(frozen=True)
class Method:
  """One row of the comparison.

  Attributes:
    label: its name in the plan.
    overrides: dotted path to value, over the base config.
    tuned: dotted path to chosen value; None until it is chosen.
    on_edge: the chosen value lies on an edge of its grid.
  """

  label: str
  overrides: Mapping[str, Any]
  tuned: Mapping[str, Any] | None = None
  on_edge: bool = False


def differing_keys(flat: Sequence[Mapping[str, Any]]) -> list[str]:
  """Keys whose value, or presence, is not the same in every mapping.

  Args:
    flat: dotted path to value, of each.
  """
  keys = dict.fromkeys(key for leaves in flat for key in leaves)
  return [
    key
    for key in keys
    if not all(key in leaves for leaves in flat)
    or len({json.dumps(leaves[key]) for leaves in flat}) > 1
  ]


def short_names(keys: Iterable[str]) -> dict[str, str]:
  """Dotted path to the shortest of its ends that no other path has.

  `norm.name` reads better as `norm`.
  """
  parts = {key: key.removesuffix(".name").split(".") for key in keys}

  def short(key: str) -> str:
    own = parts[key]
    for size in range(1, len(own) + 1):
      end = own[-size:]
      if sum(each[-size:] == end for each in parts.values()) == 1:
        return ".".join(end)
    return key

  return {key: short(key) for key in parts}
