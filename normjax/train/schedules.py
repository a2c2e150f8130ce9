"""Learning-rate schedules as fractions of the peak, all scalars traced.

optax's schedules compare their lengths in Python; here the number of steps
may be an array too, so that runs of any length share one program.
"""

from collections.abc import Callable, Mapping

import jax.numpy as jnp

from normjax import errors
from normjax.registry import Registry, is_outside, parse_call
from normjax.types import Array

TABLE = {
  "constant": "normjax.train.schedules:constant",
  "linear": "normjax.train.schedules:linear",
  "warmup_cosine": "normjax.train.schedules:warmup_cosine",
  "wsd": "normjax.train.schedules:wsd",
}
_REGISTRY = Registry("schedule", TABLE, from_outside=True)
names = _REGISTRY.names

Scalars = Mapping[str, Array | float]


def get(name: str) -> Callable[[Array, Scalars], Array]:
  """The schedule `f(step, scalars) -> fraction of the peak`.

  Args:
    name: of the table, or one's own as "package.module:f". Followed by options,
      as in "package.module:make_f(period=0.2)", it makes the schedule.

  Returns:
    The schedule. `scalars` holds num_steps and the floats of the config's
    schedule block.

  Raises:
    UserError: an unknown name, or one from outside that is no schedule.
  """
  bare, options = parse_call("schedule", name)
  try:
    found = _REGISTRY.make(bare, **options) if options else _REGISTRY.get(bare)
  except TypeError as error:
    raise errors.UserError(f"schedule.name={name!r}: {error}") from error
  if not callable(found):
    raise errors.UserError(
      f"schedule.name={name!r} gives a {type(found).__name__}; needed: a"
      " function (step, scalars) -> fraction of the peak."
    )
  return _checked(name, found) if is_outside(bare) else found


def _checked(
  name: str, schedule: Callable[[Array, Scalars], Array]
) -> Callable[[Array, Scalars], Array]:
  """A schedule of the user's own, whose fraction must be one number."""

  def checked(step: Array, scalars: Scalars) -> Array:
    fraction = jnp.asarray(schedule(step, scalars))
    if fraction.shape:
      raise errors.UserError(
        f"schedule.name={name!r} gives the shape {fraction.shape}; needed: one"
        " number, the fraction of the peak."
      )
    return fraction

  return checked


def _warmup(step: Array, scalars: Scalars) -> Array:
  """(t + 1) / w over the first w steps, then 1: the first step moves."""
  warmup_steps = scalars["warmup_fraction"] * scalars["num_steps"]
  return jnp.minimum(1.0, (step + 1) / jnp.maximum(warmup_steps, 1.0))


def _progress(step: Array, scalars: Scalars, start: Array | float) -> Array:
  """0 until `start` (in steps), then linear to 1 at num_steps."""
  length = jnp.maximum(scalars["num_steps"] - start, 1.0)
  return jnp.clip((step - start) / length, 0.0, 1.0)


def constant(step: Array, scalars: Scalars) -> Array:
  """Warm-up, then 1."""
  return _warmup(step, scalars)


def linear(step: Array, scalars: Scalars) -> Array:
  """Warm-up, then a straight line to final_fraction."""
  start = scalars["warmup_fraction"] * scalars["num_steps"]
  fall = (1.0 - scalars["final_fraction"]) * _progress(step, scalars, start)
  return _warmup(step, scalars) * (1.0 - fall)


def warmup_cosine(step: Array, scalars: Scalars) -> Array:
  """Warm-up, then half a cosine to final_fraction."""
  start = scalars["warmup_fraction"] * scalars["num_steps"]
  cosine = 0.5 * (1.0 + jnp.cos(jnp.pi * _progress(step, scalars, start)))
  final = scalars["final_fraction"]
  return _warmup(step, scalars) * (final + (1.0 - final) * cosine)


def wsd(step: Array, scalars: Scalars) -> Array:
  """Warm-up, stable, then a straight fall over the last decay_fraction."""
  start = (1.0 - scalars["decay_fraction"]) * scalars["num_steps"]
  fall = (1.0 - scalars["final_fraction"]) * _progress(step, scalars, start)
  return _warmup(step, scalars) * (1.0 - fall)
