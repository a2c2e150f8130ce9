"""The norms of a model that have running statistics, found and replaced."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import nnx

from normjax import errors, norms
from normjax.nn.norm_layer import NormLayer
from normjax.nn.variables import own_variables
from normjax.norms import modes
from normjax.types import Array

NormVariables = Mapping[str, Mapping[str, Array]]


def find(model: nnx.Module) -> list[tuple[str, Any]]:
  """(path, module) of them, in order; each once, wherever it is held."""
  return [
    ("/".join(map(str, path)), module)
    for path, module in nnx.iter_modules(model)
    if isinstance(module, nnx.BatchNorm)
    or (isinstance(module, NormLayer) and module.norm.traits.needs_train_flag)
  ]


def replace(
  model: nnx.Module, replaced: Mapping[int, nnx.Module]
) -> nnx.Module:
  """Puts modules in the place of others, wherever those are held.

  Args:
    model: is changed.
    replaced: by `id` of the module that goes.

  Returns:
    The model, or what takes its own place.
  """
  for _, module in list(nnx.iter_modules(model)):
    if isinstance(module, nnx.List):
      for index, value in enumerate(module):
        if id(value) in replaced:
          module[index] = replaced[id(value)]
      continue
    for name, value in list(vars(module).items()):
      new = _with(value, replaced)
      if new is not value:
        is_module = isinstance(new, nnx.Module)
        setattr(module, name, new if is_module else nnx.data(new))
  return replaced.get(id(model), model)


def _with(value: Any, replaced: Mapping[int, nnx.Module]) -> Any:
  """A value with what is replaced in it, as far as there is something."""
  if id(value) in replaced:
    return replaced[id(value)]
  if isinstance(value, dict):
    keys, held = list(value), list(value.values())
  elif isinstance(value, list | tuple):
    keys, held = None, list(value)
  else:
    return value
  new = [_with(each, replaced) for each in held]
  if all(a is b for a, b in zip(new, held, strict=True)):
    return value
  if keys is not None:
    return dict(zip(keys, new, strict=True))
  is_named = hasattr(value, "_fields")
  return type(value)(*new) if is_named else type(value)(new)


def is_readable(site: Any) -> bool:
  """Whether `read` knows a site of `find`."""
  return isinstance(site, NormLayer) or site.axis in (-1, (-1,))


def read(who: str, path: str, site: Any) -> tuple[norms.Norm, NormVariables]:
  """A site's norm and variables; Flax's batch normalization is ours.

  Args:
    who: asks, for the message.
    path: of the site.
    site: of `find`.

  Raises:
    UserError: a BatchNorm over another axis than the last.
  """
  if isinstance(site, NormLayer):
    return site.norm, own_variables(site)
  if not is_readable(site):
    raise errors.UserError(
      f"{who}: {path or 'the model'} is a BatchNorm with axis={site.axis};"
      " allowed: axis=-1."
    )
  norm = norms.make(
    "batch_norm",
    momentum=float(site.momentum),
    eps=float(site.epsilon),
    running_variance="biased",
  )
  held = {"scale": site.scale, "bias": site.bias}
  params = {k: v[...] for k, v in held.items() if v is not None}
  if len(params) < len(held):
    norm = dataclasses.replace(norm, apply_fn=_apply_filled)
  stats = {"mean": site.mean[...], "var": site.var[...]}
  return norm, {"params": params, "stats": stats}


def _apply_filled(variables: modes.Variables, x: Array, **options: Any) -> Any:
  """That of `batch_norm`, where there is no scale or no bias."""
  mean = variables["stats"]["mean"]
  plain = {"scale": jnp.ones_like(mean), "bias": jnp.zeros_like(mean)}
  filled = {**variables, "params": {**plain, **variables["params"]}}
  return norms.make("batch_norm").apply_fn(filled, x, **options)
