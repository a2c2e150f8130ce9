"""A stack of blocks, unrolled or scanned, that the transformers share."""

from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from normjax import norms, validate
from normjax.nn import (
  initial,
  layer_loop,
  neighbours,
  residual_scaling,
  rotary_scaling,
  scale_vectors,
  shifted,
  slots,
  stream_layout,
)
from normjax.nn import linear as linear_lib
from normjax.nn import placement as placement_lib
from normjax.nn import variables as nn_variables
from normjax.nn.attention import Attention
from normjax.nn.block import BRANCHES, Block
from normjax.nn.dropout import drop_path_keys, drop_path_rates
from normjax.nn.feed_forward import FeedForward
from normjax.nn.norm_layer import NormLayer
from normjax.nn.switches import HasNoise
from normjax.norms import modes
from normjax.types import Array

# By name, `use_bias` of `Attention`.
ATTENTION_BIASES = {
  "none": False,
  "query_key_value": "query_key_value",
  "all": True,
}


class Stack(HasNoise):
  """Blocks between an embedding and a head; a model inherits from it."""

  draws_for: ClassVar[tuple[str, ...]] = ("layers",)  # See `nn.shifted`.

  def __init__(
    self,
    *,
    num_layers: int,
    model_dim: int,
    num_heads: int,
    hidden_dim: int,
    causal: bool,
    num_kv_heads: int | None = None,
    head_dim: int | None = None,
    rope_theta: float | None = 10_000.0,
    rotary_dim: int | None = None,
    rope_scaling: str | rotary_scaling.RotaryScaling = "none",
    activation: str = "swiglu",
    use_bias: bool = False,
    attention_bias: str | None = None,
    dropout_rate: float = 0.0,
    drop_path_rate: float = 0.0,
    norm: norms.NormSpec = "rms_norm",
    slot_norms: Mapping[str, norms.NormSpec | None] | None = None,
    placement: str | placement_lib.Placement = "pre",
    residual: str | residual_scaling.ResidualScaling = "none",
    init: str | initial.Init | None = initial.DEFAULT,
    reader_scales: bool = False,
    reader_output_scales: str | None = None,
    linear: linear_lib.LinearSpec = "dense",
    mixing: str | Mapping[str, Any] = "softmax",
    query_key_norm_axes: str | None = None,
    query_key_norm_after_rotation: bool = False,
    learned_temperature: bool = False,
    logit_scale: float | None = None,
    logit_cap: float | None = None,
    output_gate: str | None = None,
    scan_layers: bool = False,
    remat: bool = False,
    dtype: jnp.dtype = jnp.float32,
    rngs: nnx.Rngs,
  ):
    """Makes the blocks and the norms of the stream's two ends.

    Parameters are a tree by layer ("layers/0/…") whether or not the layers
    are scanned, so that optimizers and checkpoints never see the difference;
    a scan stacks them when it runs.

    Args:
      num_layers: blocks.
      model_dim: d.
      num_heads: query heads.
      hidden_dim: f, of the feed-forward.
      causal: whether a token sees no later one.
      num_kv_heads: key and value heads; None: as many as query heads.
      head_dim: features of a head; None: d / num_heads.
      rope_theta: base of the rotary frequencies; None: no rotation.
      rotary_dim: see `Attention`.
      rope_scaling: see `Attention`.
      activation: of the feed-forward, one of `feed_forward.ACTIVATIONS`.
      use_bias: whether the dense layers have biases.
      attention_bias: which of those of attention have, whatever `use_bias`
        says, one of `ATTENTION_BIASES`; None: as `use_bias` says.
      dropout_rate: on each branch's output.
      drop_path_rate: stochastic depth, timm's drop path: in training branches
        of block i of n, from 0, are dropped at i / (n - 1) times this, an
        example at a time, and divided by what is kept.
      norm: what is in every slot that `slot_norms` leaves out.
      slot_norms: a norm by slot: embedding, input, output, inner, stream,
        query_key, value, hidden, final, or one branch's alone as in
        attention_input. embedding, query_key, value, inner, hidden and final
        are added where the placement has none; the others must be slots of the
        placement.
      placement: where norms sit, one of `placement.TABLE`.
      residual: what multiplies the branches, one of `residual_scaling.TABLE`.
      init: how kernels start, one of `initial.TABLE`: the same for every
        placement, or "placement" for each placement's own. None is that, too:
        the configs of older runs have it.
      reader_scales: whether each matrix that reads an input norm (those of
        queries, keys, values, gate and up) has a gain of its own, in place of
        the norm's `scale` (arXiv:2605.26895), in the form of that.
      reader_output_scales: "plain": such a matrix has a gain on its output
        too; "normalized": the input norm, over all its outputs, is before that
        gain; None: neither. Readings of ours: see `nn.scale_vectors`.
      linear: how the matrices of blocks are held, one of `nn.linear.TABLE`:
        "dense", "sltrain(rank=128, density=0.03)", "low_rank", "lora",
        "relora". Embeddings and the head are dense.
      mixing: how attention mixes, one of `normjax.nn.mixing.TABLE`.
      query_key_norm_axes: "head" or "joint", see `Attention`; None: "joint"
        where the placement normalizes so, else "head".
      query_key_norm_after_rotation: see `Attention`.
      learned_temperature: see `Attention`.
      logit_scale: see `Attention`.
      logit_cap: see `Attention`.
      output_gate: see `Attention`.
      scan_layers: whether like blocks are one loop: much faster to compile.
      remat: whether a block's activations are computed again in the backward
        pass, in place of being kept.
      dtype: of the computation; parameters and statistics are float32.
      rngs: stream "params".

    Raises:
      UserError: an unknown name, sizes that do not fit, or a combination that
        makes no sense; the message says why.
    """
    placed = placement_lib.resolve(placement)
    scaling = residual_scaling.resolve(residual)
    kernels, gain = placed.start(init, num_layers)
    layers = [placed.layer(i + 1, num_layers) for i in range(num_layers)]
    chosen = slots.Slots(placed, layers, norms.resolve(norm), slot_norms or {})
    chosen.check(scaling, model_dim=model_dim, causal=causal)
    if attention_bias is not None:
      validate.choice(
        "transformer", "attention_bias", attention_bias, ATTENTION_BIASES
      )
    if reader_output_scales is not None:
      validate.choice(
        "transformer",
        "reader_output_scales",
        reader_output_scales,
        scale_vectors.OUTPUTS,
      )
    readers = {
      branch: chosen.scale_vectors(branch, reader_scales, reader_output_scales)
      for branch in BRANCHES
    }
    if reader_scales:
      chosen = chosen.without_input_scales()
    held = linear_lib.resolve(linear)
    inner_gain = scaling.inner_gain(2 * num_layers)
    out_gain = 0.0 if scaling.zero_writers else gain

    def block(index: int, layer: placement_lib.Layer) -> Block:
      where = (index + 1, num_layers, model_dim)
      shared = {
        "out_init": kernels.writer(out_gain, *where),
        "dropout_rate": dropout_rate,
        "linear": held,
        "dtype": dtype,
        "rngs": rngs,
      }
      attention = Attention(
        model_dim,
        num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        causal=causal,
        rope_theta=rope_theta,
        rotary_dim=rotary_dim,
        rope_scaling=rope_scaling,
        use_bias=(
          use_bias
          if attention_bias is None
          else ATTENTION_BIASES[attention_bias]
        ),
        mixing=mixing,
        query_key_norm=chosen.inside(layer, "attention", "query_key"),
        query_key_norm_axes=query_key_norm_axes
        or layer.attention.query_key_axes,
        query_key_norm_after_rotation=query_key_norm_after_rotation,
        value_norm=chosen.inside(layer, "attention", "value"),
        inner_norm=chosen.inside(layer, "attention", "inner"),
        scale_vectors=readers["attention"],
        learned_temperature=learned_temperature,
        logit_scale=logit_scale,
        logit_cap=logit_cap,
        output_gate=output_gate,
        kernel_init=kernels.inner(1.0, *where),
        value_init=kernels.inner(gain * inner_gain, *where),
        **shared,
      )
      feed_forward = FeedForward(
        model_dim,
        hidden_dim,
        activation=activation,
        use_bias=use_bias,
        hidden_norm=chosen.inside(layer, "feed_forward", "hidden"),
        inner_norm=chosen.inside(layer, "feed_forward", "inner"),
        scale_vectors=readers["feed_forward"],
        kernel_init=kernels.inner(gain * inner_gain, *where),
        **shared,
      )
      return Block(
        attention,
        feed_forward,
        layer=layer,
        scaling=scaling,
        slot_norms=chosen.around(),
        num_branches=2 * num_layers,
        model_dim=model_dim,
        rngs=rngs,
      )

    self.drop_path_rate = drop_path_rate
    self.drop_path_rates = tuple(
      drop_path_rates("transformer", drop_path_rate, num_layers)
    )
    self.layers = nnx.List([block(i, layer) for i, layer in enumerate(layers)])
    self.gains = tuple(layer.gains for layer in layers)
    # What a head of the model starts with.
    self.head_init = (
      nnx.initializers.zeros
      if scaling.zero_writers
      else nnx.initializers.normal(0.02)
    )
    self.scan_layers, self.remat = scan_layers, remat
    ends = chosen.ends()
    self.ends = tuple(ends)
    for end, end_norm in ends.items():
      layer = NormLayer(end_norm, (model_dim,), rngs=rngs)
      setattr(self, f"{end}_norm", layer)

  @property
  def norm_neighbours(self) -> dict[str, neighbours.Neighbours]:
    """See `nn.neighbours`; the constants of blocks are in it."""
    found = {}
    for i, (layer, gains) in enumerate(
      zip(self.layers, self.gains, strict=True)
    ):
      own = neighbours.declared(layer, f"layers/{i}")
      found |= {k: v._replace(factor=gains.input) for k, v in own.items()}
    if "final" in self.ends:
      readers = neighbours.stream_readers(self)
      tied = getattr(self, "tied_embeddings", False)
      found["final_norm"] = neighbours.Neighbours(
        readers=tuple(r for r in readers if not r.startswith("layers/")),
        stream=True,
        obstacle="the head is the embedding, too" if tied else "",
      )
    return found

  @property
  def stream_obstacles(self) -> list[str]:
    """See `nn.neighbours.stream_obstacles`."""
    normalized = "embedding_norm normalizes the stream"
    return [normalized] if "embedding" in self.ends else []

  def normalize_end(self, end: str, x_btd: Array, **options: Any) -> Array:
    """The stream through its "embedding" or "final" norm, if it has one."""
    if end not in self.ends:
      return x_btd
    return getattr(self, f"{end}_norm")(x_btd, **options)

  def run(
    self,
    x_btd: Array,
    *,
    train: modes.Train = None,
    mask_bt: Array | None = None,
    positions: Array | None = None,
    key: Array | None = None,
    final_norm: bool = True,
  ) -> Array:
    """The stream through both end norms and all blocks.

    Args:
      x_btd: the embedding.
      train: of the norms and of dropout.
      mask_bt: true for real tokens.
      positions: (t,) or (b, t), of the rotation; None: 0 to t - 1.
      key: of dropout and drop path; needed where there is one of them in
        training.
      final_norm: whether the final norm is applied, if there is one. A model
        that pools before it applies it itself, by `normalize_end`.
    """
    ends = {"train": train, "mask": mask_bt}
    if positions is None:
      positions = jnp.arange(x_btd.shape[1])
    # Once for all layers.
    rotary = self.layers[0].attention.rotary_table(positions, x_btd.dtype)
    options = {"train": train, "mask_bt": mask_bt, "rotary": rotary}
    x_btd = self.normalize_end("embedding", x_btd, **ends)
    drop_key = self.noise_key(train, key, drop_path_rate=self.drop_path_rate)
    drop_keys = drop_path_keys(drop_key, len(self.layers))
    keys = None if key is None else jax.random.split(key, len(self.layers))
    # Captured activations have no way out of a loop.
    capturing = hasattr(self, "__captures__")
    if capturing or not (self.scan_layers or self.remat):
      for i, layer in enumerate(self.layers):
        x_btd = shifted.draw_after(layer, x_btd)
        x_btd = layer(
          stream_layout.held(x_btd),
          gains=self.gains[i],
          key=None if keys is None else keys[i],
          drop_path_rate=self.drop_path_rates[i],
          drop_path_key=drop_keys[i],
          **options,
        )
    else:
      parts = [nn_variables.split(layer) for layer in self.layers]
      kinds = [(own, jax.tree.structure(v)) for own, v in parts]
      for group in self._groups(kinds):
        variables = [parts[i][1] for i in group]
        x_btd = self._run_group(
          x_btd, group, parts[group[0]][0], variables, keys, drop_keys, options
        )
    x_btd = stream_layout.held(x_btd)
    return self.normalize_end("final", x_btd, **ends) if final_norm else x_btd

  def _groups(self, structures: list[Any]) -> list[list[int]]:
    """Runs of consecutive layers that are one program."""
    groups: list[list[int]] = []
    for i, structure in enumerate(structures):
      if self.scan_layers and i and structure == structures[i - 1]:
        groups[-1].append(i)
      else:
        groups.append([i])
    return groups

  def _run_group(
    self,
    x_btd,
    group: list[int],
    structure,
    variables,
    keys,
    drop_keys,
    options,
  ) -> Array:
    """The stream through like layers; `variables` has those of each."""
    constants = [(self.gains[i], self.drop_path_rates[i]) for i in group]
    # Constants that are the same everywhere stay static floats.
    varying = len(set(constants)) > 1

    def apply(x_btd: Array, inputs: tuple[Any, ...]):
      variables, key, drop_key, traced = inputs
      layer = nn_variables.merge(structure, variables)
      gain, rate = traced if varying else constants[0]
      x_btd = layer(
        stream_layout.held(x_btd),
        gains=gain,
        key=key,
        drop_path_rate=rate,
        drop_path_key=drop_key,
        **options,
      )
      stats = nn_variables.split(layer)[1]["stats"]
      return stream_layout.held(x_btd), stats

    per_layer = [
      (own, None if keys is None else keys[i], drop_keys[i], constant)
      for i, own, constant in zip(group, variables, constants, strict=True)
    ]
    x_btd, new_stats = layer_loop.through(
      apply, x_btd, group, per_layer, remat=self.remat
    )
    for i, stats in zip(group, new_stats, strict=True):
      nn_variables.write_stats(self.layers[i], stats)
    return x_btd
