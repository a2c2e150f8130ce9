"""Where papers' numbers and committed results lie: the folders `experiments`.

A user's own come before ours, as `configs` does.
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
  """Folders of experiments, the first first.

  A user's own is where parts are looked for (`beside`), or in the current
  folder; then come ours.
  """
  here = beside.folder()
  own = [Path()] if here is None else [here, Path()]
  first: dict[Path, Path] = {}
  for folder in (*(place / EXPERIMENTS for place in own), experiments_dir()):
    first.setdefault(folder.resolve(), folder)
  return tuple(first.values())


def tries(*parts: str) -> Iterator[Path]:
  """Where a file of experiments may lie, the first first."""
  for folder in folders():
    yield folder.joinpath(*parts)


def find(*parts: str) -> Path | None:
  """The first file of that place; None where there is none."""
  return next((path for path in tries(*parts) if path.is_file()), None)
