"""Where papers' numbers and committed results lie: the folders `experiments`.

A folder `experiments` beside the file that a command was given comes before
ours, as `configs` does.
"""

from collections.abc import Iterator
from pathlib import Path

from normjax import beside

EXPERIMENTS = "experiments"


def experiments_dir() -> Path:
  """The folder of experiments: the checkout's, else the installed copy."""
  package = Path(__file__).resolve().parents[1]
  checkout = package.parent
  if (checkout / "pyproject.toml").is_file():
    return checkout / EXPERIMENTS
  return package / EXPERIMENTS


def folders() -> tuple[Path, ...]:
  """Folders of experiments, the first first: a user's own, then ours."""
  ours = experiments_dir()
  own = beside.folder()
  if own is None or (own / EXPERIMENTS).resolve() == ours.resolve():
    return (ours,)
  return (own / EXPERIMENTS, ours)


def tries(*parts: str) -> Iterator[Path]:
  """Where a file of experiments may lie, the first first."""
  for folder in folders():
    yield folder.joinpath(*parts)


def find(*parts: str) -> Path | None:
  """The first file of that place; None where there is none."""
  return next((path for path in tries(*parts) if path.is_file()), None)
