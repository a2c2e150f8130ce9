"""What tiles are looked for: the passes of kernels, on named arguments."""

import functools
import importlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import kernels_pallas
from kernels_pallas import contract
from kernels_pallas.bench import passes
from kernels_pallas.tune.search import Make


class Subject(NamedTuple):
  """A kernel on one spec.

  Attributes:
    op: its name.
    impl: the candidate.
    spec: the name of the arguments.
    make: its passes.
  """

  op: str
  impl: str
  spec: str
  make: Make


def every(ops: Sequence[str], part: str) -> Iterator[Subject]:
  """Kernels on what they are measured on, if `part` is in its name."""
  for op in ops:
    for impl in passes.kernels(op):
      for spec in passes.specs(op):
        if part in spec.name:
          make = functools.partial(passes.of_op, op, spec, impl)
          yield Subject(op, impl, spec.name, make)


def tiny(ops: Sequence[str]) -> Iterator[Subject]:
  """Kernels interpreted, each on the first sample of its contract."""
  for op in ops:
    specs = importlib.import_module(f"{kernels_pallas.OPS[op]}.specs")
    seen = set()
    for case in contract.interpreted(op) if hasattr(specs, "CONTRACT") else ():
      if case.is_interpreted and case.name not in seen:
        seen.add(case.name)
        spec = case.sample.spec
        run = functools.partial(case.function, **spec.options)
        make = functools.partial(passes.of_function, run, spec)
        yield Subject(op, case.name, spec.name, make)
