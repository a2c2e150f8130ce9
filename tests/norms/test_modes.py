"""What runs in norms, and what a `Mode` says of it."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.interpreters import partial_eval

from normjax import errors, norms
from normjax.norms import modes, weights
from tests import support
from tests.contracts import norm_values
from tests.norms import cases

RUNNING = [
  case for case in cases.all_cases() if case.norm.traits.needs_train_flag
]
WEIGHT = 0.3
BLENDED = norms.Mode(statistics="blended", batch_weight=WEIGHT)


def _given(norm, seed=0):
  """Variables off their start and x, of images where the norm needs them."""
  return norm_values.inputs(norm, norm_values.SHAPES[4], seed)


def _text(jaxpr):
  """The program, without addresses."""
  return re.sub(r"0x[0-9a-f]+", "", str(jaxpr))


def _of_the_batch(case, stats, x):
  """By NumPy, what training averages into each running statistic."""
  norm, axes = case.norm, tuple(range(x.ndim - 1))
  mean, var = x.mean(axes), x.var(axes)
  unbiased = var * x[..., 0].size / (x[..., 0].size - 1)
  kept = {"unbiased": unbiased, "biased": var}
  groups = norm.options.get("num_groups", 1)
  by_group = x.reshape(*x.shape[:-1], groups, -1)
  power = np.mean(by_group**2, -1, keepdims=True) + norm.options["eps"]
  h = (by_group / np.sqrt(power)).reshape(x.shape)
  inside = x.var((1, 2), ddof=1).mean(0) + x.mean((1, 2)).var(0)
  bcn = var + (mean - stats["mean"]) ** 2 if "mean" in stats else None
  table = {
    "batch_norm": lambda: {
      "mean": mean,
      "var": kept[norm.options["running_variance"]],
    },
    "iabn": lambda: {"mean": mean, "var": unbiased},
    "switchable_norm": lambda: {"mean": mean, "var": inside},
    "bcn": lambda: {
      "mean": mean,
      "var": bcn if norm.options["estimated"] else unbiased,
    },
    "adab2n": lambda: {"mean": mean, "var": var},
    "cn": lambda: _of_continual(case, x),
    "power_norm": lambda: {"running_phi": np.mean(h**2, axes)},
    "unified_norm": lambda: {"running_var": np.mean(x**2, axes)},
  }
  if norm.name.startswith("evonorm"):
    return {"var": kept[norm.options["running_variance"]]}
  return table[norm.name]()


def _of_continual(case, x):
  variables = case.norm.init(x.shape[1:])
  start = {k: np.zeros_like(v) for k, v in variables["stats"].items()}
  options = {**case.norm.options, "momentum": 0.0}
  seen = case.reference({}, start, x, train=True, mask=None, **options)
  return seen[1]


def _blended(case, variables, x):
  """The running statistics that evaluation is to see."""
  stats = variables["stats"]
  if case.norm.name == "batch_renorm":
    # Means and variances are mixed, and the deviation runs.
    axes = tuple(range(x.ndim - 1))
    var = x.var(axes) + case.norm.options["eps"]
    new = {"mean": x.mean(axes), "std": var}
    old = {"mean": stats["mean"], "std": stats["std"] ** 2}
    mixed = {k: (1 - WEIGHT) * old[k] + WEIGHT * new[k] for k in new}
    return {**stats, "mean": mixed["mean"], "std": np.sqrt(mixed["std"])}
  if case.norm.traits.num_domains:
    # What a step leaves where nothing of the old is kept.
    options = {**case.norm.options, "momentum": 0.0}
    params = variables["params"]
    _, new = case.reference(params, stats, x, train=True, **options)
  else:
    new = _of_the_batch(case, stats, x)
  return stats | {k: (1 - WEIGHT) * stats[k] + WEIGHT * new[k] for k in new}


@pytest.mark.parametrize("case", RUNNING, ids=str)
def test_blended_is_evaluation_with_mixed_statistics(case):
  variables, x = _given(case.norm)
  stats = variables["stats"]
  seen = {**variables, "stats": _blended(case, variables, x)}
  expected, _ = norm_values.truth(case, seen, x, train=False)
  y, kept = norm_values.as_float64(case.norm, variables, x, train=BLENDED)
  bound = norm_values.tolerance(x, np.float64)
  norm_values.assert_close(y, expected, 8 * bound)
  jax.tree.map(np.testing.assert_array_equal, kept, stats)


@pytest.mark.parametrize("case", RUNNING, ids=str)
@pytest.mark.parametrize(
  "mode", [norms.Mode(update=True), dataclasses.replace(BLENDED, update=True)]
)
def test_an_update_is_that_of_training(case, mode):
  """Whatever y is made with; as programs, which nothing has to compile."""
  norm = case.norm
  given = norm_values.to(np.float32, _given(norm))

  def text(output, train):
    jaxpr = jax.make_jaxpr(lambda given: norm.apply(*given, train=train))(given)
    used = [bool(i) == bool(output) for i in range(len(jaxpr.jaxpr.outvars))]
    kept, _ = partial_eval.dce_jaxpr(jaxpr.jaxpr, used, instantiate=True)
    return _text(kept)

  still = dataclasses.replace(mode, update=False)
  assert text(0, mode) == text(0, still)
  assert text(1, mode) == text(1, norms.TRAIN)


@pytest.mark.parametrize("name", ["batch_norm", "power_norm", "unified_norm"])
def test_gradients_pass_the_blended_statistics(name):
  """Against central differences, h = 1e-5: h^2 f''' / 6 is near 1e-9."""
  norm = norms.make(name)
  variables, x = norm_values.inputs(norm, (5, 2))
  weight = np.random.default_rng(2).normal(size=x.shape)

  @jax.jit
  def loss(x):
    return jnp.sum(weight * norm.apply(variables, x, train=BLENDED)[0])

  with jax.enable_x64(True):
    actual = jax.grad(loss)(jnp.asarray(x))
    (expected,) = norm_values.central_differences(loss, (x,))
  norm_values.assert_close(actual, expected, 1e-7)


def test_a_blend_of_nothing_is_what_runs():
  """A mask that leaves nothing; a weight that is traced."""
  norm = norms.make("batch_norm")
  variables, x = norm_values.to(np.float32, _given(norm))
  evaluated, _ = norm.apply(variables, x, train=False)

  def blended(weight, mask=None):
    mode = norms.Mode(statistics="blended", batch_weight=weight)
    return norm.apply(variables, x, train=mode, mask=mask)[0]

  np.testing.assert_allclose(jax.jit(blended)(0.0), evaluated, atol=1e-6)
  nothing = jnp.zeros(len(x), bool)
  expected, _ = norm.apply(variables, x, train=False, mask=nothing)
  np.testing.assert_array_equal(blended(1.0, mask=nothing), expected)


def test_ghost_batches_are_blended_by_their_mean():
  """As running statistics are, here after a step of momentum 1 - weight."""
  options = {"virtual_batch_size": 2, "momentum": 1 - WEIGHT}
  norm = norms.make("batch_norm", **options)
  variables, x = norm_values.to(np.float32, _given(norm))
  _, stats = norm.apply(variables, x)
  expected, _ = norm.apply({**variables, "stats": stats}, x, train=False)
  np.testing.assert_array_equal(
    norm.apply(variables, x, train=BLENDED)[0], expected
  )


def test_what_is_no_moment_is_not_blended():
  batch_norm = norms.make("batch_norm")
  traits = dataclasses.replace(batch_norm.traits, blends=False)
  norm = dataclasses.replace(batch_norm, name="median", traits=traits)
  message = r"^median: statistics='blended' .*; allowed: 'batch', 'running'\.$"
  with pytest.raises(errors.UserError, match=message):
    norm.apply(norm.init((4,)), jnp.ones((2, 4)), train=BLENDED)


def test_without_running_statistics_a_mode_says_nothing():
  plain = [
    case
    for case in cases.default_cases()
    if not case.norm.traits.needs_train_flag
  ]
  for norm in (case.norm for case in plain):
    variables, x = norm_values.to(np.float32, _given(norm))
    programs = {
      _text(
        jax.make_jaxpr(functools.partial(norm.apply, train=mode))(variables, x)
      )
      for mode in (norms.TRAIN, norms.EVALUATE, BLENDED)
    }
    assert len(programs) == 1, norm.name


@pytest.mark.parametrize("name", weights.names())
def test_a_kernel_has_no_batch(name):
  """Its statistics are taken as they are, or move without being read."""
  weight_norm = weights.make(name)
  kernel = support.normal(6, 3)
  variables = weight_norm.init(kernel)
  evaluated, _ = weight_norm.apply(variables, kernel, train=False)
  trained, stats = weight_norm.apply(variables, kernel)
  for train, y, new in (
    (BLENDED, evaluated, variables["stats"]),
    (norms.Mode(update=True), evaluated, stats),
    (norms.Mode(statistics="batch"), trained, variables["stats"]),
  ):
    actual = weight_norm.apply(variables, kernel, train=train)
    jax.tree.map(np.testing.assert_array_equal, actual, (y, new))


@pytest.mark.parametrize(
  ("given", "message"),
  [
    ({"noise": 1}, "noise must be True or False; got 1"),
    ({"update": "yes"}, "update must be True or False; got 'yes'"),
    ({"statistics": "mixed"}, "'batch', 'running', 'blended'; got 'mixed'"),
    ({"statistics": "blended"}, "needs batch_weight, .* from 0 to 1; got None"),
    ({"statistics": "blended", "batch_weight": 1.5}, "from 0 to 1; got 1.5"),
    ({"statistics": "blended", "batch_weight": True}, "from 0 to 1; got True"),
    *(
      ({"statistics": "blended", "batch_weight": weight}, "from 0 to 1; got ")
      for weight in (
        np.float32(2),
        jnp.array(-1.0),
        jnp.array(jnp.nan),
        np.array(True),
        np.str_("a"),
        jnp.array(1j),
      )
    ),
    ({"statistics": np.array([1, 2])}, "got array"),
    ({"batch_weight": 0.5}, "batch_weight=0.5 is for statistics='blended'"),
  ],
)
def test_a_mode_that_is_none_is_named(given, message):
  with pytest.raises(errors.UserError, match=f"^Mode: .*{message}"):
    norms.Mode(**given)


def test_modes_are_values():
  """Static arguments of compiled functions, and equal to what they mean."""
  assert norms.Mode() == norms.EVALUATE == modes.resolve(False)
  assert modes.resolve(True) == modes.resolve(None) == norms.TRAIN
  assert len({norms.TRAIN, norms.EVALUATE, BLENDED, norms.Mode()}) == 3
