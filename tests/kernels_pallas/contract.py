"""What every op must do; an op's test subclasses `Contract` and names it.

The checks are those of `kernels_pallas.contract`, which also runs on devices.
"""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from kernels_pallas import contract, dispatch
from kernels_pallas.specs import ArgumentSpec

COLLECTIVE = re.compile(
  r"= (.*?) (all-gather|all-reduce|reduce-scatter|all-to-all"
  r"|collective-permute)(?:-start)?\("
)


class Contract:
  """Of the op `name`; a subclass has that, and `transcription`.

  Attributes:
    name: of the op, which has a package of this name.
  """

  name: str

  @staticmethod
  def transcription(*arguments, **options):
    """Results and gradients in float64, from NumPy.

    Args:
      *arguments: of the op, then the cotangents of its results.
      **options: its keyword arguments.
    """
    raise NotImplementedError

  def pytest_generate_tests(self, metafunc):
    """Parametrizes by what a test asks for."""
    cases = contract.interpreted(self.name)
    _, its = contract.of(self.name)
    plain = [c for c in cases if c.sample.spec is its.specs[0]]
    parameters = {
      "case": [
        *cases,
        *(
          pytest.param(case, marks=pytest.mark.slow)
          for case in contract.interpreted(self.name, more=True)
        ),
      ],
      "plain": plain,
      "kernel": [case for case in plain if case.is_interpreted],
      "lenient": [
        case
        for case in plain
        if case.is_interpreted and not _is_strict(case.name)
      ],
      "rows_over": _rows_over(plain),
      "members_over": _rows_over([c for c in plain if c.is_interpreted]),
      "spec": its.specs,
      "refused": _refused(self.name),
    }
    for name in set(parameters) & set(metafunc.fixturenames):
      ids = (lambda spec: spec.name) if name == "spec" else str
      if name.endswith("_over"):
        ids = None  # They have their own.
      metafunc.parametrize(name, parameters[name], ids=ids)

  def test_the_reference_is_the_transcription(self, spec):
    op, its = contract.of(self.name)
    sample = contract.Sample(op, its, spec)
    given = (*sample.arguments, *jax.tree.leaves(sample.cotangents))
    wide = [x if x is None else np.float64(x) for x in given]
    expected = self.transcription(*wide, **spec.options)
    for actual, value in zip(sample.truth, expected, strict=True):
      # Scales are stored in float32, codes are whole.
      assert actual.dtype == np.float64 or not sample.spec.differentiated
      np.testing.assert_allclose(
        actual, value, rtol=0, atol=1e-12 * max(1, np.abs(value).max())
      )

  def test_values_and_gradients(self, case, capfd):
    contract.check_values(case)
    if case.is_interpreted and _is_strict(case.name):
      assert "RACE DETECTED" not in "".join(capfd.readouterr())

  def test_members_of_a_population(self, plain):
    contract.check_members(plain)

  def test_shared_arguments(self, plain):
    contract.check_shared(plain)

  def test_donation(self, plain):
    contract.check_donation(plain)

  def test_no_race_and_no_fresh_memory(self, lenient, capfd):
    contract.check_values(contract.strict(lenient))
    assert "RACE DETECTED" not in "".join(capfd.readouterr())

  def test_each_device_takes_its_rows(self, rows_over):
    """The gradients of what is shared are summed over devices, no more."""
    plain, kind = rows_over
    sample, run = _of_eight_rows(plain)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(kind,))
    given = _placed(sample, (sample.arguments, sample.cotangents), mesh)
    with dispatch.rows_over(mesh, "data"):
      compiled = jax.jit(run).lower(*given).compile()
    actual = compiled(*given)
    sample.check(actual)
    assert actual[0].sharding.spec[0] == "data"
    _check_collectives(compiled, sample)

  def test_each_device_takes_its_rows_of_members(self, members_over):
    """So under the `vmap` of a population."""
    kernel, kind = members_over
    sample, run = _of_eight_rows(kernel)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(kind,))
    members = jax.tree.map(
      lambda x: jnp.stack([x] * 3), (sample.arguments, sample.cotangents)
    )
    given = _placed(sample, members, mesh, lanes=[None])
    with dispatch.rows_over(mesh, "data"):
      compiled = jax.jit(jax.vmap(run)).lower(*given).compile()
    _check_collectives(compiled, sample, members=3)

  def test_refusals_have_reasons(self, refused):
    """Without being asked for, another implementation runs."""
    op, _ = contract.of(self.name)
    (arrays,) = contract.chosen_by(refused.spec)
    with jax.sharding.use_abstract_mesh(_abstract(refused.name)):
      with pytest.raises(dispatch.UnsupportedError) as error:
        op.choose(refused.name, *arrays)
      assert op.choose(None, *arrays).name != refused.name
    assert f"{refused.name}: {refused.reason}" in str(error.value)

  def test_an_unknown_implementation(self):
    op, its = contract.of(self.name)
    known = ", ".join(op.implementations)
    with pytest.raises(dispatch.UnsupportedError, match=f"known: {known}"):
      op.choose("cuda", *(s for s in its.specs[0].shapes if s is not None))


def _is_strict(name):
  """Whether what interprets a back end always looks for races."""
  back_end = contract.BACK_ENDS[name]
  return back_end.interpreter is back_end.strict


def _rows_over(cases):
  """Cases, each with a kind of axes; both for the last.

  The kind decides how an op finds the cut, which is the same for all of its
  implementations; with the others it is slow.
  """
  return [
    pytest.param(
      (case, kind),
      id=f"{case}-{kind}",
      marks=[pytest.mark.slow]
      if number < len(cases) - 1 and kind is AxisType.Auto
      else [],
    )
    for number, case in enumerate(cases)
    for kind in (AxisType.Explicit, AxisType.Auto)
  ]


@dataclasses.dataclass(frozen=True)
class _Refused:
  name: str
  spec: ArgumentSpec
  reason: str

  def __str__(self):
    return f"{self.name}-{self.spec.name}"


def _refused(name):
  op, its = contract.of(name)
  return [
    _Refused(candidate.name, spec, reason)
    for candidate in op.candidates
    for spec in its.specs
    if candidate.name in contract.BACK_ENDS
    and (reason := contract.reason(candidate, spec)) is not None
  ]


def _abstract(name):
  target = contract.BACK_ENDS[name].target
  device = jax.sharding.AbstractDevice(
    device_kind=target.device_kind, num_cores=1, platform=target.platform
  )
  return jax.sharding.AbstractMesh((), (), abstract_device=device)


def _on_one_device(candidate, function):
  return dispatch.Candidate(
    candidate.name,
    function,
    lambda target, shapes, dtypes: dispatch.one_device(target),
  )


def _of_eight_rows(case):
  """A sample, and values and gradients by the op under the case's name."""
  op, its = contract.of(case.sample.op.name)
  if not op.rows:
    pytest.skip("it is no op of rows; it is called inside jax.shard_map")
  sample = contract.Sample(op, its, _eight_rows(case.sample.spec, op.rows))
  alone = dataclasses.replace(
    op, candidates=(_on_one_device(case.candidate, case.function),)
  )

  def run(*arguments, **options):
    return alone(*arguments, *options.values(), impl=case.name)

  return sample, contract.values(run, sample.spec)


def _eight_rows(spec, rows):
  """The same with 8 as the first axis of what is cut."""
  shapes = list(spec.shapes)
  for n in rows:
    if n < len(shapes) and shapes[n] is not None:
      shape = (8, *shapes[n].shape[1:])
      shapes[n] = jax.ShapeDtypeStruct(shape, shapes[n].dtype)
  return dataclasses.replace(spec, shapes=tuple(shapes))


def _placed(sample, given, mesh, lanes=()):
  """Arguments and cotangents, rows and results cut over the mesh."""
  arguments, cotangents = given
  split, whole = (NamedSharding(mesh, P(*lanes, *a)) for a in (["data"], []))
  rows = sample.op.rows
  return [
    x if x is None else jax.device_put(x, split if n in rows else whole)
    for n, x in enumerate(arguments)
  ], jax.device_put(cotangents, split)


def _check_collectives(compiled, sample, members=1):
  shared = [
    members * np.prod(sample.arguments[n].shape)
    for n in sample.spec.differentiated
    if n not in sample.op.rows
  ]
  moved = COLLECTIVE.findall(compiled.as_text())
  assert {kind for _, kind in moved} <= {"all-reduce"}
  assert values_moved(moved) == sum(shared)


def values_moved(moved):
  """How many values the collectives of a compiled program take."""
  shapes = re.findall(r"\[([\d,]*)\]", " ".join(shape for shape, _ in moved))
  return sum(
    int(np.prod([int(n) for n in shape.split(",") if n])) for shape in shapes
  )
