"""Runners for a sweep whose points of one program train side by side."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from normjax import configure
from normjax.train import entry
from normjax.train.population import choice, chunks
from normjax.train.request import Run

_LOG = logging.getLogger(__name__)


class SideBySide:
  """A worker's runner: one run, or several of one program."""

  def __init__(self, *, chooses: bool):
    """A population always, or where it is faster.

    Args:
      chooses: whether both are timed first; see `choice`.
    """
    self._chooses = chooses

  def __call__(
    self, config: configure.ConfigDict, directory: Path
  ) -> dict[str, Any]:
    """See `entry.run`."""
    return entry.run(config, directory)

  def members(self, runs: Sequence[Run], most: int) -> int:
    """Members of a population that the runs may have; 1: each by itself.

    Args:
      runs: (config, directory) each, of one program and of one sweep.
      most: at most so many.
    """
    runs = [Run(*each) for each in runs]
    if chunks.is_alone(runs[0].config):
      _LOG.info("population: off; a procedure that learns has each run alone")
      return 1
    if not self._chooses:
      return most
    # A sweep has its runs in one folder of its own.
    return choice.members(runs, most, runs[0].directory.parent.parent)

  def together(self, runs: Sequence[Run], most: int) -> list[dict[str, Any]]:
    """See `entry.run_together`."""
    return entry.run_together([Run(*each) for each in runs], most=most)


POPULATION = SideBySide(chooses=False)
AUTO = SideBySide(chooses=True)
