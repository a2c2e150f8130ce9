"""A transformer block: attention and feed-forward, with norms by placement."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from normjax import errors, norms
from normjax.nn import neighbours, residual_branch, roles
from normjax.nn import placement as placement_lib
from normjax.nn.attention import Attention
from normjax.nn.dropout import drop_examples, drop_path_keys
from normjax.nn.feed_forward import FeedForward
from normjax.nn.norm_layer import NormLayer
from normjax.nn.residual_scaling import ResidualScaling
from normjax.nn.rotary import RotaryTable
from normjax.norms import modes
from normjax.types import Array

BRANCHES = ("attention", "feed_forward")
# Where a branch starts on its way through the sphere: nGPT's 0.05, kept in
# units of 1 / sqrt(d) as its official code does, so that Adam moves it as it
# moves a unit vector's entries (arXiv:2410.01131, section 2.5).
_INITIAL_RATE = 0.05
_HANDED_ON = "the next norm's statistic is of the kernels that read it"


class Block(nnx.Module):
  """One block; what differs between blocks of a stack comes in the call."""

  parameter_roles: ClassVar[roles.Declared] = {
    # Of one number, or of one per feature.
    "branch_gain": roles.gain("embed"),
    "attention_gain": roles.gain("embed"),
    "attention_rate": roles.gain("embed"),
    "feed_forward_gain": roles.gain("embed"),
    "feed_forward_rate": roles.gain("embed"),
    "attention_before_bias": roles.bias(),
    "attention_after_bias": roles.bias(),
    "feed_forward_before_bias": roles.bias(),
    "feed_forward_after_bias": roles.bias(),
  }

  def __init__(
    self,
    attention: Attention,
    feed_forward: FeedForward,
    *,
    layer: placement_lib.Layer,
    scaling: ResidualScaling,
    slot_norms: Mapping[str, norms.Norm],
    num_branches: int,
    model_dim: int,
    rngs: nnx.Rngs,
  ):
    """Makes the norms around the branches and the learned factors.

    Args:
      attention: the first branch, with the norms inside it.
      feed_forward: the second branch.
      layer: where norms sit; its gains come in the call.
      scaling: what multiplies the branches.
      slot_norms: "<branch>_<slot>" to the norm of that slot.
      num_branches: of the whole stack.
      model_dim: d.
      rngs: of norms that draw.
    """
    self.attention, self.feed_forward = attention, feed_forward
    # Tuples in the order of BRANCHES: Flax hashes what is static.
    self.structures = tuple(getattr(layer, name) for name in BRANCHES)
    self.parallel, self.shared = layer.parallel, layer.shared_norms
    self.constant = scaling.constant(num_branches)
    self.offsets = scaling.offsets
    around = []
    for name, structure in zip(BRANCHES, self.structures, strict=True):
      slots = sorted(structure.slots & {"input", "output", "stream"})
      # Those that share have the norms of the first.
      shares = layer.parallel and self.shared and name == "feed_forward"
      around.append(() if shares else tuple(slots))
      for slot in around[-1]:
        norm = NormLayer(slot_norms[f"{name}_{slot}"], (model_dim,), rngs=rngs)
        setattr(self, f"{name}_{slot}_norm", norm)
    self.around = tuple(around)
    first, second = (slot_norms[f"{name}_input"] for name in BRANCHES)
    self.passes_context = (
      layer.is_plain_pre()
      and first.name == second.name
      and first.context_for_next_fn is not None
    )
    if self.passes_context and attention.linear.obstacle:
      raise errors.UserError(
        f"{attention.linear.obstacle} of values and outputs, of which"
        f" {first.name} takes its statistic; allowed: linear='dense'."
      )
    shape = (model_dim,) if scaling.learned == "vector" else ()
    factors: list[str | None] = []
    for name, structure in zip(BRANCHES, self.structures, strict=True):
      factors.append(None)
      if structure.interpolate:
        factors[-1] = f"{name}_rate"
        value = jnp.full((model_dim,), 1 / math.sqrt(model_dim))
      elif scaling.learned:
        factors[-1] = "branch_gain" if scaling.shared else f"{name}_gain"
        value = jnp.full(shape, scaling.initial)
      if factors[-1] is not None and not hasattr(self, factors[-1]):
        setattr(self, factors[-1], nnx.Param(value))
      if scaling.offsets:
        for side in ("before", "after"):
          setattr(self, f"{name}_{side}_bias", nnx.Param(jnp.zeros(())))
    self.factors = tuple(factors)

  def __call__(
    self,
    x_btd: Array,
    *,
    train: modes.Train = None,
    gains: placement_lib.Gains = placement_lib.NO_GAINS,
    mask_bt: Array | None = None,
    rotary: RotaryTable | None = None,
    key: Array | None = None,
    drop_path_rate: float | Array = 0.0,
    drop_path_key: Array | None = None,
  ) -> Array:
    """The stream after the block.

    Args:
      x_btd: the stream.
      train: of the norms.
      gains: this block's constants.
      mask_bt: true for real tokens.
      rotary: see `Attention`.
      key: of dropout; needed where there is some in training.
      drop_path_rate: what each addition to an example's stream is dropped with.
      drop_path_key: of that; None: nothing is dropped.
    """
    drops = _drops(drop_path_rate, drop_path_key)
    keys = (None, None) if key is None else jax.random.split(key)
    attend = self._branch(
      "attention", train, key=keys[0], mask_bt=mask_bt, rotary=rotary
    )
    feed = self._branch("feed_forward", train, key=keys[1], mask_bt=mask_bt)
    slots = self._norms(0, train, mask_bt)
    if self.parallel:
      factors = [self._factor(branch) for branch in (0, 1)]
      if not self.shared:
        attend = _normalized(attend, slots, gains)
        feed = _normalized(feed, self._norms(1, train, mask_bt), gains)
        slots, gains = {}, placement_lib.Gains(stream=gains.stream)

      def both(h_btd: Array) -> Array:
        return residual_branch.scaled(
          attend(h_btd), factors[0]
        ) + residual_branch.scaled(feed(h_btd), factors[1])

      x_btd = residual_branch.residual(
        x_btd, both, slots, gains=gains, drop=drops[0]
      )
    else:
      context = self._context_for_next(x_btd, gains, mask_bt)
      x_btd = self._add(x_btd, 0, attend, slots, gains, drops[0])
      slots = self._norms(1, train, mask_bt, context)
      x_btd = self._add(x_btd, 1, feed, slots, gains, drops[1])
    self.sow(nnx.Intermediate, "stream", x_btd, capture_noop=True)
    return x_btd

  @property
  def norm_neighbours(self) -> dict[str, neighbours.Neighbours]:
    """See `nn.neighbours`; of norms of the stream alone."""
    found: dict[str, neighbours.Neighbours] = {}
    norm = ""
    for name, structure, own in zip(
      BRANCHES, self.structures, self.around, strict=True
    ):
      # A branch without an input norm of its own shares that of the one before.
      if "input" in own:
        norm = f"{name}_input_norm"
      if not norm or "input" not in structure.slots:
        continue
      before = found.get(norm, neighbours.Neighbours(stream=True))
      branch = getattr(self, name)
      obstacle = before.obstacle or branch.reader_obstacle
      if structure.residual == "input":
        obstacle = "the stream itself goes on from what it gives"
      elif self.offsets:
        obstacle = f"{name}_before_bias is added to what it gives"
      elif self.passes_context and name == BRANCHES[0]:
        obstacle = _HANDED_ON
      readers = neighbours.stream_readers(branch, name)
      found[norm] = before._replace(
        readers=before.readers + readers, obstacle=obstacle
      )
    if self.passes_context:
      inside = neighbours.declared(self.attention, "attention")
      found |= {k: v._replace(obstacle=_HANDED_ON) for k, v in inside.items()}
    return found

  @property
  def stream_obstacles(self) -> list[str]:
    """See `nn.neighbours.stream_obstacles`."""
    found = []
    if obstacle := self.attention.linear.obstacle:
      found.append(f"{obstacle} to centre")
    for name, structure in zip(BRANCHES, self.structures, strict=True):
      if "stream" in structure.slots:
        found.append(f"{name}_stream_norm normalizes the stream: post-norm")
      if "output" in structure.slots:
        found.append(f"{name}_output_norm normalizes what is added")
      if structure.residual == "input":
        found.append(f"{name}_input_norm normalizes the stream: it goes on")
      if structure.interpolate:
        found.append(f"{name} is no sum: the stream goes a part of the way")
      if self.offsets:
        found.append(f"{name}_after_bias is added after the scaling")
    return found

  def _context_for_next(
    self, x_btd: Array, gains: placement_lib.Gains, mask_bt: Array | None
  ) -> Any:
    """What the attention's input norm tells that of the feed-forward."""
    if not self.passes_context:
      return None
    v_dgk = self.attention.value.kernel[...]
    o_hkd = self.attention.out.kernel[...]
    groups = o_hkd.shape[0] // v_dgk.shape[1]
    v_dn = jnp.repeat(v_dgk, groups, axis=1).reshape(v_dgk.shape[0], -1)
    o_nd = o_hkd.reshape(-1, o_hkd.shape[-1])
    # ||W_V W_O||_F^2 through the two Gram matrices, of the heads' features.
    squared = jnp.sum((v_dn.T @ v_dn) * (o_nd @ o_nd.T))
    squared *= jnp.mean(jnp.square(self._factor(0) * gains.input))
    _, t, d = x_btd.shape
    if mask_bt is not None:
      # Padding is not averaged.
      real_bt = mask_bt.astype(squared.dtype)
      t = jnp.maximum(jnp.sum(real_bt, axis=1), 1)[:, None, None]
    return self.attention_input_norm.context_for_next(
      x_btd, branch_gain=squared / (t * d), mask=mask_bt
    )

  def _branch(self, name: str, train: modes.Train, **options: Any):
    """The branch as a function of what it reads, with its offsets."""

    def call(h_btd: Array) -> Array:
      if self.offsets:
        h_btd += getattr(self, f"{name}_before_bias")[...].astype(h_btd.dtype)
      y_btd = getattr(self, name)(h_btd, train=train, **options)
      if self.offsets:
        y_btd += getattr(self, f"{name}_after_bias")[...].astype(y_btd.dtype)
      return y_btd

    return call

  def _factor(self, branch: int) -> float | Array:
    """What multiplies the branch's output."""
    factor = self.factors[branch]
    if factor is None:
      return self.constant
    value = getattr(self, factor)[...]
    if self.structures[branch].interpolate:
      return jnp.abs(value) * (_INITIAL_RATE * math.sqrt(value.size))
    return self.constant * value

  def _norms(self, branch: int, train, mask_bt, context: Any = None):
    def normalize(slot: str):
      layer = getattr(self, f"{BRANCHES[branch]}_{slot}_norm")
      site = context if slot == "input" else None
      return lambda x: layer(x, train=train, mask=mask_bt, context=site)

    return {slot: normalize(slot) for slot in self.around[branch]}

  def _add(self, x_btd, branch: int, function, slots, gains, drop) -> Array:
    return residual_branch.residual(
      x_btd,
      function,
      slots,
      structure=self.structures[branch],
      gains=gains,
      branch_gain=self._factor(branch),
      drop=drop,
    )


def _normalized(
  branch: residual_branch.Fn,
  norms: Mapping[str, residual_branch.Fn],
  gains: placement_lib.Gains,
) -> residual_branch.Fn:
  """The branch between norms of its own."""
  return lambda x_btd: residual_branch.taken(x_btd, branch, norms, gains)[1]


def _drops(
  rate: float | Array, key: Array | None
) -> list[residual_branch.Fn | None]:
  """Drop path of each branch."""

  def of(key: Array | None) -> residual_branch.Fn | None:
    if key is None:
      return None
    return lambda y: drop_examples(y, rate, key, rescaled=True)

  return [of(own) for own in drop_path_keys(key, len(BRANCHES))]
