"""The feed-forward branch: two matrices, or three with a gate."""

from collections.abc import Callable
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from normjax import norms, validate
from normjax.nn import linear as linear_lib
from normjax.nn import neighbours, roles
from normjax.nn.activation import gelu_exact, squared_relu
from normjax.nn.dropout import dropout
from normjax.nn.norm_layer import NormLayer
from normjax.nn.scale_vectors import NO_SCALE_VECTORS, ScaleVectors, gain_roles
from normjax.nn.switches import HasNoise
from normjax.norms import modes
from normjax.types import Array

# Name -> the nonlinearity, and whether a gate goes through it.
ACTIVATIONS: dict[str, tuple[Callable[[Array], Array], bool]] = {
  "swiglu": (jax.nn.silu, True),
  "geglu": (jax.nn.gelu, True),
  "geglu_exact": (gelu_exact, True),
  "gelu": (jax.nn.gelu, False),
  "gelu_exact": (gelu_exact, False),
  "relu": (jax.nn.relu, False),
  "squared_relu": (squared_relu, False),
}
_NORMAL = nnx.initializers.normal(0.02)


class FeedForward(HasNoise):
  """W_down f(x), f = a(W_gate x) * W_up x with a gate, else a(W_up x).

  A hidden norm normalizes what the nonlinearity a reads, an inner norm f(x).
  Gated: Shazeer 2020, arXiv:2002.05202, equation 6. GELU is
  x Phi(x), Hendrycks, Gimpel 2016, arXiv:1606.08415, section 2: "gelu" its
  tanh form, as in GPT-2 and the official ViT code; "gelu_exact" with erf, as
  in BERT and in PyTorch's ports of ViT. "squared_relu" is max(x, 0)^2: So et
  al. 2021, arXiv:2109.08668.
  """

  parameter_roles: ClassVar[roles.Declared] = {
    "gate/kernel": roles.kernel("embed", "mlp"),
    "up/kernel": roles.kernel("embed", "mlp"),
    "down/kernel": roles.kernel("mlp", "embed"),
    "gate/bias": roles.bias("mlp"),
    "up/bias": roles.bias("mlp"),
    "down/bias": roles.bias("embed"),
    **gain_roles("gate", "mlp"),
    **gain_roles("up", "mlp"),
  }

  def __init__(
    self,
    model_dim: int,
    hidden_dim: int,
    *,
    activation: str = "swiglu",
    use_bias: bool = False,
    dropout_rate: float = 0.0,
    hidden_norm: norms.NormSpec | None = None,
    inner_norm: norms.NormSpec | None = None,
    scale_vectors: ScaleVectors = NO_SCALE_VECTORS,
    linear: linear_lib.LinearSpec = "dense",
    kernel_init: nnx.Initializer = _NORMAL,
    out_init: nnx.Initializer = _NORMAL,
    dtype: jnp.dtype = jnp.float32,
    rngs: nnx.Rngs,
  ):
    """Makes the kernels.

    Args:
      model_dim: d.
      hidden_dim: f.
      activation: one of `ACTIVATIONS`.
      use_bias: whether each matrix has one.
      dropout_rate: on the output.
      hidden_norm: before the nonlinearity, over f features: of W_gate x where
        there is a gate, else of W_up x.
      inner_norm: before the last matrix, over f features.
      scale_vectors: gains around each matrix that reads x, as in `up_scale`
        and `up_output_scale`; see there.
      linear: how each matrix is held, one of `normjax.nn.linear`.
      kernel_init: of the matrices that read x.
      out_init: of the last matrix.
      dtype: of the computation; parameters are float32.
      rngs: stream "params".

    Raises:
      UserError: an unknown activation or norm.
    """
    validate.choice("feed_forward", "activation", activation, ACTIVATIONS)
    self.activation, self.dropout_rate = activation, dropout_rate
    gated = ACTIVATIONS[activation][1]

    self.linear = linear_lib.resolve(linear)

    def project(inputs: int, outputs: int, init) -> nnx.Module:
      return self.linear.make(
        inputs,
        outputs,
        use_bias=use_bias,
        kernel_init=init,
        dtype=dtype,
        rngs=rngs,
      )

    if gated:
      self.gate = project(model_dim, hidden_dim, kernel_init)
    self.up = project(model_dim, hidden_dim, kernel_init)
    self.down = project(hidden_dim, model_dim, out_init)
    self.scale_vectors = scale_vectors
    for reader in ("gate", "up") if gated else ("up",):
      scale_vectors.attach(self, reader, model_dim, hidden_dim)
    self.has_hidden_norm = hidden_norm is not None
    if hidden_norm is not None:
      self.hidden_norm = NormLayer(hidden_norm, (hidden_dim,), rngs=rngs)
    self.has_inner_norm = inner_norm is not None
    if inner_norm is not None:
      self.inner_norm = NormLayer(inner_norm, (hidden_dim,), rngs=rngs)

  @property
  def norm_neighbours(self) -> dict[str, neighbours.Neighbours]:
    """See `nn.neighbours`."""
    first = "gate" if ACTIVATIONS[self.activation][1] else "up"
    if self.scale_vectors.outputs:
      first = ""
    if not self.linear.has_kernel:
      return {}
    return {
      "hidden_norm": neighbours.Neighbours(writer=first),
      "inner_norm": neighbours.Neighbours(readers=("down",)),
    }

  @property
  def reader_obstacle(self) -> str:
    """Why what reads x cannot take over a norm's gain; "" where it can."""
    return self.linear.obstacle or self.scale_vectors.obstacle

  def fold_reader_gains(self) -> list[str]:
    """See `nn.neighbours`."""
    readers = ("gate", "up") if ACTIVATIONS[self.activation][1] else ("up",)
    return self.scale_vectors.fold_inputs(self, readers)

  def __call__(
    self,
    x_btd: Array,
    *,
    train: modes.Train = None,
    mask_bt: Array | None = None,
    key: Array | None = None,
  ) -> Array:
    """Applies the branch.

    Args:
      x_btd: what it reads.
      train: of the norms, and whether dropout is on.
      mask_bt: true for real tokens, for norms with batch statistics.
      key: of dropout; needed where there is some in training.

    Raises:
      UserError: dropout in training without a key.
    """
    key = self.noise_key(train, key, dropout_rate=self.dropout_rate)
    activate, gated = ACTIVATIONS[self.activation]

    def read(reader: str) -> Array:
      return self.scale_vectors.read(
        self, reader, x_btd, train=train, mask=mask_bt
      )

    hidden_btf = read("gate" if gated else "up")
    if self.has_hidden_norm:
      hidden_btf = self.hidden_norm(hidden_btf, train=train, mask=mask_bt)
    self.sow(nnx.Intermediate, "pre", hidden_btf, capture_noop=True)
    hidden_btf = activate(hidden_btf)
    if gated:
      hidden_btf *= read("up")
    self.sow(nnx.Intermediate, "post", hidden_btf, capture_noop=True)
    if self.has_inner_norm:
      hidden_btf = self.inner_norm(hidden_btf, train=train, mask=mask_bt)
    y_btd = dropout(self.down(hidden_btf), self.dropout_rate, key)
    self.sow(nnx.Intermediate, "output", y_btd, capture_noop=True)
    return y_btd
