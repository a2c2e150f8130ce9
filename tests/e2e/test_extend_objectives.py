"""A loss touches four files, a metric three, their tests included."""

import subprocess
import sys
from xml.etree import ElementTree

import pytest

from tests import support
from tests.objectives import test_contract

LOSS = '''
"""Logarithm of the hyperbolic cosine; a toy."""

import jax.numpy as jnp

from normjax.objectives import base


def log_cosh(scale: float = 1.0) -> base.Objective:
  """loss_i = mean_d log cosh((z_id - y_id) / scale)."""

  def sums(output, batch):
    targets = batch["targets"]
    base.check_shape("log_cosh", output, targets, targets.shape)
    error = (output.logits - targets) / scale
    each = jnp.logaddexp(error, -error) - jnp.log(2.0)
    total = jnp.sum(batch["weight"] * jnp.mean(each, axis=-1))
    return {"objective": total, "loss": total}

  return base.Objective("log_cosh", "values", ("loss",), sums)
'''
LOSS_CONFIG = '''
"""Logarithm of the hyperbolic cosine; a toy."""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The defaults."""
  return ml_collections.ConfigDict({"name": "log_cosh", "scale": 1.0})
'''
LOSS_TEST = """
import jax.numpy as jnp
import numpy as np
from normjax import objectives
from normjax.nn.output import Output


def test_equals_numpy():
  z = np.array([[0.5, -2.0]])
  batch = {"targets": jnp.zeros((1, 2)), "weight": jnp.ones(1)}
  sums = objectives.make("log_cosh").sums(Output(jnp.asarray(z)), batch)
  np.testing.assert_allclose(sums["loss"], np.log(np.cosh(z)).mean(), 1e-6)
"""
METRIC = '''
"""Confidence: the mean of the largest probability; a toy."""

import jax
import jax.numpy as jnp


def confidence(output, batch):
  del batch
  return jnp.max(jax.nn.softmax(output.logits), axis=-1)
'''
ADDED = {
  "loss": {
    "normjax/objectives/log_cosh.py": LOSS,
    "configs/objectives/log_cosh.py": LOSS_CONFIG,
    "tests/objectives/test_log_cosh.py": LOSS_TEST,
  },
  "metric": {"normjax/metrics/confidence.py": METRIC},
}
# Path, what a line comes before, the line.
LINES = {
  "loss": [
    (
      "normjax/objectives/__init__.py",
      '  "squared_error": "normjax',
      '  "log_cosh": "normjax.objectives.log_cosh:log_cosh",\n',
    )
  ],
  "metric": [
    (
      "normjax/metrics/__init__.py",
      '  "perplexity": "normjax',
      '  "confidence": "normjax.metrics.confidence:confidence",\n',
    ),
    (
      "tests/objectives/test_metrics.py",
      '  "perplexity": _perplexity',
      '  "confidence": lambda:'
      " (WEIGHT * PROBABILITY.max(-1)).sum() / WEIGHT.sum(),\n",
    ),
  ],
}


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
  """The checkout with a loss and a metric more."""
  root = tmp_path_factory.mktemp("checkout")
  support.copy_checkout(root)
  for files in ADDED.values():
    for path, text in files.items():
      (root / path).write_text(text)
  for path, mark, line in (*LINES["loss"], *LINES["metric"]):
    before, found, after = (root / path).read_text().partition(mark)
    assert found, path
    (root / path).write_text(before + line + found + after)
  return root


@pytest.mark.parametrize(("what", "most"), [("loss", 4), ("metric", 3)])
def test_so_few_files_are_touched(what, most):
  assert len({*ADDED[what], *(path for path, *_ in LINES[what])}) == most


def test_their_tests_find_them(copy):
  done = subprocess.run(
    [
      sys.executable, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider",
      "--junitxml=tests.xml", "-k", "log_cosh or confidence",
      "tests/objectives",
    ],
    cwd=copy,
    env=support.environment() | {"PYTHONPATH": str(copy)},
    capture_output=True,
    text=True,
    timeout=300,
  )  # fmt: skip
  assert done.returncode == 0, done.stdout[-3000:]
  ran = {
    test.attrib["name"]
    for test in ElementTree.parse(copy / "tests.xml").iter("testcase")
  }
  contract = [
    name for name in dir(test_contract.TestObjective) if name[:5] == "test_"
  ]
  assert len(contract) > 4
  assert ran == {
    *(f"{name}[log_cosh]" for name in contract),
    "test_equals_numpy",
    "test_it_is_the_reference_however_it_is_split[confidence]",
  }
