"""Leaky integrate-and-fire neurons over time, with surrogate gradients."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp

from normjax import errors
from normjax.types import Array

RESETS = ("subtract", "zero")


def _sigmoid(x: Array, alpha: float) -> Array:
  s = jax.nn.sigmoid(alpha * x)
  return alpha * s * (1 - s)


def _arctan(x: Array, alpha: float) -> Array:
  return alpha / 2 / (1 + jnp.square(math.pi / 2 * alpha * x))


# What stands for the derivative of a step at 0, of width 1 / alpha.
SURROGATES = {"sigmoid": _sigmoid, "arctan": _arctan}
# The functions that have these derivatives: smooth steps from 0 to 1.
GRADED = {
  "sigmoid": lambda x, alpha: jax.nn.sigmoid(alpha * x),
  "arctan": lambda x, alpha: (
    jnp.arctan(math.pi / 2 * alpha * x) / math.pi + 0.5
  ),
}


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def spike(x: Array, surrogate: str = "sigmoid", alpha: float = 4.0) -> Array:
  """1 where x >= 0, else 0; its derivative is that of the surrogate.

  Args:
    x: the membrane potential over the threshold, float.
    surrogate: of `SURROGATES`: "sigmoid" is alpha s (1 - s) with
      s = sigmoid(alpha x), "arctan" is alpha / 2 / (1 + (pi alpha x / 2)^2).
    alpha: inverse width of the surrogate.
  """
  del surrogate, alpha
  return (x >= 0).astype(x.dtype)


@spike.defjvp
def _spike_jvp(surrogate, alpha, primals, tangents):
  (x,), (dx,) = primals, tangents
  slope = SURROGATES[surrogate](x, alpha).astype(x.dtype)
  return spike(x, surrogate, alpha), slope * dx


@dataclasses.dataclass(frozen=True)
class LIF:
  """Leaky integrate-and-fire neurons.

      v = v (1 - 1/tau) + I;    s = H(v - threshold);    v = v - s threshold

  from v = 0, the spike s being 1 where v has reached the threshold. The
  defaults are those of networks of excitation and inhibition (the code of
  DeepEISNN); `LIF(decay_input=True, reset="zero", detach_reset=False)` is the
  default of the library spikingjelly.

  Attributes:
    tau: time constant in steps, > 1.
    decay_input: whether I is divided by tau too: v = v + (I - v) / tau.
    threshold: of v, > 0.
    reset: "subtract" the threshold (soft) or to "zero" (hard).
    detach_reset: whether the gradient passes the reset by: the reset is then
      a constant.
    surrogate: of `SURROGATES`.
    surrogate_alpha: its inverse width; the libraries' defaults are 4 for
      "sigmoid" and 2 for "arctan".
    graded: whether the output is the smooth step that has the surrogate as its
      derivative, instead of a spike: what remains of the network without the
      discontinuity.
  """

  tau: float = 2.0
  decay_input: bool = False
  threshold: float = 1.0
  reset: str = "subtract"
  detach_reset: bool = True
  surrogate: str = "sigmoid"
  surrogate_alpha: float = 4.0
  graded: bool = False

  def __post_init__(self) -> None:
    """Checks the options.

    Raises:
      UserError: one out of range, or an unknown reset or surrogate.
    """
    if not self.tau > 1:
      raise errors.UserError(f"tau={self.tau} must be above 1.")
    for name in ("threshold", "surrogate_alpha"):
      if not getattr(self, name) > 0:
        raise errors.UserError(f"{name}={getattr(self, name)} must be above 0.")
    for name, allowed in (("reset", RESETS), ("surrogate", SURROGATES)):
      if getattr(self, name) not in allowed:
        raise errors.UserError(
          f"{name}={getattr(self, name)!r} is unknown;"
          f" allowed: {', '.join(map(repr, allowed))}."
        )

  def __call__(self, currents_t: Array) -> Array:
    """The spikes of all steps.

    Args:
      currents_t: input currents, time first: (t, …), any float dtype.

    Returns:
      0 or 1, of the same shape and dtype; v is kept in float32 at least.
    """
    return _over_time(self, currents_t)

  def advance(self, v: Array, current: Array) -> tuple[Array, Array]:
    """One step: (the potential after the reset, the spikes)."""
    gain = 1 / self.tau if self.decay_input else 1.0
    v = v * (1 - 1 / self.tau) + gain * current
    above = v - self.threshold
    if self.graded:
      fired = GRADED[self.surrogate](above, self.surrogate_alpha)
    else:
      fired = spike(above, self.surrogate, self.surrogate_alpha)
    by = jax.lax.stop_gradient(fired) if self.detach_reset else fired
    rest = v - by * self.threshold if self.reset == "subtract" else v * (1 - by)
    return rest, fired


# Compiled, so that outside of a compiled function too the loop is traced once.
@functools.partial(jax.jit, static_argnums=0)
def _over_time(cells: LIF, currents_t: Array) -> Array:
  wide = jnp.promote_types(currents_t.dtype, jnp.float32)

  def step(v, current):
    v, fired = cells.advance(v, current.astype(wide))
    return v, fired.astype(currents_t.dtype)

  start = jnp.zeros(currents_t.shape[1:], wide)
  return jax.lax.scan(step, start, currents_t)[1]
