"""A norm with a low-rank gate on its output: arXiv:2601.22966."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

from normjax import errors, norms, validate
from normjax.norms import base, modes, moments, recompute
from normjax.types import Array

GateInit = Literal["half", "one", "random"]


def gated_norm(
  rank: int = 16,
  gate_init: GateInit = "half",
  init_std: float = 0.02,
  inner: base.NormSpec = "rms_norm",
) -> base.Norm:
  """GatedNorm: the output of a norm, gated by itself through a bottleneck.

      y = inner(x),    out = sigmoid(silu(y W_down) W_up) * y

  arXiv:2601.22966, section 3.4, with y = rms_norm(x); with inner="dyt" it is
  the paper's GateDyT (section 3.5). W_down is the parameter `gate_down` (d,
  rank), W_up is `gate_up` (rank, d); no bias. They are matrices to the
  optimizers: decayed, and orthonormalised by Muon and its kin. Computed in
  float32 (float64 for float64), y between norm and gate included.

  The paper does not state how the gate starts, and it matters: a gate of one
  half halves what the next layer reads.

  Args:
    rank: of the gate, >= 1.
    gate_init: "half": W_up = 0, the gate is 1/2 everywhere at first, as in
      some public ports; "one": W_up = 0 and the gate is 2 * sigmoid, for good,
      so that the norm starts as its inner one; "random": W_up is drawn as
      W_down is, and the gate starts near 1/2.
    init_std: of the normal distribution of W_down, > 0; not the paper's.
    inner: the norm that is gated: a name, a mapping with "name" and options
      such as eps, or a Norm. It has at most parameters, no statistics.

  Raises:
    UserError: an option out of range, or an inner norm with statistics.
  """
  validate.count("gated_norm", "rank", rank, least=1)
  validate.number("gated_norm", "init_std", init_std, above=0)
  validate.choice(
    "gated_norm", "gate_init", gate_init, ("half", "one", "random")
  )
  inner = norms.resolve(inner)
  if inner.traits.statistics == "batch" or inner.name == "gated_norm":
    raise errors.UserError(
      f"gated_norm: inner={inner.name!r} has statistics of the batch or a gate"
      " of its own; use a norm of single tokens such as 'rms_norm' or 'dyt'."
    )
  return base.Norm(
    name="gated_norm",
    options={
      "rank": rank,
      "gate_init": gate_init,
      "init_std": init_std,
      "inner": inner,
    },
    # Through the gate every feature sees every other, also those of dyt.
    traits=dataclasses.replace(
      inner.traits,
      statistics="per_example",
      foldable=False,
      affine_last=False,
    ),
    init_fn=_init,
    apply_fn=_apply,
    needs_key=True,
    kernels=("gate_down", "gate_up"),
    without_activation_fn=functools.partial(
      gated_norm, rank, gate_init, init_std, inner.without_activation()
    ),
  )


def _init(
  shape: tuple[int, ...],
  dtype: DTypeLike,
  *,
  key: Array,
  rank: int,
  gate_init: GateInit,
  init_std: float,
  inner: base.Norm,
):
  down_key, up_key, inner_key = jax.random.split(key, 3)
  features = shape[-1]
  down = init_std * jax.random.normal(down_key, (features, rank), dtype)
  up = init_std * jax.random.normal(up_key, (rank, features), dtype)
  if gate_init != "random":
    up = jnp.zeros_like(up)
  params = inner.init(shape, dtype, key=inner_key)["params"]
  return {"params": {**params, "gate_down": down, "gate_up": up}}


def _apply(
  variables: base.Variables,
  x: Array,
  *,
  mode: modes.Mode,
  mask: Array | None,
  context: Any,
  gate_init: GateInit,
  inner: base.Norm,
  **_: Any,
):
  params = variables["params"]
  base.check_features("gated_norm", x, params["gate_down"].shape[0])
  largest = 2 if gate_init == "one" else 1

  def gated(params, x, *contexts):
    # Widened once: a second cast would round the gradient of x twice.
    wide = moments.promote(x)
    given = contexts[0] if contexts else context
    y, _ = inner.apply(
      {"params": params}, wide, train=mode, mask=mask, context=given
    )
    return (largest * _gate(params, y) * y).astype(x.dtype)

  of_rows = () if context is None else (context,)
  # What has not the rows of x cannot be cut with them: the inner norm says so.
  is_cut = all(
    getattr(each, "shape", ())[:-1] == x.shape[:-1] for each in of_rows
  )
  if inner.traits.mixes_positions or mask is not None or not is_cut:
    return recompute.keep_input(gated, params, x), variables["stats"]
  return recompute.by_rows(gated, params, x, *of_rows), variables["stats"]


def _gate(params: Mapping[str, Array], y: Array) -> Array:
  """sigmoid(silu(y W_down) W_up), of the shape of y."""
  down, up = (params[name].astype(y.dtype) for name in ("gate_down", "gate_up"))
  # Unasked, some devices round the factors of a float32 product.
  hidden = jnp.matmul(y, down, precision=lax.Precision.HIGHEST)
  hidden = jax.nn.silu(recompute.kept(hidden))
  return jax.nn.sigmoid(jnp.matmul(hidden, up, precision=lax.Precision.HIGHEST))
