"""Writers that are centred on the fly: the equivalent form to train in.

The parameters stay those of the Pre-LN model, names and values, so that its
checkpoints and optimizer states fit.
"""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

from flax import nnx

from normjax import norms
from normjax.convert import stream as streams
from normjax.convert.stream import Stream
from normjax.nn import neighbours
from normjax.norms import affine, base, modes, moments
from normjax.types import Array


def centre_on_the_fly(model: nnx.Module, stream: Stream) -> None:
  """Makes the model centre its writers in each call, in place.

  Gradients pass through the centring. The model's class becomes one that is
  derived from it.
  """
  model.centred_variables = stream.writers
  object.__setattr__(model, "__class__", _class(type(model)))


@functools.cache
def _class(kind: type[nnx.Module]) -> type[nnx.Module]:
  """The class whose call sees centred writers."""

  @functools.wraps(kind.__call__)
  def call(self: nnx.Module, *args: Any, **options: Any) -> Any:
    with _centred(self):
      return kind.__call__(self, *args, **options)

  return type(kind)(f"Centred{kind.__name__}", (kind,), {"__call__": call})


@contextlib.contextmanager
def _centred(model: Any) -> Iterator[None]:
  """Puts centred parameters in the place of the model's own for a while."""
  kept = []
  try:
    for path in model.centred_variables:
      place, _, name = path.rpartition("/")
      # Not by setattr: a call inside of jit may not change what is outside,
      # and nothing is changed once it is over.
      attributes = vars(neighbours.module_at(model, place))
      kept.append((attributes, name, attributes[name]))
      value = streams.centred(attributes[name][...])
      attributes[name] = nnx.Param(value)
    yield
  finally:
    for attributes, name, variable in kept:
      attributes[name] = variable


def rms_of(norm: norms.Norm) -> norms.Norm:
  """The rms_norm that does to centred x what a layer_norm does.

  Its parameters have the names and values of the layer_norm's, the bias too,
  which rms_norm of the table does not have.
  """
  shared = ("eps", "use_scale", "zero_centered", "eps_placement", "scale_form")
  inner = norms.make("rms_norm", **{key: norm.options[key] for key in shared})
  if not norm.options["use_bias"]:
    return inner
  return base.Norm(
    name="rms_norm",
    options={**inner.options, "use_bias": True},
    traits=inner.traits,
    init_fn=_init,
    apply_fn=_apply,
  )


def _init(shape: Any, dtype: Any, *, use_bias: bool, **options: Any):
  bias = affine.init(shape, dtype, use_scale=False, use_bias=use_bias)
  made = norms.make("rms_norm", **options).init(shape, dtype)
  return {"params": made["params"] | bias}


def _apply(
  variables: base.Variables,
  x: Array,
  *,
  mode: modes.Mode,
  mask: Array | None,
  context: Any,
  use_bias: bool,
  **options: Any,
):
  del mode, mask, context, use_bias  # The bias is where the variables have it.
  inner = norms.make("rms_norm", **options)
  # In float32, so that y is rounded once.
  y, stats = inner.apply(variables, moments.promote(x))
  params = variables["params"]
  bias = {"bias": params["bias"]} if "bias" in params else {}
  return affine.apply(y, bias).astype(x.dtype), stats
