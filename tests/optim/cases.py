"""What the contract runs on: one case per optimizer.

A case stands next to its reference, in `CASES` of a file `references*.py`
here. An optimizer without a case is run with its defaults and a learning rate
of 0.01, and has no reference.
"""

import dataclasses
import functools
import importlib
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from normjax import optim

_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclasses.dataclass(frozen=True)
class Case:
  """An optimizer, with options, and what its tests must know of it.

  Attributes:
    name: in the table.
    reference: its float64 transcription (`references.py` says of what form).
    variants: options that the reference is compared at. The first are those
      of the contract.
    rounding: relative error of one step in float32, u = 2^-24 = 6e-8.
    convergence: options with which it settles within 0.03 of a parabola's
      minimum: a step of fixed size must be below that.
    fixed_bytes: of the contract's small tree, which no `mu_dtype` or
      `nu_dtype` narrows.
    keeps_whole: whether state of other shapes than the parameters' is whole
      on every device.
    like: an optimizer whose shared code this one is composed by, too: decay,
      rate, mask, routing, dtypes. Where only that is tested, it stands for
      this one in `make test`. None: the optimizer stands for itself.
    bad: option of its own to (value, error) that it refuses; options of
      several are in `contracts/optimizer_options.py`.
    silent: numbers without an effect on the small tree, and why.
  """

  name: str
  reference: Callable[..., Any] | None = None
  variants: tuple[Mapping[str, Any], ...] = (_NOTHING,)
  rounding: float = 0.0
  convergence: Mapping[str, Any] = _NOTHING
  fixed_bytes: int = 0
  keeps_whole: bool = False
  like: str | None = None
  bad: Mapping[str, tuple[tuple[Any, type[Exception]], ...]] = _NOTHING
  silent: Mapping[str, str] = _NOTHING

  def __str__(self) -> str:
    return "-".join([self.name, *(f"{k}={v}" for k, v in self.options.items())])

  @property
  def options(self) -> Mapping[str, Any]:
    """Those that the case is made with."""
    return self.variants[0]

  def at(self, options: Mapping[str, Any]) -> "Case":
    """The same optimizer with other options."""
    return dataclasses.replace(self, variants=(options,))

  def make(self, learning_rate: Any = 0.01, **options: Any) -> Any:
    """The transform; `options` override the case's."""
    options = {**self.options, **options}
    return optim.make(self.name, learning_rate=learning_rate, **options)

  @property
  def parameters(self) -> Mapping[str, inspect.Parameter]:
    """The factory's options."""
    return inspect.signature(optim.REGISTRY.get(self.name)).parameters

  def scalars(self) -> dict[str, float]:
    """The value of every option that is traced, learning rate apart."""
    defaults = {
      name: parameter.default for name, parameter in self.parameters.items()
    }
    values = {**defaults, **self.options}
    traced = optim.REGISTRY.traced(self.name, values)
    return {k: v for k, v in values.items() if k in traced}


@functools.cache
def described() -> Mapping[str, Case]:
  """The cases that stand next to a reference, by name."""
  found: dict[str, Case] = {}
  for path in sorted(Path(__file__).parent.glob("references*.py")):
    module = importlib.import_module(f"tests.optim.{path.stem}")
    for case in getattr(module, "CASES", ()):
      assert case.name not in found, f"two cases of {case.name}"
      found[case.name] = case
  return found


def case(name: str) -> Case:
  """The case of an optimizer of the table."""
  return described().get(name) or Case(name)


def all_cases() -> list[Case]:
  """Every variant of every optimizer of the table."""
  return [
    first.at(options) for first in first_cases() for options in first.variants
  ]


def first_cases() -> list[Case]:
  """Every optimizer of the table, its first variant."""
  return [case(name) for name in optim.names()]


def by_family() -> list[Any]:
  """`first_cases` to parametrize: those that are `like` another are slow.

  For what does not depend on the method's own arithmetic, but only on code
  that it shares. `make test` runs one of each, `make test-all` every name:

      @pytest.mark.parametrize("case", cases.by_family(), ids=str)
  """
  return [
    pytest.param(case, marks=pytest.mark.slow if case.like else ())
    for case in first_cases()
  ]
