"""Another norm in a trained model, as near to what it computed as may be."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from normjax import errors, norms, validate
from normjax.convert import linear_norms, norm_inputs
from normjax.nn import start
from normjax.nn import variables as nn_variables
from normjax.nn.norm_layer import NormLayer
from normjax.nn.variables import Structure, attach_variables, own_variables
from normjax.norms import affine, moments
from normjax.norms.pointwise import FUNCTIONS
from normjax.registry import parse_call
from normjax.types import Array

ASKED = "replace_norm"
_EVERYWHERE = ""


def replace_norm[Model: nnx.Module](
  model: Model,
  norm: norms.NormSpec,
  inputs: Any = None,
  *,
  where: str = _EVERYWHERE,
) -> Model:
  """A copy of a model with another norm in the place of its own.

  Gain and offset are carried over where the new norm has them, whatever form
  the gain has. "gated_norm" without options gates the norm that was there, by
  2 * sigmoid(0) = 1: the model computes what it did.

  With inputs, norms of a bounded map of alpha * x (dyt, derf) start by what
  they are given there: with s the median over tokens of sqrt(mean(x^2)),

      alpha = alpha_init / s,    gain = c * the old one

  so that the norm's `alpha_init` is in units of the activations, and c is the
  least-squares factor that takes f(alpha x) to what the old norm gave, without
  its gain. The papers start alpha from tables, for training from scratch; this
  start is ours.

  Args:
    model: stays as it is.
    norm: a name, "name(option=value)", a mapping with "name", or a Norm.
    inputs: of a call in evaluation, or None.
    where: a regular expression; norms whose path it matches somewhere.

  Raises:
    UserError: no norm is there; one that cannot be replaced; inputs for a norm
      that has no `alpha`; a norm of positions in a causal model.
  """
  made = nnx.clone(model)
  chosen = _chosen(made, where)
  replaced = {
    path: _new_norm(norm, layer.norm) for path, layer in chosen.items()
  }
  for path, new in replaced.items():
    _check(made, path, new, inputs is not None)
  starts = {}
  if inputs is not None:
    starts = _calibrated(model, inputs, replaced)
  for index, (path, layer) in enumerate(chosen.items()):
    _replace(layer, replaced[path], index, starts.get(path))
  return made


def replace_norm_step(
  norm: str = "",
  calibrate: bool = False,
  where: str = _EVERYWHERE,
) -> start.StartStep:
  """`replace_norm` before a run, which then fine-tunes the model.

      train.initialize_from = ("runs/a", "replace_norm('dyt', calibrate=True)")

  Args:
    norm: see `convert.replace_norm`.
    calibrate: whether dyt and derf start by what they are given: by the inputs
      of the run's first batch.
    where: see `convert.replace_norm`.

  Raises:
    UserError: no norm, or an unknown one.
  """
  validate.flags(ASKED, calibrate=calibrate)
  validate.pattern(ASKED, "where", where)
  if not norm or not isinstance(norm, str):
    raise errors.UserError(
      f"{ASKED}: norm={norm!r}; needed: the name of a norm, as in"
      f" {ASKED}(norm='dyt'). Known: {', '.join(norms.names())}."
    )
  norms.resolve(norm)  # Raises what is wrong with it.

  def apply(
    model: Structure, variables: start.Variables, inputs: Any = None
  ) -> tuple[Structure, start.Variables]:
    module = nn_variables.merge(model, variables)
    given = inputs if calibrate else None
    return nn_variables.split(replace_norm(module, norm, given, where=where))

  def check(model: Structure, shapes: start.Variables) -> None:
    def replaced(variables: start.Variables) -> None:
      module = nn_variables.merge(model, variables)
      for path, layer in _chosen(module, where).items():
        _check(module, path, _new_norm(norm, layer.norm), calibrate)

    jax.eval_shape(replaced, shapes)

  return start.StartStep(apply, check=check, reads_inputs=calibrate)


def _chosen(model: nnx.Module, where: str) -> dict[str, NormLayer]:
  everywhere = norm_inputs.sites(model)
  found = {k: v for k, v in everywhere.items() if re.search(where, k)}
  if not found:
    raise errors.UserError(
      f"{type(model).__name__} has no norm at where={where!r}; its norms:"
      f" {errors.few(list(everywhere), 5, ', ') or 'none'}."
    )
  return found


def _new_norm(spec: norms.NormSpec, old: norms.Norm) -> norms.Norm:
  """What is to stand where the old norm is."""
  if isinstance(spec, str):
    name, options = parse_call("norm", spec)
    spec = {"name": name, **options}
  if isinstance(spec, Mapping) and spec["name"] == "gated_norm":
    # Of the paper's gate of one half a trained model knows nothing.
    given = {key: value for key, value in spec.items() if key != "name"}
    return norms.make(
      "gated_norm", **{"gate_init": "one", "inner": old, **given}
    )
  return norms.resolve(spec)


def _check(
  model: nnx.Module, path: str, new: norms.Norm, calibrated: bool
) -> None:
  if calibrated and "alpha_init" not in new.options:
    raise errors.UserError(
      f"{new.name} has no alpha that inputs could start; allowed with them:"
      " dyt, derf. Leave them (calibrate) out."
    )
  causal = any(
    getattr(module, "causal", False) for _, module in nnx.iter_modules(model)
  )
  if causal and (new.traits.mixes_positions or new.traits.spatial_only):
    raise errors.UserError(
      f"{path}: {new.name} reads other positions, and tokens of"
      f" {type(model).__name__} must not see later ones."
    )


def _replace(
  layer: NormLayer,
  new: norms.Norm,
  index: int,
  started: Mapping[str, Array] | None,
) -> None:
  """Makes it a layer of the new norm, in place."""
  features = _features(layer)
  key = jax.random.fold_in(jax.random.key(0), index)
  made = new.init((features,), key=key)
  params = made["params"] | _carried(layer, new, made["params"])
  if started is not None:
    params["alpha"] = jnp.full_like(params["alpha"], started["alpha"])
    if "scale" in params:
      scale = params["scale"]
      params["scale"] = (started["factor"] * scale).astype(scale.dtype)
  linear_norms.leave(layer, new, keep=())
  attach_variables(layer, {**made, "params": params})


def _carried(
  layer: NormLayer, new: norms.Norm, params: Mapping[str, Array]
) -> dict[str, Array]:
  """Gain and offset of the old norm in the form that the new one has."""
  old = own_variables(layer)["params"]
  before, after = _form(layer.norm), _form(new)
  if before == after:
    found = {name: old[name] for name in affine.NAMES if name in old}
  else:
    gains = affine.gains(old, bool(before.get("zero_centered")))
    found = {name: gains[name] for name in ("scale", "bias") if name in gains}
    if "scale" in found and after.get("zero_centered"):
      found["scale"] = found["scale"] - 1
    if "scale" in found and "direction" in params:
      gain = found.pop("scale")
      found |= {"direction": gain, "magnitude": jnp.linalg.norm(gain)}
  return {
    name: value.astype(params[name].dtype)
    for name, value in found.items()
    if name in params and params[name].shape == value.shape
  }


def _form(norm: norms.Norm) -> dict[str, Any]:
  """How a norm holds its gain; a gated one as the norm inside."""
  options = norm.options.get("inner", norm).options
  plain = {"zero_centered": False, "scale_form": "plain"}
  return {name: options.get(name, value) for name, value in plain.items()}


def _features(layer: NormLayer) -> int:
  sizes = [
    leaf.shape[-1]
    for values in own_variables(layer).values()
    for leaf in values.values()
    if leaf.ndim
  ]
  if not sizes:
    raise errors.UserError(
      f"a {layer.norm.name} without parameters does not say how many features"
      " it normalizes; needed: a norm with a gain or an offset."
    )
  return max(sizes)


def _calibrated(
  model: nnx.Module, inputs: Any, replaced: Mapping[str, norms.Norm]
) -> dict[str, dict[str, Array]]:
  """alpha, and the factor of the gain, of each norm that is called."""

  def of(path: str, layer: NormLayer, x: Array) -> dict[str, Array]:
    new = replaced.get(path)
    if new is None:
      return {}
    return start_of(layer, new, x)

  found = norm_inputs.reduced(model, inputs, of)
  return {path: value for path, value in found.items() if value}


def start_of(layer: NormLayer, new: norms.Norm, x: Array) -> dict[str, Array]:
  """See `replace_norm`.

  Args:
    layer: of the old norm.
    new: dyt or derf.
    x: what the layer is given.
  """
  wide = moments.promote(x)
  size = jnp.median(jnp.sqrt(moments.mean_square(wide, (-1,))))
  alpha = new.options["alpha_init"] / jnp.maximum(
    size, jnp.finfo(wide.dtype).tiny
  )
  function: Callable[[Array], Array] = FUNCTIONS[new.options["function"]]
  shift = new.options["shift_init"] or 0.0
  bounded = function(alpha * wide + shift)
  if not layer.norm.traits.affine_last:
    return {"alpha": alpha, "factor": jnp.ones_like(alpha)}
  variables = own_variables(layer)
  rest, kept, _, _ = affine.taken_from(layer.norm, variables["params"])
  y, _ = rest.apply({**variables, "params": kept}, wide, train=False)
  factor = jnp.sum(y * bounded) / jnp.sum(bounded * bounded)
  return {"alpha": alpha, "factor": factor}
