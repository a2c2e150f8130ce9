"""What an op knows of a mesh, and what kernels make of one."""

import contextlib
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from kernels_pallas import OPS, aot, contract, dispatch, programs
from tests.kernels_pallas.contract import COLLECTIVE

EIGHT = AbstractMesh((8,), ("data",), axis_types=(AxisType.Auto,))
EXPLICIT = AbstractMesh((8,), ("data",), axis_types=(AxisType.Explicit,))
SPLIT = AbstractMesh((4, 2), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2)
TWO_AXES = AbstractMesh((4, 2), ("data", "model"), (AxisType.Explicit,) * 2)


def seen(note, shape, mesh, spec, told):
  """What `note` says of an array of this shape, while it is traced."""
  said = []
  sharding = mesh and NamedSharding(mesh, spec)
  x = jax.ShapeDtypeStruct(shape, jnp.float32, sharding=sharding)

  def traced(x):
    said.append(note(x))
    return x

  with dispatch.rows_over(*(told or (EIGHT, "no such axis"))):
    jax.eval_shape(traced, x)
  return said[0]


@pytest.mark.parametrize(
  ("mesh", "spec", "told", "expected"),
  [
    (EXPLICIT, P("data"), None, P("data", None)),
    (EXPLICIT, P(None, "data"), None, P(None, "data")),
    (TWO_AXES, P(("data", "model")), None, P(("data", "model"), None)),
    (EIGHT, P("data"), (EIGHT, "data"), P("data")),
    (None, P(), (EIGHT, "data"), P("data")),
    (None, P(), (SPLIT, "data", "fsdp"), P(("data", "fsdp"))),
  ],
)
def test_how_rows_are_cut(mesh, spec, told, expected):
  shape = (16, 8, 128)
  cut = seen(lambda x: programs.cut(x, 2), shape, mesh, spec, told)
  assert cut.spec == expected
  assert np.prod(cut.local(shape)) == np.prod(shape) // 8


@pytest.mark.parametrize(
  ("shape", "mesh", "spec", "told", "reason"),
  [
    ((16, 128), EIGHT, P("data"), None, "does not say how x is cut"),
    ((16, 128), EIGHT, P("data"), (EIGHT, "batch"), "does not say how"),
    ((16, 128), EXPLICIT, P(), None, "x is not cut by data"),
    ((16, 128), TWO_AXES, P("data"), None, "x is not cut by model"),
    ((16, 128), EXPLICIT, P(None, "data"), None, "what the op reads together"),
    (
      (12, 128),
      None,
      P(),
      (EIGHT, "data"),
      "does not cut x of shape",
    ),
    ((), None, P(), (EIGHT, "data"), "does not say how x is cut"),
    ((16, 128), None, P(), (SPLIT, "data"), "x is not cut by fsdp"),
    ((4, 128), None, P(), (SPLIT, "data", "fsdp"), "does not cut x of shape"),
  ],
)
def test_why_rows_cannot_be_followed(shape, mesh, spec, told, reason):
  cut = seen(lambda x: programs.cut(x, len(shape) - 1), shape, mesh, spec, told)
  assert reason in cut


def test_a_program_of_which_nothing_is_known():
  """A plain `jax.jit` on a host of eight: what the compiler can split."""
  said = []

  @jax.jit
  def run(x):
    said.append((dispatch.target(x).devices, programs.cut(x, 1)))
    return x

  run(jnp.ones((16, 128)))
  ((devices, reason),) = said
  assert devices == 8
  assert "nothing says how many devices this program has" in reason


def test_a_shard_map_that_leaves_axes_to_the_compiler():
  mesh = jax.make_mesh((4, 2), ("data", "model"), (AxisType.Auto,) * 2)
  said = []

  def note(x):
    said.append((dispatch.target(x).devices, programs.cut(x, 1)))
    return x

  split = P("data")
  jax.eval_shape(
    jax.shard_map(
      note, mesh=mesh, in_specs=split, out_specs=split, axis_names={"data"}
    ),
    jax.ShapeDtypeStruct((16, 128), jnp.float32),
  )
  ((devices, reason),) = said
  assert devices > 1
  assert reason == "this jax.shard_map leaves model to the compiler"


@pytest.mark.parametrize("is_told", [True, False])
def test_parameters_that_every_device_has(is_told):
  """The gradients are summed over the devices, and nothing else moves."""
  mesh = jax.make_mesh((8,), ("data",), (AxisType.Auto,))
  devices = []

  def update(w, gradient):
    devices.append(dispatch.target(w).devices)
    return w - gradient

  def step(w, x):
    gradient = jax.grad(lambda w: jnp.sum(jnp.tanh(x @ w)))(w)
    return dispatch.on_each_device(update, w, gradient)

  told = dispatch.whole_on(mesh) if is_told else contextlib.nullcontext()
  w, x = jnp.ones((4, 2)), jnp.arange(64.0).reshape(16, 4) / 64
  placed = (
    jax.device_put(value, NamedSharding(mesh, spec))
    for value, spec in ((w, P()), (x, P("data")))
  )
  with told:
    run = jax.jit(step).lower(*placed).compile()
  assert devices == [1 if is_told else 8]
  moved = COLLECTIVE.findall(run.as_text())
  assert [kind for _, kind in moved] == ["all-reduce"]


_SAMPLE = "600x128_bfloat16"  # Of the ops on rows and vectors.


def kernels():
  """Those of ops of rows that compile for a chip that need not be here."""
  for name in OPS:
    op, its = contract.of(name)
    for candidate in op.candidates:
      of_rows = op.rows and any(s.name == _SAMPLE for s in its.more)
      if of_rows and candidate.name in contract.BACK_ENDS:
        yield pytest.param(op, its, candidate, id=f"{name}-{candidate.name}")


@pytest.mark.slow
@pytest.mark.parametrize(("op", "its", "candidate"), [*kernels()])
def test_compiled_for_four_chips(op, its, candidate):
  """Nothing is gathered; the gradients of vectors are summed once."""
  target = {"tpu": "v6e", "gpu": "h200"}[
    contract.BACK_ENDS[candidate.name].target.platform
  ]
  if (reason := aot.missing(target)) is not None:
    pytest.skip(reason)
  mesh = Mesh(np.array(aot.described(target, 4)), ("data",))
  (spec,) = (s for s in its.more if s.name == _SAMPLE)

  def on_mesh(x, is_cut):
    sharding = NamedSharding(mesh, P("data") if is_cut else P())
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)

  arguments = [
    x if x is None else on_mesh(x, n in op.rows)
    for n, x in enumerate(spec.shapes)
  ]

  def run(*arguments, impl, **options):
    return op(*arguments, *options.values(), impl=impl)

  def compiled(impl):
    function = contract.values(functools.partial(run, impl=impl), spec)
    with dispatch.rows_over(mesh, "data"):
      return aot.compile(
        function, arguments, arguments[0], target=target, devices=4
      )

  found = compiled(candidate.name)
  moved = COLLECTIVE.findall(found.text)
  assert {kind for _, kind in moved} == {"all-reduce"}
  assert f"{600 // 4},128" in found.text
  assert re.search("tpu_custom_call|mosaic_gpu", found.text)
  # Not asked for, it waits for a proof; the compiler splits the other.
  compiled(None)
