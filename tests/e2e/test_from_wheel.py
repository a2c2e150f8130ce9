"""A user's own parts through a sweep, with normjax installed from a wheel.

The folder is no checkout and its files are on no path but the sweep's own.
"""

import json
import subprocess
import sys

import pytest

from tests import support

FILES = {
  "sweep.py": '''
"""Two norms, one of them mine, on my data, model, loss and optimizer."""

from normjax import configure
from normjax.sweep import Sweep, Tune, chain, point

SMALL = {
  "train.num_steps": 12, "train.batch_size": 8, "log.every_steps": 4,
  "evaluate.every_steps": 6, "evaluate.batch_size": 8,
  "checkpoint.every_steps": 6,
  "data.name": "mine.data:waves(frequency=2.0)",
  "model.name": "mine.model:Small", "model.width": 8,
  "optimizer.name": "mine.optimizer:sign_sgd",
  "optimizer.learning_rate": 0.05,
  "objective.name": "mine.loss:power", "objective.exponent": 1.5,
  "schedule.name": "mine.loss:sawtooth(teeth=3)",
  "evaluate.metrics": ("mine.loss:worst",),
}

def get_config():
  return configure.override(configure.load("configs/default.py"), SMALL)

def sweep():
  return Sweep(
    methods=chain(
      point({"norm.name": "layer_norm"}),
      point({"norm.name": "mine"}),
      point({"norm.name": "mine", "norm.power": 4.0}),
    ),
    seeds=(0, 1),
    tune=Tune(
      {"optimizer.momentum": (0.0, 0.9)},
      max_extensions=0,
      repeat="shared",
      second_pass=False,
    ),
    other_metrics=("eval/worst",),
  )
''',
  "configs/norms/mine.py": '''
"""My norm as I like it."""

import ml_collections

def get_config():
  return ml_collections.ConfigDict({"name": "mine.norm:mean_power"})
''',
  "mine/__init__.py": """
import normjax
assert "site" in normjax.__file__, normjax.__file__
""",
  "mine/norm.py": """
import jax.numpy as jnp
from normjax.norms import affine, base
from mine import numbers

def mean_power(power: float = 2, eps: float = 1e-6):
  return base.Norm(
    "mean_power", {"power": power, "eps": eps},
    base.NormTraits("per_example", scale_invariant=True), init, apply,
  )

def init(shape, dtype, **_):
  return {"params": affine.init(shape, dtype, use_bias=False)}

def apply(variables, x, *, power, eps, **_):
  size = jnp.mean(jnp.abs(x) ** power, axis=-1, keepdims=True)
  size = size ** (1 / power) + eps
  y = numbers.GAIN * x / size
  return affine.apply(y, variables["params"]), variables["stats"]
""",
  "mine/numbers.py": "GAIN = 1.0\n",
  "mine/model.py": """
from flax import nnx
from normjax.nn.norm_layer import NormLayer

class Small(nnx.Module):
  def __init__(
    self, num_classes, input_shape, *, norm, compute_dtype, rngs, width=4
  ):
    self.inner = nnx.Linear(*input_shape, width, rngs=rngs)
    self.norm = NormLayer(norm, (width,))
    self.head = nnx.Linear(width, num_classes, rngs=rngs)

  def __call__(self, x, *, train=None, key=None):
    return self.head(nnx.relu(self.norm(self.inner(x), train=train)))
""",
  "mine/data.py": """
import dataclasses
import numpy as np
from normjax.data import dataset

@dataclasses.dataclass(frozen=True)
class Waves:
  frequency: float
  name: str = "waves"
  reads: str = "features"
  targets: str = "values"
  bytes_per_token: None = None
  provenance: dict = dataclasses.field(default_factory=dict)
  model_options = {"num_classes": 1, "input_shape": (3,)}

  def _batch(self, x, weight):
    y = np.sin(self.frequency * x.sum(1, keepdims=True))
    return {
      "inputs": x.astype("float32"), "targets": y.astype("float32"),
      "weight": weight.astype("float32"),
    }

  def train_batch(self, seed, step, batch_size):
    x = np.random.default_rng((seed, step)).normal(size=(batch_size, 3))
    return self._batch(x, np.ones(batch_size))

  def evaluation_batches(self, batch_size, num_batches=None):
    x = np.random.default_rng(0).normal(size=(20, 3))
    slices = dataset.evaluation_slices(20, batch_size, num_batches)
    for index, weight in slices:
      yield self._batch(x[index], weight)

def waves(frequency: float = 1.0):
  return Waves(frequency)
""",
  "mine/optimizer.py": """
import optax

def sign_sgd(learning_rate: float, momentum: float = 0.9):
  return optax.chain(
    optax.trace(momentum), optax.scale_by_sign(), optax.scale(-learning_rate)
  )
""",
  "mine/loss.py": """
import jax.numpy as jnp
from normjax.objectives import Objective

def power(exponent: float = 2.0):
  def sums(output, batch):
    error = jnp.abs(output.logits - batch["targets"])[:, 0] + 1e-6
    total = jnp.sum(batch["weight"] * error**exponent)
    return {"objective": total, "loss": total}
  return Objective("power", "values", ("loss",), sums)

def worst(output, batch):
  return jnp.max(jnp.abs(output.logits - batch["targets"]), axis=-1)

def sawtooth(step, scalars, *, teeth=2, height: float = 1.0):
  return height * (1 - (step % teeth) / teeth)
""",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
  """What the wheel installs."""
  folder = tmp_path_factory.mktemp("wheel")
  for command in (
    ("hatchling", "build", "--target=wheel", f"--directory={folder}"),
    (
      "pip", "install", "-q", "--no-deps", "--no-index", "--no-compile",
      f"--find-links={folder}", f"--target={folder / 'site'}", "normjax",
    ),
  ):  # fmt: skip
    done = subprocess.run(
      [sys.executable, "-m", *command],
      cwd=support.ROOT,
      capture_output=True,
      text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
  return folder / "site"


@pytest.mark.slow
def test_own_parts_from_a_wheel_to_the_report(site, tmp_path):
  """And an edited helper of the norm is no finished run."""
  for name, text in FILES.items():
    path = tmp_path / "project" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
  elsewhere = tmp_path / "elsewhere"
  elsewhere.mkdir()

  def sweep(*arguments):
    return subprocess.run(
      [sys.executable, "-P", "-m", "normjax.cli", "sweep",
       "../project/sweep.py", "--out=out", *arguments],
      cwd=elsewhere,
      env=support.environment() | {"PYTHONPATH": str(site)},
      capture_output=True,
      text=True,
      timeout=600,
    )  # fmt: skip

  done = sweep("--workers=2")
  assert done.returncode == 0, done.stdout + done.stderr
  out = elsewhere / "out"
  # Two trials and two seeds of each method; momentum and exponent are traced.
  plan = json.loads((out / "plan.json").read_text())
  assert len(plan["points"]) == 12
  assert len({point["program"] for point in plan["points"]}) == 3
  assert {m["label"] for m in plan["methods"]} == {
    "layer_norm", "mine", "mine + power=4"
  }  # fmt: skip
  table = (out / "report" / "table.md").read_text()
  assert "mine + power=4" in table
  assert "worst" in table
  # With the library that the page embeds, and its licence.
  assert "Leon Sorokin" in (out / "report" / "report.html").read_text()
  run = next(
    value
    for path in out.glob("runs/*/run.json")
    if (value := json.loads(path.read_text()))["config"]["norm"]["name"]
    == "mine.norm:mean_power"
  )
  assert run["config"]["norm"].keys() == {"name", "power", "eps"}
  own = run["provenance"]["own"]
  assert set(own["modules"]) == {
    "mine", "mine.norm", "mine.numbers", "mine.model", "mine.data",
    "mine.optimizer", "mine.loss",
  }  # fmt: skip
  kept = out / "sources" / own["config_file"]
  assert kept.read_text() == FILES["sweep.py"]
  helper = tmp_path / "project" / "mine" / "numbers.py"
  assert (out / "sources" / own["modules"]["mine.numbers"]).read_text() == (
    helper.read_text()
  )

  assert ", 0 of them now" in sweep().stdout
  helper.write_text("GAIN = 2.0\n")
  done = sweep()
  assert done.returncode == 2
  assert "the code of 'mine.numbers' has changed since 8 runs" in done.stderr
  assert sweep("--accept_code_change").returncode == 0
