"""A model and a data set touch four files each, their tests included."""

import pytest

from tests.contracts import model_contract
from tests.e2e import toys

MODEL = '''
"""A norm and a linear map; a toy."""

from typing import ClassVar

import jax.numpy as jnp
from flax import nnx

from normjax import norms, validate
from normjax.nn import checks, roles
from normjax.nn.norm_layer import NormLayer


class ToyLinear(nnx.Module):
  """logits = norm(x) W + b."""

  reads: ClassVar[frozenset[str]] = frozenset({"features"})
  end_layers: ClassVar[roles.Ends] = roles.Ends("head", "head")

  def __init__(
    self,
    num_classes: int = 3,
    input_shape: tuple[int, ...] = (12,),
    *,
    norm: norms.NormSpec = "layer_norm",
    compute_dtype: str = "float32",
    rngs: nnx.Rngs,
  ):
    checks.check_input_shape(input_shape)
    validate.counts("toy_linear", num_classes=num_classes)
    self.input_shape = tuple(input_shape)
    self.norm = NormLayer(norm, self.input_shape, rngs=rngs)
    self.head = nnx.Linear(
      *self.input_shape,
      num_classes,
      dtype=checks.compute_dtype(compute_dtype),
      preferred_element_type=jnp.float32,
      rngs=rngs,
    )

  def __call__(self, inputs, *, train=None, key=None):
    del key
    checks.check_examples(inputs, self.input_shape)
    return self.head(self.norm(inputs, train=train))
'''
MODEL_CONFIG = '''
"""A norm and a linear map; a toy."""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """Classes, input shape and norm come from elsewhere."""
  return ml_collections.ConfigDict({"name": "toy_linear"})
'''
MODEL_TEST = """
import jax.numpy as jnp
import numpy as np
from normjax import models


def test_toy_linear_is_a_linear_map():
  model = models.make("toy_linear", norm="identity")
  x = np.arange(24.0, dtype="float32").reshape(2, 12)
  want = x @ np.asarray(model.head.kernel[...])
  np.testing.assert_allclose(model(jnp.asarray(x), train=False), want, 1e-5)
"""
DATA = '''
"""Two blobs; a toy."""

import numpy as np

from normjax.data import examples


def toy_blobs(
  distance: float = 3.0, tuning_split: bool = True
) -> examples.Examples:
  """x ~ N(distance y, 1)."""
  generator = np.random.default_rng(0)
  y = generator.integers(0, 2, 400)
  x = generator.normal(size=(400, 12)) + distance * y[:, None]
  return examples.Examples(
    name="toy_blobs",
    train=(x[:300], y[:300]),
    tuning=(x[300:340], y[300:340]) if tuning_split else None,
    validation=(x[340:], y[340:]),
    num_classes=2,
    mean=np.zeros(12),
    deviation=np.ones(12),
    reads="features",
    provenance={"distance": distance},
  )
'''
DATA_CONFIG = '''
"""Two blobs; a toy."""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The defaults."""
  return ml_collections.ConfigDict(
    {"name": "toy_blobs", "distance": 3.0, "tuning_split": True}
  )
'''
DATA_TEST = """
from normjax import data


def test_toy_blobs_has_two_classes():
  assert set(data.make("toy_blobs").train[1]) == {0, 1}
"""
TOYS = {
  "toy_linear": toys.Toy(
    {
      "normjax/models/toy_linear.py": MODEL,
      "configs/models/toy_linear.py": MODEL_CONFIG,
      "tests/models/test_toy_linear.py": MODEL_TEST,
    },
    (
      (
        "normjax/models/__init__.py",
        '"toy_linear": "normjax.models.toy_linear:ToyLinear",',
        "TABLE",
      ),
    ),
  ),
  "toy_blobs": toys.Toy(
    {
      "normjax/data/toy_blobs.py": DATA,
      "configs/data/toy_blobs.py": DATA_CONFIG,
      "tests/data/test_toy_blobs.py": DATA_TEST,
    },
    (
      (
        "normjax/data/__init__.py",
        '"toy_blobs": "normjax.data.toy_blobs:toy_blobs",',
        "TABLE",
      ),
    ),
  ),
}


@pytest.mark.parametrize("toy", TOYS)
def test_four_files_are_touched(toy):
  assert len(TOYS[toy].touched) == 4


@pytest.mark.slow
def test_the_contracts_run_over_them(tmp_path):
  """And a run trains the one on the other."""
  copy = toys.copy(tmp_path / "checkout", TOYS.values())
  ran = copy.run_tests(
    "toy_linear or toy_blobs", "tests/models", "tests/data", "tests/nn"
  )
  names = {test.attrib["name"] for test in ran}
  contract = [
    name for name in dir(model_contract.ModelContract) if name[:5] == "test_"
  ]
  assert len(contract) > 3
  for name in contract:
    # What one norm shows, `tests/slow.py` may leave out on another.
    cases = {f"{name}[toy_linear-{norm}]" for norm in model_contract.NORMS}
    assert cases & names
  assert names >= {
    "test_a_batch_depends_on_seed_and_step_alone[toy_blobs]",
    "test_batches_have_the_promised_shapes_and_types[toy_blobs]",
    "test_every_parameter_of_every_model_has_the_role_of_its_name[toy_linear]",
    "test_toy_linear_is_a_linear_map",
    "test_toy_blobs_has_two_classes",
  }
  done = copy.python(
    "-m", "normjax.cli", "train", "configs/default.py", "--out=runs",
    "--config.model.name=toy_linear", "--config.data.name=toy_blobs",
    "--config.train.num_steps=30", "--config.train.batch_size=32",
    "--config.evaluate.batch_size=32",
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  assert done.stdout.startswith("done after 30 steps"), done.stdout
