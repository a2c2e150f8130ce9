"""Layers of excitatory and inhibitory cells, in the place of normalization.

The layer of the code vwOvOwv/DeepEISNN ("E-I"): its initialization on data
and its two changes of the backward pass (E-I Prop) are here as options.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from normjax import errors, validate
from normjax.nn import roles
from normjax.nn.conv import convolve
from normjax.norms import modes
from normjax.types import Array


def non_negative(weight: Array) -> Array:
  """max(weight, 0), the gradient passing as if nothing had been done.

  The official code clamps its weights in place before it uses them. The
  derivative of a maximum would halve the gradient at 0, where clamped weights
  are, and so bind them there.
  """
  return weight + jax.lax.stop_gradient(jnp.maximum(weight, 0) - weight)


@jax.custom_vjp
def replace_zeros(x: Array) -> Array:
  """Zeros become the smallest other value of their example.

  The gradient is the identity: what divides by the result sees the replaced
  value in its derivative, and hands it on to the zero. An example of zeros
  only becomes infinite, so that a quotient by it is 0.

  Args:
    x: (b, …), >= 0; the smallest is over all axes but the first.
  """
  return _replaced(x)


def _replaced(x: Array) -> Array:
  others = jnp.where(x == 0, jnp.inf, x)
  smallest = jnp.min(others, axis=range(1, x.ndim), keepdims=True)
  return jnp.where(x == 0, smallest, x)


replace_zeros.defvjp(lambda x: (_replaced(x), None), lambda _, g: (g,))


@jax.custom_vjp
def divide_gradient(x: Array, by: float) -> Array:
  """x, whose gradient is divided by `by`."""
  del by
  return x


divide_gradient.defvjp(lambda x, by: (x, by), lambda by, g: (g / by, None))


class ExcitatoryInhibitory(nnx.Module):
  """The input current of excitatory cells, balanced by inhibitory ones.

      I_EE = W_EE x            I_IE = W_IE x
      I_bal = I_EE - W_EI I_IE            (subtractive inhibition)
      I_div = W_EI (g_I I_IE)             (divisive inhibition)
      y = g_E I_bal / I_div + b_E

  W_EE, W_IE, W_EI, g_I and g_E are >= 0: they are clamped before use, and
  `optim.sign_constrained` and `optim.ei_sgd` keep them so. Inputs must be >= 0
  (spikes, pixels in [0, 1]; not standardized images), else neither the signs
  nor the division mean what they should; a compiled function can't check it.
  There is no eps. Zeros of I_div are replaced by the smallest other value of
  the example, over its cells and places, as the official code does.

  The inhibitory cells mix channels at each place alone, by a 1x1 convolution.
  Currents are float32 at least: I_bal is a small difference of large sums.

  Parameters: `kernel_ee` (…, inputs, n_E), `kernel_ie` (…, inputs, n_I),
  `kernel_ei` (n_I, n_E), `gain_i` (n_I,), `gain_e` (n_E,), `bias` (n_E,), the
  last of any sign. A readout has the three kernels only and gives I_bal.
  """

  def __init__(
    self,
    inputs: int,
    outputs: int,
    *,
    kernel_size: int | None = None,
    stride: int = 1,
    ratio: int = 4,
    readout: bool = False,
    replace_zeros: bool = True,
    scale_gradient: bool = True,
    rngs: nnx.Rngs,
  ):
    """Makes the weights as for inputs that are 0 or 1 with equal chances.

    `initialize_on` draws them for the inputs that there are.

    Args:
      inputs: features or channels of x.
      outputs: n_E, excitatory cells or channels.
      kernel_size: of both axes of a convolution, odd, padded by zeros; None
        for a dense layer.
      stride: of the convolution.
      ratio: excitatory cells for each inhibitory one; n_I = n_E // ratio, and
        1 at least.
      readout: whether y is I_bal.
      replace_zeros: first part of E-I Prop. Without it a zero of I_div is
        divided by, and what comes is infinite or NaN.
      scale_gradient: second part: W_EI's gradient is divided by the inputs of
        one cell, inputs times kernel_size^2.
      rngs: stream "params".

    Raises:
      UserError: a size below 1.
    """
    validate.counts(
      "excitatory_inhibitory", inputs=inputs, outputs=outputs, ratio=ratio
    )
    self.kernel_size, self.stride, self.readout = kernel_size, stride, readout
    self.replace_zeros, self.scale_gradient = replace_zeros, scale_gradient
    inhibitory = max(1, outputs // ratio)
    area = () if kernel_size is None else (kernel_size, kernel_size)
    self.fan_in = inputs * (kernel_size or 1) ** 2
    self.kernel_ee = nnx.Param(jnp.zeros((*area, inputs, outputs)))
    self.kernel_ie = nnx.Param(jnp.zeros((*area, inputs, inhibitory)))
    self.kernel_ei = nnx.Param(
      jnp.full((inhibitory, outputs), 1 / inhibitory, jnp.float32)
    )
    if not readout:
      self.gain_i = nnx.Param(jnp.zeros((inhibitory,)))
      self.gain_e = nnx.Param(jnp.ones((outputs,)))
      self.bias = nnx.Param(jnp.zeros((outputs,)))
    self._draw(0.5, 0.25, 0.5, rngs.params())

  @property
  def parameter_roles(self) -> dict[str, roles.Role]:
    """See `nn.roles`."""
    window = () if self.kernel_size is None else ("height", "width")
    signed = {"bias": roles.bias("out")}
    others = {
      "kernel_ee": roles.kernel(*window, "in", "out"),
      "kernel_ie": roles.kernel(*window, "in", "inhibitory"),
      "kernel_ei": roles.kernel("inhibitory", "out"),
      "gain_i": roles.gain("inhibitory"),
      "gain_e": roles.gain("out"),
    }
    return signed | {
      name: dataclasses.replace(role, non_negative=True)
      for name, role in others.items()
    }

  def initialize_on(self, x: Array, key: Array) -> None:
    """Draws the weights for the inputs x (E-I Init).

        W_EE, W_IE ~ Exponential(scale = sqrt(V / (d (E2 + V))))
        W_EI = 1 / n_I    g_I = sqrt((E2 + V) / d) / E    g_E = 1    b_E = 0

    with E and E2 the means of x and of x^2, V the mean over features of the
    unbiased variance over examples, d the inputs of one cell: equations 53
    and 54, as comments of the official code number them. Then E[I_div] is
    sqrt(V), and y has a standard deviation of sqrt(E2 / (E2 + V)), not quite
    1: what all cells share cancels in I_bal. Where x is constant or 0 the
    weights are drawn as `__init__` does.

    Args:
      x: (b, …), what the layer is called on; examples of all time steps.
      key: of the draws.
    """
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    mean, square = jnp.mean(wide), jnp.mean(jnp.square(wide))
    variance = jnp.mean(jnp.var(wide, axis=0, ddof=1))
    usable = (mean > 0) & (variance > 0)
    self._draw(
      jnp.where(usable, mean, 0.5),
      jnp.where(usable, variance, 0.25),
      jnp.where(usable, square, 0.5),
      key,
    )

  def _draw(self, mean, variance, square, key):
    scale = jnp.sqrt(variance / (self.fan_in * (square + variance)))
    for kernel, part in zip(
      (self.kernel_ee, self.kernel_ie), jax.random.split(key), strict=True
    ):
      kernel[...] = scale * jax.random.exponential(part, kernel.shape)
    if not self.readout:
      gain = jnp.sqrt((square + variance) / self.fan_in) / mean
      self.gain_i[...] = jnp.full(self.gain_i.shape, gain, jnp.float32)

  def __call__(self, x: Array, *, train: modes.Train = None) -> Array:
    """y, or I_bal of a readout.

    Args:
      x: (b, inputs) or (b, y, x, inputs), >= 0.
      train: checked; nothing depends on it.

    Returns:
      (b, …, n_E), float32 at least.

    Raises:
      UserError: x has another rank.
    """
    modes.resolve(train, self)
    if x.ndim != (2 if self.kernel_size is None else 4):
      raise errors.UserError(
        f"x has the shape {x.shape}: a dense layer takes (b, features), a"
        " convolution (b, y, x, channels)."
      )
    # Both kinds of cell read x at once.
    kernel = jnp.concatenate([self.kernel_ee[...], self.kernel_ie[...]], -1)
    currents = self._gather(x, non_negative(kernel))
    outputs = self.kernel_ee.shape[-1]
    i_ee, i_ie = currents[..., :outputs], currents[..., outputs:]
    w_ei = self.kernel_ei[...]
    if self.scale_gradient:
      w_ei = divide_gradient(w_ei, float(self.fan_in))
    w_ei = non_negative(w_ei)
    balanced = i_ee - i_ie @ w_ei
    if self.readout:
      return balanced
    divisor = (i_ie * non_negative(self.gain_i[...])) @ w_ei
    if self.replace_zeros:
      divisor = replace_zeros(divisor)
    return non_negative(self.gain_e[...]) * balanced / divisor + self.bias[...]

  def _gather(self, x: Array, kernel: Array) -> Array:
    x = x.astype(jnp.promote_types(x.dtype, kernel.dtype))
    if self.kernel_size is None:
      return x @ kernel
    return convolve(x, kernel, stride=self.stride)
