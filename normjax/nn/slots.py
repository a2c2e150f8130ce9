"""Which norm is in which slot of a stack, and what does not go together."""

import dataclasses
from collections.abc import Mapping, Sequence

from normjax import errors, norms
from normjax.nn import placement as placement_lib
from normjax.nn.residual_scaling import ResidualScaling
from normjax.nn.scale_vectors import ScaleVectors
from normjax.registry import near_misses

_BRANCHES = ("attention", "feed_forward")
# Of both branches, whatever the placement says; the rest must be its own.
_INSIDE = ("inner", "query_key", "value", "hidden")
_AROUND = ("input", "output", "stream")
_ENDS = ("embedding", "final")
_ALLOWED = (
  *_ENDS,
  *placement_lib.SLOTS,
  *(f"{b}_{s}" for b in _BRANCHES for s in (*_AROUND, "inner")),
)


@dataclasses.dataclass(frozen=True)
class Slots:
  """The norms of a stack.

  Attributes:
    placement: where norms sit.
    layers: what it says of each block.
    default: the norm of every slot that is not named.
    named: norms by slot; None and a slot that is left out are the same.
  """

  placement: placement_lib.Placement
  layers: Sequence[placement_lib.Layer]
  default: norms.Norm
  named: Mapping[str, norms.NormSpec | None]

  def _named(self, *slots: str) -> norms.Norm | None:
    """The norm that the first of these slots was given."""
    for slot in slots:
      spec = self.named.get(slot)
      if spec is not None:
        try:
          return norms.resolve(spec)
        except errors.UserError as error:
          raise type(error)(f"slot_norms.{slot}={spec!r}: {error}") from error
    return None

  def _given(self, slot: str) -> tuple[str, str]:
    """The option that asks for this slot's norm, as `key=value`, and its key.

    Where no slot is named that is the placement, and the key `norm`.
    """
    bare = slot.removeprefix("attention_").removeprefix("feed_forward_")
    for key in (slot, bare):
      if (spec := self.named.get(key)) is not None:
        return f"slot_norms.{key}={spec!r}", f"slot_norms.{key}"
    return f"placement={self.placement.name!r}", "norm"

  def around(self) -> dict[str, norms.Norm]:
    """The norms around the branches, by "<branch>_<slot>"."""
    return {
      f"{branch}_{slot}": self._named(f"{branch}_{slot}", slot) or self.default
      for branch in _BRANCHES
      for slot in _AROUND
    }

  def inside(
    self, layer: placement_lib.Layer, branch: str, slot: str
  ) -> norms.Norm | None:
    """The norm of a slot inside a branch of this block, if it has one."""
    named = self._named(f"{branch}_{slot}", slot)
    if slot in getattr(layer, branch).slots:
      return named or self.default
    return named

  def scale_vectors(
    self, branch: str, reader_scales: bool, output: str | None
  ) -> ScaleVectors:
    """The gains around the readers of a branch, in the form of its input norm.

    Args:
      branch: "attention" or "feed_forward".
      reader_scales: see `Stack`.
      output: `reader_output_scales` of `Stack`.

    Raises:
      UserError: "normalized" without an input norm, by one whose gain is no
        option, or by one that another site tells its statistic.
    """
    norm = self.around()[f"{branch}_input"]
    between = None
    if output == "normalized":
      asked = "reader_output_scales='normalized'"
      if not any("input" in getattr(at, branch).slots for at in self.layers):
        raise errors.UserError(
          f"{asked} takes the input norm of the {branch} branch; placement"
          f" {self.placement.name!r} has none. Use 'plain'."
        )
      if norm.context_for_next_fn is not None:
        raise errors.UserError(
          f"{asked} takes the branch's input norm, and {norm.name!r} as it is"
          " set takes its statistic from the norm before it. Use"
          " variance='exact', or 'plain'."
        )
      between = _without_gain(norm, asked)
    return ScaleVectors(
      inputs=reader_scales,
      outputs=output is not None,
      between=between,
      form=norm.options.get("scale_form", "plain"),
    )

  def ends(self) -> dict[str, norms.Norm]:
    """Those of "embedding" and "final" that there are."""
    has = {
      "embedding": self.placement.embedding_norm,
      "final": self.placement.final_norm,
    }
    chosen = {
      end: self._named(end) or (self.default if has[end] else None)
      for end in _ENDS
    }
    return {end: norm for end, norm in chosen.items() if norm is not None}

  def check(
    self, scaling: ResidualScaling, *, model_dim: int, causal: bool
  ) -> None:
    """Checks that everything goes together.

    Args:
      scaling: of the branches.
      model_dim: d.
      causal: whether a token must see no later one.

    Raises:
      UserError: an unknown slot, one that the placement does not have, or
        parts that contradict each other.
    """
    for slot in self.named:
      if slot not in _ALLOWED:
        raise errors.UserError(
          f"slot_norms has no slot {slot!r}.{near_misses(slot, _ALLOWED)}"
          f" Slots: {', '.join(_ALLOWED)}."
        )
    have = {
      f"{branch}_{slot}"
      for layer in self.layers
      for branch in _BRANCHES
      for slot in getattr(layer, branch).slots
    }
    for slot, spec in self.named.items():
      kind = slot.removeprefix("attention_").removeprefix("feed_forward_")
      matching = {slot} | {f"{branch}_{slot}" for branch in _BRANCHES}
      if spec is not None and kind in _AROUND and not matching & have:
        raise errors.UserError(
          f"slot_norms[{slot!r}]: placement {self.placement.name!r} has no such"
          f" slot; it has {', '.join(sorted(have))}."
        )
    self._check_context_for_next(have)
    if causal:
      self._check_causal(have)
    if self.placement.fixed_length:
      self._check_fixed_length(scaling, model_dim)

  def _check_context_for_next(self, have: set[str]) -> None:
    """A context goes from the first input norm of a pre block to the second."""
    around = self.around()
    plain = all(layer.is_plain_pre() for layer in self.layers)
    for slot in sorted(have & set(around)):
      norm = around[slot]
      if norm.context_for_next_fn is not None and not plain:
        raise errors.UserError(
          f"{norm.name!r} in slot {slot!r} takes its statistic from the norm"
          " before it, which holds in blocks with input norms alone; placement"
          f" {self.placement.name!r} has others. Use variance='exact', or"
          " placement 'pre'."
        )

  def _check_causal(self, have: set[str]) -> None:
    """No token's norm may read a later token."""
    around = self.around()
    used: dict[str, norms.Norm | None] = {
      slot: around[slot] for slot in sorted(have & set(around))
    }
    used |= {
      f"{branch}_{slot}": self.inside(layer, branch, slot)
      for layer in self.layers
      for branch in _BRANCHES
      for slot in _INSIDE
    }
    for slot, norm in (used | self.ends()).items():
      if norm is not None and norm.traits.mixes_positions:
        raise errors.UserError(
          f"norm {norm.name!r} in slot {slot!r} mixes the positions of a"
          " sequence, and in a causal model no token may see a later one; use"
          " a norm of single tokens, such as 'rms_norm' or 'layer_norm'."
        )

  def _check_fixed_length(
    self, scaling: ResidualScaling, model_dim: int
  ) -> None:
    """The stream's norms give every token one length, which no gain changes."""
    name = self.placement.name
    kept = self.around() | self.ends()
    for slot in sorted(kept):
      norm = kept[slot]
      if "input" in slot or slot == "final":
        continue
      traits = norm.traits
      learned = sorted(norm.init((model_dim,))["params"])
      if not (traits.scale_invariant and traits.statistics == "per_example"):
        why = f"norm {norm.name!r} does not fix for each token"
      elif learned:
        why = f"the {' and '.join(learned)} of norm {norm.name!r} would change"
      else:
        continue
      given, key = self._given(slot)
      raise errors.UserError(
        f"{given}: the stream of {name!r} keeps one length, which {why};"
        f" {key} must be rms_norm(use_scale=False) or l2_norm."
      )
    if scaling.name != "none":
      raise errors.UserError(
        f"placement {name!r} interpolates with learned rates in place of"
        f" adding; residual={scaling.name!r} does not go with it: use 'none'."
      )

  def without_input_scales(self) -> "Slots":
    """The same, with input norms that leave the gain to their readers.

    Raises:
      UserError: there is no input norm, or one whose gain is no option.
    """
    if not any("input" in layer.attention.slots for layer in self.layers):
      raise errors.UserError(
        "reader_scales=True needs an input norm in every block; placement"
        f" {self.placement.name!r} has none."
      )
    around = self.around()
    named = dict(self.named)
    for branch in _BRANCHES:
      slot = f"{branch}_input"
      named[slot] = _without_gain(around[slot], "reader_scales=True")
    return dataclasses.replace(self, named=named)


def _without_gain(norm: norms.Norm, asked: str) -> norms.Norm:
  """The norm without its gain, which sits elsewhere.

  Raises:
    UserError: the gain is no option of it, or another option is about the gain;
      the message names what asked.
  """
  if "use_scale" not in norm.options:
    raise errors.UserError(
      f"{asked} takes the gain from the norm, which needs the option use_scale;"
      f" {norm.name!r} has none. Use rms_norm or layer_norm, for example."
    )
  changed = {"use_scale": False}
  if "scale_form" in norm.options:
    changed["scale_form"] = "plain"
  try:
    return norms.make(norm.name, **{**norm.options, **changed})
  except errors.UserError as error:
    raise type(error)(f"{asked}: {error}") from error
