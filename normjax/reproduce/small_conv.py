"""A network of three convolutions, for tables that train hundreds of them."""

from flax import nnx

from normjax import norms
from normjax.nn.norm_layer import NormLayer
from normjax.norms import modes
from normjax.types import Array


class SmallConv(nnx.Module):
  """Three times convolution - norm - relu, the mean over pixels, a head.

  The second and the third halve the sides. Kernels start as in He et al. 2015
  (arXiv:1502.01852), biases at 0.
  """

  def __init__(
    self,
    num_classes: int,
    input_shape: tuple[int, ...],
    *,
    widths: tuple[int, int, int] = (16, 32, 32),
    norm: norms.NormSpec = "batch_norm",
    rngs: nnx.Rngs,
  ):
    """Draws the layers.

    Args:
      num_classes: logits.
      input_shape: (h, w, c).
      widths: channels of each convolution.
      norm: of each convolution; of images.
      rngs: its `params` stream.
    """
    height, width, channels = input_shape
    self.convs, self.norms = nnx.List(), nnx.List()
    for index, features in enumerate(widths):
      stride = 2 if index else 1
      height, width = -(-height // stride), -(-width // stride)
      self.convs.append(
        nnx.Conv(
          channels,
          features,
          (3, 3),
          strides=stride,
          use_bias=False,
          kernel_init=nnx.initializers.he_normal(),
          rngs=rngs,
        )
      )
      self.norms.append(NormLayer(norm, (height, width, features), rngs=rngs))
      channels = features
    self.head = nnx.Linear(channels, num_classes, rngs=rngs)

  def __call__(self, images: Array, train: modes.Train = None) -> Array:
    """Logits (b, num_classes) of images (b, h, w, c)."""
    x = images
    for conv, norm in zip(self.convs, self.norms, strict=True):
      x = nnx.relu(norm(conv(x), train=train))
    return self.head(x.mean((1, 2)))
