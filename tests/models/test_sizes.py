"""Named sizes have the parameters of the papers' tables; nothing is made."""

import pytest
from flax import nnx

from normjax import models


def _params(name, **options):
  model = nnx.eval_shape(lambda: models.make(name, **options))
  return nnx.to_flat_state(nnx.state(model, nnx.Param))


def _count(name, **options):
  return sum(leaf.size for _, leaf in _params(name, **options))


def _llama(layers, dim, hidden, vocab=32_000):
  """Embedding and head, four and three kernels and two gains a block."""
  return (
    2 * vocab * dim + dim + layers * (4 * dim**2 + 3 * dim * hidden + 2 * dim)
  )


@pytest.mark.parametrize(
  ("size", "layers", "dim", "hidden", "millions"),
  [
    ("60m", 8, 512, 1376, 58.1),
    ("71m", 12, 512, 1368, 70.6),
    ("130m", 12, 768, 2048, 134.1),
    ("250m", 24, 768, 2560, 247.4),
    ("350m", 24, 1024, 2736, 368.0),
    ("1b", 24, 2048, 5461, 1339.1),
    ("7b", 32, 4096, 11008, 6738.4),
  ],
)
def test_llama(size, layers, dim, hidden, millions):
  """60m and 7b are GaLore's, arXiv:2403.03507, others Mix-LN's, 2412.13795."""
  count = _count("llama", size=size, vocab_size=32_000)
  assert count == _llama(layers, dim, hidden)
  assert round(count / 1e6, 1) == millions


@pytest.mark.parametrize(
  ("size", "layers", "dim", "want"),
  [("small", 12, 768, 124_439_808), ("medium", 24, 1024, 354_823_168)],
)
def test_gpt2(size, layers, dim, want):
  """The released models: 50,257 tokens, 1,024 positions, a tied head."""
  # A block: 12 d^2 of kernels, 9 d of their biases, 4 d of two norms.
  formula = (50_257 + 1024) * dim + layers * (12 * dim**2 + 13 * dim) + 2 * dim
  assert _count("gpt2", size=size, vocab_size=50_257) == formula == want


@pytest.mark.parametrize(
  ("size", "want"),
  [("tiny", 5_717_416), ("small", 22_050_664), ("base", 86_567_656)],
)
def test_vit(size, want):
  """The vit_*_patch16_224 of timm with 1,000 classes."""
  shape = {"input_shape": (224, 224, 3), "patch_size": 16}
  assert _count("vit", size=size, num_classes=1000, **shape) == want


@pytest.mark.parametrize(
  ("depth", "want"),
  [
    (18, 11_689_512),
    (34, 21_797_672),
    (50, 25_557_032),
    (101, 44_549_160),
    (152, 60_192_808),
  ],
)
def test_resnet(depth, want):
  """Those of torchvision's models."""
  assert _count("resnet", depth=depth) == want


@pytest.mark.parametrize(
  ("depth", "width", "want", "in_norms"),
  [
    (14, 16, 175_258, 1_120),
    (56, 16, 855_770, 4_256),
    (110, 16, 1_730_714, 8_288),
    (14, 1, 823, 70),
    (14, 64, 2_777_674, 4_480),
  ],
)
def test_cifar_resnet(depth, width, want, in_norms):
  """Those of the networks of BatchNorm-only training (arXiv:2003.00152)."""
  options = {"depth": depth, "width": width, "shortcut": "project"}
  params = _params("cifar_resnet", **options)
  sizes = {path: leaf.size for path, leaf in params}
  assert sum(sizes.values()) == want
  counted = sum(sizes[path] for path in sizes if "norm" in path)
  # Two per channel: 2 D + 1 norms in the first stage, and so on.
  assert counted == in_norms == (28 * ((depth - 2) // 6) + 14) * width
