"""Norms that read which domain an example is from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from normjax import errors, norms
from tests import support
from tests.contracts import norm_values
from tests.norms import cases

NUM, CHANNELS = 3, 4
# All domains, in no order; the last has one example.
IDS = np.array([1, 0, 0, 1, 2, 1])
READERS = {
  "dsbn": {},
  "conditional_batch_norm": {"hidden_dim": 5},
  "film": {"hidden_dim": 5},
  "scenario_bn": {"hidden_dim": 5, "normalized": True},
}


def _make(name, **options):
  return norms.make(name, **({"num_domains": NUM} | READERS[name] | options))


def _given(norm, shape=(6, 3, CHANNELS)):
  return norm_values.inputs(norm, shape)


def _float64(norm, variables, x, context, **call):
  with jax.enable_x64(True):
    result = jax.jit(
      lambda v, x, c: norm.apply(v, x, context=c, **call), static_argnums=()
    )(jax.tree.map(jnp.asarray, variables), jnp.asarray(x), context)
    return jax.tree.map(np.asarray, result)


def _truth(norm, variables, x, context, *, train=True):
  return cases.reference(norm.name)(
    variables["params"],
    variables["stats"],
    x,
    train=train,
    context=context,
    **norm.options,
  )


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("name", READERS)
def test_equals_the_reference_by_domain(name, train):
  norm = _make(name)
  variables, x = _given(norm)
  actual = _float64(norm, variables, x, jnp.asarray(IDS), train=train)
  expected = _truth(norm, variables, x, IDS, train=train)
  norm_values.assert_close(
    actual, expected, 4 * norm_values.tolerance(x, np.float64)
  )


@pytest.mark.parametrize(
  "name", ["conditional_batch_norm", "film", "scenario_bn"]
)
def test_a_condition_may_be_features(name):
  norm = _make(name)
  variables, x = _given(norm)
  features = np.random.default_rng(5).normal(size=(6, NUM))
  with jax.enable_x64(True):
    context = jnp.asarray(features)
  actual = _float64(norm, variables, x, context)
  expected = _truth(norm, variables, x, features)
  norm_values.assert_close(
    actual, expected, 16 * norm_values.tolerance(x, np.float64)
  )
  as_ids = _float64(norm, variables, x, jnp.asarray(IDS))
  with jax.enable_x64(True):
    one_hot = jnp.asarray(np.eye(NUM)[IDS])
  norm_values.assert_close(
    _float64(norm, variables, x, one_hot),
    as_ids,
    norm_values.tolerance(x, np.float64),
  )


def test_a_mixed_batch_is_a_batch_norm_per_domain():
  """y, gradients and statistics; where a mask hides something, too."""
  norm, alone = _make("dsbn"), norms.make("batch_norm")
  variables, x = _given(norm)
  mask = np.random.default_rng(1).random(x.shape[:2]) > 0.3
  weight = np.cos(np.arange(x.size)).reshape(x.shape) * mask[..., None]

  def loss(norm):
    def run(params, x, stats, weight, mask, context=None):
      held = {"params": params, "stats": stats}
      y, stats = norm.apply(held, x, mask=mask, context=context)
      return jnp.sum(weight * y), stats

    return jax.jit(jax.grad(run, argnums=(0, 1), has_aux=True))

  with jax.enable_x64(True):
    held = jax.tree.map(jnp.asarray, (variables["params"], x))
    (params, dx), stats = loss(norm)(
      *held, variables["stats"], weight, mask, jnp.asarray(IDS)
    )
    for domain in range(NUM):
      own = jax.tree.map(lambda a, d=domain: a[d], variables)
      chosen = domain == IDS
      expected = loss(alone)(
        jax.tree.map(jnp.asarray, own["params"]),
        jnp.asarray(x[chosen]),
        own["stats"],
        weight[chosen],
        mask[chosen],
      )
      actual = jax.tree.map(lambda a, d=domain: a[d], (params, stats))
      norm_values.assert_close(
        ((actual[0], dx[chosen]), actual[1]),
        expected,
        8 * norm_values.tolerance(x, np.float64),
      )


def test_a_batch_of_one_domain_moves_that_one_alone():
  """What the official code does with a whole batch, with a traced id."""
  norm, alone = _make("dsbn"), norms.make("batch_norm")
  variables, x = norm_values.to(jnp.float32, _given(norm))

  @jax.jit
  def apply(x, domain):
    return norm.apply(variables, x, context=jnp.full(6, domain))

  y, stats = apply(x, 1)
  own = jax.tree.map(lambda a: a[1], variables)
  expected, moved = alone.apply(own, x)
  bound = 4 * norm_values.tolerance(x)
  norm_values.assert_close(y, expected, bound)
  norm_values.assert_close(jax.tree.map(lambda a: a[1], stats), moved, bound)
  for domain in (0, 2):
    for name, values in stats.items():
      np.testing.assert_array_equal(
        values[domain], variables["stats"][name][domain]
      )


def test_a_single_value_of_a_domain_is_normalised_by_what_runs():
  norm = _make("dsbn")
  variables, x = norm_values.to(jnp.float32, _given(norm, (6, CHANNELS)))
  y, stats = norm.apply(variables, x, context=jnp.asarray(IDS))
  evaluated, _ = norm.apply(variables, x, context=IDS, train=False)
  np.testing.assert_array_equal(y[4], evaluated[4])
  assert np.abs(y - evaluated)[:4].max() > 1e-2
  np.testing.assert_array_equal(stats["mean"][2], variables["stats"]["mean"][2])


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("name", READERS)
def test_an_id_out_of_range_is_nan_and_touches_nothing_else(name, train):
  norm = _make(name)
  variables, x = norm_values.to(jnp.float32, _given(norm))
  apply = jax.jit(lambda x, c: norm.apply(variables, x, context=c, train=train))
  bad = np.array([1, 0, 0, 1, NUM, -1])
  y, stats = apply(x, bad)
  assert np.isnan(y[4:]).all()
  assert np.isfinite(y[:4]).all()
  assert all(np.isfinite(leaf).all() for leaf in stats.values())
  if name == "conditional_batch_norm":
    return  # Its statistics are of all examples, whatever their conditions.
  if name == "scenario_bn":
    norm = _make(name, normalized=False)
    variables = norm_values.to(jnp.float32, _given(norm)[0])
    y, _ = norm.apply(variables, x, context=bad, train=train)
  without, _ = norm.apply(variables, x[:4], context=bad[:4], train=train)
  np.testing.assert_allclose(y[:4], without, rtol=0, atol=1e-5)


def test_domains_are_an_argument_of_a_compiled_scan():
  norm = _make("dsbn")
  variables, x = norm_values.to(jnp.float32, _given(norm))
  orders = jnp.asarray([IDS, IDS[::-1], np.zeros(6, int)])

  def body(stats, ids):
    y, stats = norm.apply({**variables, "stats": stats}, x, context=ids)
    return stats, y

  stats, ys = jax.jit(lambda s: jax.lax.scan(body, s, orders))(
    variables["stats"]
  )
  expected = variables["stats"]
  for ids, y in zip(orders, ys, strict=True):
    held = {**variables, "stats": expected}
    expected_y, expected = norm.apply(held, x, context=ids)
    norm_values.assert_close(y, expected_y, 4 * norm_values.tolerance(x))
  norm_values.assert_close(stats, expected, 4 * norm_values.tolerance(x))


@pytest.mark.parametrize("name", READERS)
def test_contexts_that_do_not_fit_are_errors(name):
  norm = _make(name)
  variables, x = norm_values.to(jnp.float32, _given(norm))
  for context, message in (
    (None, f"{name}: num_domains=3 needs the domain of each example"),
    (jnp.zeros(5, int), r"integers of shape \(6,\).*got int32 of shape \(5,\)"),
    (jnp.zeros((6, 2)), r"got float32 of shape \(6, 2\)"),
    ([0, 1], r"got int32 of shape \(2,\)"),
    ("north", "an array with a row per example; got a str"),
  ):
    with pytest.raises(errors.UserError, match=message):
      norm.apply(variables, x, context=context)
  with pytest.raises(errors.UserError, match=r"num_domains=0; allowed: an int"):
    norms.make(name, num_domains=0)


@pytest.mark.parametrize("name", READERS)
def test_variables_of_other_domains_are_errors(name):
  norm, other = _make(name), _make(name, num_domains=2)
  x = support.normal(6, CHANNELS)
  message = rf"{name}: '\w+' has the shape \(2, \d+\), of 2 domains;.*=3"
  with pytest.raises(errors.UserError, match=message):
    norm.apply(other.init((CHANNELS,)), x, context=IDS)


@pytest.mark.parametrize("name", ["conditional_batch_norm", "film"])
def test_at_first_nothing_depends_on_the_condition(name):
  norm = _make(name)
  x = support.normal(6, CHANNELS)
  y, _ = norm.apply(norm.init((CHANNELS,)), x, context=IDS)
  plain = norms.make("batch_norm" if name != "film" else "identity")
  expected, _ = plain.apply(plain.init((CHANNELS,)), x)
  np.testing.assert_allclose(y, expected, rtol=0, atol=1e-6)


def test_how_the_scenario_starts():
  """Twice He's variance, of a random sign; or as if it were not there."""
  norm = norms.make("scenario_bn", num_domains=16)
  drawn = norm.init((CHANNELS,), key=jax.random.key(0))["params"]
  # The deviation of n draws is off by a share of about 1 / sqrt(2 n).
  for part in ("gain", "offset"):
    np.testing.assert_allclose(drawn[f"{part}_kernel"].std(), 0.5, rtol=0.1)
    np.testing.assert_allclose(
      drawn[f"{part}_out_kernel"].std(), 0.25, rtol=0.3
    )
  assert np.abs(drawn["gain_kernel"] - drawn["offset_kernel"]).max() > 0.1
  x = support.normal(6, CHANNELS)
  for normalized, plain in ((False, "identity"), (True, "batch_norm")):
    norm = _make("scenario_bn", normalized=normalized, identity_start=True)
    y, _ = norm.apply(norm.init((CHANNELS,)), x, context=IDS)
    same = norms.make(plain)
    expected, _ = same.apply(same.init((CHANNELS,)), x)
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", READERS)
def test_domains_that_are_split_over_devices(name):
  """On explicit axes every sum and cotangent has a sharding; in shapes."""
  norm = _make(name)
  variables, x = norm_values.to(jnp.float32, _given(norm, (8, 3, CHANNELS)))
  mesh = jax.make_mesh((8,), ("b",), axis_types=(AxisType.Explicit,))
  split = NamedSharding(mesh, PartitionSpec("b"))

  def loss(params, x, ids):
    held = {**variables, "params": params}
    return jnp.sum(jnp.sin(norm.apply(held, x, context=ids)[0]))

  with jax.set_mesh(mesh):
    params, dx = jax.eval_shape(
      jax.grad(loss, argnums=(0, 1)),
      variables["params"],
      jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=split),
      jax.ShapeDtypeStruct((8,), jnp.int32, sharding=split),
    )
  assert dx.sharding.spec[0] == "b"
  assert jax.tree.structure(params) == jax.tree.structure(variables["params"])
