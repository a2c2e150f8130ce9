"""A trace of some steps, as `jax.profiler` writes it: `--profile=10:15`."""

import contextlib
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax

from normjax import errors, faults

_LOG = logging.getLogger(__name__)
# In a run's directory.
FOLDER = "profile"
_FORM = re.compile(r"(\d+):(\d+)", re.ASCII)


class Window(NamedTuple):
  """The steps to trace: `first`, up to and without `stop`."""

  first: int
  stop: int

  @property
  def told(self) -> str:
    """As messages name it."""
    return f"--profile={self.first}:{self.stop}"


def parse(text: str, num_steps: int) -> Window:
  """The window that "first:stop" names.

  Args:
    text: of the command line.
    num_steps: of the run.

  Raises:
    UserError: another form, no step, or one that the run does not take.
  """
  found = _FORM.fullmatch(text.strip())
  window = Window(*map(int, found.groups())) if found else Window(0, 0)
  if not window.first < window.stop <= num_steps:
    raise errors.UserError(
      f"--profile={text}; allowed: FIRST:STOP with FIRST < STOP, both from 0 to"
      f" train.num_steps={num_steps}, as in --profile=10:15 for steps 10 to 14."
    )
  return window


class Profile:
  """Traces the steps of a window that are taken here."""

  def __init__(self, window: Window | None, directory: Path):
    """Traces nothing yet.

    Args:
      window: the steps; None: none.
      directory: of the run; the trace is in its folder `profile`.
    """
    self._window, self._folder = window, directory / FOLDER
    self._is_tracing = False

  def note(self, step: int) -> list[str]:
    """What a run notes of it: one sentence, or none.

    Args:
      step: that the run begins with here.
    """
    window = self._window
    if window is None:
      return []
    if step >= window.stop:
      said = f"{window.told}: nothing is traced, the run goes on at step {step}"
      _LOG.warning("%s", said)
      return [said]
    first = max(step, window.first)
    return [
      f"{window.told}: steps {first} to {window.stop - 1} were traced, which"
      " slows them"
    ]

  @contextlib.contextmanager
  def step(self, step: int, wait: Callable[[], Any]) -> Iterator[None]:
    """Traces what is done in the block, if the step is of the window.

    Args:
      step: that is taken in the block.
      wait: for the devices to be done with what they were given.
    """
    window = self._window
    if window is None or not window.first <= step < window.stop:
      yield
      return
    if not self._is_tracing:
      wait()
      faults.make_folder(self._folder)
      jax.profiler.start_trace(str(self._folder))
      self._is_tracing = True
    with jax.profiler.StepTraceAnnotation("train", step_num=step):
      yield
    if step + 1 == window.stop:
      wait()
      self.close()

  def close(self) -> None:
    """Writes the trace of a run that ends within its window."""
    if self._is_tracing:
      self._is_tracing = False
      jax.profiler.stop_trace()
