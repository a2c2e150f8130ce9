"""Every optimizer of the table keeps the contract and equals its reference."""

import doctest
import importlib
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from normjax import optim
from tests.contracts import (
  optimizer_composition,
  optimizer_contract,
  optimizer_execution,
  optimizer_options,
)
from tests.optim import cases
from tests.optim.references import LAYOUTS

NUM_STEPS = 12
LEARNING_RATE = 0.01


@pytest.mark.parametrize("case", cases.first_cases(), ids=str)
class TestOptimizer(optimizer_contract.OptimizerContract):
  """The shared contract, on every optimizer."""


@pytest.mark.parametrize("case", cases.by_family(), ids=str)
class TestExecution(optimizer_execution.ExecutionContract):
  """Numbers of spread and extreme trees; on every optimizer in `test-all`."""


@pytest.mark.parametrize("case", cases.by_family(), ids=str)
class TestComposition(optimizer_composition.CompositionContract):
  """What a family shares, on one of each; on every optimizer in `test-all`."""


def test_cases_are_of_the_table():
  """Also, who stands for another is run itself."""
  assert set(cases.described()) <= set(optim.names())
  for case in cases.first_cases():
    assert case.like is None or cases.case(case.like).like is None


def nested(flat):
  """{"a/b": x} to {"a": {"b": x}}."""
  tree = {}
  for path, leaf in flat.items():
    *parents, last = path.split("/")
    node = tree
    for parent in parents:
      node = node.setdefault(parent, {})
    node[last] = leaf
  return tree


def flattened(tree, prefix=""):
  """The inverse of `nested`."""
  flat = {}
  for key, value in tree.items():
    if isinstance(value, dict):
      flat |= flattened(value, f"{prefix}{key}/")
    else:
      flat[prefix + key] = value
  return flat


# A leaf of each kind, and one whose shape two have; where options vary, a
# matrix, a vector and a convolution.
SOME = ("up/kernel", "up/bias", "conv/kernel", "embedding", "down/kernel")
FEW = SOME[:-2]


def follow(case, paths):
  """The reference's gradients at every step, and its final weights."""
  history = [{} for _ in range(NUM_STEPS)]
  start, end = {}, {}
  for seed, (path, layout) in enumerate(LAYOUTS.items()):
    if path not in paths:
      continue
    shape, kind, to_torch, back = layout
    rng = np.random.default_rng(seed)
    start[path] = rng.normal(size=shape)
    draws = rng.normal(size=(NUM_STEPS, *to_torch(start[path]).shape))

    def gradient(t, w, path=path, kind=kind, back=back, draws=draws):
      g = draws[t - 1]
      # Tangent to every channel, to the layer, or neither: AdamP's branches.
      rows = (len(w), 1, None)[t % 3]
      if rows and kind != "vector":
        w_view, g_view = w.reshape(rows, -1), g.reshape(rows, -1)
        along = (w_view * g_view).sum(axis=1, keepdims=True)
        along = along / (w_view**2).sum(axis=1, keepdims=True)
        g = (g_view - along * w_view).reshape(g.shape)
      history[t - 1][path] = back(g)
      return g

    # What draws random matrices draws them for the leaf.
    takes_path = "path" in inspect.signature(case.reference).parameters
    final = case.reference(
      kind,
      to_torch(start[path]),
      gradient,
      NUM_STEPS,
      learning_rate=LEARNING_RATE,
      **({"path": path} if takes_path else {}),
      **case.options,
    )
    end[path] = back(final)
  return start, history, end


def with_reference():
  """In float64 each variant; in float32 one of each family, slowly all.

  The variants differ in formula, which float64 shows best. soap's reference is
  in `test_soap`.
  """
  firsts = {str(case) for case in cases.first_cases() if not case.like}
  for case in cases.all_cases():
    if case.reference is not None:
      yield pytest.param(case, "float64")
      marks = () if str(case) in firsts else pytest.mark.slow
      yield pytest.param(case, "float32", marks=marks)


@pytest.mark.parametrize(("case", "dtype"), list(with_reference()), ids=str)
def test_equals_reference(case, dtype):
  """The first variant with plain numbers, the others with arrays.

  So both ways to give numbers are compared with what they mean. All layouts
  are of one optimizer per family: how they are read is shared.
  """
  first = str(case) in map(str, cases.first_cases())
  names = SOME if first else FEW
  if first and not case.like:
    names = tuple(LAYOUTS)
  paths = [path for path in LAYOUTS if path.endswith(names)]
  start, history, end = follow(case, paths)
  numbers = {} if first else optimizer_options.scalars(case)
  with jax.enable_x64(dtype == "float64"):

    @jax.jit
    def run(params, history, numbers):
      tx = case.make(**{"learning_rate": LEARNING_RATE, **numbers})

      def step(carry, gradients):
        params, state = carry
        updates, state = tx.update(gradients, state, params)
        return (optax.apply_updates(params, updates), state), None

      return jax.lax.scan(step, (params, tx.init(params)), history)[0][0]

    params = jax.tree.map(lambda w: jnp.asarray(w, dtype), nested(start))
    stacked = jax.tree.map(
      lambda *g: jnp.asarray(np.stack(g), dtype), *map(nested, history)
    )
    numbers = {key: jnp.asarray(x, dtype) for key, x in numbers.items()}
    params = run(params, stacked, numbers)
    actual = flattened(jax.device_get(params))
  # Steps of about the learning rate, and for float32 the rounding of w.
  u = np.finfo(dtype).eps / 2
  step_error = 1e-10 if dtype == "float64" else case.rounding
  for path, expected in end.items():
    size = np.abs(expected - start[path]).max() / NUM_STEPS
    bound = NUM_STEPS * (step_error * size + 4 * u * np.abs(expected).max())
    np.testing.assert_allclose(
      actual[path], expected, rtol=0, atol=bound, err_msg=path
    )
    assert size > 0.1 * LEARNING_RATE * 0.05, "the test moved nothing"


@pytest.mark.parametrize("case", cases.by_family(), ids=str)
def test_docstring_example(case):
  factory = optim.REGISTRY.get(case.name)
  finder = doctest.DocTestFinder(recurse=False)
  module = importlib.import_module(factory.__module__)
  (example,) = finder.find(factory, case.name, module=module, globs={})
  assert len(example.examples) > 3
  assert doctest.DocTestRunner().run(example).failed == 0


def filled_states():
  """A state of every optimizer, with other numbers than the zeros of `init`."""
  params = optimizer_contract.small_tree()
  shapes = {
    name: jax.eval_shape(optim.make(name, learning_rate=0.01).init, params)
    for name in optim.names()
  }
  return jax.tree.map(
    lambda x: jnp.asarray(np.arange(x.size).reshape(x.shape), x.dtype), shapes
  )


def test_states_survive_a_checkpoint(tmp_path):
  states = filled_states()
  with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(tmp_path / "states", states)
    checkpointer.wait_until_finished()
    restored = checkpointer.restore(
      tmp_path / "states", jax.eval_shape(lambda: states)
    )
  assert jax.tree.structure(restored) == jax.tree.structure(states)
  jax.tree.map(np.testing.assert_array_equal, restored, states)


def test_states_move_from_eight_devices_to_two(tmp_path):
  """A checkpoint of a sharded state is restored onto another mesh."""

  def shard(num_devices):
    mesh = jax.make_mesh(
      (num_devices,),
      ("d",),
      axis_types=(AxisType.Auto,),
      devices=jax.devices()[:num_devices],
    )

    def sharding(leaf):
      last = "d" if leaf.ndim and leaf.shape[-1] % 8 == 0 else None
      axes = [None] * (leaf.ndim - 1) + [last] if leaf.ndim else []
      return NamedSharding(mesh, PartitionSpec(*axes))

    return sharding

  states = filled_states()
  states = jax.device_put(states, jax.tree.map(shard(8), states))
  wanted = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=shard(2)(x)),
    states,
  )
  with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(tmp_path / "states", states)
    checkpointer.wait_until_finished()
    restored = checkpointer.restore(tmp_path / "states", wanted)
  for before, after, want in zip(
    *map(jax.tree.leaves, (states, restored, wanted)), strict=True
  ):
    np.testing.assert_array_equal(before, after)
    assert after.sharding.is_equivalent_to(want.sharding, after.ndim)
  assert any(
    not leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(restored)
  )
