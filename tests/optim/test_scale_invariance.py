"""How far doubling a matrix moves a function, against float64 by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from normjax import errors, norms, optim
from normjax.optim.scale_invariance import measure
from tests import support

X = np.asarray(support.normal(6, 5), np.float64)
# Of `rms_norm`, in whose place a transcription stands.
EPS = 1e-6


def _tree(*names, seed=1):
  """A square kernel under each name."""
  kernels = support.normal(len(names), 5, 5, seed=seed)
  return {n: {"kernel": w} for n, w in zip(names, kernels, strict=True)}


def _outputs(params, x=X, to=jnp):
  """A norm behind the first matrix, none behind the second."""
  hidden = x @ params["first"]["kernel"]
  mean_square = to.mean(hidden**2, -1, keepdims=True)
  hidden = hidden / to.sqrt(mean_square + EPS)
  return to.maximum(hidden, 0) @ params["second"]["kernel"]


def _change(function, params, name):
  """The larger change, in float64."""
  params = jax.tree.map(lambda w: np.asarray(w, np.float64), params)
  base = function(params)
  changes = [
    function({**params, name: {"kernel": c * params[name]["kernel"]}}) - base
    for c in (2, 0.5)
  ]
  return max(np.sqrt(np.mean(np.square(change))) for change in changes), base


def test_outputs_in_their_standard_deviations():
  params = _tree("first", "second")
  found = optim.scale_invariance(_outputs, params)
  assert list(found) == ["first/kernel", "second/kernel"]
  for name in params:
    change, base = _change(lambda p: _outputs(p, to=np), params, name)
    # The norm's epsilon is 1e-6 of 5; the rest of the first is rounding.
    np.testing.assert_allclose(
      found[f"{name}/kernel"], change / np.std(base), rtol=1e-5, atol=1e-6
    )
  assert found["first/kernel"] < 1e-5 < 0.9 < found["second/kernel"]
  assert optim.scale_dependent(_outputs, params) == {
    "second/kernel": found["second/kernel"]
  }


def test_the_step_to_compare_with_is_as_long_as_the_matrix():
  """Of a map without a norm it moves the outputs by about themselves."""
  rows = support.normal(64, 5, seed=4)
  for factor in (0.01, 100.0):
    params = {"kernel": factor * support.normal(5, 5, seed=3)}
    measured = measure(lambda p: rows @ p["kernel"], params)
    scaled, random = map(float, np.ravel(measured))
    assert scaled == pytest.approx(1.0, rel=0.1)
    assert 0.5 < random < 2


def test_a_loss_in_its_own_size():
  def loss(params, to=jnp):
    return to.mean((_outputs(params, to=to) - 1.0) ** 2)

  params = _tree("first", "second")
  found = optim.scale_invariance(loss, params)
  change, base = _change(lambda p: loss(p, np), params, "second")
  np.testing.assert_allclose(found["second/kernel"], change / base, rtol=1e-5)
  assert found["first/kernel"] < 1e-5


def test_the_matrices_of_a_leaf_are_told_apart():
  stacked = {"layers": {"kernel": support.normal(2, 5, 5)}}

  def outputs(params):
    first, second = params["layers"]["kernel"]
    return _outputs({"first": {"kernel": first}, "second": {"kernel": second}})

  dims = {"layers": {"kernel": optim.MatrixDims(-2, -1)}}
  found = optim.scale_invariance(outputs, stacked, dims)
  assert list(found) == ["layers/kernel[0]", "layers/kernel[1]"]
  assert found["layers/kernel[0]"] < 1e-5 < 0.9 < found["layers/kernel[1]"]


def test_only_what_dims_names_is_measured():
  """By default no head, which nobody projects."""
  params = {**_tree("first"), "head": {"kernel": support.normal(5, 5, seed=2)}}

  def outputs(params):
    both = {"first": params["first"], "second": params["head"]}
    return _outputs(both)

  assert list(optim.scale_invariance(outputs, params)) == ["first/kernel"]
  with_head = optim.scale_invariance(outputs, params, optim.channel_dims)
  assert with_head["head/kernel"] > 0.9


def test_trees_of_others():
  """The state of an NNX module, whose outputs are a tuple with integers."""
  model = nnx.Linear(5, 5, rngs=nnx.Rngs(0))
  graph, params = nnx.split(model)

  def outputs(params):
    return nnx.merge(graph, params)(jnp.asarray(X, jnp.float32)), jnp.arange(2)

  found = optim.scale_invariance(outputs, params)
  assert list(found) == ["kernel"]
  assert found["kernel"] > 0.9


def test_nothing_can_be_told_of_what_moves_nothing():
  params = _tree("first", "second")
  zero = {**params, "second": {"kernel": jnp.zeros((5, 5))}}
  # Behind a zero matrix nothing shows; and twice zero is zero.
  assert np.isnan(optim.scale_invariance(_outputs, zero)["first/kernel"])
  assert np.isnan(
    optim.scale_invariance(lambda p: p["second"]["kernel"] + 1.0, zero)[
      "second/kernel"
    ]
  )
  assert optim.scale_dependent(_outputs, zero) == {}


def test_outputs_that_are_all_the_same_are_compared_with_their_size():
  params = {"kernel": jnp.ones((3, 3), jnp.bfloat16)}
  found = optim.scale_invariance(lambda p: p["kernel"], params)
  assert found == {"kernel": pytest.approx(1.0)}


def test_roundings_of_a_short_dtype_are_no_dependence():
  """An epsilon that turns roundings over, in bfloat16 two of 256."""
  norm = norms.make("rms_norm", eps=1e-3)
  variables = norm.init((64,))
  params = {"first": {"kernel": support.normal(64, 64) / 8}}
  x = support.normal(32, 64, seed=2).astype(jnp.bfloat16)

  def outputs(params):
    hidden = x @ params["first"]["kernel"].astype(jnp.bfloat16)
    return norm.apply(variables, hidden)[0].astype(jnp.float32)

  (change,) = optim.scale_invariance(outputs, params).values()
  assert change > 1e-3
  assert not optim.scale_dependent(outputs, params, dtype=jnp.bfloat16)


def test_many_matrices_are_one_compilation():
  traces = []

  def counted(params):
    traces.append(1)
    return sum(jnp.sum(x["kernel"]) for x in params.values())

  optim.scale_invariance(counted, _tree(*"abcd"))
  assert len(traces) <= 2  # One of them for the shape alone.


def test_wrong_functions_and_leaves_are_named():
  for nothing in (jnp.arange(3), None, "loss"):
    with pytest.raises(errors.UserError, match="gave no floating-point number"):
      optim.scale_invariance(lambda p, x=nothing: x, _tree("a"))
  with pytest.raises(TypeError, match="dtype="):
    optim.scale_dependent(_outputs, _tree("a"), dtype=jnp.int32)
  with pytest.raises(TypeError, match="'a/kernel' is int32"):
    optim.scale_invariance(
      jnp.sum, {"a": {"kernel": jnp.ones((2, 2), jnp.int32)}}
    )


def test_optimizers_that_keep_norms_say_what_they_ask_for():
  asking = {name for name in optim.names() if optim.premise(name)}
  assert asking == {"nap_adamw"}
  assert "norm before every nonlinearity" in str(optim.premise("nap_adamw"))
