"""Mirrors of the metric rows: TensorBoard and Weights & Biases.

Files on disk are the truth; a mirror is optional and may be deleted.
"""

import importlib
import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from normjax import configure, errors
from normjax.record import files
from normjax.registry import near_misses

_LOG = logging.getLogger(__name__)


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
    if name not in ("step", "kind", files.EVAL_EXAMPLES)
    and isinstance(value, int | float)
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
  """A W&B run with the run's id; it resumes when the run does.

  Its x-axis is the step. Project, group and name are `log.wandb_project`,
  `log.wandb_group` and `log.wandb_name`.
  """

  def __init__(self, directory: Path, config: Mapping[str, Any]):
    """Starts or resumes the W&B run."""
    try:
      wandb = importlib.import_module("wandb")
    except ImportError as error:
      raise errors.UserError(
        "log.wandb=True needs the package wandb: pip install 'normjax[wandb]'"
      ) from error
    log = config.get("log", {})
    self._run = wandb.init(
      project=log.get("wandb_project") or "normjax",
      group=log.get("wandb_group") or None,
      name=fill(log.get("wandb_name") or "", config) or directory.name,
      id=directory.name,
      dir=str(directory),
      config=dict(config),
      resume="allow",
      # Runs that are trained side by side have one each.
      reinit="create_new",
    )
    self._run.define_metric("step")
    self._run.define_metric("*", step_metric="step")

  def write(self, row: Mapping[str, Any]) -> None:
    """Logs each number of the row."""
    # W&B drops rows whose own step goes back, as after a resume; our step is
    # one of the values, and the axis of the others.
    self._run.log({**_scalars(row), "step": row["step"]})

  def close(self) -> None:
    """Ends the W&B run."""
    self._run.finish()


SINKS = {"tensorboard": TensorBoard, "wandb": WeightsAndBiases}
_FIELD = re.compile(r"\{([^{}]*)\}")


def fill(template: str, config: Mapping[str, Any]) -> str:
  """A name with `{norm.name}` and the like replaced by the config's values.

  Raises:
    ConfigError: a key that the config does not have.
  """
  leaves = dict(configure.leaves(config))

  def value(match: re.Match[str]) -> str:
    if match[1] not in leaves:
      raise errors.ConfigError(
        f"log.wandb_name={template!r}: the config has no key {match[1]!r}."
        f"{near_misses(match[1], leaves)}"
      )
    return str(leaves[match[1]])

  return _FIELD.sub(value, template)


def open_asked(directory: Path, config: Mapping[str, Any]) -> "list[Guarded]":
  """The mirrors that the block `log` of a config asks for.

  Raises:
    UserError: one needs a package that is not installed.
  """
  return [
    Guarded(name, sink, directory, config)
    for name, sink in SINKS.items()
    if config["log"][name]
  ]


class Guarded:
  """A mirror that never stops a run: at its first error it is left."""

  def __init__(
    self,
    name: str,
    make: Callable[[Path, Mapping[str, Any]], Sink],
    directory: Path,
    config: Mapping[str, Any],
  ):
    """Opens the mirror.

    Args:
      name: for messages.
      make: see `SINKS`.
      directory: of the run.
      config: of the run, plain.

    Raises:
      UserError: it cannot be had as the config asks.
    """
    self._name = name
    self._sink: Sink | None = None
    try:
      self._sink = make(directory, config)
    except errors.UserError:
      raise
    except Exception as error:
      self._leave(error)

  def _leave(self, error: Exception) -> None:
    """Says once why the mirror is behind; the files have everything."""
    self._sink = None
    _LOG.warning(
      "log.%s: %s: %s; the run goes on without this mirror",
      self._name,
      type(error).__name__,
      error,
    )

  def write(self, row: Mapping[str, Any]) -> None:
    """Mirrors one row."""
    try:
      if self._sink is not None:
        self._sink.write(row)
    except Exception as error:
      self._leave(error)

  def close(self) -> None:
    """Flushes what is buffered."""
    try:
      if self._sink is not None:
        self._sink.close()
    except Exception as error:
      self._leave(error)
