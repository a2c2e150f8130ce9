"""How the kernels of a block start, as data.

"inner" kernels read the stream; "writer" kernels write to it: the attention's
output and the last of the feed-forward. A model takes one rule whatever its
placement is, so that placements are compared from the same kernels; `OWN` asks
for the one that goes with each.
"""

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from normjax.registry import Table

Initializer = jax.nn.initializers.Initializer
_STD = 0.02
# What a model takes unless it is told, and the name of each placement's own.
DEFAULT, OWN = "depth_scaled", "placement"


@dataclasses.dataclass(frozen=True)
class Init:
  """A rule for the kernels of a stack.

  Attributes:
    name: as in a config.
    inner: `(gain, index, num_layers, model_dim)` to an initializer whose
      standard deviation is `gain` times the rule's; index is 1-based.
    writer: the same for what writes to the stream.
    formula: the standard deviations, for the reference: in block l of L.
    source: the paper.
  """

  name: str
  inner: Callable[[float, int, int, int], Initializer]
  writer: Callable[[float, int, int, int], Initializer]
  formula: str = dataclasses.field(default="", compare=False)
  source: str = dataclasses.field(default="", compare=False)


def _normal(gain: float, *_: int) -> Initializer:
  return jax.nn.initializers.normal(gain * _STD)


def _xavier(gain: float, *_: int) -> Initializer:
  return jax.nn.initializers.variance_scaling(gain**2, "fan_avg", "normal")


def _width(gain: float, index: int, num_layers: int, dim: int) -> Initializer:
  del index, num_layers
  return jax.nn.initializers.normal(gain / math.sqrt(dim))


def _unit(axis: int):
  """Normal vectors along an axis, divided by their length."""

  def rule(gain: float, *_: int) -> Initializer:
    def draw(key, shape, dtype=jnp.float32, out_sharding=None):
      x = jax.nn.initializers.normal(1.0)(key, shape, dtype, out_sharding)
      return gain * x / jnp.linalg.norm(x, axis=axis, keepdims=True)

    return draw

  return rule


def _small(gain: float, *where: int) -> Initializer:
  return _width(gain * math.sqrt(2 / 5), *where)


def _by_depth(init, depth: Callable[[int, int], float]):
  return lambda gain, index, num_layers, dim: init(
    gain / math.sqrt(depth(index, num_layers)), index, num_layers, dim
  )


def _all_branches(index: int, num_layers: int) -> int:
  del index
  return 2 * num_layers


def _half_depth_squared(index: int, num_layers: int) -> float:
  del index
  return num_layers**2 / 4


def _ds(gain: float, index: int, *_: int) -> Initializer:
  return jax.nn.initializers.variance_scaling(
    gain**2 / index, "fan_avg", "uniform"
  )


def _of_placement(*_: float) -> Initializer:
  raise AssertionError("`Placement.start` says what this is.")


TABLE: Table[Init] = Table(
  "init",
  (
    Init(
      "depth_scaled",
      _normal,
      _by_depth(_normal, _all_branches),
      formula="0.02, of writers 0.02 / sqrt(2 L)",
      source="GPT-2: Radford et al. 2019, section 2.3",
    ),
    Init("plain", _normal, _normal, formula="0.02"),
    Init(
      "layer_scaled",
      _normal,
      _by_depth(_normal, lambda index, num_layers: 2 * index),
      formula="0.02, of writers 0.02 / sqrt(2 l)",
    ),
    Init(
      "ds_init",
      _ds,
      _ds,
      formula="Xavier's uniform over sqrt(l), for every kernel",
      source="DS-Init: Zhang, Titov, Sennrich 2019, arXiv:1908.11365",
    ),
    Init("xavier", _xavier, _xavier, formula="sqrt(2 / (inputs + outputs))"),
    Init(
      "width_scaled",
      _width,
      _by_depth(_width, _all_branches),
      formula="1 / sqrt(d), of writers 1 / sqrt(2 L d)",
      source="nGPT's baseline, arXiv:2410.01131",
    ),
    Init(
      "unit",
      _unit(0),
      _unit(-1),
      formula="1 / sqrt(d): vectors of length 1 along the stream's features",
      source="nGPT, arXiv:2410.01131",
    ),
    Init(
      "small",
      _small,
      _by_depth(_small, _all_branches),
      formula="sqrt(2 / (5 d)), of writers sqrt(1 / (5 L d))",
      source="SmallInit: Nguyen, Salazar 2019, arXiv:1910.05895, with writers"
      " by depth",
    ),
    Init(
      "gpt_j",
      _width,
      _by_depth(_width, _half_depth_squared),
      formula="1 / sqrt(d), of writers 2 / (L sqrt(d))",
      source="GPT-J: Wang, Komatsuzaki 2021, its official code",
    ),
    Init(
      "gpt_neox",
      _small,
      _by_depth(_width, _half_depth_squared),
      formula="sqrt(2 / (5 d)), of writers 2 / (L sqrt(d))",
      source="GPT-NeoX-20B: its official code, small_init and wang_init",
    ),
    Init(
      OWN,
      _of_placement,
      _of_placement,
      formula="of each placement its own, with the factor that its paper puts"
      " on values, outputs and feed-forwards",
    ),
  ),
)
resolve = TABLE.resolve
