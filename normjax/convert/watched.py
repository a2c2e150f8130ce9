"""A model that tells its norms where end tokens are, and keeps its stream even.

What a run adds to a model while its norms go (`convert.removal`). Parameters,
names and checkpoints stay the model's.
"""

import contextvars
import functools
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import nnx
from jax import lax

from normjax import errors
from normjax.nn import given
from normjax.nn.output import Output, as_output
from normjax.norms import fake_layer_norm, moments
from normjax.types import Array

LOSS = "deviation_spread"
_EPS = 1e-5  # Of the official code.


class Watch(NamedTuple):
  """What is asked for: see `convert.removal.remove_norms`."""

  weight: float
  end_token: int | None


# The deviation loss of the call that is being traced.
_FOUND: contextvars.ContextVar[list[Array]] = contextvars.ContextVar("spread")


def watch[Model: nnx.Module](
  model: Model, weight: float, end_token: int | None
) -> Model:
  """Makes the model's class one that is derived from it, in place.

  Nothing is changed where nothing is asked for.

  Args:
    model: of tokens where there is an end token; of the class `Stack` where
      there is a weight.
    weight: of the deviation loss.
    end_token: an id, or None.

  Raises:
    UserError: a model without a final norm of its stream, and a weight.
  """
  if not weight and end_token is None:
    return model
  if weight and "final" not in getattr(model, "ends", ()):
    raise errors.UserError(
      f"deviation_loss={weight}: {type(model).__name__} has no final norm whose"
      " input could be measured; use 0."
    )
  model.watch = Watch(weight, end_token)
  object.__setattr__(model, "__class__", _class(type(model)))
  return model


def unwatch[Model: nnx.Module](model: Model) -> Model:
  """Undoes `watch` in place, where no norm of the model may still go."""
  going = any(
    getattr(module, "norm", None) is not None
    and getattr(module.norm, "name", "") == fake_layer_norm.NAME
    for _, module in nnx.iter_modules(model)
  )
  if hasattr(model, "watch") and not going:
    del model.watch
    object.__setattr__(model, "__class__", type(model).__mro__[1])
  return model


@functools.cache
def _class(kind: type[nnx.Module]) -> type[nnx.Module]:
  @functools.wraps(kind.__call__)
  def call(self: Any, inputs: Any, *args: Any, **options: Any) -> Any:
    asked: Watch = self.watch
    is_end = None
    if asked.end_token is not None:
      is_end = jnp.asarray(inputs) == asked.end_token
    site = fake_layer_norm.Site(end_bt=is_end)
    token = _FOUND.set([])
    try:
      with given.context({fake_layer_norm.NAME: site}):
        returned = kind.__call__(self, inputs, *args, **options)
      spread = sum(_FOUND.get())
    finally:
      _FOUND.reset(token)
    if not asked.weight:
      return returned
    output = as_output(returned)
    losses = {**output.auxiliary_losses, LOSS: asked.weight * spread}
    return Output(output.logits, losses, output.features)

  def normalize_end(
    self: Any, end: str, x_btd: Array, *, mask: Array | None = None, **more: Any
  ) -> Array:
    if end == "final" and self.watch.weight:
      _FOUND.get().append(spread(x_btd, _end_tokens(), mask))
    return kind.normalize_end(self, end, x_btd, mask=mask, **more)

  members = {
    "__call__": call,
    "normalize_end": normalize_end,
    "__module__": kind.__module__,
  }
  if not hasattr(kind, "normalize_end"):
    del members["normalize_end"]
  return type(kind)(f"Watched{kind.__name__}", (kind,), members)


def _end_tokens() -> Array | None:
  return given.of_name(fake_layer_norm.NAME).end_bt


def spread(
  x_btd: Array, end_bt: Array | None = None, mask_bt: Array | None = None
) -> Array:
  """Mean (std - stop_gradient(mean std))^2 of the deviations of tokens.

  The outer mean is over all real tokens, the inner one over those that are
  neither the first nor an end token.

  Args:
    x_btd: the final norm's input.
    end_bt: true at end tokens.
    mask_bt: true at real tokens.
  """
  wide = moments.promote(x_btd)
  _, variance = moments.mean_and_variance(wide, (-1,))
  std = jnp.sqrt(variance + _EPS)
  first, end, real = fake_layer_norm.tokens(x_btd, mask_bt, end_bt)
  ordinary = real & ~(first | end)
  kept = lax.stop_gradient(std)
  count = jnp.sum(jnp.broadcast_to(ordinary, std.shape))
  mean = jnp.sum(jnp.where(ordinary, kept, 0)) / jnp.maximum(count, 1)
  target = jnp.where(count > 0, mean, 1.0)
  real = jnp.broadcast_to(real, std.shape)
  return jnp.sum(jnp.where(real, jnp.square(std - target), 0)) / jnp.sum(real)
