"""Weight normalization: Salimans, Kingma 2016, arXiv:1602.07868."""

from typing import Any

from normjax.norms import magnitude, modes
from normjax.norms.weights import base
from normjax.types import Array


def weight_norm() -> base.WeightNorm:
  """Weight normalization: length and direction of each filter apart.

      w = g v / ||v||

  arXiv:1602.07868, equation 2. v is the kernel that the layer holds, and
  ||v|| the length of all weights of one output. g starts at ||v||, so that
  the layer starts as it was without; the paper's data-dependent
  initialization (section 3) is not part of it. There is no eps: a filter of
  zeros stays zero, with gradient 0. Lengths are float32 (float64 for
  float64).

  One parameter: `gain` (o,), the paper's g.

  Raises:
    UserError: from `apply`, a gain of another kernel.
  """
  return base.WeightNorm(
    name="weight_norm", options={}, init_fn=_init, apply_fn=_apply
  )


def _inputs(kernel: Array) -> range:
  """The axes of one output's weights."""
  return range(kernel.ndim - 1)


def _init(kernel: Array, key: Array | None, **_: Any):
  del key
  return {
    "params": {"gain": magnitude.length(kernel, _inputs(kernel)).reshape(-1)}
  }


def _apply(variables: base.Variables, kernel: Array, *, mode: modes.Mode):
  del mode
  shapes = {"gain": kernel.shape[-1:]}
  (gain,) = base.checked_variables("weight_norm", variables, "params", shapes)
  w = magnitude.scaled(kernel, gain, _inputs(kernel))
  return w.astype(kernel.dtype), variables["stats"]
