"""The package: names, lazy attributes, state bytes, descriptions."""

import importlib
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
import pytest

from normjax import configure, errors, optim
from normjax.optim import groups


def test_import_is_light():
  code = (
    "import sys; from normjax import optim; optim.names();"
    "sys.exit(any(m in sys.modules for m in ('jax', 'optax', 'flax')))"
  )
  assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_attributes_are_the_functions():
  # The files have the names of the functions, whichever is imported first.
  from normjax.optim.muon import muon

  assert optim.muon is muon
  for name in (*optim.names(), *optim.exports()):
    assert callable(getattr(optim, name)), name
    assert name in dir(optim)
  with pytest.raises(AttributeError, match="no attribute 'adamx'"):
    optim.adamx  # noqa: B018


def test_files_list_what_they_make_public():
  """Also those of the table; no name is listed twice."""
  listed = optim.exports()
  assert {name: listed.get(name) for name in optim.names()} == optim.TABLE
  folder = Path(optim.__file__).parent
  named = [
    name
    for path in folder.glob("[!_]*.py")
    for name in getattr(
      importlib.import_module(f"normjax.optim.{path.stem}"), "__all__", ()
    )
  ]
  assert sorted(named) == sorted(listed)


def test_unknown_name_and_option():
  with pytest.raises(errors.UnknownNameError, match="'adampp'.*'adamp'"):
    optim.make("adampp", learning_rate=1.0)
  with pytest.raises(errors.UserError, match="'weight_decy'.*'weight_decay'"):
    optim.make("adamp", learning_rate=1.0, weight_decy=1.0)


@pytest.mark.parametrize("name", optim.names())
def test_config_is_the_factory_s_options(name):
  block = dict(configure.to_dict(configure.component("optimizer", name)))
  assert block.pop("name") == name
  tx = optim.make(name, **block)
  # Two, since some move as many blocks at a time.
  params = {layer: {"kernel": jnp.ones((4, 3))} for layer in ("first", "last")}
  updates = jax.eval_shape(
    lambda params: tx.update(params, tx.init(params), params)[0], params
  )
  assert updates["last"]["kernel"].shape == (4, 3)


@pytest.mark.parametrize(
  ("name", "matrix_bytes"),
  [("adamw", 8), ("muon", 4), ("sinkgd", 0), ("adamp", 8)],
)
def test_state_bytes(name, matrix_bytes):
  """Bytes an entry of a matrix; a vector has Adam's 8 everywhere."""
  tx = optim.make(name, learning_rate=0.1)
  matrix = {"kernel": jnp.ones((64, 32))}
  both = {**matrix, "bias": jnp.ones(32)}
  count = 4  # The step counter.
  assert optim.state_bytes(tx.init(matrix)) == matrix_bytes * 64 * 32 + count
  abstract = jax.eval_shape(tx.init, both)
  assert optim.state_bytes(abstract) == matrix_bytes * 64 * 32 + 8 * 32 + count


def test_describe():
  params = {
    "embed": {"embedding": jnp.ones((5, 4))},
    "mlp": {"kernel": jnp.ones((4, 3)), "bias": jnp.ones(3)},
  }
  assert optim.describe("adamw", params) == dict.fromkeys(
    ("embed/embedding", "mlp/bias", "mlp/kernel"), "adamw"
  )
  for name in ("muon", "sinkgd"):
    assert optim.describe(name, params) == {
      "embed/embedding": "adamw (fallback)",
      "mlp/bias": "adamw (fallback)",
      "mlp/kernel": name,
    }
  dims = {"embed": optim.MatrixDims(), "mlp": None}
  assert optim.describe("muon", params, dims=dims) == {
    "embed/embedding": "muon",
    "mlp/bias": "adamw (fallback)",
    "mlp/kernel": "adamw (fallback)",
  }
  assert optim.describe("adamp", params)["mlp/bias"] == "adamp (no projection)"
  with pytest.raises(errors.UnknownNameError, match="'mun'"):
    optim.describe("mun", params)


@pytest.mark.parametrize("name", ["muon", "sinkgd"])
def test_own_fallback(name):
  params = {"mlp": {"kernel": jnp.ones((4, 3)), "bias": jnp.ones(3)}}
  tx = optim.make(name, learning_rate=0.1, fallback=optax.sgd(0.5))
  updates, state = tx.update(params, tx.init(params), params)
  assert (updates["mlp"]["bias"] == -0.5).all()
  assert optim.state_bytes(state) == (48 if name == "muon" else 0)


def test_rules_name_an_unmatched_leaf():
  tree = {"mlp": {"kernel": 1, "bias": 2}}
  rules = [(".*bias", "no"), (".*", "yes")]
  assert groups.match_tree(rules, tree) == {
    "mlp/kernel": "yes",
    "mlp/bias": "no",
  }
  with pytest.raises(errors.UserError, match="leaf 'mlp/kernel'"):
    groups.match_tree(rules[:1], tree)


def test_decay_mask():
  params = {
    "attention": {
      "query": {"kernel": jnp.ones((4, 2, 2)), "bias": jnp.ones((2, 2))}
    },
    "embed": {"embedding": jnp.ones((5, 4))},
    "norm": {"scale": jnp.ones((2, 4)), "alpha": jnp.ones(1)},
  }
  assert optim.decay_mask(params) == {
    "attention": {"query": {"kernel": True, "bias": False}},
    "embed": {"embedding": True},
    "norm": {"scale": False, "alpha": False},
  }


def test_other_scalars_follow_schedules_too():
  """By `optax.inject_hyperparams`, as in the README."""
  decay = optax.linear_schedule(0.5, 0.0, 2)
  tx = optax.inject_hyperparams(optim.muon, static_args="ns_steps")(
    0.1, weight_decay=decay
  )
  params = {"layer": {"kernel": jnp.ones((4, 3))}}
  zero = jax.tree.map(jnp.zeros_like, params)
  state = tx.init(params)
  for step in range(3):
    updates, state = tx.update(zero, state, params)
    expected = jnp.full((4, 3), -0.1 * decay(step))
    assert jnp.allclose(updates["layer"]["kernel"], expected)
