"""Multi-head attention: projections, norms, positions and gates around a
mixing method of `normjax.nn.mixing`.
"""

import math
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike

from normjax import norms
from normjax.nn import (
  attention_checks,
  neighbours,
  roles,
  rotary_scaling,
)
from normjax.nn import linear as linear_lib
from normjax.nn import mixing as mixing_lib
from normjax.nn.dropout import dropout
from normjax.nn.norm_layer import NormLayer
from normjax.nn.paths import Paths
from normjax.nn.rotary import RotaryTable, rotate, table
from normjax.nn.scale_vectors import NO_SCALE_VECTORS, ScaleVectors, gain_roles
from normjax.nn.switches import HasNoise
from normjax.norms import modes
from normjax.types import Array

_NORMAL = nnx.initializers.normal(0.02)
# What reads x, and the axis of its heads.
_HEADS_OF = {"query": "heads", "key": "kv_heads", "value": "kv_heads"}


class Attention(HasNoise):
  """Attention with every normalization that papers put inside it.

  q, k, v = W_q x, W_k x, W_v x      each (b, t, heads, k)
  q, k = query_norm(q), key_norm(k); v = value_norm(v)
  q, k = R q, R k                    rotary positions; norms may follow
  o = mixing(q, k, v)
  o = inner_norm(o)                  over the merged heads: SubLN
  o = o * sigmoid(W_g x)             gated attention
  y = W_o o
  """

  def __init__(
    self,
    model_dim: int,
    num_heads: int,
    *,
    num_kv_heads: int | None = None,
    head_dim: int | None = None,
    causal: bool = True,
    rope_theta: float | None = 10_000.0,
    rotary_dim: int | None = None,
    rope_scaling: str | rotary_scaling.RotaryScaling = "none",
    use_bias: bool | Literal["query_key_value"] = False,
    dropout_rate: float = 0.0,
    mixing: mixing_lib.MixingSpec = "softmax",
    query_key_norm: norms.NormSpec | None = None,
    query_key_norm_axes: Literal["head", "joint"] = "head",
    query_key_norm_after_rotation: bool = False,
    value_norm: norms.NormSpec | None = None,
    learned_temperature: bool = False,
    logit_scale: float | None = None,
    logit_cap: float | None = None,
    output_gate: Literal["elementwise", "headwise"] | None = None,
    inner_norm: norms.NormSpec | None = None,
    scale_vectors: ScaleVectors = NO_SCALE_VECTORS,
    linear: linear_lib.LinearSpec = "dense",
    kernel_init: Initializer = _NORMAL,
    value_init: Initializer | None = None,
    out_init: Initializer = _NORMAL,
    dtype: jnp.dtype = jnp.float32,
    rngs: nnx.Rngs,
  ):
    """Makes the kernels, norms and the method's own parameters.

    Args:
      model_dim: d.
      num_heads: h.
      num_kv_heads: key and value heads, dividing h (arXiv:2305.13245);
        None: h.
      head_dim: k, features of a head; None: d / h, which h then divides.
      causal: whether position t sees only s <= t.
      rope_theta: base of the rotary frequencies; None: no rotation.
      rotary_dim: how many features of a head rotate, the first ones; even;
        None: all.
      rope_scaling: of the frequencies, one of `rotary_scaling.TABLE`.
      use_bias: of every linear layer here; "query_key_value": of these three
        alone (Qwen2).
      dropout_rate: on the output.
      mixing: how values are mixed: a name of `normjax.nn.mixing`, or a mapping
        with "name" and its options.
      query_key_norm: on queries and on keys, each with its own parameters;
        None: none.
      query_key_norm_axes: "head": over the features of a head, with parameters
        that heads share (Qwen3, ViT-22B); "joint": over the features of all
        heads together (OLMo 2).
      query_key_norm_after_rotation: whether the norms follow the rotation. For
        a norm of one head without parameters that is the same function.
      value_norm: over the features of a head of the values, as HybridNorm
        (arXiv:2503.04598) has it with `query_key_norm`.
      learned_temperature: whether the factor of the scores is a parameter
        `temperature` (h,), as in arXiv:2010.04245 over l2-normalized q and k.
      logit_scale: factor of the scores, or where it starts; None:
        1 / sqrt(k). Scores of l2-normalized q and k are cosines, and want a
        larger one: sqrt(k) in nGPT (arXiv:2410.01131).
      logit_cap: c of c tanh(score / c), arXiv:2408.00118; None: no cap.
      output_gate: a sigmoid of a linear layer of the branch's input, on the
        mixed values (arXiv:2505.06708): "elementwise": one gate per feature,
        "headwise": one per head. Gates are near 1/2 at first. With `inner_norm`
        the gate comes after it.
      inner_norm: over the merged heads, before the output projection
        (arXiv:2210.06423).
      scale_vectors: gains around the query, key and value matrices, as in
        `query_scale` and `query_output_scale`; see there.
      linear: how each matrix is held, one of `normjax.nn.linear`.
      kernel_init: of the query, key and gate kernels.
      value_init: of the value kernel; None: kernel_init.
      out_init: of the output kernel.
      dtype: of the computation; parameters are float32.
      rngs: stream "params".

    Raises:
      UserError: sizes that do not divide, options that exclude each other, or
        a method that cannot do what is asked.
    """
    kv_heads = num_heads if num_kv_heads is None else num_kv_heads
    self.method = mixing_lib.resolve(mixing)
    attention_checks.check(
      self.method,
      model_dim=model_dim,
      num_heads=num_heads,
      num_kv_heads=kv_heads,
      head_dim=head_dim,
      causal=causal,
      rope_theta=rope_theta,
      rotary_dim=rotary_dim,
      rope_scaling=rope_scaling,
      use_bias=use_bias,
      query_key_norm=query_key_norm,
      query_key_norm_axes=query_key_norm_axes,
      query_key_norm_after_rotation=query_key_norm_after_rotation,
      learned_temperature=learned_temperature,
      logit_scale=logit_scale,
      logit_cap=logit_cap,
      output_gate=output_gate,
    )
    head_dim = model_dim // num_heads if head_dim is None else head_dim
    self.causal, self.rope_theta, self.head_dim = causal, rope_theta, head_dim
    self.rotary_dim = head_dim if rotary_dim is None else rotary_dim
    self.rope_scaling = rotary_scaling.resolve(rope_scaling)
    bias_elsewhere = use_bias is True
    self.dropout_rate, self.logit_cap = dropout_rate, logit_cap
    self.joint = query_key_norm_axes == "joint"
    self.norm_last = query_key_norm_after_rotation
    self.headwise = output_gate == "headwise"
    self.logit_scale = logit_scale

    self.linear = linear_lib.resolve(linear)

    def project(heads: int, init: Initializer) -> nnx.Module:
      return self.linear.make(
        model_dim,
        (heads, head_dim),
        use_bias=bool(use_bias),
        kernel_init=init,
        dtype=dtype,
        rngs=rngs,
      )

    def normalize(
      spec: norms.NormSpec | None, heads: int, merged: bool
    ) -> NormLayer | None:
      if spec is None:
        return None
      norm = attention_checks.resolve_norm(spec)
      features = heads * head_dim if merged else head_dim
      return NormLayer(norm, (features,), rngs=rngs)

    shared = self.method.traits.shared_query_key
    self.query = project(num_heads, kernel_init)
    self.key = None if shared else project(kv_heads, kernel_init)
    self.value = project(kv_heads, value_init or kernel_init)
    self.out = self.linear.make(
      (num_heads, head_dim),
      model_dim,
      use_bias=bias_elsewhere,
      kernel_init=out_init,
      dtype=dtype,
      rngs=rngs,
    )
    self.scale_vectors = scale_vectors
    for reader, heads in _HEADS_OF.items():
      if reader != "key" or not shared:
        count = num_heads if heads == "heads" else kv_heads
        scale_vectors.attach(self, reader, model_dim, count * head_dim)
    self.query_norm = normalize(query_key_norm, num_heads, self.joint)
    self.key_norm = normalize(
      None if shared else query_key_norm, kv_heads, self.joint
    )
    self.value_norm = normalize(value_norm, kv_heads, merged=False)
    self.inner_norm = normalize(inner_norm, num_heads, merged=True)
    if learned_temperature:
      start = 1 / math.sqrt(head_dim) if logit_scale is None else logit_scale
      self.temperature = nnx.Param(jnp.full(num_heads, start, jnp.float32))
    self.learned_temperature = learned_temperature
    self.output_gate = output_gate and self.linear.make(
      model_dim,
      num_heads if self.headwise else num_heads * head_dim,
      use_bias=bias_elsewhere,
      kernel_init=kernel_init,
      dtype=dtype,
      rngs=rngs,
    )
    # No key is drawn where there is nothing to draw, so that the kernels of a
    # seed do not depend on the method.
    self.mixing = nnx.data(
      jax.tree.map(
        nnx.Param, self.method.init(rngs.params(), num_heads, head_dim)
      )
      if self.method.init_fn
      else {}
    )

  @property
  def parameter_roles(self) -> dict[str, roles.Role]:
    """See `nn.roles`."""
    said = {}
    for reader, heads in _HEADS_OF.items():
      said |= gain_roles(reader, heads) | {
        f"{reader}/kernel": roles.kernel("embed", heads, "head_dim", outputs=2),
        f"{reader}/bias": roles.bias(heads, "head_dim"),
      }
    return said | {
      "out/kernel": roles.kernel("heads", "head_dim", "embed"),
      "out/bias": roles.bias("embed"),
      "output_gate/kernel": roles.kernel("embed", "heads"),
      "output_gate/bias": roles.bias("heads"),
      "temperature": roles.gain("heads"),
      **roles.within("mixing", self.method.parameter_roles),
    }

  @property
  def norm_neighbours(self) -> dict[str, neighbours.Neighbours]:
    """See `nn.neighbours`."""
    gated = "output_gate stands between" if self.output_gate else ""
    if not self.linear.has_kernel:
      return {}
    return {
      "inner_norm": neighbours.Neighbours(readers=("out",), obstacle=gated)
    }

  @property
  def reader_obstacle(self) -> str:
    """Why what reads x cannot take over a norm's gain; "" where it can."""
    return self.linear.obstacle or self.scale_vectors.obstacle

  def fold_reader_gains(self) -> list[str]:
    """See `nn.neighbours`."""
    readers = tuple(
      name for name in _HEADS_OF if getattr(self, name) is not None
    )
    return self.scale_vectors.fold_inputs(self, readers)

  def rotary_table(
    self, positions: Array, dtype: DTypeLike = jnp.float32
  ) -> RotaryTable | None:
    """What `rotary` of a call takes; None where there is no rotation.

    Args:
      positions: (t,) or (b, t), integers.
      dtype: of x; the table is float32 at least.
    """
    if not self.rope_theta:
      return None
    wide = jnp.promote_types(dtype, jnp.float32)
    return table(
      positions, self.rotary_dim, self.rope_theta, wide, self.rope_scaling
    )

  def __call__(
    self,
    x_btd: Array | Paths,
    *,
    train: modes.Train = None,
    mask_bt: Array | None = None,
    rotary: RotaryTable | None = None,
    key: Array | None = None,
  ) -> Array:
    """Attends.

    Args:
      x_btd: input of the branch; values may have one of their own.
      train: of the norms, and whether dropout is on.
      mask_bt: true at real tokens; the others are no keys, and enter no
        statistics. Their own outputs mean nothing.
      rotary: the positions' angles, made once for all layers; None: those of
        positions 0 to t - 1.
      key: of dropout; needed where there is some in training.

    Returns:
      (b, t, d).

    Raises:
      UserError: a mask of another shape, or dropout in training without a key.
    """
    two = x_btd if isinstance(x_btd, Paths) else Paths(x_btd, x_btd)
    x_btd = two.query_key
    attention_checks.check_mask(x_btd.shape, mask_bt)
    key = self.noise_key(train, key, dropout_rate=self.dropout_rate)
    if self.rope_theta and rotary is None:
      rotary = self.rotary_table(jnp.arange(x_btd.shape[1]), x_btd.dtype)

    def normalize(layer: NormLayer | None, x_bthk: Array, merged: bool):
      if layer is None:
        return x_bthk
      x = x_bthk.reshape(*x_bthk.shape[:2], -1) if merged else x_bthk
      return layer(x, train=train, mask=mask_bt).reshape(x_bthk.shape)

    def read(reader: str) -> Array:
      own_btd = two.value if reader == "value" else x_btd
      return self.scale_vectors.read(
        self, reader, own_btd, train=train, mask=mask_bt
      )

    def turn(x_bthk: Array) -> Array:
      assert rotary is not None
      return rotate(x_bthk, rotary)

    def prepare(x_bthk: Array, norm: NormLayer | None) -> Array:
      if not self.norm_last:
        x_bthk = normalize(norm, x_bthk, self.joint)
      if self.rope_theta and self.method.traits.rotation == "projections":
        x_bthk = turn(x_bthk)
      return normalize(norm, x_bthk, self.joint) if self.norm_last else x_bthk

    q_bthk = prepare(read("query"), self.query_norm)
    k_bsgk = q_bthk if self.key is None else prepare(read("key"), self.key_norm)
    mixed = self.method.apply(
      jax.tree.map(
        lambda variable: variable[...],
        self.mixing,
        is_leaf=lambda leaf: isinstance(leaf, nnx.Variable),
      ),
      q_bthk,
      k_bsgk,
      normalize(self.value_norm, read("value"), merged=False),
      causal=self.causal,
      mask_bs=mask_bt,
      scale=(
        self.temperature[...] if self.learned_temperature else self.logit_scale
      ),
      logit_cap=self.logit_cap,
      rotate=turn if self.rope_theta else None,
      weights=hasattr(self, "__captures__"),
    )
    o_bthk = normalize(self.inner_norm, mixed.values_bthk, merged=True)
    if self.output_gate is not None:
      gate = jax.nn.sigmoid(self.output_gate(x_btd))
      k = 1 if self.headwise else o_bthk.shape[-1]
      o_bthk *= gate.reshape(*o_bthk.shape[:3], k)
    y_btd = dropout(self.out(o_bthk), self.dropout_rate, key)
    self.sow(nnx.Intermediate, "output", y_btd, capture_noop=True)
    if mixed.first_token_mass_h is not None:
      # Not captured, it is dead code that XLA removes.
      self.sow(
        nnx.Intermediate,
        "first_token_mass",
        mixed.first_token_mass_h,
        capture_noop=True,
      )
    return y_btd
