"""Learning-rate schedules as fractions of the peak, all scalars traced.

optax's schedules compare their lengths in Python; here the number of steps
may be an array too, so that runs of any length share one program.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp

from normjax import configure, errors, fields, own_parts
from normjax.nn import linear as linear_lib
from normjax.nn.linear.restarting import Restarts
from normjax.registry import Registry
from normjax.types import Array

TABLE = {
  "constant": "normjax.train.schedules:constant",
  "linear": "normjax.train.schedules:linear",
  "warmup_cosine": "normjax.train.schedules:warmup_cosine",
  "wsd": "normjax.train.schedules:wsd",
  "step_decay": "normjax.train.schedules:step_decay",
  "cosine_restarts": "normjax.train.cosine_restarts:cosine_restarts",
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


RESTARTS = "cosine_restarts"
RESTART_EVERY = "schedule.restart_every"
RESTART_WARMUP_STEPS = "schedule.restart_warmup_steps"


def of_config(config: configure.ConfigDict) -> Schedule:
  """The schedule of a config, which restarts when its layers do.

  Raises:
    UserError: what `get` and `restarts_of` raise.
  """
  block = configure.to_dict(config)["schedule"]
  if block["name"] != RESTARTS:
    return of_block(block)
  restarts = restarts_of(config)
  found = of_block({**block, "restart_every": restarts.every})
  adjusted = {"adjust_steps": restarts.adjust_steps}
  return lambda step, scalars: found(step, {**scalars, **adjusted})


def restarts_of(config: configure.ConfigDict) -> Restarts:
  """When `cosine_restarts` restarts: as layers do, or as the schedule says.

  Raises:
    UserError: neither says it, or both and not the same.
  """
  text = config.model.get("linear", "dense")
  restarts = linear_lib.resolve(text).restarts
  every = configure.optional(config, RESTART_EVERY)
  if restarts is None and not every:
    raise errors.UserError(
      f"schedule.name={RESTARTS!r} needs {RESTART_EVERY}, in steps: the layers"
      f" of model.linear={text!r} do not restart."
    )
  if restarts is not None and every not in (0, restarts.every):
    raise errors.UserError(
      f"{RESTART_EVERY}={every}: layers of model.linear={text!r} restart every"
      f" {restarts.every} steps; allowed: 0, which takes it from there."
    )
  return restarts or Restarts(every)


def of_block(block: Mapping[str, Any]) -> Schedule:
  """The schedule of a config's block alone; see `get`."""
  own = {
    key: value
    for key, value in block.items()
    if key != "name" and f"schedule.{key}" not in fields.FIELDS
  }
  found = get(block["name"], own)
  # Static, hence in no program's scalars.
  given = {key: block[key] for key in ("restart_every",) if key in block}
  if "milestones" in block:
    given["milestones"] = tuple(block["milestones"])
  return lambda step, scalars: found(step, {**scalars, **given})


def warmup(step: Array, scalars: Scalars) -> Array:
  """(t + 1) / w over the first w steps, then 1: the first step moves."""
  warmup_steps = scalars["warmup_fraction"] * scalars["num_steps"]
  return jnp.minimum(1.0, (step + 1) / jnp.maximum(warmup_steps, 1.0))


def progress(step: Array, scalars: Scalars, start: Array | float) -> Array:
  """0 until `start` (in steps), then linear to 1 at num_steps."""
  length = jnp.maximum(scalars["num_steps"] - start, 1.0)
  return jnp.clip((step - start) / length, 0.0, 1.0)


def cosine(step: Array, scalars: Scalars, start: Array | float) -> Array:
  """1 until `start` (in steps), then half a cosine to final_fraction."""
  half = 0.5 * (1.0 + jnp.cos(jnp.pi * progress(step, scalars, start)))
  final = scalars["final_fraction"]
  return final + (1.0 - final) * half


def constant(step: Array, scalars: Scalars) -> Array:
  """Warm-up, then 1."""
  return warmup(step, scalars)


def linear(step: Array, scalars: Scalars) -> Array:
  """Warm-up, then a straight line to final_fraction."""
  start = scalars["warmup_fraction"] * scalars["num_steps"]
  fall = (1.0 - scalars["final_fraction"]) * progress(step, scalars, start)
  return warmup(step, scalars) * (1.0 - fall)


def warmup_cosine(step: Array, scalars: Scalars) -> Array:
  """Warm-up, then half a cosine to final_fraction."""
  start = scalars["warmup_fraction"] * scalars["num_steps"]
  return warmup(step, scalars) * cosine(step, scalars, start)


def wsd(step: Array, scalars: Scalars) -> Array:
  """Warm-up, stable, then a straight fall over the last decay_fraction."""
  start = (1.0 - scalars["decay_fraction"]) * scalars["num_steps"]
  fall = (1.0 - scalars["final_fraction"]) * progress(step, scalars, start)
  return warmup(step, scalars) * (1.0 - fall)


def step_decay(step: Array, scalars: Scalars) -> Array:
  """Warm-up, then 1, a tenth of it at each of the milestones, fractions of all.

  As in He et al., arXiv:1512.03385: a step at t = m num_steps is the first of
  the lower rate. There is no final fraction.
  """
  at = jnp.asarray(scalars.get("milestones", ()), jnp.float32)
  # Half a step off: products such as 0.3 * 100 are not whole in float32.
  passed = jnp.sum(step + 0.5 > at * scalars["num_steps"])
  return warmup(step, scalars) * 0.1**passed
