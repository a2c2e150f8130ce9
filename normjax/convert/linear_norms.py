"""Norms that have become linear while they were trained (`convert.removal`)."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.core import Tracer

from normjax import errors, norms
from normjax.convert import watched
from normjax.nn.norm_layer import NormLayer
from normjax.nn.variables import own_variables
from normjax.norms import fake_layer_norm, moments
from normjax.types import Array

# 1 / sqrt(variance + eps) of the exported layer norms is then 1e-6.
_LARGE_EPS, _ROOT = 1e12, 1e6


def obstacle(layer: NormLayer) -> str:
  """Why a norm with `is_linear_fn` is no affine map; "" where it is one."""
  assert layer.norm.is_linear_fn is not None
  found = layer.norm.is_linear_fn(own_variables(layer))
  if isinstance(found, Tracer):
    return (
      "whether it is linear yet only its statistics say; fold a trained model"
    )
  if found:
    return ""
  step = int(own_variables(layer)["stats"]["step"])
  return f"is still a norm: its schedule is not over at step {step}"


def map_of(layer: NormLayer, features: int) -> tuple[Array, Array]:
  """Matrix (d, d) and offset (d,) of y = x @ matrix + offset.

  Args:
    layer: without an `obstacle`.
    features: d, which a norm without parameters does not know.
  """
  variables = own_variables(layer)

  def normalize(x_d: Array) -> Array:
    return layer.norm.apply(variables, x_d[None], train=False)[0][0]

  # Slopes of an affine map: differences of values would lose digits.
  zero = moments.promote(jnp.zeros((features,), _dtype(variables)))
  slopes = jax.vmap(lambda row: jax.jvp(normalize, (zero,), (row,))[1])
  return slopes(jnp.eye(features, dtype=zero.dtype)), normalize(zero)


def _dtype(variables: Mapping[str, Mapping[str, Any]]) -> Any:
  return jnp.result_type(jnp.float32, *variables["params"].values())


def stock_layer_norms[Model: nnx.Module](model: Model) -> Model:
  """The removed norms as layer norms that do what they have become.

      scale' = scale 1e6 / s,    eps = 1e12

  so that a program that has layer norms, and nothing else, runs the model: next
  to eps the variance is nothing. In float32 that costs half a digit. In float16
  1e12 is infinite, and what it gives is NaN or 0: the statistics have to be in
  float32, as they are here, or in bfloat16.

  Args:
    model: whose `fake_layer_norm`s are through their schedule; it stays as it
      is.

  Raises:
    UserError: it has none, or one is still a norm, or not centred, or has no
      gain.
  """
  made = nnx.clone(model)
  sites = [
    ("/".join(map(str, path)), module)
    for path, module in nnx.iter_modules(made)
    if isinstance(module, NormLayer)
    and module.norm.name == fake_layer_norm.NAME
  ]
  if not sites:
    raise errors.UserError(
      f"stock_layer_norms: {type(model).__name__} has no"
      f" {fake_layer_norm.NAME}; needed: a model trained after remove_norms."
    )
  for path, layer in sites:
    options = layer.norm.options
    reason = obstacle(layer)
    for name in ("centred", "use_scale"):
      if not reason and not options[name]:
        reason = f"has {name}=False, which no layer norm can stand for"
    if reason:
      raise errors.UserError(f"stock_layer_norms: {path} {reason}.")
    scale = layer.scale[...] * (_ROOT / layer.std[...])
    layer.scale.set_value(scale.astype(layer.scale[...].dtype))
    leave(
      layer,
      norms.make("layer_norm", eps=_LARGE_EPS, use_bias=options["use_bias"]),
      keep=("scale", "bias"),
    )
  return watched.unwatch(made)


def leave(layer: NormLayer, norm: norms.Norm, keep: tuple[str, ...]) -> None:
  """Makes it a plain layer of another norm; it keeps some variables."""
  for names in own_variables(layer).values():
    for name in names:
      if name not in keep:
        delattr(layer, name)
  layer.norm = norm
  object.__setattr__(layer, "__class__", NormLayer)
