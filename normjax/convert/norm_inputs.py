"""What the norms of a model are given: measured, in one call."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from normjax.nn import calling
from normjax.nn import variables as nn_variables
from normjax.nn.norm_layer import NormLayer
from normjax.nn.paths import TwoPathNorm
from normjax.norms import moments
from normjax.types import Array

_NAME = "norm_input"


class _Recording(NormLayer):
  """A norm layer that leaves its input behind."""

  def __call__(self, x: Array, **options: Any) -> Array:
    self.sow(nnx.Intermediate, _NAME, x, capture_noop=True)
    return super().__call__(x, **options)


class _RecordingPaths(TwoPathNorm):
  """The same of two paths."""

  def __call__(self, x: Array, **options: Any) -> Any:
    self.sow(nnx.Intermediate, _NAME, x, capture_noop=True)
    return super().__call__(x, **options)


_RECORDING = {NormLayer: _Recording, TwoPathNorm: _RecordingPaths}


def sites(model: nnx.Module) -> dict[str, NormLayer]:
  """The norms of a model that compute something, by path."""
  return {
    "/".join(map(str, path)): module
    for path, module in nnx.iter_modules(model)
    if type(module) in _RECORDING and module.norm.name != "identity"
  }


def reduced(
  model: nnx.Module,
  inputs: Any,
  reduce: Callable[[str, NormLayer, Array], Any],
) -> dict[str, Any]:
  """What a function makes of the input of each norm, by path.

  Args:
    model: any; called in evaluation, and not changed.
    inputs: of the call.
    reduce: (path, layer, x) to arrays; traced, so that no input is kept.

  Returns:
    Of a norm that is called several times, that of its last call; norms that
    are not called are left out.
  """
  copy = nnx.clone(model)
  for layer in sites(copy).values():
    object.__setattr__(layer, "__class__", _RECORDING[type(layer)])
  structure, variables = nn_variables.split(copy)

  @jax.jit
  def measured(variables: Any, inputs: Any) -> dict[str, Any]:
    module = nn_variables.merge(structure, variables)
    _, found = nnx.capture(
      lambda module: calling.call(module, inputs, train=False),
      nnx.Intermediate,
    )(module)
    by_path = _inputs(nnx.to_pure_dict(found))
    return {
      path: reduce(path, layer, by_path[path])
      for path, layer in sites(
        nn_variables.merge(nn_variables.split(model)[0], variables)
      ).items()
      if path in by_path
    }

  return measured(variables, inputs)


def _inputs(tree: Any, place: str = "") -> dict[str, Array]:
  found = {}
  for name, value in tree.items():
    if name == _NAME:
      found[place] = value[-1] if isinstance(value, tuple) else value
    elif isinstance(value, dict):
      found |= _inputs(value, f"{place}/{name}".strip("/"))
  return found


def deviations(model: nnx.Module, inputs: Any) -> dict[str, np.ndarray]:
  """The mean deviation of what each norm is given, by token position.

      sqrt(mean over features of (x - mean(x))^2)

  The first token of trained decoders stands far above all others
  (arXiv:2507.02559, section 3), which is what makes norms hard to remove.

  Args:
    model: of sequences.
    inputs: of a call, as tokens (b, t).

  Returns:
    By path of the norm, (t,): means over sequences.
  """

  def of(path: str, layer: NormLayer, x: Array) -> Array:
    del path, layer
    _, variance = moments.mean_and_variance(moments.promote(x), (-1,))
    std = jnp.sqrt(variance[..., 0])
    return jnp.mean(std, axis=0) if std.ndim > 1 else std

  found = reduced(model, inputs, of)
  return {path: np.asarray(value) for path, value in found.items()}
