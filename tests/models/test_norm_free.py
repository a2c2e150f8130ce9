"""Networks without norms: equality, signal propagation, sizes, options."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from normjax import configure, errors, models
from normjax.models import norm_free, standardized
from normjax.nn import conv, gains
from normjax.nn import variables as nn_variables
from tests.contracts import model_contract
from tests.models import references_norm_free as references

IMAGES = np.random.default_rng(0).normal(size=(2, 8, 8, 3))


def _drawn(shapes):
  """Parameters far off any start: branches count, gains differ."""
  rng = np.random.default_rng(1)

  def draw(path, leaf):
    mean = float(path[-1].key in ("gain", "skip_gain"))
    return (mean + 0.3 * rng.normal(size=leaf.shape)).astype(np.float32)

  return jax.tree.map_with_path(draw, shapes)


@pytest.mark.parametrize(
  ("name", "options", "reference", "layout"),
  [
    (
      "nf_resnet",
      {"activation": "silu", "se_ratio": 0.25, "blocks_per_stage": (2, 1)},
      references.nf_resnet,
      ((2, 1),),
    ),
    pytest.param(
      "cifar_nf_resnet",
      {"activation": "silu", "alpha": 0.5},
      references.cifar_nf_resnet,
      ((1, 1, 1), 0.5),
      # The same blocks behind another stem.
      marks=pytest.mark.slow,
    ),
    # Branches of 8 and 12 channels in groups of 4.
    (
      "nfnet",
      {"widths": (16, 24), "blocks_per_stage": (1, 1)},
      references.nfnet,
      ((1, 1), (2, 3)),
    ),
  ],
  ids=["nf_resnet", "cifar_nf_resnet", "nfnet"],
)
def test_equals_a_transcription(name, options, reference, layout):
  """Logits, and the slope of their sum along one direction."""
  options = {**model_contract.SIZES[name], **options}
  structure, variables = nn_variables.split(
    nnx.eval_shape(lambda: models.make(name, **options))
  )
  params = _drawn(variables["params"])
  images = jnp.asarray(IMAGES, jnp.float32)

  weights = jnp.asarray(np.random.default_rng(2).normal(size=(2, 10)))

  @jax.jit
  def both(params):
    def total(params):
      model = nn_variables.merge(structure, {**variables, "params": params})
      logits = model(images, train=False)
      return jnp.sum(logits * weights), logits

    return jax.grad(total, has_aux=True)(params)

  gradient, got = both(params)
  exact = jax.tree.map(np.float64, params)

  def want(params):
    return np.stack(
      [reference(params, np.float64(image), *layout) for image in images]
    )

  logits = want(exact)
  # A chain of at most twelve convolutions of at most 144 terms, whose errors
  # have either sign; activations and gates at most double each.
  bound = 2 * (12 * 144) ** 0.5 * 2**-23
  np.testing.assert_allclose(
    got, logits, rtol=0, atol=bound * np.abs(logits).max()
  )
  direction = _drawn(jax.tree.map(lambda leaf: leaf[None], exact))
  direction = jax.tree.map(lambda leaf: np.float64(leaf[0]), direction)
  step = 1e-5
  ahead, behind = (
    np.sum(
      np.float64(weights)
      * want(jax.tree.map(lambda p, d, s=sign: p + s * d, exact, direction))
    )
    for sign in (step, -step)
  )
  slopes = jax.tree.map(lambda g, d: np.float64(g) * d, gradient, direction)
  parts = np.concatenate([np.ravel(s) for s in jax.tree.leaves(slopes)])
  # As above, once more for the way back; differences err by step^2.
  np.testing.assert_allclose(
    np.sum(parts),
    (ahead - behind) / (2 * step),
    rtol=0,
    atol=2 * bound * np.sum(np.abs(parts)),
  )


def test_expected_stds_by_hand():
  """alpha^2 = 1/4: each block adds it; a first block starts again at 1."""
  stds = norm_free.expected_stds((3, 1, 2), 0.5)
  squares = [[round(std**2, 12) for std in stage] for stage in stds]
  assert squares == [[1.0, 1.25, 1.5], [1.75], [1.25, 1.25]]


@pytest.fixture(scope="module")
def model():
  """Two stages of two blocks, without skip gains."""
  return models.make(
    "nf_resnet",
    blocks_per_stage=(2, 2),
    width=1,
    alpha=0.2,
    skip_init=False,
    num_classes=50,
    stochastic_depth_rate=0.9,
  )


def _variances(model, x_byxc):
  """Of the stream after each block: the mean over channels."""
  step = jax.jit(lambda layer, x: layer(x, train=False))
  found = []
  for layer in model.layers:
    x_byxc = step(layer, x_byxc)
    found.append(float(jnp.mean(jnp.var(x_byxc, axis=(0, 1, 2)))))
  return np.array(found)


def test_the_streams_variance_is_as_planned(model):
  """The signal propagation plot of arXiv:2101.08692: 1, and alpha^2 a block.

  Zero padding takes from the branches: of the three taps along an axis of n
  pixels, (3 n - 2) / (3 n) are inside the image.
  """
  alpha = 0.2
  x = np.random.default_rng(0).normal(size=(32, 8, 8, 16))
  found = _variances(model, jnp.asarray(x, jnp.float32)).reshape(2, 2)
  inside = np.array([((3 * n - 2) / (3 * n)) ** 2 for n in (8, 4)])
  plan = 1 + alpha**2 * inside[:, None] * np.array([1, 2])
  # Filters have length 1, but 16 to 64 channels of a draw correlate: noise of
  # a tenth. Without the reset the second stage would begin a growth higher.
  np.testing.assert_allclose(found, plan, rtol=0.1)
  growth = found[:, 1] - found[:, 0]
  np.testing.assert_allclose(growth, alpha**2 * inside, rtol=0.25)


@pytest.mark.slow
def test_without_norms_a_plain_residual_network_explodes():
  """Each of its branches adds as much variance as the stream has."""
  model = models.make("cifar_resnet", depth=20, width=8, norm="identity")
  x = np.random.default_rng(0).normal(size=(32, 8, 8, 8))
  found = _variances(model, jnp.asarray(x, jnp.float32))
  assert found[-1] > 8 * found[0]


def _block(**options):
  branch = norm_free.Branch(
    activation=gains.resolve("relu"),
    alpha=0.2,
    expansion=0.25,
    group_size=None,
    num_inner=1,
    pool_shortcut=False,
    se_ratio=None,
    skip_init=options.pop("skip_init"),
    convs=standardized.Convolutions(),
  )
  return norm_free.Block(
    8, 8, 1, branch=branch, expected_std=1.0, rngs=nnx.Rngs(0), **options
  )


X = np.random.default_rng(0).normal(size=(64, 2, 2, 8)).astype(np.float32)


def test_at_the_start_a_block_does_nothing():
  """SkipInit; but where channels or resolution change."""
  block = _block(skip_init=True, drop_rate=0.0)
  np.testing.assert_array_equal(block(X, train=True), X)


def test_stochastic_depth_drops_examples_and_does_not_rescale():
  block = _block(skip_init=False, drop_rate=0.5)
  whole = block(X, train=False)
  dropped = block(X, train=True, key=jax.random.key(0))
  stays = np.all(dropped == X, axis=(1, 2, 3))
  np.testing.assert_array_equal(dropped[~stays], whole[~stays])
  # Five deviations of 64 coins.
  assert abs(stays.sum() - 32) <= 20


def test_rates_of_stochastic_depth_rise_linearly():
  model = nnx.eval_shape(
    lambda: models.make(
      "cifar_nf_resnet", depth=20, width=1, stochastic_depth_rate=0.3
    )
  )
  rates = [layer.drop_rate for layer in model.layers]
  np.testing.assert_allclose(rates, 0.3 * np.arange(6) / 6, rtol=1e-15)


@pytest.mark.slow
def test_a_key_drops_blocks_in_training_only(model):
  images = np.random.default_rng(0).normal(size=(8, 8, 8, 3))
  images = jnp.asarray(images, jnp.float32)
  key = jax.random.key(0)
  whole = model(images, train=False)
  np.testing.assert_array_equal(model(images, train=False, key=key), whole)
  assert np.any(model(images, train=True, key=key) != whole)


@pytest.mark.parametrize("name", ["nf_resnet", "cifar_nf_resnet", "nfnet"])
@pytest.mark.parametrize("variant", ["floor", "added"])
def test_every_kernel_is_standardized_as_asked(name, variant):
  options = {**model_contract.SIZES[name], "weight_standardization": variant}
  model = nnx.eval_shape(lambda: models.make(name, **options))
  kernels = [
    node.weight_norm.weight_norm.options["variant"]
    for _, node in nnx.iter_modules(model)
    if isinstance(node, conv.Conv)
  ]
  assert len(kernels) > 4
  assert set(kernels) == {variant}


@pytest.mark.parametrize("name", ["nf_resnet", "cifar_nf_resnet"])
def test_the_stem_has_a_bias_only_if_asked(name):
  def paths(**options):
    options = {**model_contract.SIZES[name], **options}
    model = nnx.eval_shape(lambda: models.make(name, **options))
    params = nn_variables.split(model)[1]["params"]
    return {
      jax.tree_util.keystr(path, simple=True, separator="/")
      for path, _ in jax.tree.leaves_with_path(params)
    }

  more = paths(stem_bias=True) - paths()
  assert more == {"stem/convs/0/bias"}


def test_options_that_came_later_are_in_no_older_runs_name():
  for name, changes in {
    "nfnet": {"padding": "half", "expansion": 0.25, "stem_channels": (1,) * 4},
    "nf_resnet": {"activation_gain_in": "kernels", "pool_shortcut": True},
    "vit": {"norm_after_pooling": True, "has_class_token": True},
    "resnet": {"stem_width": 32},
  }.items():
    old = configure.load("configs/default.py")
    old = configure.override(old, {"model.name": name})
    for key, value in changes.items():
      path = f"model.{key}"
      assert path not in dict(configure.leaves(configure.to_dict(old)))
      new = configure.override(old, {path: value})
      assert configure.run_id(new) != configure.run_id(old)
      back = configure.override(new, {path: configure.ADDED[path]})
      assert configure.run_id(back) == configure.run_id(old)


def test_the_head_starts_small(model):
  """N(0, 0.01^2)."""
  kernel = model.head.kernel[...]
  # Five deviations of the standard deviation of so many normal draws.
  tolerance = 5 / np.sqrt(2 * kernel.size)
  np.testing.assert_allclose(np.std(kernel), 0.01, rtol=tolerance)
  np.testing.assert_array_equal(model.head.bias[...], 0.0)


@pytest.mark.parametrize(
  ("name", "options", "message"),
  [
    ("nf_resnet", {"depth": 18}, "depth=18; allowed: 50, 101"),
    ("nf_resnet", {"width": 0}, "width=0; allowed: an int >= 1"),
    ("nf_resnet", {"blocks_per_stage": ()}, "one to four numbers"),
    ("nf_resnet", {"blocks_per_stage": (1, 0)}, r"stage\[1\]=0; allowed"),
    ("nf_resnet", {"input_shape": (64,)}, r"\(64,\) must be \(height"),
    ("cifar_nf_resnet", {"depth": 20 + 1}, r"depth=21 must be 9n \+ 2"),
    ("cifar_nf_resnet", {"depth": 2}, r"depth=2 must be 9n \+ 2"),
    (
      "cifar_nf_resnet",
      {"alpha": 0.0},
      "alpha=0.0; allowed: a",
    ),
    (
      "cifar_nf_resnet",
      {"se_ratio": -1.0},
      "se_ratio=-1.0; allowed: a",
    ),
    ("cifar_nf_resnet", {"dropout_rate": 1.0}, "dropout_rate=1.0; allowed: a"),
    (
      "cifar_nf_resnet",
      {"stochastic_depth_rate": -0.1},
      "stochastic_depth_rate=-0.1; allowed",
    ),
    ("cifar_nf_resnet", {"activation": "rleu"}, "Did you mean 'relu'"),
    ("cifar_nf_resnet", {"activation_gain": "he"}, "Allowed: official, exact"),
    (
      "nf_resnet",
      {"weight_standardization": "adde"},
      "weight_standardization='adde'; allowed: .* Did you mean 'added'",
    ),
    ("nfnet", {"weight_standardization": "timm"}, "allowed: 'floor', 'added'"),
    ("nfnet", {"variant": "F8"}, "variant='F8'; allowed: F0"),
    ("nfnet", {"widths": (256,)}, "must be as many"),
    ("nfnet", {"group_size": 256}, "expansion=0.5 of 256 channels"),
    ("nfnet", {"num_classes": 0}, "num_classes=0; allowed: an int >= 1"),
    ("nfnet", {"stem_channels": (8, 16)}, r"\(8, 16\); allowed: four numbers"),
    ("nfnet", {"padding": "valid"}, "padding='valid'; allowed: 'same', 'half'"),
    ("nf_resnet", {"activation_gain_in": "k"}, "activation_gain_in='k'; allow"),
    ("nf_resnet", {"weight_standardization_eps": 0.0}, "eps=0.0; allowed: a"),
    ("vit", {"has_class_token": False}, "has_class_token=False leaves nothing"),
    (
      "vit",
      {"norm_after_pooling": True, "placement": "post", "pooling": "mean"},
      "norm_after_pooling=True moves the final norm, and there is none",
    ),
  ],
)
def test_bad_options_are_named(name, options, message):
  with pytest.raises(errors.UserError, match=message):
    nnx.eval_shape(lambda: models.make(name, **options))
