"""Gains around the matrices that read an input norm: arXiv:2605.26895.

    y = s_out * N(W (s_in * x))

Of the paper the abstract was read, its formulas were not. Which matrices have
gains, where N sits and how a gain is parametrized are readings of ours.
"""

import dataclasses
from typing import Any

import jax.numpy as jnp
from flax import nnx

from normjax import norms
from normjax.nn import roles
from normjax.nn.norm_layer import NormLayer
from normjax.norms import magnitude, moments
from normjax.types import Array

# What follows the matrix: a gain, or a norm and a gain.
OUTPUTS = ("plain", "normalized")


@dataclasses.dataclass(frozen=True)
class ScaleVectors:
  """The gains around each reader, a matrix that reads its branch's input norm.

  Attributes:
    inputs: whether a reader has s_in, `<reader>_scale`, shape (d,), of its own.
      Without it x has the gain of the norm, which readers share.
    outputs: whether a reader has s_out, `<reader>_output_scale`, one entry per
      output; a bias is before it.
    between: N, `<reader>_output_norm`, over all outputs of a reader (those of
      all heads together); None: none. It has no gain of its own.
    form: of the gains, one of `magnitude.FORMS`; all start at 1.
  """

  inputs: bool = False
  outputs: bool = False
  between: norms.Norm | None = None
  form: str = "plain"

  @property
  def obstacle(self) -> str:
    """Why readers cannot take over what a norm multiplies x by."""
    if not self.inputs:
      return ""
    return "reader_scales=True: readers have gains of their own"

  def attach(
    self, module: nnx.Module, reader: str, inputs: int, outputs: int
  ) -> None:
    """Makes a reader's gains and norm, as attributes of its module."""
    if self.inputs:
      setattr(module, f"{reader}_scale", _make(self.form, inputs))
    if self.between is not None:
      layer = NormLayer(self.between, (outputs,))
      setattr(module, f"{reader}_output_norm", layer)
    if self.outputs:
      setattr(module, f"{reader}_output_scale", _make(self.form, outputs))

  def read(
    self, module: nnx.Module, reader: str, x_btd: Array, **options: Any
  ) -> Array:
    """What the reader makes of x.

    Args:
      module: that `attach` was called with; the reader is an attribute of it.
      reader: its name.
      x_btd: after the input norm.
      **options: `train` and `mask`, of the norm.

    Returns:
      (b, t, ...), the reader's own axes.
    """
    if self.inputs:
      x_btd *= _value(getattr(module, f"{reader}_scale")).astype(x_btd.dtype)
    y = getattr(module, reader)(x_btd)
    if not self.outputs:
      return y
    y_bto = y.reshape(*y.shape[:2], -1)
    if self.between is not None:
      y_bto = getattr(module, f"{reader}_output_norm")(y_bto, **options)
    y_bto *= _value(getattr(module, f"{reader}_output_scale")).astype(y.dtype)
    return y_bto.reshape(y.shape)

  def fold_inputs(
    self, module: nnx.Module, readers: tuple[str, ...]
  ) -> list[str]:
    """Puts each s_in into its kernel, in place, and takes it away.

    Args:
      module: that `attach` was called with; it has `scale_vectors`.
      readers: the names that it was called with.

    Returns:
      The names of the gains that there were.
    """
    gains = []
    for reader in readers if self.inputs else ():
      name = f"{reader}_scale"
      variable = getattr(module, reader).kernel
      kernel = moments.promote(variable[...])
      shape = (-1,) + (1,) * (kernel.ndim - 1)
      folded = kernel * _value(getattr(module, name)).reshape(shape)
      variable.set_value(folded.astype(variable[...].dtype))
      delattr(module, name)
      gains.append(name)
    module.scale_vectors = dataclasses.replace(self, inputs=False)
    return gains


NO_SCALE_VECTORS = ScaleVectors()


def gain_roles(reader: str, outputs: str) -> dict[str, roles.Role]:
  """The roles of a reader's gains; `outputs` names the axis of s_out."""
  said = {}
  for name, axis in (("scale", "embed"), ("output_scale", outputs)):
    said |= {
      f"{reader}_{name}": roles.gain(axis),
      f"{reader}_{name}/magnitude": roles.gain(),
      f"{reader}_{name}/direction": roles.gain(axis),
    }
  return said


class MagnitudeDirection(nnx.Module):
  """A gain as magnitude * direction / ||direction||; see `norms.magnitude`."""

  def __init__(self, features: int):
    """Makes the gain 1."""
    made = magnitude.init(features)
    self.magnitude = nnx.Param(made["magnitude"])
    self.direction = nnx.Param(made["direction"])

  def __call__(self) -> Array:
    """The gain, (d,)."""
    return magnitude.gain(
      {"magnitude": self.magnitude[...], "direction": self.direction[...]}
    )


def _make(form: str, features: int) -> nnx.Param | MagnitudeDirection:
  if form == "magnitude_direction":
    return MagnitudeDirection(features)
  return nnx.Param(jnp.ones((features,)))


def _value(scale: nnx.Param | MagnitudeDirection) -> Array:
  return scale() if isinstance(scale, MagnitudeDirection) else scale[...]
