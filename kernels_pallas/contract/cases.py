"""Implementations on samples, and what runs a kernel away from its device."""

import dataclasses
import functools
import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

from kernels_pallas import OPS, dispatch
from kernels_pallas.contract.declared import Contract
from kernels_pallas.contract.sample import Sample
from kernels_pallas.specs import ArgumentSpec


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
  """An op and its contract, which it must have."""
  package = OPS[name]
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
    for spec in (*contract.specs, *contract.more, *contract.largest)
    if candidate.silicon and reason(candidate, spec, here) is None
  ]


def reason(
  candidate: dispatch.Candidate,
  spec: ArgumentSpec,
  target: dispatch.Target | None = None,
) -> str | None:
  """Why a kernel refuses a sample; on the device that it is for, by default."""
  target = target or BACK_ENDS[candidate.name].target
  reasons = (
    candidate.supports(
      target, [s.shape for s in arrays], [s.dtype for s in arrays]
    )
    for arrays in chosen_by(spec)
  )
  return next((found for found in reasons if found is not None), None)


def chosen_by(spec: ArgumentSpec) -> list[list[Any]]:
  """The arrays that an op chooses by, for each leaf of its trees."""
  count = max((len(s) for s in spec.shapes if isinstance(s, tuple)), default=1)
  leaves = (
    [s[n] if isinstance(s, tuple) else s for s in spec.shapes]
    for n in range(count)
  )
  return [[s for s in leaf if s is not None] for leaf in leaves]


def _kernel(name: str, module: str, interpret: Any) -> Callable[..., Any]:
  imported = importlib.import_module(f"{OPS[name]}.{module}")
  return functools.partial(getattr(imported, name), interpret=interpret)


def strict(case: Case) -> Case:
  """A kernel's case where races are reported and fresh memory is NaN."""
  back_end = BACK_ENDS[case.name]
  function = _kernel(case.sample.op.name, back_end.module, back_end.strict())
  return dataclasses.replace(case, function=function)
