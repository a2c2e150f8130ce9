"""Learning-rate schedules as fractions of the peak, all scalars traced.

optax's schedules compare their lengths in Python; here the number of steps
may be an array too, so that runs of any length share one program.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp

from normjax import errors, fields, own_parts
from normjax.registry import Registry
from normjax.types import Array

TABLE = {
  "constant": "normjax.train.schedules:constant",
  "linear": "normjax.train.schedules:linear",
  "warmup_cosine": "normjax.train.schedules:warmup_cosine",
  "wsd": "normjax.train.schedules:wsd",
  "step_decay": "normjax.train.schedules:step_decay",
}
_REGISTRY = Registry("schedule", TABLE, from_outside=True)
names = _REGISTRY.names

Scalars = Mapping[str, Array | float]


Schedule = Callable[[Array, Scalars], Array]


def get(name: str, options: Mapping[str, Any] | None = None) -> Schedule:
  """The schedule `f(step, scalars) -> fraction of the peak`.

  Args:
    name: of the table, or one's own as "package.module:f", called as
      `f(step, scalars, **options)`.
    options: of one's own; those that `scalars` holds too are taken from there.

  Returns:
    The schedule. `scalars` holds num_steps and the floats of the config's
    schedule block.

  Raises:
    UserError: an unknown name, or one from outside that is no schedule.
  """
  found = _REGISTRY.get(name)
  if name in TABLE:
    return found
  signature = own_parts.signature("schedule", name)
  options = dict(options or {})
  for key in own_parts.options("schedule", name):
    if key in signature.required() and key not in options:
      raise errors.UserError(
        f"schedule.name={name!r} needs {key}, which has no default: set"
        f" schedule.{key}."
      )

  def own(step: Array, scalars: Scalars) -> Array:
    given = options | {
      key: value
      for key, value in scalars.items()
      if key in options or key in signature.parameters
    }
    fraction = jnp.asarray(found(step, scalars, **given))
    if fraction.shape:
      raise errors.UserError(
        f"schedule.name={name!r} gives the shape {fraction.shape}; needed: one"
        " number, the fraction of the peak."
      )
    return fraction

  return own


def of_block(block: Mapping[str, Any]) -> Schedule:
  """The schedule of a config's block; see `get`."""
  own = {
    key: value
    for key, value in block.items()
    if key != "name" and f"schedule.{key}" not in fields.FIELDS
  }
  found = get(block["name"], own)
  if "milestones" not in block:
    return found
  given = {"milestones": tuple(block["milestones"])}
  return lambda step, scalars: found(step, {**scalars, **given})


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


def step_decay(step: Array, scalars: Scalars) -> Array:
  """Warm-up, then 1, a tenth of it at each of the milestones, fractions of all.

  As in He et al., arXiv:1512.03385: a step at t = m num_steps is the first of
  the lower rate. There is no final fraction.
  """
  at = jnp.asarray(scalars.get("milestones", ()), jnp.float32)
  # Half a step off: products such as 0.3 * 100 are not whole in float32.
  passed = jnp.sum(step + 0.5 > at * scalars["num_steps"])
  return _warmup(step, scalars) * 0.1**passed
