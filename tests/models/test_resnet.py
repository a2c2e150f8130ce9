import jax
import numpy as np
import pytest
from flax import nnx

from normjax import errors, models
from normjax.models import residual_blocks
from normjax.nn import variables as nn_variables


def _shapes(name, **options):
  model = nnx.eval_shape(lambda: models.make(name, **options))
  return nn_variables.split(model)[1]["params"]


def test_twenty_layers_have_the_papers_parameters():
  """0.27M in table 6 of arXiv:1512.03385; here counted out."""
  params = _shapes("cifar_resnet")
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
  params = _shapes("cifar_resnet", depth=32)
  kernels = [leaf for leaf in jax.tree.leaves(params) if leaf.ndim > 1]
  assert len(kernels) == 32


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"depth": 18}, r"depth=18 must be 6n \+ 2"),
    ({"depth": 2}, r"depth=2 must be 6n \+ 2"),
    ({"input_shape": (64,)}, r"input_shape=\(64,\) must be \(height"),
    ({"input_shape": (0, 8, 3)}, r"input_shape=\(0, 8, 3\) must hold"),
    ({"num_classes": 0}, "num_classes=0; allowed: an int >= 1"),
    ({"width": 0}, "width=0; allowed: an int >= 1"),
    ({"version": "v3"}, r"version='v3'; allowed: 'v1', 'v2'"),
    ({"shortcut": "B"}, r"shortcut='B'; allowed: 'pad', 'project'"),
    ({"scale_init": "fixed"}, "scale_init='fixed'; allowed: 'ones'"),
    ({"zero_gamma": True, "version": "v2"}, "zero_gamma=True is for .*'v1'"),
    ({"zero_gamma": True, "norm": "identity"}, "zero_gamma=True sets .*scale"),
    (
      {"scale_init": "uniform", "norm": "rms_norm(zero_centered=True)"},
      "scale_init='uniform' .* none that is its gain",
    ),
    ({"bias_init": 1.0, "norm": "rms_norm"}, "bias_init=1.0 .* its offset"),
  ],
)
def test_bad_options_are_named(options, message):
  with pytest.raises(errors.UserError, match=message):
    models.make("cifar_resnet", **options)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"depth": 20}, "depth=20; allowed: 18, 34, 50, 101, 152"),
    ({"stride_in": "7x7"}, "stride_in='7x7'; allowed: '3x3', '1x1'"),
    ({"blocks_per_stage": (1, 0)}, r"blocks_per_stage\[1\]=0; allowed"),
  ],
)
def test_bad_options_of_the_large_networks_are_named(options, message):
  with pytest.raises(errors.UserError, match=message):
    models.make("resnet", **options)


def _affine(name, parameter, **options):
  """All entries of all norms' `parameter`, by site."""
  small = {"depth": 8, "width": 8, "shortcut": "project"}
  params = nn_variables.split(models.make(name, **small, **options))[1]
  flat = jax.tree_util.tree_flatten_with_path(params["params"])[0]
  return {
    jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf)
    for path, leaf in flat
    if path[-1].key == parameter and path[-2].key == "norm"
  }


@pytest.mark.parametrize(
  ("scale_init", "low", "high"),
  [("uniform", 0.0, 1.0), ("uniform_symmetric", -1.0, 1.0)],
)
def test_scales_start_uniform(scale_init, low, high):
  scales = _affine("cifar_resnet", "scale", scale_init=scale_init)
  values = np.concatenate(list(scales.values()))
  assert values.min() >= low
  assert values.max() <= high
  # Five deviations of the mean of so many draws; they are no copies.
  deviation = (high - low) / np.sqrt(12 * values.size)
  assert abs(values.mean() - (low + high) / 2) < 5 * deviation
  assert len(np.unique(values)) > values.size - 5
  biases = _affine("cifar_resnet", "bias", scale_init=scale_init)
  assert all(np.all(bias == 0) for bias in biases.values())


def test_biases_start_where_they_are_told():
  biases = _affine("cifar_resnet", "bias", bias_init=1.0)
  assert len(biases) == 9
  assert all(np.all(bias == 1) for bias in biases.values())
  scales = _affine("cifar_resnet", "scale", bias_init=1.0)
  assert all(np.all(scale == 1) for scale in scales.values())


@pytest.mark.parametrize("norm", ["batch_norm", "evonorm_b0"])
def test_zero_gamma_starts_blocks_as_their_shortcuts(norm):
  """arXiv:1706.02677, section 5.1; the projections' norms are not zero."""
  options = {"norm": norm, "zero_gamma": True}
  for site, scale in _affine("cifar_resnet", "scale", **options).items():
    assert np.all(scale == ("convs/1" not in site)), site
  block = models.make("cifar_resnet", depth=8, width=4, **options).layers[0]
  x = np.random.default_rng(0).normal(size=(2, 4, 4, 4)).astype(np.float32)
  np.testing.assert_array_equal(block(x, train=True), np.maximum(x, 0))


def test_evonorm_is_scale_and_bias_where_version_1_has_no_activation():
  """Version 2, for which it was made, has none of these sites."""
  small = {"depth": 8, "width": 4, "norm": "evonorm_b0", "shortcut": "project"}
  params = _shapes("cifar_resnet", **small)
  block = params["layers"]["1"]
  assert set(block["convs"]["0"]["norm"]["norm"]) == {"scale", "bias", "v"}
  for site in (block["convs"]["1"], block["project"]):
    assert set(site["norm"]["norm"]) == {"scale", "bias"}
  params = _shapes("cifar_resnet", version="v2", **small)
  flat = jax.tree_util.tree_flatten_with_path(params)[0]
  sites = {path[:-1] for path, _ in flat if path[-1].key == "scale"}
  with_v = {path[:-1] for path, _ in flat if path[-1].key == "v"}
  assert sites == with_v


def test_fixup_starts_with_the_papers_standard_deviations():
  """First kernels of branches sqrt(2 / fan-out) L^-1/2, last ones zero."""
  params = nn_variables.split(models.make("fixup_cifar_resnet"))[1]["params"]
  kernel = params["layers"]["8"]["conv_1"]["kernel"]
  # Five deviations of the standard deviation of so many normal draws.
  tolerance = 5 / np.sqrt(2 * kernel.size)
  np.testing.assert_allclose(
    np.std(kernel), np.sqrt(2 / (9 * 64)) * 9**-0.5, rtol=tolerance
  )
  assert not np.any(params["layers"]["8"]["conv_2"]["kernel"])
  assert not np.any(params["head"]["kernel"])
  assert np.abs(params["stem"]["kernel"]).max() <= 27**-0.5
  # 5 scalars a block, 2 around them; convolutions; the head.
  convolutions = 9 * (3 * 16 + 6 * 16**2 + 16 * 32 + 5 * 32**2 + 32 * 64)
  want = convolutions + 9 * 5 * 64**2 + 9 * 5 + 2 + 64 * 10 + 10
  assert sum(leaf.size for leaf in jax.tree.leaves(params)) == want
