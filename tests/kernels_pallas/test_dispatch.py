"""The first that can run, or the one asked, or every reason why not."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from kernels_pallas import dispatch
from kernels_pallas.rms_norm import rms_norm
from tests import products


def refuses(reason):
  return lambda target, shapes, dtypes: reason


def positive_rank(x):
  if not x.ndim:
    raise ValueError("needs an axis")


OP = dispatch.Op(
  "op",
  (
    dispatch.Candidate("never", lambda x: x, refuses("no such device")),
    dispatch.Candidate(
      "narrow",
      lambda x: x + 1,
      lambda target, shapes, dtypes: (
        None if shapes[0][-1] < 8 else f"{shapes[0][-1]} is too wide"
      ),
    ),
    dispatch.Candidate("plain", lambda x: x + 2),
  ),
  positive_rank,
)


def chosen(impl, width=4):
  return OP.choose(impl, jnp.ones((2, width))).name


def test_the_first_that_is_supported():
  assert chosen(None) == "narrow"
  assert chosen(None, width=9) == "plain"


def test_a_wish_is_obeyed_in_its_order():
  assert chosen("plain") == "plain"
  assert chosen(("never", "plain", "narrow")) == "plain"


def test_a_wish_fails_with_every_reason():
  with pytest.raises(dispatch.UnsupportedError) as error:
    chosen(("narrow", "never"), width=9)
  for part in ("op", "narrow: 9 is too wide", "never: no such device", "cpu"):
    assert part in str(error.value)


def test_an_unknown_name_lists_the_known():
  with pytest.raises(dispatch.UnsupportedError, match="never, narrow, plain"):
    chosen("cuda")


def test_tracers_decide_as_arrays_do():
  @jax.jit
  def run(x):
    return OP(x, impl=None)

  assert run(jnp.zeros((1, 4)))[0, 0] == 1
  assert run(jnp.zeros((1, 9)))[0, 0] == 2


def test_an_abstract_device_decides_the_platform():
  with products.compiled_for("tpu"):
    assert dispatch.target() == dispatch.Target("tpu", "TPU v6 lite", 1)


def test_the_program_decides_the_number_of_devices():
  """Where nothing says how many a program has, all that are here may be it."""
  seen = []

  def note(x):
    seen.append(dispatch.target(x).devices)
    return x

  mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
  first = jax.make_mesh(
    (1,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:1]
  )

  def on(mesh, spec):
    return jax.ShapeDtypeStruct(
      (8, 4), "float32", sharding=NamedSharding(mesh, spec)
    )

  split = P("data")
  jax.eval_shape(note, jnp.ones((8, 4)))
  jax.eval_shape(note, on(mesh, split))
  jax.eval_shape(note, on(first, split))
  jax.eval_shape(
    lambda x: note(jnp.tanh(x) @ jnp.ones((4, 4))), on(first, split)
  )
  jax.eval_shape(
    jax.shard_map(note, mesh=mesh, in_specs=split, out_specs=split),
    on(mesh, split),
  )
  with jax.set_mesh(first):
    jax.eval_shape(note, jnp.ones((8, 4)))
  assert seen == [8, 8, 1, 1, 1, 1]


def test_a_kernel_that_no_chip_has_proved_is_for_those_who_ask():
  op = dispatch.Op(
    "op",
    (
      dispatch.Candidate("kernel", lambda x: x, silicon=True),
      dispatch.Candidate("plain", lambda x: x + 1),
    ),
    positive_rank,
  )
  x = jnp.ones((2, 4))
  assert op.choose(None, x).name == "plain"
  assert op.choose("kernel", x).name == "kernel"
  assert op.choose(("kernel", "plain"), x).name == "kernel"


def test_the_check_comes_before_the_choice():
  with pytest.raises(ValueError, match="needs an axis"):
    OP(jnp.ones(()), impl="cuda")


def test_what_ran_is_recorded():
  with dispatch.recording() as chosen_names:
    OP(jnp.ones((1, 4)), impl=None)
    OP(jnp.ones((1, 9)), impl=None)
  assert chosen_names == {"op": ["narrow", "plain"]}


@pytest.mark.parametrize(
  ("impl", "error", "words"),
  [
    (5, TypeError, "needs an impl that is a name, several, or None; got 5"),
    ((), dispatch.UnsupportedError, "no implementation ''; known: mosaic_gpu"),
    # Also where the first one serves.
    (("xla", "xl"), dispatch.UnsupportedError, "no implementation 'xl'; known"),
  ],
)
def test_an_impl_that_names_nothing(impl, error, words):
  with pytest.raises(error, match=f"rms_norm.*{words}"):
    rms_norm(jnp.ones((2, 8)), impl=impl)


def test_what_is_no_array():
  with pytest.raises(TypeError, match="rms_norm needs x as an array; got .1"):
    rms_norm([1.0, 2.0])
  with pytest.raises(TypeError, match="needs scale as an array; got 2.0"):
    rms_norm(jnp.ones((2, 8)), 2.0)
