"""What a mixing method is, and what the methods share."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from normjax import errors
from normjax.nn import roles
from normjax.types import Array, PyTree

Rotate = Callable[[Array], Array]


@dataclasses.dataclass(frozen=True)
class MixingTraits:
  """Facts about a method, as data; `Attention` and the tests read them.

  Attributes:
    causal: whether it can hide the future.
    bidirectional: whether it can show every position.
    grouped_queries: whether there may be fewer key than query heads.
    shared_query_key: whether keys are the queries: one projection for both.
    logits: whether there are scores that a scale and a cap act on.
    rotation: where rotary positions act: on the "projections" q and k, on the
      method's own "features" of them, or nowhere, "none".
    optional_weights: whether its function is told, as `weights`, if the weights
      are asked for.
  """

  causal: bool = True
  bidirectional: bool = True
  grouped_queries: bool = True
  shared_query_key: bool = False
  logits: bool = False
  rotation: Literal["projections", "features", "none"] = "projections"
  optional_weights: bool = False


class Mixed(NamedTuple):
  """What a method returns.

  Attributes:
    values_bthk: in the dtype of v.
    first_token_mass_h: the mean weight on the first real position, over
      examples and real queries; None where there are no weights, or where
      they were not asked for.
  """

  values_bthk: Array
  first_token_mass_h: Array | None = None


@dataclasses.dataclass(frozen=True)
class Mixing:
  """A mixing method with its options bound.

  Attributes:
    name: its name in the table.
    options: every option with its value; passed to both functions.
    traits: facts about it.
    apply_fn: as `apply`, with the options.
    init_fn: `(key, num_heads, head_dim, **options)` to nested dicts of float32
      parameters; None: there are none.
    parameter_roles: what each of them is, by path: see `nn.roles`.
  """

  name: str
  options: Mapping[str, Any] = dataclasses.field(hash=False)
  traits: MixingTraits
  apply_fn: Callable[..., Mixed]
  init_fn: Callable[..., dict[str, PyTree]] | None = None
  parameter_roles: roles.Declared = dataclasses.field(
    default_factory=dict, compare=False
  )

  def init(self, key: Array, num_heads: int, head_dim: int) -> dict[str, Any]:
    """New parameters, nested dicts of float32 arrays; empty where none."""
    if self.init_fn is None:
      return {}
    return self.init_fn(key, num_heads, head_dim, **self.options)

  def apply(
    self,
    params: Mapping[str, Any],
    q_bthk: Array,
    k_bsgk: Array,
    v_bsgk: Array,
    *,
    causal: bool,
    mask_bs: Array | None = None,
    scale: float | Array | None = None,
    logit_cap: float | None = None,
    rotate: Rotate | None = None,
    weights: bool = True,
  ) -> Mixed:
    """Mixes the values.

    Args:
      params: from `init`.
      q_bthk: queries of h heads.
      k_bsgk: keys; with g < h heads, each serves a run of consecutive query
        heads (arXiv:2305.13245).
      v_bsgk: values.
      causal: whether position t sees only s <= t.
      mask_bs: true at real keys; what it hides must be finite.
      scale: of the scores, a number or one per head; None: 1 / sqrt(k). Only
        methods with `traits.logits` read it and `logit_cap`.
      logit_cap: c of c tanh(score / c), before masks; None: no cap.
      rotate: of the features, where `traits.rotation` is "features".
      weights: whether `first_token_mass_h` is asked for. A kernel that keeps no
        weights then cannot serve.

    Raises:
      UserError: a direction that the method does not have, or a number of
        tokens that does not fit its landmarks.
    """
    self.check_direction(causal)
    told = {"weights": weights} if self.traits.optional_weights else {}
    # For profiles, and tables of what a step moves.
    with jax.named_scope("attention"):
      return self.apply_fn(
        params,
        q_bthk,
        k_bsgk,
        v_bsgk,
        causal=causal,
        mask_bs=mask_bs,
        scale=scale,
        logit_cap=logit_cap,
        rotate=rotate,
        **told,
        **self.options,
      )

  def check_direction(self, causal: bool) -> None:
    """Raises UserError where the method cannot be causal, or only that."""
    if causal and not self.traits.causal:
      raise errors.UserError(
        f"mixing {self.name!r} has no causal form, so it cannot be in a"
        " decoder; use causal=False, as in a ViT, or 'softmax',"
        " 'softmax_off_by_one', 'softmax_sink', 'nalaformer' or"
        " 'nalaformer_paper'."
      )
    if not causal and not self.traits.bidirectional:
      raise errors.UserError(
        f"mixing {self.name!r} is causal only; causal=False needs another."
      )


def split_groups(q_bthk: Array, num_groups: int) -> Array:
  """(b, t, h, k) to (b, t, g, h / g, k): the queries of each key head."""
  b, t, h, k = q_bthk.shape
  return q_bthk.reshape(b, t, num_groups, h // num_groups, k)


def einsum(subscripts: str, *operands: Array) -> Array:
  """Full-precision products: no TensorFloat-32, no bfloat16 passes."""
  return jnp.einsum(subscripts, *operands, precision=jax.lax.Precision.HIGHEST)
