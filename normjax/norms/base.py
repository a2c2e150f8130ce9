"""What a norm is, and the checks that norms share.

Importing this module must not import jax: the table of norms is read by the
command line before anything is computed.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from normjax import errors
from normjax.norms import modes

if TYPE_CHECKING:
  from jax.typing import DTypeLike

  from normjax.types import Array

Variables = modes.Variables


@dataclasses.dataclass(frozen=True)
class NormTraits:
  """Facts about a norm, as data; the contract tests check them.

  Attributes:
    statistics: what the statistics are taken over. "per_example": nothing of
      another example or token group enters; "batch": examples mix; "none":
      there are none.
    scale_invariant: `apply(a * x) == apply(x)` for a > 0, up to eps.
    shift_invariant: `apply(x + a) == apply(x)` for a scalar a.
    foldable: with train=False the norm is a per-channel affine map of x, which
      a neighbouring linear layer can absorb.
    affine_last: what `norms.affine` reads of its parameters multiplies and
      adds at the very end, and may be left out of `variables`: a linear layer
      that alone reads y can take it over.
    needs_train_flag: train=True and train=False differ: the norm has running
      statistics.
    blends: the running statistics may be mixed with those of a batch, as
      `Mode(statistics="blended")` asks.
    spatial_only: x must be images (b, y, x, c).
    mixes_positions: in evaluation, too, y at one position depends on the other
      positions of its example: of a causal model, on later tokens. x is (b, t,
      c) or images (b, y, x, c).
    contains_activation: the norm is its activation too: what follows it in a
      model is not another one.
    one_pass: the variance is a difference of means, which loses all digits
      once mean^2 / variance nears the inverse of the unit roundoff; or another
      difference of large numbers where the mean is large.
    padding_in_gradient: what a mask hides enters gradients all the same, as
      in an official code; it must be finite.
    num_domains: how many domains, or features of a condition, it tells apart
      by its context (`normjax.norms.domains`); 0: its context is another.
  """

  statistics: Literal["per_example", "batch", "none"]
  scale_invariant: bool = False
  shift_invariant: bool = False
  foldable: bool = False
  affine_last: bool = False
  needs_train_flag: bool = False
  blends: bool = False
  spatial_only: bool = False
  mixes_positions: bool = False
  contains_activation: bool = False
  one_pass: bool = False
  padding_in_gradient: bool = False
  num_domains: int = 0


@dataclasses.dataclass(frozen=True)
class Norm:
  """A norm with its options bound; equal and hashable by value.

  Attributes:
    name: its name in the table.
    options: every option with its value; passed to both functions.
    traits: facts about it.
    init_fn: `(shape, dtype, **options)` to a dict of those collections
      ("params", "stats", "grad_stats") that the norm has.
    apply_fn: `(variables, x, *, mode, mask, context, **options)` to
      `(y, stats)`, of which `modes.carry_out` says more.
    needs_key: whether `init` draws random numbers: init_fn then takes `key`.
    context_for_next_fn: `(variables, x, *, branch_gain, **options)` to what
      `context_for_next` returns; None where a norm tells the next one nothing.
    is_linear_fn: `(variables)` to a boolean array: whether the norm is an
      affine map of the features of x, the same for all tokens, from now on;
      None for a norm that never is (of channels: the trait `foldable`).
    kernels: names of the parameters that are matrices, (inputs, outputs).
    without_activation_fn: makes what `without_activation` returns; for norms
      that contain one.
  """

  name: str
  options: Mapping[str, Any] = dataclasses.field(hash=False)
  traits: NormTraits
  init_fn: Callable[..., dict[str, dict[str, Any]]]
  apply_fn: Callable[..., tuple[Array, Mapping[str, Any]]]
  needs_key: bool = False
  context_for_next_fn: Callable[..., Any] | None = None
  is_linear_fn: Callable[[Variables], Any] | None = None
  kernels: tuple[str, ...] = ()
  without_activation_fn: Callable[[], Norm] | None = dataclasses.field(
    default=None, compare=False
  )

  def init(
    self,
    shape: tuple[int, ...],
    dtype: DTypeLike = "float32",
    key: Array | None = None,
  ) -> dict[str, dict[str, Any]]:
    """New variables.

    Args:
      shape: the feature shape, (d,) or (h, w, c).
      dtype: of the parameters; statistics are float32 at least.
      key: where random numbers come from, for a norm with `needs_key`; others
        do not read it. None is `jax.random.key(0)`: norms made without a key
        start equal.

    Returns:
      {"params": ..., "stats": ..., "grad_stats": ...}, each a dict by name,
      empty where the norm has none.

    Raises:
      UserError: a shape that is not a tuple of positive integers.
    """
    if not isinstance(shape, tuple | list) or not shape or min(shape) < 1:
      raise errors.UserError(
        f"{self.name}: the feature shape is a tuple of positive integers such"
        f" as (64,) or (32, 32, 3); got {shape!r}."
      )
    drawn = {"key": _key(key)} if self.needs_key else {}
    empty = {"params": {}, "stats": {}, "grad_stats": {}}
    return empty | self.init_fn(tuple(shape), dtype, **drawn, **self.options)

  def apply(
    self,
    variables: Variables,
    x: Array,
    *,
    train: modes.Train = True,
    mask: Array | None = None,
    context: Any = None,
  ) -> tuple[Array, Mapping[str, Any]]:
    """Normalises x.

    Args:
      variables: as `init` makes them; empty collections may be left out.
      x: channels-last, any floating dtype. Its squares must not overflow in
        float32; `normjax.norms.moments` says from where, and what happens then.
      train: True: batch statistics are computed and state advances. False:
        neither. Or a `Mode`, which says what is to be done of either.
      mask: true for real examples, tokens or pixels, of the leading axes of
        x: (b,), (b, t) or (b, y), (b, y, x). What it hides may be anything,
        NaN included: no real y, no gradient and no statistic sees it. y there
        is finite and means nothing.
      context: what a conditional norm needs; unused otherwise.

    Returns:
      y with the shape and dtype of x, and the new variables["stats"].

    Raises:
      UserError: variables, x and mask that do not fit together; a `train` that
        is none, or a blend of statistics that cannot be mixed.
      TypeError: an x that is not floating.
    """
    mode = modes.resolve(train)
    self._check_blended(mode)
    variables = {"params": {}, "stats": {}, "grad_stats": {}, **variables}
    if mask is not None and not self.traits.padding_in_gradient:
      x = hide(x, mask)

    def call(variables: Variables, mode: modes.Mode):
      given = self.apply_fn(
        variables, x, mode=mode, mask=mask, context=context, **self.options
      )
      self._check_given(given, x)
      return given

    return modes.carry_out(call, variables, mode)

  def _check_given(self, given: Any, x: Array) -> None:
    """Raises UserError where a user's norm gives what no layer can take."""
    if not isinstance(given, tuple) or len(given) != 2:
      raise errors.UserError(
        f"{self.name}: its apply_fn gives a {type(given).__name__}; needed: the"
        ' pair (y, stats), where stats is the new variables["stats"].'
      )
    if (shape := getattr(given[0], "shape", None)) != x.shape:
      raise errors.UserError(
        f"{self.name}: y has the shape {shape}; needed: that of x, {x.shape}."
      )

  def _check_blended(self, mode: modes.Mode) -> None:
    traits = self.traits
    if mode.statistics != "blended" or not traits.needs_train_flag:
      return
    if not traits.blends:
      raise errors.UserError(
        f"{self.name}: statistics='blended' is not defined for what runs here;"
        " allowed: 'batch', 'running'."
      )

  def context_for_next(
    self,
    variables: Variables,
    x: Array,
    *,
    branch_gain: Array | float,
    mask: Array | None = None,
  ) -> Any:
    """What this site tells the next site of its block.

    In a block `x + branch(norm_1(x))` the second norm reads nearly the
    statistics of x that the first one has: a norm may save itself the second
    reduction. The block gives the result to the second norm as `context`.

    Args:
      variables: of the first norm.
      x: what the first norm normalises, (..., t, d).
      branch_gain: ||W_V W_O||_F^2 / (t d) of the attention between the two
        sites, a scalar, or (b, 1, ...) where examples have t of their own:
        how much it lets through of an input of variance 1 when all t tokens
        are averaged. From the weights as they are now.
      mask: see `apply`.

    Returns:
      The next site's `context`; None where the norm tells it nothing.
    """
    if self.context_for_next_fn is None:
      return None
    variables = {"params": {}, "stats": {}, "grad_stats": {}, **variables}
    if mask is not None:
      x = hide(x, mask)
    return self.context_for_next_fn(
      variables, x, branch_gain=branch_gain, **self.options
    )

  def without_activation(self) -> Norm:
    """The norm for a site that no activation follows; itself where it can be.

    A norm that contains its activation says here what it is without.
    """
    make = self.without_activation_fn
    if not self.traits.contains_activation or make is None:
      return self
    return make()


def hide(x: Array, mask: Array) -> Array:
  """Zeros in x where the mask is false, through which no gradient passes.

  Before any arithmetic: the gradient of what a mask leaves out afterwards is 0
  times NaN where it was NaN.
  """
  import jax.numpy as jnp  # Not above: see the module's docstring.

  from normjax.norms import moments

  mask = jnp.asarray(mask)
  return jnp.where(moments.broadcast_mask(mask, x), x, jnp.zeros((), x.dtype))


def _key(key: Array | None) -> Array:
  if key is not None:
    return key
  import jax  # Not above: see the module's docstring.

  return jax.random.key(0)


NormSpec = str | Mapping[str, Any] | Norm


def check_features(norm: str, x: Array, size: int) -> None:
  """Raises UserError unless the last axis of x has `size` features."""
  if not x.ndim or x.shape[-1] != size:
    raise errors.UserError(
      f"{norm} was made for {size} features on the last axis (channels last);"
      f" got x of shape {x.shape}."
    )


def check_images(norm: str, x: Array) -> None:
  """Raises UserError unless x has the four axes of images."""
  if x.ndim != 4:
    raise errors.UserError(
      f"{norm} is for images (b, y, x, c), channels last; got x of shape"
      f" {x.shape}. Its statistics are those of an image's pixels."
    )


def check_positions(norm: str, x: Array) -> None:
  """Raises UserError unless x has examples, positions and channels."""
  if x.ndim not in (3, 4):
    raise errors.UserError(
      f"{norm} is for images (b, y, x, c) and sequences (b, t, c), channels"
      f" last; got x of shape {x.shape}. Its statistics are those of an"
      " example's positions."
    )


def check_groups(norm: str, num_groups: int, features: int) -> None:
  """Raises UserError unless the groups divide the features."""
  if features % num_groups:
    raise errors.UserError(
      f"{norm}: num_groups={num_groups} must divide the {features} features."
    )


def check_pixels(norm: str, x: Array) -> None:
  """Raises UserError unless images x have an unbiased variance over pixels."""
  if x.shape[1] * x.shape[2] < 2:
    raise errors.UserError(
      f"{norm}: the unbiased variance of an image's channel needs two pixels"
      f" or more; got x of shape {x.shape}."
    )


def check_batch(norm: str, x: Array) -> None:
  """Raises UserError unless x has several values per channel to average."""
  if math.prod(x.shape[:-1]) < 2:
    raise errors.UserError(
      f"{norm} in training needs more than one value per channel; got x of"
      f" shape {x.shape}. Use a larger batch, or train=False."
    )


def check_variables(
  norm: str,
  variables: Variables,
  collection: Literal["stats", "grad_stats"],
  names: tuple[str, ...],
) -> None:
  """Raises UserError unless a collection holds what is called `names`."""
  given = variables[collection]
  if not set(names) <= set(given):
    kind = {"stats": "running", "grad_stats": "backward"}[collection]
    raise errors.UserError(
      f"{norm} needs its {kind} statistics {' and '.join(map(repr, names))} in"
      f" variables[{collection!r}], as init makes them; got {sorted(given)}."
    )
