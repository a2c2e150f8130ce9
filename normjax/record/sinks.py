"""Mirrors of the metric rows: TensorBoard and Weights & Biases.

Files on disk are the truth; a mirror is optional and may be deleted.
"""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from normjax import errors


class Sink(Protocol):
  """Receives each metric row after it is on disk."""

  def write(self, row: Mapping[str, Any]) -> None:
    """Mirrors one row."""

  def close(self) -> None:
    """Flushes what is buffered."""


def _scalars(row: Mapping[str, Any]) -> dict[str, float]:
  return {
    f"{row['kind']}/{name}": value
    for name, value in row.items()
    if name not in ("step", "kind") and isinstance(value, int | float)
  }


class TensorBoard:
  """Event files under `<run>/tensorboard`, by tensorboardX."""

  def __init__(self, directory: Path, config: Mapping[str, Any]):
    """Opens the event file."""
    from tensorboardX import SummaryWriter

    self._writer = SummaryWriter(logdir=str(directory / "tensorboard"))
    self._writer.add_text("config", str(dict(config)))

  def write(self, row: Mapping[str, Any]) -> None:
    """Adds each number of the row as a scalar."""
    for tag, value in _scalars(row).items():
      self._writer.add_scalar(tag, value, row["step"])

  def close(self) -> None:
    """Closes the event file."""
    self._writer.close()


class WeightsAndBiases:
  """A W&B run with the run's id; it resumes when the run does."""

  def __init__(self, directory: Path, config: Mapping[str, Any]):
    """Starts or resumes the W&B run."""
    try:
      self._wandb = importlib.import_module("wandb")
    except ImportError as error:
      raise errors.UserError(
        "log.wandb=True needs the package wandb: pip install 'normjax[wandb]'"
      ) from error
    self._wandb.init(
      project="normjax",
      id=directory.name,
      dir=str(directory),
      config=dict(config),
      resume="allow",
    )

  def write(self, row: Mapping[str, Any]) -> None:
    """Logs each number of the row."""
    # W&B drops rows whose step goes back, as after a resume; our step is one
    # of the values instead.
    self._wandb.log({**_scalars(row), "step": row["step"]})

  def close(self) -> None:
    """Ends the W&B run."""
    self._wandb.finish()


SINKS = {"tensorboard": TensorBoard, "wandb": WeightsAndBiases}
