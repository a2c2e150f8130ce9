"""A method is one file, one table line, one config; all else finds it.

With its reference for the tests, that is four files.
"""

import pytest

from tests import support
from tests.contracts.norm_contract import NormContract
from tests.contracts.norm_transformations import TransformationContract
from tests.contracts.optimizer_composition import CompositionContract
from tests.contracts.optimizer_contract import OptimizerContract
from tests.contracts.optimizer_execution import ExecutionContract
from tests.e2e import toys

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
# It is found by the name of its file, and of its function.
NORM_REFERENCE = '''
"""Float64 transcription of max norm; a toy."""

import numpy as np


def max_norm(params, stats, x, *, eps, **_):
  """Of the features."""
  size = np.max(np.abs(x), axis=-1, keepdims=True)
  return params["scale"] * x / (size + eps), stats
'''
OPTIMIZER_FILE = '''
"""SGD; a toy."""

import optax

from normjax.optim import compose


def toy_sgd(learning_rate, *, weight_decay=0.0, mask="default"):
  """w -= lr (g + wd w).

  Example:
    >>> import jax, jax.numpy as jnp, optax
    >>> from normjax import optim
    >>> objective = lambda w: jnp.sum(w**2)
    >>> tx = optim.toy_sgd(0.25)
    >>> w = jnp.array([1.0, 2.0, 3.0])
    >>> state = tx.init(w)
    >>> for _ in range(2):
    ...   updates, state = tx.update(jax.grad(objective)(w), state, w)
    ...   w = optax.apply_updates(w, updates)
    ...   print(f"{objective(w):.2f}")
    3.50
    0.88
  """
  chain = compose.descend(
    "toy_sgd",
    optax.identity(),
    learning_rate,
    weight_decay=weight_decay,
    mask=mask,
  )
  return compose.finish("toy_sgd", chain, mask)
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
STEP_FILE = '''
"""Start step: all parameters halved; a toy."""

import jax

from normjax.nn import start


def toy_half() -> start.StartStep:
  """params / 2."""

  def apply(model, variables):
    params = jax.tree.map(lambda x: x / 2, variables["params"])
    return model, {**variables, "params": params}

  return start.StartStep(apply, changes_structure=False)
'''
# Its tests' case, which is found by the name of its file.
OPTIMIZER_REFERENCE = '''
"""Float64 transcription of SGD; a toy."""

from tests.optim.cases import Case


def toy_sgd(kind, w, gradient, steps, *, learning_rate, weight_decay=0.0):
  """Vectors do not decay."""
  decay = 0.0 if kind == "vector" else weight_decay
  for t in range(1, steps + 1):
    w = w - learning_rate * (gradient(t, w) + decay * w)
  return w


CASES = (
  Case(
    "toy_sgd",
    toy_sgd,
    variants=({}, {"weight_decay": 0.3}),
    # Sums of twelve terms.
    rounding=1e-6,
  ),
)
'''
TOYS = {
  "max_norm": toys.Toy(
    {
      "normjax/norms/max_norm.py": NORM_FILE,
      "configs/norms/max_norm.py": NORM_CONFIG,
      "tests/norms/references_toy.py": NORM_REFERENCE,
    },
    (
      (
        "normjax/norms/__init__.py",
        '"max_norm": "normjax.norms.max_norm:max_norm",',
        "TABLE",
      ),
    ),
  ),
  "toy_sgd": toys.Toy(
    {
      "normjax/optim/toy_sgd.py": OPTIMIZER_FILE,
      "configs/optimizers/toy_sgd.py": OPTIMIZER_CONFIG,
      "tests/optim/references_toy.py": OPTIMIZER_REFERENCE,
    },
    (
      (
        "normjax/optim/__init__.py",
        '"toy_sgd": "normjax.optim.toy_sgd:toy_sgd",',
        "TABLE",
      ),
    ),
  ),
  "toy_half": toys.Toy(
    {"normjax/convert/toy_half.py": STEP_FILE},
    (
      (
        "normjax/convert/__init__.py",
        '"toy_half": "normjax.convert.toy_half:toy_half",',
        "TABLE",
      ),
      (
        "tests/convert/test_start_steps.py",
        '"toy_half": lambda folder: ("toy_half", _mlp()),',
        "CASES",
      ),
    ),
  ),
}
SWEEP = """
from normjax import configure
from normjax.sweep import Sweep, chain, point

def get_config():
  return configure.override(configure.load("configs/default.py"), {overrides})

def sweep():
  return Sweep(
    methods=chain(
      point({{"norm.name": "max_norm"}}),
      point({{
        "optimizer.name": "toy_sgd", "train.initialize_from": ("toy_half",)
      }}),
    ),
    seeds=(0, 1),
  )
"""

# Classes of tests to the contract that each runs.
SUITES = {
  "TestNorm": "NormContract",
  "TestTransformations": "TransformationContract",
  "TestOptimizer": "OptimizerContract",
  "TestExecution": "ExecutionContract",
  "TestComposition": "CompositionContract",
}
# Tests outside of the contracts that run over a whole table.
ALONE = {
  ("test_docstring_example", "toy_sgd"),
  ("test_equals_reference", "toy_sgd"),
  ("test_config_is_the_factory_s_options", "toy_sgd"),
  ("test_config_is_the_factory_with_its_defaults", "max_norm"),
  ("test_every_norm_has_roles", "max_norm"),
  ("test_is_the_norm", "max_norm"),
  ("test_split_and_merge", "max_norm"),
  ("test_training_step_under_jit", "max_norm"),
  ("test_trains_in_a_train_state", "max_norm"),
  ("test_a_step_is_pure_and_tells_its_shapes", "toy_half"),
}


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
  """The checkout with the toys added."""
  made = toys.copy(tmp_path_factory.mktemp("checkout"), TOYS.values())
  sweep = SWEEP.format(overrides=support.DECODER)
  (made.root / "sweep.py").write_text(sweep)
  return made


def test_list_finds_them(copy):
  done = copy.python(
    "-m", "normjax.cli", "list", "norms", "optimizers", "start_steps"
  )
  assert "max_norm" in done.stdout, done.stderr
  assert "toy_sgd" in done.stdout
  assert "toy_half" in done.stdout


def _contract(suite, label):
  """Names of the tests of a contract that are not slow, for one case."""
  tests = {n: getattr(suite, n) for n in dir(suite) if n.startswith("test_")}
  quick = [
    name
    for name, test in tests.items()
    if all(mark.name != "slow" for mark in getattr(test, "pytestmark", ()))
  ]
  assert quick
  return {(suite.__name__, name, label) for name in quick}


@pytest.mark.parametrize(
  ("toy", "count"), [("max_norm", 4), ("toy_sgd", 4), ("toy_half", 3)]
)
def test_so_few_files_are_touched(toy, count):
  """Tables and tests among them; generated files and CHANGELOG not counted."""
  assert len(TOYS[toy].touched) == count


@pytest.mark.slow
def test_the_contracts_run_over_them(copy):
  """All of them, and nothing is skipped but what the toy does not have."""
  passed, skipped = set(), set()
  for test in copy.run_tests(
    "max_norm or toy_sgd or toy_half",
    "tests/norms", "tests/optim", "tests/nn", "tests/convert",
  ):  # fmt: skip
    name, _, label = test.attrib["name"].rstrip("]").partition("[")
    suite = SUITES.get(test.attrib["classname"].rpartition(".")[2])
    label = next(toy for toy in TOYS if toy in label)
    row = (suite, name, label)
    (skipped if test.find("skipped") is not None else passed).add(row)
  must = {
    *_contract(NormContract, "max_norm"),
    *_contract(TransformationContract, "max_norm"),
    *_contract(OptimizerContract, "toy_sgd"),
    *_contract(ExecutionContract, "toy_sgd"),
    *_contract(CompositionContract, "toy_sgd"),
    *((None, *row) for row in ALONE),
  }
  assert must - passed == set()
  # It has no dims.
  assert must & skipped == {
    ("CompositionContract", "test_bad_trees", "toy_sgd")
  }


def test_a_sweep_runs_over_them(copy):
  done = copy.python("-m", "normjax.cli", "sweep", "sweep.py", "--out=out")
  assert done.returncode == 0, done.stderr
  table = (copy.root / "out/report/table.md").read_text()
  assert "max_norm" in table
  assert "toy_sgd" in table
