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
    return values.astype(np.float32)

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
  stats = nn_variables.split(model)[1]["stats"]
  want, want_stats = exact(variables["params"], train)
  print(case, train, np.abs(got - want).max() / np.abs(want).max() / U)
  flat = {}
  for path, new in want_stats.items():
    node = stats
    for key in path:
      node = node[key]
    for name, value in new.items():
      err = np.abs(node[name] - value).max() / np.abs(value).max() / U
      print("  ", path, name, err)
  assert len(jax.tree.leaves(stats)) // 2 == len(want_stats) or not train
