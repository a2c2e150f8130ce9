"""What a dense model holds where this one has W_0 and factors."""

from collections.abc import Iterator
from typing import Any

import jax
from flax import nnx

from normjax.nn import variables as nn_variables
from normjax.nn.linear.lora import LowRankUpdate
from normjax.nn.variables import Structure
from normjax.types import PyTree

FROZEN, KERNEL, BIAS = "frozen_kernel", "kernel", "bias"
_FACTORS = ("lora_a", "lora_b")
Variables = dict[str, PyTree]


def has_updates(model: Structure, variables: Variables) -> bool:
  """Whether a model has layers that are a low-rank update of W_0."""
  return any(True for _ in _layers(model, variables))


def shapes(model: Structure, variables: Variables) -> Variables:
  """Those of the same model with dense layers.

  Args:
    model: with layers that are `LowRankUpdate`.
    variables: of it, or their shapes.
  """
  found = _copied(variables)
  for path, layer in _layers(model, variables):
    params = _node(found["params"], path)
    for name in _FACTORS:
      del params[name]
    held = _node(found["stats"], path).pop(FROZEN)
    kernel_shape = (*layer.inputs, *layer.outputs)
    params[KERNEL] = jax.ShapeDtypeStruct(kernel_shape, held.dtype)
    if BIAS in params:
      params[BIAS] = jax.ShapeDtypeStruct(layer.outputs, params[BIAS].dtype)
  return found


def from_dense(
  model: Structure, variables: Variables, dense: Variables
) -> Variables:
  """The dense model's variables, its matrices as W_0; factors as they are.

  Args:
    model: see `shapes`.
    variables: of it; its factors are kept.
    dense: as `shapes` says.
  """
  found = _copied(dense)
  for path, _ in _layers(model, variables):
    params = _node(found["params"], path)
    own = _node(variables["params"], path)
    frozen = _node(variables["stats"], path)[FROZEN]
    kernel = params.pop(KERNEL).reshape(frozen.shape)
    _node(found["stats"], path)[FROZEN] = kernel
    for name in _FACTORS:
      params[name] = own[name]
    if BIAS in params:
      params[BIAS] = params[BIAS].reshape(own[BIAS].shape)
  return found


def _layers(
  model: Structure, variables: Variables
) -> Iterator[tuple[tuple[str, ...], LowRankUpdate]]:
  merged = nn_variables.merge(model, variables)
  for path, module in nnx.iter_modules(merged):
    if isinstance(module, LowRankUpdate):
      yield tuple(map(str, path)), module


def _node(tree: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
  """The dict at a path; made where there is none."""
  for key in path:
    tree = tree.setdefault(key, {})
  return tree


def _copied(tree: Any) -> Any:
  """The dicts copied, the leaves not."""
  if isinstance(tree, dict):
    return {key: _copied(value) for key, value in tree.items()}
  return tree
