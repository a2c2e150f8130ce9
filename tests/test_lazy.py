"""`import normjax` is light, and what it names is there."""

import subprocess
import sys

import pytest

import normjax
from tests import support


def test_importing_imports_nothing_heavy():
  code = (
    "import sys, normjax; print([m for m in ('jax', 'numpy', 'flax') if m in"
    " sys.modules]); normjax.norms.make; print('normjax.norms' in sys.modules)"
  )
  said = subprocess.run(
    [sys.executable, "-c", code],
    cwd=support.ROOT,
    capture_output=True,
    text=True,
    check=True,
  )
  assert said.stdout.split("\n")[:2] == ["[]", "True"]


def test_all_that_is_named_is_there():
  assert {*normjax.__all__} <= {*dir(normjax)}
  for name in normjax.__all__:
    assert getattr(normjax, name) is not None
  with pytest.raises(AttributeError, match="normjax.*'optimizers'"):
    _ = normjax.optimizers
