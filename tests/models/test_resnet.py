import jax
import numpy as np
import pytest

from normjax import errors, models
from normjax.models import residual_blocks
from normjax.nn import variables as nn_variables


def test_twenty_layers_have_the_papers_parameters():
  """0.27M in table 6 of arXiv:1512.03385; here counted out."""
  params = nn_variables.split(models.make("cifar_resnet"))[1]["params"]
  convolutions = (
    9 * 3 * 16
    + 6 * 9 * 16 * 16
    + 9 * 16 * 32
    + 5 * 9 * 32 * 32
    + 9 * 32 * 64
    + 5 * 9 * 64 * 64
  )
  # One norm a convolution, of gain and offset; then the head.
  norms = 2 * (7 * 16 + 6 * 32 + 6 * 64)
  want = convolutions + norms + 64 * 10 + 10
  assert sum(leaf.size for leaf in jax.tree.leaves(params)) == want
  assert round(want / 1e6, 2) == 0.27


def test_shortcut_takes_every_second_pixel_and_pads_with_zeros():
  x = np.arange(2 * 4 * 4 * 3, dtype=np.float32).reshape(2, 4, 4, 3)
  y = residual_blocks.pad_shortcut(x, 5, 2)
  np.testing.assert_array_equal(y[..., :3], x[:, ::2, ::2])
  np.testing.assert_array_equal(y[..., 3:], 0.0)


def test_convolutions_start_he_normal():
  """Variance 2 / fan-in (arXiv:1502.01852, equation 10)."""
  params = nn_variables.split(models.make("cifar_resnet"))[1]["params"]
  kernel = params["layers"]["8"]["convs"]["1"]["conv"]["kernel"]
  # Five deviations of the standard deviation of so many normal draws.
  tolerance = 5 / np.sqrt(2 * kernel.size)
  np.testing.assert_allclose(
    np.std(kernel), np.sqrt(2 / (9 * 64)), rtol=tolerance
  )


def test_depth_counts_the_layers_with_weights():
  params = nn_variables.split(models.make("cifar_resnet", depth=32))[1]
  kernels = [
    leaf for leaf in jax.tree.leaves(params["params"]) if leaf.ndim > 1
  ]
  assert len(kernels) == 32


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"depth": 18}, r"depth=18 must be 6n \+ 2"),
    ({"depth": 2}, r"depth=2 must be 6n \+ 2"),
    ({"input_shape": (64,)}, r"input_shape=\(64,\) must be \(height"),
    ({"input_shape": (0, 8, 3)}, r"input_shape=\(0, 8, 3\) must hold"),
    ({"num_classes": 0}, "num_classes=0 must be at least 1"),
    ({"width": 0}, "width=0 must be at least 1"),
  ],
)
def test_bad_options_are_named(options, message):
  with pytest.raises(errors.UserError, match=message):
    models.make("cifar_resnet", **options)
