"""A multilayer perceptron with a norm before each activation."""

import itertools
import math
from typing import ClassVar

from flax import nnx

from normjax import norms, validate
from normjax.nn import checks, neighbours, roles, shifted
from normjax.nn import dropout as dropouts
from normjax.nn.conv import HE_NORMAL
from normjax.nn.conv_norm import NormActivation
from normjax.nn.dense import Dense
from normjax.nn.output import Output
from normjax.nn.switches import HasNoise
from normjax.norms import modes, weights
from normjax.similarity import heads
from normjax.types import Array

# Normal distributions that are not truncated, as in the papers; jax and Keras
# truncate those of these names at two deviations.
INITS: dict[str, nnx.Initializer] = {
  # N(0, 2 / inputs): He et al. 2015, arXiv:1502.01852, equation 10.
  "he_normal": HE_NORMAL,
  # N(0, 1 / inputs): what keeps SELU's fixed point, arXiv:1706.02515.
  "lecun_normal": nnx.initializers.variance_scaling(1.0, "fan_in", "normal"),
  # N(0, 2 / (inputs + outputs)): Glorot and Bengio 2010, equation 12.
  "xavier": nnx.initializers.variance_scaling(1.0, "fan_avg", "normal"),
}


class MLP(HasNoise):
  """linear - norm - activation, num_layers times, then a head.

  A self-normalizing network (arXiv:1706.02515) is `activation="selu"`,
  `init="lecun_normal"`, `norm="identity"` and, if any, `dropout="alpha"`, on
  standardized inputs.
  """

  reads: ClassVar[frozenset[str]] = frozenset({"features", "images"})
  end_layers: ClassVar[roles.Ends] = roles.Ends("layers/0", "head")
  draws_for: ClassVar[tuple[str, ...]] = ("layers", "head")  # `nn.shifted`.

  def __init__(
    self,
    num_classes: int = 10,
    input_shape: tuple[int, ...] = (64,),
    *,
    num_layers: int = 3,
    hidden_dim: int = 128,
    activation: str = "relu",
    init: str = "he_normal",
    dropout: str = "standard",
    dropout_rate: float = 0.0,
    head: heads.HeadSpec = "linear",
    norm: norms.NormSpec = "layer_norm",
    weight_norm: weights.WeightNormSpec | None = None,
    compute_dtype: str = "float32",
    rngs: nnx.Rngs,
  ):
    """Makes the model; biases start at 0.

    Args:
      num_classes: outputs.
      input_shape: of one example; flattened.
      num_layers: hidden layers.
      hidden_dim: their width.
      activation: of `nn.activation`; not in norms that contain one.
      init: of the hidden kernels, one of `INITS`: "he_normal" for ReLU,
        "lecun_normal" for SELU, "xavier". The head's is jax's lecun_normal,
        which is truncated.
      dropout: "standard", or "alpha" for SELU (`nn.dropout`).
      dropout_rate: after each activation.
      head: the last layer, by name, see `similarity.heads`.
      norm: what is between each linear map and its activation.
      weight_norm: of the hidden kernels; None: none.
      compute_dtype: "float32" or "bfloat16"; parameters, statistics and
        logits are float32 either way.
      rngs: stream "params".

    Raises:
      UserError: a size below 1, or an unknown activation, init or dropout.
    """
    checks.check_input_shape(input_shape)
    validate.counts(
      "mlp",
      num_classes=num_classes,
      num_layers=num_layers,
      hidden_dim=hidden_dim,
    )
    validate.rates("mlp", dropout_rate=dropout_rate)
    dtype = checks.compute_dtype(compute_dtype)
    resolved = norms.resolve(norm)
    self.input_shape = tuple(input_shape)
    self.dropout_rate, self.drop = dropout_rate, dropouts.resolve(dropout)
    kernel_init = validate.choose("mlp", "init", init, INITS)
    sizes = [math.prod(input_shape), *[hidden_dim] * num_layers]
    self.layers = nnx.List(
      [
        Dense(
          inputs,
          outputs,
          kernel_init=kernel_init,
          weight_norm=weight_norm,
          dtype=dtype,
          rngs=rngs,
        )
        for inputs, outputs in itertools.pairwise(sizes)
      ]
    )
    self.norms = nnx.List(
      [
        NormActivation(resolved, hidden_dim, activation=activation, rngs=rngs)
        for _ in sizes[1:]
      ]
    )
    self.head = heads.layer(
      head, hidden_dim, num_classes, dtype=dtype, rngs=rngs
    )

  @property
  def norm_neighbours(self) -> dict[str, neighbours.Neighbours]:
    """See `nn.neighbours`."""
    return {
      f"norms/{i}/norm": neighbours.Neighbours(writer=f"layers/{i}")
      for i in range(len(self.layers))
    }

  def __call__(
    self, inputs: Array, *, train: modes.Train = None, key: Array | None = None
  ) -> Array | Output:
    """Class logits.

    Args:
      inputs: (b, …), flattened to (b, i).
      train: of the norms, and whether dropout is on; see `NormLayer`.
      key: of dropout; needed where there is some in training.

    Returns:
      (b, classes), float32; an `Output` where the head has embeddings.

    Raises:
      UserError: inputs of another shape, or dropout in training without a key.
    """
    checks.check_examples(inputs, self.input_shape, flattened=True)
    key = self.noise_key(train, key, dropout_rate=self.dropout_rate)
    keys = dropouts.split(key, len(self.layers), self.dropout_rate)
    x_bf = inputs.reshape(inputs.shape[0], -1)
    for layer, norm, layer_key in zip(
      self.layers, self.norms, keys, strict=True
    ):
      x_bf = shifted.draw_after(layer, x_bf)
      x_bf = norm(layer(x_bf, train=train), train=train)
      x_bf = self.drop(x_bf, self.dropout_rate, layer_key)
      self.sow(nnx.Intermediate, "hidden", x_bf, capture_noop=True)
    return self.head(shifted.draw_after(self.head, x_bf))
