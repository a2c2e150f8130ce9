"""Causal multi-head attention with rotary positions and grouped queries."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from normjax import errors
from normjax.nn import checks
from normjax.nn.dropout import dropout
from normjax.types import Array


def rotary_angles(length: int, head_dim: int, theta: float) -> np.ndarray:
  """Angles t / theta^(2 i / k), (t, k / 2): arXiv:2104.09864, equation 15."""
  frequency = theta ** (-np.arange(0, head_dim, 2) / head_dim)
  return np.outer(np.arange(length), frequency)


def rotate(x_bthk: Array, angles_tk: np.ndarray) -> Array:
  """Rotates the pairs (x_i, x_{i + k/2}) by their angles, in float32.

  Args:
    x_bthk: queries or keys.
    angles_tk: from `rotary_angles`.
  """
  cosine = jnp.asarray(np.cos(angles_tk), jnp.float32)[:, None, :]
  sine = jnp.asarray(np.sin(angles_tk), jnp.float32)[:, None, :]
  first, second = jnp.split(x_bthk.astype(jnp.float32), 2, axis=-1)
  rotated = jnp.concatenate(
    [first * cosine - second * sine, second * cosine + first * sine], axis=-1
  )
  return rotated.astype(x_bthk.dtype)


def causal_attention(q_bthk: Array, k_bshk: Array, v_bshk: Array) -> Array:
  """softmax(q k^T / sqrt(k)) v over positions s <= t.

  Scores and softmax are float32. With fewer key heads than query heads, each
  key head serves a run of consecutive query heads (arXiv:2305.13245).

  Args:
    q_bthk: h query heads.
    k_bshk: keys; the number of heads divides h.
    v_bshk: values.

  Returns:
    (b, t, h, k) in the dtype of q.
  """
  b, t, h, k = q_bthk.shape
  g = k_bshk.shape[2]
  q_btgrk = q_bthk.reshape(b, t, g, h // g, k)
  scores = jnp.einsum(
    "btgrk,bsgk->bgrts", q_btgrk, k_bshk, preferred_element_type=jnp.float32
  )
  visible = np.tril(np.ones((t, k_bshk.shape[1]), bool))
  scores = jnp.where(visible, scores * k**-0.5, jnp.finfo(jnp.float32).min)
  weights = jax.nn.softmax(scores, axis=-1).astype(v_bshk.dtype)
  mixed = jnp.einsum("bgrts,bsgk->btgrk", weights, v_bshk)
  return mixed.reshape(b, t, h, k)


class Attention(nnx.Module):
  """Projections around `causal_attention`; no biases, as in LLaMA."""

  def __init__(
    self,
    model_dim: int,
    num_heads: int,
    *,
    num_kv_heads: int | None = None,
    rope_theta: float = 10_000.0,
    dropout_rate: float = 0.0,
    out_std: float = 0.02,
    dtype: jnp.dtype = jnp.float32,
    rngs: nnx.Rngs,
  ):
    """Makes the kernels.

    Args:
      model_dim: d.
      num_heads: h; divides d, and d / h is even for the rotation.
      num_kv_heads: key and value heads, dividing h; None: h.
      rope_theta: base of the rotary frequencies.
      dropout_rate: on the output.
      out_std: standard deviation of the output kernel's initialization.
      dtype: of the computation; kernels are float32.
      rngs: stream "params".

    Raises:
      UserError: a size below 1, sizes that do not divide, or a rope_theta
        that is not positive.
    """
    kv_heads = num_heads if num_kv_heads is None else num_kv_heads
    checks.check_sizes(
      model_dim=model_dim, num_heads=num_heads, num_kv_heads=kv_heads
    )
    if rope_theta <= 0:
      raise errors.UserError(f"rope_theta={rope_theta} must be positive.")
    if model_dim % (2 * num_heads):
      raise errors.UserError(
        f"model_dim={model_dim} is not a multiple of 2 x num_heads"
        f" = {2 * num_heads}."
      )
    if num_heads % kv_heads:
      raise errors.UserError(
        f"num_kv_heads={kv_heads} must divide num_heads={num_heads}."
      )
    head_dim = model_dim // num_heads
    self.rope_theta, self.dropout_rate = rope_theta, dropout_rate

    def project(heads: int) -> nnx.LinearGeneral:
      return nnx.LinearGeneral(
        model_dim,
        (heads, head_dim),
        use_bias=False,
        kernel_init=nnx.initializers.normal(0.02),
        dtype=dtype,
        rngs=rngs,
      )

    self.query = project(num_heads)
    self.key = project(kv_heads)
    self.value = project(kv_heads)
    self.out = nnx.LinearGeneral(
      (num_heads, head_dim),
      model_dim,
      axis=(-2, -1),
      use_bias=False,
      kernel_init=nnx.initializers.normal(out_std),
      dtype=dtype,
      rngs=rngs,
    )

  def __call__(self, x_btd: Array, *, key: Array | None = None) -> Array:
    """Attends; `key` is for dropout, None turns it off."""
    q_bthk, k_bshk = self.query(x_btd), self.key(x_btd)
    angles = rotary_angles(x_btd.shape[1], q_bthk.shape[-1], self.rope_theta)
    mixed = causal_attention(
      rotate(q_bthk, angles), rotate(k_bshk, angles), self.value(x_btd)
    )
    y_btd = dropout(self.out(mixed), self.dropout_rate, key)
    self.sow(nnx.Intermediate, "output", y_btd, capture_noop=True)
    return y_btd
