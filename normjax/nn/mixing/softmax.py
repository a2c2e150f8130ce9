"""Softmax attention, plain, off by one, and with a learned sink."""

import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp

from kernels_pallas import attention
from kernels_pallas.attention import ref
from normjax import errors
from normjax.nn import roles
from normjax.nn.mixing import base
from normjax.types import Array

_TRAITS = base.MixingTraits(logits=True)


def softmax(impl: str | Sequence[str] | None = None) -> base.Mixing:
  """Softmax attention.

      w_s = exp(x_s) / sum_r exp(x_r),  x_s = scale <q, k_s>

  arXiv:1706.03762, equation 1. Scores and weights are float32 (float64 for
  float64), subtracted by their maximum; the weights are cast to the dtype of v.

  Args:
    impl: of `kernels_pallas.attention`: "cudnn", "flash_tpu", "reference" or
      several in order of preference. None: the first that can and has proved
      that it is right on such a device. Only the reference takes masks, a
      factor per head or a cap, and gives weights to probes.

  Raises:
    UserError: no such implementation.
  """
  if isinstance(impl, list | tuple):
    impl = tuple(impl) or None
  names = impl if isinstance(impl, tuple) else (impl,)
  for name in () if impl is None else names:
    if name not in attention.IMPLEMENTATIONS:
      # Not as impl=…, which a config has of its norm too.
      raise errors.UserError(
        f"mixing 'softmax' has no implementation {name!r}; known:"
        f" {', '.join(attention.IMPLEMENTATIONS)}."
      )
  traits = base.MixingTraits(logits=True, optional_weights=True)
  return base.Mixing("softmax", {"impl": impl}, traits, _softmax)


def softmax_off_by_one() -> base.Mixing:
  """Softmax attention that can attend to nothing.

      w_s = exp(x_s) / (1 + sum_r exp(x_r)) = softmax(x)_s sigmoid(lse(x))

  E. Miller, "Attention is off by one" (2023). It is `softmax` with one more
  key whose score and value are 0. The right-hand side is what is computed,
  lse being log sum exp: it neither overflows nor underflows where all scores
  are very negative, as a maximum that leaves out that 0 does. Float32 as in
  `softmax`.
  """
  return base.Mixing("softmax_off_by_one", {}, _TRAITS, _softmax_off_by_one)


def softmax_sink() -> base.Mixing:
  """Softmax attention with a learned logit that takes weight off.

      w_s = exp(x_s) / (exp(b_h) + sum_r exp(x_r))
          = softmax(x)_s sigmoid(lse(x) - b_h)

  The sinks of gpt-oss (arXiv:2508.10925): a parameter `sink` (h,), one logit a
  head. It starts at 0 here, as `softmax_off_by_one` stays. `logit_cap` caps the
  scores, not the sink. Float32 as in `softmax`.
  """
  return base.Mixing(
    "softmax_sink",
    {},
    _TRAITS,
    _softmax_sink,
    _init_sink,
    parameter_roles={"sink": roles.bias("heads")},
  )


def _softmax(
  params: Mapping[str, Array],
  *arrays: Array,
  impl: str | tuple[str, ...] | None,
  weights: bool,
  **options: Any,
) -> base.Mixed:
  del params
  q_bthk, k_bsgk, v_bsgk = arrays
  op = attention.refusing(_only_in_the_reference(weights, **options))
  if op.choose(impl, *arrays).name == "reference":
    return _attend(*arrays, **options)
  values_bthk = attention.attention(
    q_bthk,
    k_bsgk,
    v_bsgk,
    causal=options["causal"],
    scale=options["scale"],
    impl=impl,
  )
  return base.Mixed(values_bthk)


def _only_in_the_reference(
  weights: bool,
  *,
  mask_bs: Array | None,
  scale: float | Array | None,
  logit_cap: float | None,
  **_: Any,
) -> str | None:
  """What no kernel can, as a reason; None: all can."""
  asked = {
    "masks": mask_bs is not None,
    "factor per head": not isinstance(scale, numbers.Real | None),
    "logit_cap": logit_cap is not None,
    "weights for probes": weights,
  }
  found = [name for name, is_asked in asked.items() if is_asked]
  return f"has no {', no '.join(found)}" if found else None


def _softmax_off_by_one(
  params: Mapping[str, Array], *arrays: Array, **options: Any
) -> base.Mixed:
  del params
  return _attend(*arrays, sink_h=0.0, **options)


def _softmax_sink(
  params: Mapping[str, Array], *arrays: Array, **options: Any
) -> base.Mixed:
  return _attend(*arrays, sink_h=params["sink"], **options)


def _attend(
  *arrays: Array, rotate: base.Rotate | None, **options: Any
) -> base.Mixed:
  del rotate
  return base.Mixed(*ref.attend(*arrays, **options))


def _init_sink(key: Array, num_heads: int, head_dim: int):
  del key, head_dim
  return {"sink": jnp.zeros(num_heads, jnp.float32)}
