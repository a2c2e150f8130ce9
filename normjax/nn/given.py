"""What a batch gives the norms of a model beside their inputs.

Some norms read more of an example than its activations: the task that it
belongs to, or its domain. A model hands on activations alone, whatever model it
is. Its caller says the rest here, by the name of the norm that reads it:

    with given.context({"adab2n": Tasks(of_example, current)}):
      logits = calling.call(model, inputs, train=True)

or, of a batch that says which domain each example is from, for all norms that
tell domains apart (the trait `num_domains`):

    with given.of_batch(batch):
      logits = calling.call(model, batch["inputs"], train=True)

`NormLayer` and `LinenNorm` read it where their own call has no context. It is
read while a function is traced, so that what is given may be an argument of
that function; a transformation sees it as any other value that the function
closes over.
"""

import contextlib
import contextvars
from collections.abc import Iterator, Mapping
from typing import Any

from normjax import norms

# The part of a batch, (b,) integers; and what norms of domains are given by.
DOMAIN = "domain"
_GIVEN: contextvars.ContextVar[Mapping[str, Any]] = contextvars.ContextVar(
  "given"
)


@contextlib.contextmanager
def context(by_norm: Mapping[str, Any]) -> Iterator[None]:
  """Gives norms their `context` while it is entered.

  Args:
    by_norm: the context of `Norm.apply`, by the norm's name in the table, or
      by `DOMAIN`; what an outer `context` gives other norms stays.
  """
  token = _GIVEN.set({**_GIVEN.get({}), **by_norm})
  try:
    yield
  finally:
    _GIVEN.reset(token)


def current() -> Mapping[str, Any]:
  """What is given here; what `context` takes.

  For what is compiled once and called in several contexts: an argument of it.
  """
  return dict(_GIVEN.get({}))


def of_batch(
  batch: Mapping[str, Any],
) -> contextlib.AbstractContextManager[None]:
  """Gives the domain of each example, where the batch says it."""
  return context({DOMAIN: batch[DOMAIN]} if DOMAIN in batch else {})


def to(norm: norms.Norm) -> Any:
  """What the norm is given here, by its name first; None for nothing."""
  said = _GIVEN.get({})
  shared = said.get(DOMAIN) if norm.traits.num_domains else None
  return said.get(norm.name, shared)


def of_name(name: str) -> Any:
  """What a norm of this name is given here; None for nothing."""
  return _GIVEN.get({}).get(name)
