"""The op and its implementations.

Both kernels are others': what is ours is when they may run, and the proof.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from kernels_pallas import dispatch
from kernels_pallas.attention import gpu, ref

_LANES = 128
_MOST_FEATURES = 128  # Of a head, for cuDNN on all devices that have it.


def attention(
  q_bthk: Array,
  k_bsgk: Array,
  v_bsgk: Array,
  causal: bool = True,
  scale: float | None = None,
  impl: str | Sequence[str] | None = None,
) -> Array:
  """Softmax attention.

      o_t = sum_s w_ts v_s,  w_ts = exp(x_ts) / sum_r exp(x_tr),
      x_ts = scale <q_t, k_s>

  arXiv:1706.03762, equation 1. Scores and weights are float32 (float64 for
  float64); the weights are cast to the dtype of v.

  Args:
    q_bthk: (b, t, h, k), floating.
    k_bsgk: (b, s, g, k); each of its g heads serves a run of h / g query heads.
    v_bsgk: as k_bsgk.
    causal: whether position t sees only s <= t.
    scale: None: 1 / sqrt(k).
    impl: "cudnn", cuDNN's flash attention; "flash_tpu", jax's Pallas kernel;
      "reference", plain operations, also forward-mode. None takes the first
      that runs here, a kernel only if a device of the kind has proved it; a
      tuple is tried in its order.

  Returns:
    (b, t, h, k), in the dtype of v.

  Raises:
    TypeError: arrays that are not floating.
    ValueError: shapes that do not fit.
    UnsupportedError: no implementation that was asked for runs here.
  """
  return OP(q_bthk, k_bsgk, v_bsgk, causal, scale, impl=impl)


def refusing(reason: str | None) -> dispatch.Op:
  """The op for a caller who asks for more than a kernel has.

  Args:
    reason: why no kernel can serve; None: all can.
  """
  if reason is None:
    return OP

  def also(supports: dispatch.Supports) -> dispatch.Supports:
    return lambda *given: supports(*given) or reason

  return dataclasses.replace(
    OP,
    candidates=tuple(
      dataclasses.replace(candidate, supports=also(candidate.supports))
      if candidate.silicon
      else candidate
      for candidate in OP.candidates
    ),
  )


def _check(
  q_bthk: Array,
  k_bsgk: Array,
  v_bsgk: Array,
  causal: bool,
  scale: float | None,
) -> None:
  del causal, scale
  shapes = [x.shape for x in (q_bthk, k_bsgk, v_bsgk)]
  for x in (q_bthk, k_bsgk, v_bsgk):
    if not jnp.issubdtype(x.dtype, jnp.floating):
      raise TypeError(f"attention needs floating arrays; got dtype {x.dtype}.")
  fits = all(len(shape) == 4 for shape in shapes) and shapes[1] == shapes[2]
  if fits:
    (b, _, h, k), (c, _, g, n), _ = shapes
    fits = b == c and k == n and g > 0 and h % g == 0
  if not fits:
    raise ValueError(
      "attention needs q (b, t, h, k) and k and v (b, s, g, k), g a divisor of"
      f" h; got {', '.join(map(str, shapes))}."
    )
  if not shapes[1][1] or not shapes[1][3]:
    raise ValueError(
      f"attention needs a key and a feature; got keys of shape {shapes[1]}."
    )


def _cudnn_supports(
  target: dispatch.Target, shapes: dispatch.Shapes, dtypes: Sequence[DTypeLike]
) -> str | None:
  """Why cuDNN's kernel cannot run."""
  if target.platform != "gpu" or not target.device_kind.startswith("NVIDIA"):
    return f"needs an NVIDIA GPU, this is {target.device_kind}"
  if jax.default_backend() != "gpu":
    return "is traced only where such a GPU is: jax asks cuDNN's version"
  if dtypes[0] not in (jnp.bfloat16, jnp.float16) or len(set(dtypes)) > 1:
    return f"needs bfloat16 or float16, not {', '.join(map(str, dtypes))}"
  if shapes[0][-1] % 8 or shapes[0][-1] > _MOST_FEATURES:
    return (
      f"needs heads of a multiple of 8 features up to {_MOST_FEATURES}, not"
      f" {shapes[0][-1]}"
    )
  return _shared_reason(shapes) or dispatch.one_device(target)


def _flash_tpu(*arguments) -> Array:
  # Pallas costs half a second to import; only a TPU has use for it.
  from kernels_pallas.attention import tpu

  return tpu.attention(*arguments)


def _flash_supports(
  target: dispatch.Target, shapes: dispatch.Shapes, dtypes: Sequence[DTypeLike]
) -> str | None:
  """Why the TPU kernel cannot run."""
  if target.platform != "tpu":
    return f"needs a TPU, this is {target.platform}"
  if {*dtypes} not in ({jnp.dtype(jnp.float32)}, {jnp.dtype(jnp.bfloat16)}):
    return f"needs float32 or bfloat16, not {', '.join(map(str, dtypes))}"
  if shapes[0][2] != shapes[1][2]:
    return (
      f"has no grouped queries: {shapes[0][2]} query heads need as many key"
      f" heads, not {shapes[1][2]}"
    )
  if shapes[0][1] % _LANES:
    return f"needs a multiple of {_LANES} positions, not {shapes[0][1]}"
  if shapes[0][-1] > _LANES and shapes[0][-1] % _LANES:
    return (
      f"needs heads of {_LANES} features or fewer, or a multiple, not"
      f" {shapes[0][-1]}"
    )
  return _shared_reason(shapes) or dispatch.one_device(target)


def _shared_reason(shapes: dispatch.Shapes) -> str | None:
  if shapes[0][1] != shapes[1][1]:
    return (
      f"is for as many queries as keys, not {shapes[0][1]} and {shapes[1][1]}"
    )
  if not all(shapes[0]):
    return f"needs values, not shape {shapes[0]}"
  return None


OP = dispatch.Op(
  "attention",
  (
    dispatch.Candidate("cudnn", gpu.attention, _cudnn_supports, silicon=True),
    dispatch.Candidate("flash_tpu", _flash_tpu, _flash_supports, silicon=True),
    dispatch.Candidate("reference", ref.attention),
  ),
  _check,
  rows=(0, 1, 2),
  leading=1,
)
IMPLEMENTATIONS = OP.implementations
