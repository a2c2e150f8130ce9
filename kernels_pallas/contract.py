"""What every implementation of an op must do.

On a CPU kernels are interpreted (`tests/kernels_pallas`), on a device they run
as they are (`python -m kernels_pallas.prove`). A check takes a `Case` and
raises AssertionError. The truth is the op's reference in float64, which the
op's own test compares with a transcription in NumPy.
"""

import dataclasses
import functools
import importlib
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from kernels_pallas import dispatch
from kernels_pallas.specs import ArgumentSpec

Arguments = tuple[Any, ...]
# Half of the distance from 1 to the next float32.
_UNIT = 2**-24
_MEMBERS = 2


class BackEnd(NamedTuple):
  """What runs a kernel where it does not belong.

  Attributes:
    module: of an op's package; its function of the op's name takes `interpret`
      beside the op's arguments.
    target: a device that it is for.
    interpreter: the value of `interpret`.
    strict: one that detects races, and starts memory as NaN.
  """

  module: str
  target: dispatch.Target
  interpreter: Callable[[], Any]
  strict: Callable[[], Any]


def _tpu_strict() -> Any:
  from jax.experimental.pallas import tpu as pltpu

  # With one core no race is ever found.
  return pltpu.InterpretParams(detect_races=True, num_cores_or_threads=2)


def _gpu_strict() -> Any:
  from jax.experimental.pallas import mosaic_gpu as plgpu

  return plgpu.InterpretGPUParams(detect_races=True)


BACK_ENDS = {
  "pallas_tpu": BackEnd(
    "tpu",
    dispatch.Target("tpu", "TPU v6 lite", 1),
    lambda: True,
    _tpu_strict,
  ),
  "mosaic_gpu": BackEnd(
    "gpu",
    dispatch.Target("gpu", "NVIDIA H200", 1),
    _gpu_strict,
    _gpu_strict,
  ),
}


def draw(spec: ArgumentSpec, seed: int) -> Arguments:
  """Rows of other magnitude each, vectors near 1; as `spec.shapes` asks."""
  rng = np.random.default_rng(seed)

  def one(shape: jax.ShapeDtypeStruct | None):
    if shape is None:
      return None
    if len(shape.shape) < 2:
      values = rng.normal(1, 0.3, size=shape.shape)
    else:
      values = rng.normal(size=shape.shape)
      values *= rng.uniform(0.1, 10, size=(*shape.shape[:-1], 1))
    return jnp.asarray(values, shape.dtype)

  return tuple(map(one, spec.shapes))


def row_bounds(spec: ArgumentSpec, shape: tuple[int, ...]) -> tuple[int, float]:
  """Of an op of rows: its terms and magnitude, see `Contract.bounds`.

  What has the shape of the rows sums over a row; a gradient of a vector sums
  over the rows, with terms near 1, what each of them has from its row.
  """
  rows = spec.shapes[0].shape
  width, count = rows[-1], math.prod(rows[:-1])
  return (width, 1) if shape == rows else (count + width, count)


@dataclasses.dataclass(frozen=True)
class Contract:
  """What an op is checked on; `specs.CONTRACT` of its package.

  Attributes:
    specs: small ones, of awkward shapes; the first is the plainest.
    more: larger ones, for who has the time.
    draw: (spec, seed) -> the arguments.
    bounds: (spec, shape of a result or gradient) -> how many terms its longest
      sum has, and their summed magnitude. A float32 may be off by
      (terms + 8) 2^-24 of that or of the largest value, if more.
    donated: positions of the arguments whose memory the results can take.
  """

  specs: tuple[ArgumentSpec, ...]
  more: tuple[ArgumentSpec, ...] = ()
  draw: Callable[[ArgumentSpec, int], Arguments] = draw
  bounds: Callable[[ArgumentSpec, tuple[int, ...]], tuple[int, float]] = (
    row_bounds
  )
  donated: tuple[int, ...] = (0,)


def row_contract(
  shapes: Callable[
    [tuple[int, ...], DTypeLike], Sequence[jax.ShapeDtypeStruct | None]
  ],
  differentiated: tuple[int, ...],
  **options: Any,
) -> Contract:
  """The contract of an op of rows: a row, odd rows, 8 to 8192 values.

  Args:
    shapes: (shape of the rows, their dtype) -> the arguments'.
    differentiated: see `ArgumentSpec`.
    **options: see `ArgumentSpec`.
  """

  def spec(shape, dtype):
    return ArgumentSpec(
      name=f"{'x'.join(map(str, shape))}_{jnp.dtype(dtype).name}",
      shapes=tuple(shapes(shape, dtype)),
      ideal_bytes=0,
      options=options,
      differentiated=differentiated,
    )

  single, half = jnp.float32, jnp.bfloat16
  few = [(3, 5, 128), (1, 256), (5, 200), (3, 8)]
  many = [(600, 128), (7, 1024), (40, 8192)]
  return Contract(
    specs=(*(spec(shape, single) for shape in few), spec((3, 5, 128), half)),
    more=(
      *(spec(shape, half) for shape in few[1:]),
      *(spec(shape, dtype) for shape in many for dtype in (single, half)),
    ),
  )


@dataclasses.dataclass(frozen=True)
class Sample:
  """Arguments of an op, and what it must make of them."""

  op: dispatch.Op
  contract: Contract
  spec: ArgumentSpec
  seed: int = 0

  @functools.cached_property
  def arguments(self) -> Arguments:
    """As the contract draws them."""
    return self.contract.draw(self.spec, self.seed)

  @functools.cached_property
  def results(self) -> Any:
    """The shapes and dtypes of what the op returns."""
    return jax.eval_shape(
      lambda arguments: _reference(self.op)(*arguments, **self.spec.options),
      self.arguments,
    )

  @functools.cached_property
  def cotangents(self) -> Any:
    """Of the results: normal."""
    rng = np.random.default_rng(self.seed + 1)
    return jax.tree.map(
      lambda s: jnp.asarray(rng.normal(size=s.shape), s.dtype), self.results
    )

  @functools.cached_property
  def truth(self) -> tuple[np.ndarray, ...]:
    """Results and gradients, in float64."""
    given = jax.device_get((self.arguments, self.cotangents))
    with jax.enable_x64(True):
      wide = jax.tree.map(_widened, given)
      run = jax.jit(values(_reference(self.op), self.spec))
      return jax.device_get(run(*wide))

  def check(self, actual: Sequence[Any]) -> None:
    """Compares results, and gradients if given, with the truth."""
    kinds = jax.tree.leaves(self.results) + [
      self.arguments[n] for n in self.spec.differentiated
    ]
    for value, expected, kind in zip(actual, self.truth, kinds, strict=False):
      assert (value.shape, value.dtype) == (kind.shape, kind.dtype)
      value = np.asarray(value)
      if not jnp.issubdtype(value.dtype, jnp.floating):
        np.testing.assert_array_equal(value, expected)
        continue
      is_wide = value.dtype.itemsize >= 4
      terms, magnitude = self.contract.bounds(self.spec, value.shape)
      largest = np.abs(expected).max(initial=magnitude)
      np.testing.assert_allclose(
        np.float64(value),
        expected,
        rtol=0 if is_wide else float(jnp.finfo(value.dtype).eps) / 2,
        atol=(terms + 8) * _UNIT * largest,
      )


def _widened(x: np.ndarray) -> np.ndarray:
  return np.float64(x) if jnp.issubdtype(x.dtype, jnp.floating) else x


def _reference(op: dispatch.Op) -> Callable[..., Any]:
  (found,) = (c.function for c in op.candidates if c.name == "reference")
  return found


def values(function: Callable[..., Any], spec: ArgumentSpec):
  """(arguments, cotangents) -> the leaves of the results, and gradients."""

  def run(arguments, cotangents):
    def forward(*differentiated):
      given = list(arguments)
      for n, x in zip(spec.differentiated, differentiated, strict=True):
        given[n] = x
      return function(*given, **spec.options)

    results, vjp = jax.vjp(
      forward, *(arguments[n] for n in spec.differentiated)
    )
    return *jax.tree.leaves(results), *vjp(cotangents)

  return run


@dataclasses.dataclass(frozen=True)
class Case:
  """One implementation on one sample.

  Attributes:
    candidate: of the op.
    function: the candidate's, interpreted where it must be.
    sample: shared by the implementations.
  """

  candidate: dispatch.Candidate
  function: Callable[..., Any]
  sample: Sample

  def __str__(self) -> str:
    return f"{self.candidate.name}-{self.sample.spec.name}"

  @property
  def name(self) -> str:
    """Of the implementation."""
    return self.candidate.name

  @property
  def is_interpreted(self) -> bool:
    """Whether it is a kernel away from its device."""
    return self.function is not self.candidate.function


def of(name: str) -> tuple[dispatch.Op, Contract]:
  """An op and its contract."""
  package = f"{__package__}.{name}"
  return (
    importlib.import_module(f"{package}.api").OP,
    importlib.import_module(f"{package}.specs").CONTRACT,
  )


def interpreted(name: str, *, more: bool = False) -> list[Case]:
  """Cases for any machine, of an op's name.

  Args:
    name: of the op.
    more: those of `Contract.more` instead.

  Returns:
    What is plain operations on all samples; of the kernels those that the
    kernel supports.
  """
  op, contract = of(name)
  found = []
  for spec in contract.more if more else contract.specs:
    sample = Sample(op, contract, spec)
    for candidate in op.candidates:
      function = candidate.function
      if candidate.silicon:
        if candidate.name not in BACK_ENDS or reason(candidate, spec):
          continue
        back_end = BACK_ENDS[candidate.name]
        function = _kernel(name, back_end.module, back_end.interpreter())
      found.append(Case(candidate, function, sample))
  return found


def on_device(name: str) -> list[Case]:
  """Cases of an op's kernels for the device that is here."""
  op, contract = of(name)
  here = dataclasses.replace(dispatch.target(), devices=1)
  return [
    Case(candidate, candidate.function, Sample(op, contract, spec))
    for candidate in op.candidates
    for spec in (*contract.specs, *contract.more)
    if candidate.silicon and reason(candidate, spec, here) is None
  ]


def reason(
  candidate: dispatch.Candidate,
  spec: ArgumentSpec,
  target: dispatch.Target | None = None,
) -> str | None:
  """Why a kernel refuses a sample; on the device that it is for, by default."""
  arrays = [s for s in spec.shapes if s is not None]
  return candidate.supports(
    target or BACK_ENDS[candidate.name].target,
    [s.shape for s in arrays],
    [s.dtype for s in arrays],
  )


def _kernel(name: str, module: str, interpret: Any) -> Callable[..., Any]:
  imported = importlib.import_module(f"{__package__}.{name}.{module}")
  return functools.partial(getattr(imported, name), interpret=interpret)


def strict(case: Case) -> Case:
  """A kernel's case where races are reported and fresh memory is NaN."""
  back_end = BACK_ENDS[case.name]
  function = _kernel(case.sample.op.name, back_end.module, back_end.strict())
  return dataclasses.replace(case, function=function)


def check_values(case: Case) -> None:
  """Results and gradients are the truth's, and the same each time."""
  sample = case.sample
  run = jax.jit(values(case.function, sample.spec))
  first = run(sample.arguments, sample.cotangents)
  sample.check(first)
  again = run(sample.arguments, sample.cotangents)
  jax.tree.map(np.testing.assert_array_equal, first, again)


def check_members(case: Case) -> None:
  """Under `vmap` each member of a population has results of its own."""
  members = [
    dataclasses.replace(case.sample, seed=seed) for seed in range(_MEMBERS)
  ]
  arguments, cotangents = jax.tree.map(
    lambda *each: jnp.stack(each),
    *((member.arguments, member.cotangents) for member in members),
  )
  run = jax.jit(jax.vmap(values(case.function, case.sample.spec)))
  together = run(arguments, cotangents)
  for n, member in enumerate(members):
    member.check([value[n] for value in together])


def check_shared(case: Case) -> None:
  """Under `vmap` over the rows alone the other arguments are shared."""
  sample = case.sample
  rows = sample.op.rows
  twice = [
    jnp.stack([x, x]) if n in rows else x
    for n, x in enumerate(sample.arguments)
  ]
  axes = [0 if n in rows else None for n in range(len(twice))]
  function = functools.partial(case.function, **sample.spec.options)
  together = jax.tree.leaves(jax.jit(jax.vmap(function, axes))(*twice))
  for n in range(2):
    sample.check([value[n] for value in together])


def check_donation(case: Case) -> None:
  """The results may take the arguments' memory."""
  sample = case.sample
  donated = sample.contract.donated
  run = jax.jit(
    lambda *arguments: case.function(*arguments, **sample.spec.options),
    donate_argnums=donated,
  )
  given = [None if x is None else jnp.copy(x) for x in sample.arguments]
  sample.check(jax.tree.leaves(run(*given)))
  assert all(given[n].is_deleted() for n in donated)


CHECKS = {
  "values": check_values,
  "members": check_members,
  "shared": check_shared,
  "donation": check_donation,
}
