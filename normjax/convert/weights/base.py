"""A tensor in a file, and all those of a checkpoint."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Tensor:
  """A tensor that nothing has read yet.

  Attributes:
    file: that holds it.
    shape: of what `read` gives.
    dtype: the same, a name of NumPy or ml_dtypes: "float32", "bfloat16".
    read: the array, read anew by each call and nobody else's.
  """

  file: Path
  shape: tuple[int, ...]
  dtype: str
  read: Callable[[], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Checkpoint:
  """What a folder, or a file, of released weights holds.

  Attributes:
    where: the folder or the file, for messages.
    tensors: by name.
    config: what config.json says, or the file itself; empty where neither does.
    config_file: which of them it was.
  """

  where: Path
  tensors: Mapping[str, Tensor]
  config: Mapping[str, Any]
  config_file: Path

  @property
  def said_by(self) -> str:
    """What says what the model is, for messages."""
    return str(self.config_file) if self.config else "the option architecture"
