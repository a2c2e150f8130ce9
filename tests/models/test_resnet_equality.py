"""Residual networks equal float64 transcriptions of their papers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from normjax import models
from normjax.nn import variables as nn_variables
from tests.models import references_resnet

U = 2**-24
IMAGES = np.random.default_rng(0).normal(size=(6, 8, 8, 3)).astype(np.float32)
SMALL = {"width": 4, "num_classes": 5, "input_shape": (8, 8, 3)}
BASIC = {**SMALL, "depth": 8}
CIFAR_STRIDES = [(1, 1), (2, 1), (2, 1)]
IMAGENET = {**SMALL, "depth": 50, "blocks_per_stage": (2, 1)}

# At most ten convolutions and the head one after another, each a sum of at
# most 148 rounded products: five times the root of the number of roundings,
# since these have either sign. A norm between hands relative errors on: means
# are here no larger than a few standard deviations.
ROUNDINGS = 5 * (11 * 148) ** 0.5

CASES = {
  "v1-pad": ("cifar_resnet", BASIC, CIFAR_STRIDES),
  "v1-project": (
    "cifar_resnet",
    {**BASIC, "shortcut": "project"},
    CIFAR_STRIDES,
  ),
  "v2-pad": ("cifar_resnet", {**BASIC, "version": "v2"}, CIFAR_STRIDES),
  "v2-project": (
    "cifar_resnet",
    {**BASIC, "version": "v2", "shortcut": "project"},
    CIFAR_STRIDES,
  ),
  "bottleneck-v1": (
    "resnet",
    {**IMAGENET, "stride_in": "1x1"},
    [(1, 1, 1), (1, 1, 1), (2, 1, 1)],
  ),
  "bottleneck-v1.5": ("resnet", IMAGENET, [(1, 1, 1), (1, 1, 1), (1, 2, 1)]),
  "bottleneck-v2": (
    "resnet",
    {**IMAGENET, "version": "v2"},
    [(1, 1, 1), (1, 1, 1), (1, 2, 1)],
  ),
}


def _drawn(variables):
  """Variables far off any start, with variances above 0.5."""
  rng = np.random.default_rng(1)

  def draw(path, leaf):
    name = path[-1].key
    values = 0.3 * rng.normal(size=leaf.shape)
    if name in ("scale", "var"):
      values = 1 + np.clip(values, -0.5, 0.5)
    elif name == "kernel":
      # About as He's start, so that the stream stays near one.
      values *= np.sqrt(2 / np.prod(leaf.shape[:-1])) / 0.3
    return jnp.asarray(values, jnp.float32)

  return jax.tree.map_with_path(draw, variables)


def _made(case):
  name, options, strides = CASES[case]
  structure, variables = nn_variables.split(
    nnx.eval_shape(lambda: models.make(name, **options))
  )
  variables = _drawn(variables)
  version = options.get("version", "v1")
  reference = {
    "v1": references_resnet.version_1,
    "v2": references_resnet.version_2,
  }[version]

  def exact(params, train):
    stats = jax.tree.map(np.float64, variables["stats"])
    return reference(
      jax.tree.map(np.float64, params),
      stats,
      np.float64(IMAGES),
      strides,
      train=train,
      pools=name == "resnet",
    )

  return structure, variables, exact


@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("case", CASES)
def test_equals_a_transcription(case, train):
  structure, variables, exact = _made(case)
  model = nn_variables.merge(structure, variables)
  got = model(jnp.asarray(IMAGES), train=train)
  want, want_stats = exact(variables["params"], train)
  bound = ROUNDINGS * U * np.abs(want).max()
  np.testing.assert_allclose(got, want, rtol=0, atol=bound)
  stats = nn_variables.split(model)[1]["stats"]
  if not train:
    jax.tree.map(np.testing.assert_array_equal, stats, variables["stats"])
    return
  # Every site's: a mean and a variance.
  assert len(jax.tree.leaves(stats)) == 2 * len(want_stats)
  for path, new in want_stats.items():
    site = stats
    for key in path:
      site = site[key]
    for name, value in new.items():
      bound = ROUNDINGS * U * np.abs(value).max()
      np.testing.assert_allclose(site[name], value, rtol=0, atol=bound)


def test_fixup_equals_a_transcription():
  """Values and gradients: central differences of the float64 network."""
  options = {**BASIC, "width": 4}
  structure, variables = nn_variables.split(
    nnx.eval_shape(lambda: models.make("fixup_cifar_resnet", **options))
  )
  variables = _drawn(variables)

  def logits(params):
    given = {**variables, "params": params}
    return nn_variables.merge(structure, given)(jnp.asarray(IMAGES))

  def exact(params):
    return references_resnet.fixup(params, np.float64(IMAGES), (1, 2, 2))

  params = variables["params"]
  want = exact(jax.tree.map(np.float64, params))
  bound = ROUNDINGS * U * np.abs(want).max()
  np.testing.assert_allclose(logits(params), want, rtol=0, atol=bound)
  _check_gradient(logits, exact, params)


@pytest.mark.parametrize("case", ["v1-project", "v2-pad"])
def test_gradient_is_that_of_the_transcription(case):
  """Central differences of the float64 transcription, in training."""
  structure, variables, exact = _made(case)

  def logits(params):
    given = {**variables, "params": params}
    return nn_variables.merge(structure, given)(jnp.asarray(IMAGES))

  def reference(params):
    return exact(params, True)[0]

  _check_gradient(logits, reference, variables["params"])


def _check_gradient(logits, exact, params):
  """Of a weighted sum of the logits, along one direction a parameter."""
  weights = np.random.default_rng(2).normal(size=(len(IMAGES), 5))
  gradient = jax.grad(lambda params: jnp.sum(logits(params) * weights))(params)
  leaves, tree = jax.tree.flatten(jax.tree.map(np.float64, params))
  step = 1e-6
  for index, got in enumerate(jax.tree.leaves(gradient)):
    direction = np.random.default_rng(index).normal(size=got.shape)
    sides = []
    for sign in (1, -1):
      moved = list(leaves)
      moved[index] = leaves[index] + sign * step * direction
      sides.append((exact(jax.tree.unflatten(tree, moved)) * weights).sum())
    want = (sides[0] - sides[1]) / (2 * step)
    # Twice the roundings, there and back, of the sum of all entries' sizes.
    size = np.abs(np.float64(got) * direction).sum()
    bound = 2 * ROUNDINGS * U * size
    np.testing.assert_allclose(
      (got * direction).sum(), want, rtol=0, atol=bound
    )
