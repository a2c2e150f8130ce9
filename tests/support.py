"""What several tests share, as a config that trains in seconds."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from normjax import configure
from normjax.record import files

ROOT = Path(__file__).resolve().parents[1]

DECODER = {
  "model.num_layers": 1,
  "model.num_heads": 2,
  "model.model_dim": 16,
  "data.sequence_length": 16,
  "train.batch_size": 8,
  "train.num_steps": 12,
  "train.num_devices": 1,
  "evaluate.batch_size": 8,
  "evaluate.num_batches": 2,
  "evaluate.every_steps": 4,
  "checkpoint.every_steps": 4,
  "log.every_steps": 1,
}
RESNET = {
  "model.name": "cifar_resnet",
  "model.depth": 8,
  "model.width": 4,
  "norm.name": "batch_norm",
  "data.name": "digits",
  **{
    key: value
    for key, value in DECODER.items()
    if not key.startswith(("model.", "data."))
  },
}
# Compiles in a tenth of the time of the others.
MLP = {
  **{k: v for k, v in RESNET.items() if not k.startswith("model.")},
  "model.name": "mlp",
  "model.num_layers": 1,
  "model.hidden_dim": 8,
}


def tiny(*changes: dict[str, Any]) -> configure.ConfigDict:
  """The default config, shrunk to DECODER and then changed."""
  overrides = dict(DECODER)
  for change in changes:
    overrides |= change
  return configure.override(configure.load("configs/default.py"), overrides)


def tiny_resnet(**changes: Any) -> configure.ConfigDict:
  """A ResNet with batch_norm on 8x8 digits."""
  config = configure.load("configs/default.py")
  return configure.override(config, {**RESNET, **changes})


def tiny_mlp(*changes: dict[str, Any]) -> configure.ConfigDict:
  """One hidden layer with batch_norm, on 8x8 digits."""
  overrides = dict(MLP)
  for change in changes:
    overrides |= change
  return configure.override(configure.load("configs/default.py"), overrides)


def normal(*shape: int, seed: int = 0) -> jax.Array:
  """Standard normal entries, float32."""
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape), "float32")


def copy_checkout(root: Path) -> None:
  """Copies into root what tests of a changed checkout need."""
  for name in ("normjax", "kernels_pallas", "configs", "tests"):
    shutil.copytree(
      ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__")
    )
  shutil.copy(ROOT / "pyproject.toml", root)


def flags(overrides: dict[str, Any]) -> list[str]:
  """Overrides as the command line writes them."""
  return [f"--config.{key}={value}" for key, value in overrides.items()]


def command(*arguments: str) -> Sequence[str]:
  """The command line of `normjax …` in this interpreter."""
  return [sys.executable, "-m", "normjax.cli", *arguments]


def environment() -> dict[str, str]:
  """One CPU device, as a user's shell has; not the tests' eight."""
  return {**os.environ, "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}


def normjax(*arguments: str, **options: Any) -> subprocess.CompletedProcess:
  """Runs the command line to its end, capturing what it prints."""
  return subprocess.run(
    command(*arguments),
    cwd=ROOT,
    env=environment(),
    capture_output=True,
    text=True,
    timeout=300,
    **options,
  )


def rows(directory: Path, kind: str) -> list[dict[str, Any]]:
  """Metric rows of one kind, without what depends on the clock."""
  found, problems = files.read_rows(directory / files.METRICS)
  assert problems == []
  return [
    {key: value for key, value in row.items() if key != "time_s"}
    for row in found
    if row["kind"] == kind
  ]
