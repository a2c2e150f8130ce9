"""Where a number came from: code, packages, devices."""

import datetime
import functools
import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

import normjax

_PACKAGES = (
  "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "scipy",
  "grain", "tensorflow-datasets", "ml_collections",
)  # fmt: skip
_DIFF_LIMIT_CHARS = 200_000


def _git(*arguments: str) -> str | None:
  """Output of a git command in the package's checkout; None outside one."""
  try:
    return subprocess.run(
      ["git", *arguments],
      cwd=Path(normjax.__file__).parent,
      capture_output=True,
      text=True,
      check=True,
      timeout=20,
    ).stdout
  except (OSError, subprocess.SubprocessError):
    return None


@functools.cache
def git() -> dict[str, Any] | None:
  """Commit and uncommitted difference of the checkout; None outside one."""
  # An installed copy may lie inside somebody else's repository.
  if not (Path(normjax.__file__).parents[1] / "pyproject.toml").exists():
    return None
  commit = _git("rev-parse", "HEAD")
  if commit is None:
    return None
  diff = _git("diff", "HEAD") or ""
  return {
    "commit": commit.strip(),
    "dirty": bool(diff),
    "diff": diff[:_DIFF_LIMIT_CHARS],
  }


def packages() -> dict[str, str]:
  """Versions of the packages that numbers depend on."""
  return {name: importlib.metadata.version(name) for name in _PACKAGES}


def collect() -> dict[str, Any]:
  """All that is known before the first step."""
  import jax  # Late: a report reads provenance but needs no jax.

  return {
    "normjax": normjax.__version__,
    "git": git(),
    "packages": packages(),
    "python": platform.python_version(),
    "platform": platform.platform(),
    "devices": [d.device_kind for d in jax.devices()],
    "created": datetime.datetime.now(datetime.UTC).isoformat(),
  }
