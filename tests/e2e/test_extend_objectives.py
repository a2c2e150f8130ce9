"""A loss touches four files, a metric three, their tests included."""

import pytest

from tests.e2e import toys
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
TOYS = {
  "log_cosh": toys.Toy(
    {
      "normjax/objectives/log_cosh.py": LOSS,
      "configs/objectives/log_cosh.py": LOSS_CONFIG,
      "tests/objectives/test_log_cosh.py": LOSS_TEST,
    },
    (
      (
        "normjax/objectives/__init__.py",
        '"log_cosh": "normjax.objectives.log_cosh:log_cosh",',
        "TABLE",
      ),
    ),
  ),
  "confidence": toys.Toy(
    {"normjax/metrics/confidence.py": METRIC},
    (
      (
        "normjax/metrics/__init__.py",
        '"confidence": "normjax.metrics.confidence:confidence",',
        "TABLE",
      ),
      (
        "tests/objectives/test_metrics.py",
        '"confidence": lambda:'
        " (WEIGHT * PROBABILITY.max(-1)).sum() / WEIGHT.sum(),",
        "REFERENCES",
      ),
    ),
  ),
}


@pytest.mark.parametrize(("toy", "count"), [("log_cosh", 4), ("confidence", 3)])
def test_so_few_files_are_touched(toy, count):
  assert len(TOYS[toy].touched) == count


@pytest.mark.slow
def test_their_tests_find_them(tmp_path):
  copy = toys.copy(tmp_path / "checkout", TOYS.values())
  ran = copy.run_tests("log_cosh or confidence", "tests/objectives")
  contract = [
    name for name in dir(test_contract.TestObjective) if name[:5] == "test_"
  ]
  assert len(contract) > 4
  assert {test.attrib["name"] for test in ran} == {
    *(f"{name}[log_cosh]" for name in contract),
    "test_equals_numpy",
    "test_it_is_the_reference_however_it_is_split[confidence]",
  }
