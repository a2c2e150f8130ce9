"""What a batch gives the norms of a model beside their inputs.

Some norms read more of an example than its activations: the task that it
belongs to, or its domain. A model hands on activations alone, whatever model it
is. Its caller says the rest here, by the name of the norm that reads it:

    with given.context({"adab2n": Tasks(of_example, current)}):
      logits = calling.call(model, inputs, train=True)

`NormLayer` reads it where its own call has no context. It is read while a
function is traced, so that what is given may be an argument of that function;
a transformation sees it as any other value that the function closes over.
"""

import contextlib
import contextvars
from collections.abc import Iterator, Mapping
from typing import Any

_GIVEN: contextvars.ContextVar[Mapping[str, Any]] = contextvars.ContextVar(
  "given"
)


@contextlib.contextmanager
def context(by_norm: Mapping[str, Any]) -> Iterator[None]:
  """Gives norms their `context` while it is entered.

  Args:
    by_norm: the context of `Norm.apply`, by the norm's name in the table; what
      an outer `context` gives other norms stays.
  """
  token = _GIVEN.set({**_GIVEN.get({}), **by_norm})
  try:
    yield
  finally:
    _GIVEN.reset(token)


def to(norm: str) -> Any:
  """What the norm of that name is given here; None for nothing."""
  return _GIVEN.get({}).get(norm)
