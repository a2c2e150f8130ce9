"""What training is asked for."""

from pathlib import Path
from typing import NamedTuple

from normjax import configure
from normjax.record.directory import RunDirectory
from normjax.train.lane import Observer
from normjax.train.throughput import profile


def ignore(name: str, step: int) -> None:
  """Nobody watches."""


class Run(NamedTuple):
  """What is to be trained.

  Attributes:
    config: a resolved config.
    directory: of this run alone; created where missing.
    observe: see `lane.Observer`.
    window: steps to trace, see `profile`.
  """

  config: configure.ConfigDict
  directory: Path
  observe: Observer = ignore
  window: profile.Window | None = None

  @property
  def files(self) -> RunDirectory:
    """What is in the directory."""
    return RunDirectory(self.directory, configure.run_id(self.config))
