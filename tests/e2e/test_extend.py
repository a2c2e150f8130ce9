"""A method is one file, one table line, one config; all else finds it."""

import shutil
import subprocess
import sys

import pytest

from tests import support

NORM_FILE = '''
"""Max norm: x divided by its largest magnitude; a toy."""

import jax.numpy as jnp

from normjax.norms import affine, base


def max_norm(eps: float = 1e-6) -> base.Norm:
  """y = scale x / (max |x| + eps)."""
  return base.Norm(
    name="max_norm",
    options={"eps": eps},
    traits=base.NormTraits(statistics="per_example", scale_invariant=True),
    init_fn=_init,
    apply_fn=_apply,
  )


def _init(shape, dtype, *, eps):
  return {"params": affine.init(shape, dtype, use_bias=False)}


def _apply(variables, x, *, eps, **_):
  affine.check("max_norm", x, variables["params"])
  wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
  size = jnp.max(jnp.abs(wide), axis=-1, keepdims=True)
  y = affine.apply(wide / (size + eps), variables["params"])
  return y.astype(x.dtype), variables["stats"]
'''
NORM_CONFIG = '''
"""Max norm; a toy."""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The defaults."""
  return ml_collections.ConfigDict({"name": "max_norm", "eps": 1e-6})
'''
OPTIMIZER_FILE = '''
"""SGD; a toy."""

import optax


def toy_sgd(learning_rate, *, weight_decay=0.0):
  """w <- w - lr (g + wd w)."""
  return optax.with_extra_args_support(
    optax.chain(
      optax.add_decayed_weights(weight_decay),
      optax.scale_by_learning_rate(learning_rate),
    )
  )
'''
OPTIMIZER_CONFIG = '''
"""SGD; a toy."""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The defaults."""
  return ml_collections.ConfigDict(
    {"name": "toy_sgd", "learning_rate": 0.1, "weight_decay": 0.0}
  )
'''
SWEEP = """
from normjax import configure
from normjax.sweep import Sweep, chain, point

def get_config():
  return configure.override(configure.load("configs/default.py"), {overrides})

def sweep():
  return Sweep(
    methods=chain(
      point({{"norm.name": "max_norm"}}),
      point({{"optimizer.name": "toy_sgd"}}),
    ),
    seeds=(0, 1),
  )
"""


def _add_line(path, anchor, line):
  """One line of a table."""
  text = path.read_text()
  assert text.count(anchor) == 1, f"{path} has no single {anchor!r}"
  path.write_text(text.replace(anchor, f"{anchor}\n  {line}"))


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
  """The checkout with both toys added."""
  root = tmp_path_factory.mktemp("checkout")
  for name in ("normjax", "kernels_pallas", "configs", "tests"):
    shutil.copytree(
      support.ROOT / name,
      root / name,
      ignore=shutil.ignore_patterns("__pycache__"),
    )
  shutil.copy(support.ROOT / "pyproject.toml", root)
  (root / "normjax/norms/max_norm.py").write_text(NORM_FILE)
  (root / "configs/norms/max_norm.py").write_text(NORM_CONFIG)
  _add_line(
    root / "normjax/norms/__init__.py",
    "TABLE = {",
    '"max_norm": "normjax.norms.max_norm:max_norm",',
  )
  (root / "normjax/optim/toy_sgd.py").write_text(OPTIMIZER_FILE)
  (root / "configs/optimizers/toy_sgd.py").write_text(OPTIMIZER_CONFIG)
  _add_line(
    root / "normjax/optim/__init__.py",
    "TABLE = {",
    '"toy_sgd": "normjax.optim.toy_sgd:toy_sgd",',
  )
  (root / "sweep.py").write_text(SWEEP.format(overrides=support.DECODER))
  return root


def _python(root, *arguments):
  environment = support.environment() | {"PYTHONPATH": str(root)}
  return subprocess.run(
    [sys.executable, *arguments],
    cwd=root,
    env=environment,
    capture_output=True,
    text=True,
    timeout=600,
  )


def test_list_finds_them(copy):
  done = _python(copy, "-m", "normjax.cli", "list", "norms", "optimizers")
  assert "max_norm" in done.stdout, done.stderr
  assert "toy_sgd" in done.stdout


def test_the_contracts_run_over_them(copy):
  done = _python(
    copy, "-m", "pytest", "-p", "no:cacheprovider", "-k",
    "max_norm or toy_sgd", "tests/norms", "tests/optim", "tests/models",
  )  # fmt: skip
  assert done.returncode == 0, done.stdout[-3000:]
  print(done.stdout)
  passed = int(done.stdout.rsplit(" passed", 1)[0].split()[-1])
  assert passed >= 10


def test_a_sweep_runs_over_them(copy):
  done = _python(copy, "-m", "normjax.cli", "sweep", "sweep.py", "--out=out")
  assert done.returncode == 0, done.stderr
  table = (copy / "out/report/table.md").read_text()
  assert "max_norm" in table
  assert "toy_sgd" in table
