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


def _git(folder: Path, *arguments: str) -> str | None:
  """Output of a git command in a folder; None outside a repository."""
  try:
    return subprocess.run(
      ["git", *arguments],
      cwd=folder,
      capture_output=True,
      text=True,
      errors="replace",
      check=True,
      timeout=20,
    ).stdout
  except (OSError, subprocess.SubprocessError):
    return None


@functools.cache
def git(folder: Path | None = None) -> dict[str, Any] | None:
  """Commit and uncommitted difference of a repository; None outside one.

  Args:
    folder: in the repository; None: normjax's own checkout.
  """
  # An installed copy may lie inside somebody else's repository.
  package = Path(normjax.__file__).parent
  if folder is None and not (package.parent / "pyproject.toml").exists():
    return None
  folder = folder or package
  commit = _git(folder, "rev-parse", "HEAD")
  if commit is None:
    return None
  diff = _git(folder, "diff", "HEAD") or ""
  left_out = len(diff) - _DIFF_LIMIT_CHARS
  end = f"\n… {left_out} more characters are not kept\n" if left_out > 0 else ""
  return {
    "commit": commit.strip(),
    "dirty": bool(diff),
    "diff": diff[:_DIFF_LIMIT_CHARS] + end,
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
