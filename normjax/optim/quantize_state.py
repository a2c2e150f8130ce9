"""The state of any transform in 8 or 4 bits: Dettmers et al., arXiv:2110.02861.

4-bit and FP8 states are those of torchao (pytorch/ao, BSD-3-Clause), whose
4-bit maps are of arXiv:2309.01507; `codebooks` says what was read of each.
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from kernels_pallas import dispatch
from normjax import validate
from normjax.optim import blockwise, codebooks, compose, groups, meshes, safe
from normjax.optim.held import ROUNDINGS, Code, Coding, Moment
from normjax.types import Array, PyTree

__all__ = ["quantize_state"]

BLOCK_SIZE = 256
MIN_SIZE = 4096
# Fields of optax's states that hold means or sums of squares.
NON_NEGATIVE = ("nu", "nu_max", "sum_of_squares")
# By bits: a block, and the codes of fields with signs and without, of
# bitsandbytes and of torchao.
DEFAULTS = {
  8: (BLOCK_SIZE, codebooks.DYNAMIC8, codebooks.DYNAMIC8),
  4: (128, "dynamic4", "linear4"),
}


class QuantizeState(NamedTuple):
  """State of `quantize_state`."""

  # The wrapped state, but each of its fields that is shaped as the parameters
  # is a `Quantized` of two such trees. `codes` has the leaf itself, and
  # `absmax` MaskedNode, where a leaf is not held in few bits. Not a `Quantized`
  # in place of a leaf: NNX takes such a leaf apart.
  inner: PyTree


class RoundedState(NamedTuple):
  """The same where rounding draws random numbers."""

  # Updates so far, shape=(), int32.
  count: Array  # pyright: ignore[reportIncompatibleMethodOverride]
  inner: PyTree


def coding(
  method: str,
  *,
  bits: int,
  block_size: int | None,
  min_size: int | None,
  block_layout: str,
  keep: str | None,
  signed_code: str | None,
  unsigned_code: str | None,
  signed_rounding: str,
  unsigned_rounding: str,
  calibrated: bool = False,
  roundings: Sequence[str] = ROUNDINGS,
  **others: Any,
) -> Coding:
  """How a state is held, by the options of `quantize_state`, checked.

  `calibrated` is of `codebooks.Rounding`, for fields without signs; `roundings`
  are those that these may have. Others are attributes of `Coding`.
  """
  validate.choice(method, "bits", bits, DEFAULTS)
  block, signed_default, unsigned_default = DEFAULTS[bits]
  found = []
  for name, code, default, rounding, allowed in (
    ("signed", signed_code, signed_default, signed_rounding, ROUNDINGS),
    ("unsigned", unsigned_code, unsigned_default, unsigned_rounding, roundings),
  ):
    code = default if code is None else code
    blockwise.check_code(method, f"{name}_code", code, name == "signed")
    validate.choice(method, f"{name}_rounding", rounding, allowed)
    if rounding != "nearest" and codebooks.bits(code) == 8:
      validate.refuse(
        method,
        f"{name}_rounding",
        rounding,
        f"'nearest', since {name}_code={code!r} has 8 bits",
      )
    found.append(Code(code, name == "signed", rounding))
  signed, unsigned = found
  block_size = validate.count(method, "block_size", block_size, default=block)
  blockwise.check(method, block_size, block_layout, signed.name, unsigned.name)
  validate.seed(method, others.get("seed", 0))
  return Coding(
    block_size,
    validate.count(method, "min_size", min_size, least=0, default=MIN_SIZE),
    block_layout,
    keep,
    signed,
    dataclasses.replace(unsigned, calibrated=calibrated),
    **others,
  )


def _check_names(**fields: Any) -> None:
  for name, value in fields.items():
    if isinstance(value, str) or not isinstance(value, Sequence):
      validate.refuse_type("quantize_state", name, value, "a sequence of names")


@validate.options
def quantize_state(
  inner: optax.GradientTransformation,
  block_size: int | None = None,
  min_size: int | None = MIN_SIZE,
  *,
  block_layout: str = "rows",
  keep: str | None = groups.EMBEDDING_NAMES,
  unsigned: Sequence[str] = NON_NEGATIVE,
  exact: Sequence[str] = (),
  sign_repair: bool = True,
  bits: int = 8,
  signed_code: str | None = None,
  unsigned_code: str | None = None,
  signed_rounding: str = "nearest",
  unsigned_rounding: str = "nearest",
  seed: int | Array = 0,
) -> optax.GradientTransformationExtraArgs:
  """Holds what `inner` remembers of each parameter in 8 or 4 bits.

      u, s = inner.update(g, dequantize(state), w);  state = quantize(s)

  arXiv:2110.02861: the step uses the fresh state, rounding comes after. Rounded
  is what has the tree of the parameters and, leaf by leaf, their shapes: each
  such field of the state becomes a `Quantized` of a tree of codes and a tree of
  scales. `inner` sees gradients, parameters and state in float32, and what is
  not quantised stays in it: counts, scalars, small leaves, embeddings.

  A block cannot hold an outlier: beside an entry with a gradient 1e4 times
  theirs, the others' second moments are rounded to 0, and their next steps are
  some 100 times too long, as with bitsandbytes. Clip gradients before.

  In 4 bits the defaults are torchao's. A field with signs has no -1, so that a
  block whose largest entry is negative shrinks by 11 % per rounding; one
  without signs has no 0, so that what is below a 32nd of its block's largest
  grows to a 16th of that, and steps there are too short, never too long. What
  repairs them are other codes, roundings at random, or smaller blocks. FP8 is
  `signed_code="e4m3", unsigned_code="e4m3"`. Two things are not torchao's:
  it has no scale below 1e-12, which is the square of gradients of 3e-5 at
  b2 = 0.999, and stores what it does not hold in the parameter's dtype.

  Args:
    inner: any transform whose state is a tree of arrays.
    block_size: entries that share a float32 scale, >= 1, and even with 4 bits;
      None stands for 256, or 128 with 4 bits.
    min_size: leaves with fewer entries, over all devices, stay in float32; so
      do those with blocks below 8 entries, and, with 4 bits, those with an odd
      last axis, which two entries per byte do not fill. None stands for 4096.
    block_layout: "rows" or "flat", see `quantize_blockwise`.
    keep: regular expression on parameter paths that stay in float32; the
      default is embeddings, whose 8-bit states the authors found unstable.
      None keeps none.
    unsigned: fields of the state, as "nu" in `optax.ScaleByAdamState`, that are
      never negative and use the unsigned map, with twice the codes. A negative
      entry there is stored as 0. Other names are taken to be signed.
    exact: fields of the state that stay in float32, such as a copy of the
      parameters.
    sign_repair: see `quantize_blockwise`; for the signed fields.
    bits: 8 or 4: what the defaults are of.
    signed_code: of `quantize_blockwise`: None stands for "dynamic8", or
      "dynamic4" with 4 bits; also "dynamic4_closed", "nf4", "e4m3".
    unsigned_code: the same of fields without signs: "dynamic8", or "linear4"
      with 4 bits; also "dynamic4", "dynamic4_nonzero", "e4m3".
    signed_rounding: "nearest", or "stochastic", which is right on average; of
      codes with 4 bits.
    unsigned_rounding: the same. Never of a code that has a 0 and a second
      moment: what is right on average in v is far from it in 1 / sqrt(v).
    seed: of what is drawn, >= 0, may be traced.

  Returns:
    A transform; updates in the dtype of the gradients. NaN and infinite
    entries of the state are stored as 0.

  Raises:
    UserError: a number out of range, another layout.
    TypeError: an option or a leaf of another type.
  """
  method = "quantize_state"
  _check_names(unsigned=unsigned, exact=exact)
  held = coding(
    method,
    bits=bits,
    block_size=block_size,
    min_size=min_size,
    block_layout=block_layout,
    keep=keep,
    signed_code=signed_code,
    unsigned_code=unsigned_code,
    signed_rounding=signed_rounding,
    unsigned_rounding=unsigned_rounding,
    non_negative=unsigned,
    exact=exact,
    sign_repair=sign_repair,
    seed=seed,
  )
  return hold(method, inner, held)


def hold(
  method: str,
  inner: optax.GradientTransformation,
  held: Coding,
  *,
  elementwise: bool = False,
  correction: Callable[[PyTree], tuple[Any, Any]] | None = None,
  reread: Callable[[PyTree, PyTree], PyTree] | None = None,
) -> optax.GradientTransformationExtraArgs:
  """`inner` with its state held as `held` says.

  Args:
    method: for messages.
    inner: the transform.
    held: which leaves are held, and how.
    elementwise: whether the inner transform makes each entry of its state of
      that entry alone, in few operations. A GPU then does so twice, for the
      scales and for the codes: it reads a state of few bits faster than it
      writes and reads a wide one. A TPU's compiler would move more bytes.
    correction: from its new state to `correction` and `eps` of
      `codebooks.Rounding`; None where the rounding has none.
    reread: from its new state, and from that as it was stored, to the
      direction; None for the inner transform's, from what is not yet rounded.
  """
  inner = optax.with_extra_args_support(inner)
  draws = held.signed.draws or held.unsigned.draws

  def step(updates, state, params, **extra_args):
    return inner.update(
      jax.tree.map(safe.promote, updates),
      held.widen(state),
      None if params is None else jax.tree.map(safe.promote, params),
      **extra_args,
    )

  def init(params):
    groups.check_leaves(method, params)
    wide = jax.tree.map(safe.promote, params)
    state = held.init(inner.init(wide), wide)
    count = jnp.zeros((), jnp.int32)
    state = RoundedState(count, state) if draws else QuantizeState(state)
    return meshes.place(state, params)

  def update(updates, state, params=None, **extra_args):
    direction, fresh = step(updates, state.inner, params, **extra_args)
    again = None
    target = dispatch.target(*jax.tree.leaves(updates))
    if elementwise and target.platform == "gpu":
      # Behind a barrier, or XLA makes one of the two. Not around gradients,
      # which may be products that it would then keep.
      behind = lax.optimization_barrier(state.inner)
      _, again = step(updates, behind, params, **extra_args)
    moment = None
    if draws:
      moment = Moment(state.count, *(correction(fresh) if correction else ()))
      state = state._replace(count=optax.safe_increment(state.count))
    stored = held.narrow(fresh, state.inner, moment, again)
    if reread is not None:
      direction = reread(fresh, held.widen(stored))
    return compose.cast_like(direction, updates), state._replace(inner=stored)

  return optax.GradientTransformationExtraArgs(init, update)


def describe_bits(
  name: str, params: PyTree, options: Mapping[str, Any], bits: int = 8
) -> Mapping[str, str]:
  """Path of each leaf to `name` and the bits of its state.

  Args:
    name: of the update.
    params: arrays, or their shapes and dtypes.
    options: those of `quantize_state` that are not its defaults.
    bits: its own.
  """
  parameters = inspect.signature(quantize_state).parameters
  taken = inspect.signature(coding).parameters
  known = {key: parameters[key].default for key in taken if key in parameters}
  known |= {key: value for key, value in options.items() if key in known}
  held = coding(name, **{**known, "bits": bits, "unsigned_rounding": "nearest"})

  def said(path, leaf):
    kinds = [
      codebooks.bits(code.name) if held.fits(path, leaf, code) else 32
      for code in (held.signed, held.unsigned)
    ]
    return "- and ".join(map(str, dict.fromkeys(kinds)))

  return {
    path: f"{name} ({said(path, leaf)}-bit state)"
    for path, leaf in groups.leaves(params)
  }
