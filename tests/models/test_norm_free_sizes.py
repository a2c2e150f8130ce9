"""How many parameters networks without norms have."""

import itertools

import jax
import pytest
from flax import nnx

from normjax import models


def _count(name, **options):
  model = nnx.eval_shape(lambda: models.make(name, **options))
  return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))


def _conv(inputs, outputs, size=1):
  """Kernel, gain and bias."""
  return size**2 * inputs * outputs + 2 * outputs


@pytest.mark.parametrize(
  ("depth", "depths"), [(50, (3, 4, 6, 3)), (101, (3, 4, 23, 3))]
)
def test_nf_resnets_have_the_official_codes_parameters(depth, depths):
  """But for the stem's bias, which it adds though with_bias is False."""
  count, channels = _conv(3, 64, 7) - 64, 64
  for width, blocks in zip((256, 512, 1024, 2048), depths, strict=True):
    for index in range(blocks):
      hidden = width // 4
      count += _conv(channels, hidden) + _conv(hidden, hidden, 3)
      count += _conv(hidden, width) + 1
      count += 0 if index else _conv(channels, width)
      channels = width
  count += 2048 * 1000 + 1000
  assert _count("nf_resnet", depth=depth) == count
  assert _count("nf_resnet", depth=depth, stem_bias=True) == count + 64


@pytest.mark.parametrize(("variant", "millions"), [("F0", 71.5), ("F1", 132.6)])
def test_nfnets_have_the_papers_parameters(variant, millions):
  """Table 6 of arXiv:2102.06171, and counted out."""
  times = int(variant[1]) + 1
  stem = (3, 16, 32, 64, 128)
  count = sum(_conv(a, b, 3) for a, b in itertools.pairwise(stem))
  channels = 128
  for width, blocks in zip((256, 512, 1536, 1536), (1, 2, 6, 3), strict=True):
    for index in range(blocks * times):
      hidden = width // 2
      count += _conv(channels, hidden) + 2 * _conv(128, hidden, 3)
      count += _conv(hidden, width) + 1
      count += 2 * width * (width // 2) + width // 2 + width
      # A shortcut's convolution where a stage begins.
      count += 0 if index else _conv(channels, width)
      channels = width
  count += _conv(1536, 3072) + 3072 * 1000 + 1000
  assert _count("nfnet", variant=variant) == count
  assert round(count / 1e6, 1) == millions
