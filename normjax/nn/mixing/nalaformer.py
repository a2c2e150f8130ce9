"""NaLaFormer's linear attention, Meng et al. 2025, arXiv:2506.21137."""

import math
from typing import Any

import jax.numpy as jnp

from normjax import errors, validate
from normjax.nn.mixing import base, linear
from normjax.norms import moments
from normjax.types import Array

_TRAITS = base.MixingTraits(rotation="features")


def nalaformer(
  power: float = 3.0, eps: float = 1e-6, chunk: int = 64
) -> base.Mixing:
  """Norm-aware linear attention as the official code has it.

      n = |q|,  p = power (0.5 + tanh n)
      f(q) = [relu(q / n)^p ; relu(-q / n)^p]
      g(k) = [relu(k)^power ; relu(-k)^power]
      y = (R f(q) . mean_s R g(k_s) v_s) / (f(q) . mean_s g(k_s) + eps)

  R rotates each half by position; the denominator ignores it. A large query
  has a large power: its weights are more concentrated, as softmax's are.
  Everything is float32 (float64 for float64); the result has the dtype of v.

  Traps of the official code: q = 0 gives 0 / 0 = NaN there, and y = 0 with
  finite gradients here. Only the bidirectional form is official; the causal
  one takes the means over s <= t, by cumulative sums over chunks. What
  surrounds the method in the paper's blocks is not here: the depthwise
  convolution of v, and the gate after a layer norm (`inner_norm` and
  `output_gate` of `Attention` come near, with a sigmoid for the SiLU).

  Args:
    power: lambda of the paper, > 0.
    eps: added to the denominator, > 0.
    chunk: positions of one block of the causal sums; changes the cost alone.

  Raises:
    UserError: an option out of range.
  """
  _check("nalaformer", power, eps, chunk)
  options = {"power": power, "eps": eps, "chunk": chunk}
  return base.Mixing("nalaformer", options, _TRAITS, _nalaformer)


def nalaformer_paper(
  power: float = 3.0,
  eps: float = 1e-6,
  angle: float = math.pi / 4,
  chunk: int = 64,
) -> base.Mixing:
  """Norm-aware linear attention with a cosine of the directions.

      n = |q|,  p = power (0.5 + tanh n),  u = q / |q|,  w = k / |k|
      f(q) = [|u|^p cos(angle u) ; |u|^p sin(angle u)]
      g(k) = [|k|^power cos(angle w) ; |k|^power sin(angle w)]
      f(q) . g(k) = sum_i |u_i|^p |k_i|^power cos(angle (u_i - w_i))

  and y as in `nalaformer`. This follows what is publicly reported of the
  first version of arXiv:2506.21137: powers of magnitudes, and directions that
  enter by a cosine and a sine so that the weights stay non-negative. It is
  our reading and no transcription: neither official code of it nor the full
  text was compared. With angle = pi / 4 features of opposite ends of [-1, 1]
  cancel to cos(pi / 2) = 0 and no weight is negative; angle = 1 maps the
  direction itself, and cos(2) < 0 is possible. q = 0 and k = 0 have features
  of 0. Precision, traps and what is left out: as `nalaformer`.

  Args:
    power: lambda of the paper, > 0.
    eps: added to the denominator, > 0.
    angle: of a direction of 1, > 0.
    chunk: positions of one block of the causal sums; changes the cost alone.

  Raises:
    UserError: an option out of range.
  """
  _check("nalaformer_paper", power, eps, chunk)
  validate.number("nalaformer_paper", "angle", angle, above=0)
  options = {"power": power, "eps": eps, "angle": angle, "chunk": chunk}
  return base.Mixing("nalaformer_paper", options, _TRAITS, _paper)


def _check(name: str, power: float, eps: float, chunk: int) -> None:
  validate.number(name, "power", power, above=0)
  validate.number(name, "eps", eps, above=0)
  try:
    validate.counts("nalaformer", chunk=chunk)
  except errors.UserError as error:
    raise errors.UserError(f"{name}: {error}") from error


def direction(x: Array) -> tuple[Array, Array]:
  """Returns x / |x| and |x| over the last axis; both 0, with 0 gradients, at 0.

  Args:
    x: float32 or float64.
  """
  square = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
  nonzero = square > 0
  norm = jnp.sqrt(jnp.where(nonzero, square, 1))
  return x / norm, jnp.where(nonzero, norm, 0)


def _magnitude_power(x: Array, power: float | Array) -> Array:
  """|x|^power with zero gradients, not NaN, at x = 0."""
  nonzero = x != 0
  magnitude = jnp.abs(jnp.where(nonzero, x, 1))
  return jnp.where(nonzero, jnp.exp(power * jnp.log(magnitude)), 0)


def _by_sign(magnitude: Array, sign: Array) -> Array:
  return jnp.concatenate(
    [jnp.where(sign > 0, magnitude, 0), jnp.where(sign < 0, magnitude, 0)],
    axis=-1,
  )


def _nalaformer(
  params: Any,
  q_bthk: Array,
  k_bsgk: Array,
  v_bsgk: Array,
  *,
  power: float,
  **options: Any,
):
  del params
  q_bthk, k_bsgk = moments.promote(q_bthk), moments.promote(k_bsgk)
  unit, norm = direction(q_bthk)
  exponent = power * (0.5 + jnp.tanh(norm))
  return linear.attend(
    _by_sign(_magnitude_power(unit, exponent), unit),
    _by_sign(_magnitude_power(k_bsgk, power), k_bsgk),
    v_bsgk,
    **options,
  )


def _paper(
  params: Any,
  q_bthk: Array,
  k_bsgk: Array,
  v_bsgk: Array,
  *,
  power: float,
  angle: float,
  **options: Any,
):
  del params

  def features(magnitude: Array, unit: Array) -> Array:
    turned = angle * unit
    return jnp.concatenate(
      [magnitude * jnp.cos(turned), magnitude * jnp.sin(turned)], axis=-1
    )

  q_bthk, k_bsgk = moments.promote(q_bthk), moments.promote(k_bsgk)
  unit, norm = direction(q_bthk)
  exponent = power * (0.5 + jnp.tanh(norm))
  return linear.attend(
    features(_magnitude_power(unit, exponent), unit),
    features(_magnitude_power(k_bsgk, power), direction(k_bsgk)[0]),
    v_bsgk,
    **options,
  )
