"""docs/reference: one page per name of every table, and the tables.

`pages()` is a pure function of the sources, so that a test can compare.
"""

import functools
from pathlib import Path

from docs.generator import (
  accelerators,
  component,
  kinds,
  measured,
  paper_pages,
  sweep_pages,
  text,
)

NOTE = "<!-- Made by `make docs` from the sources; edit those. -->\n"


@functools.cache
def pages() -> dict[str, str]:
  """Path under docs/reference to the page's Markdown."""
  found: dict[str, str] = {"README.md": _index()}
  for kind in kinds.KINDS:
    found[f"{kind.folder}.md"] = component.overview(kind)
    for name in kind.names():
      found[f"{kind.folder}/{name}.md"] = component.page(kind, name)
  found |= sweep_pages.pages()
  found["speed.md"] = measured.speed()
  found["accelerators.md"] = accelerators.page()
  found["papers.md"] = paper_pages.page()
  found["licences.md"] = measured.licences()
  return {
    path: NOTE + kinds.papers(page).rstrip() + "\n"
    for path, page in found.items()
  }


def _index() -> str:
  """The first page."""
  lines = [
    "# Reference",
    "",
    "Made from the code, its configs and results.",
    "",
  ]
  rows = [
    (f"[{kind.title}]({kind.folder}.md)", len(kind.names()), kind.named_by)
    for kind in kinds.KINDS
  ]
  lines += [
    text.table(
      ("table", "names", "named by"),
      [(link, str(count), text.code(key)) for link, count, key in rows],
    ),
    "",
    "- [Sweeps](sweeps.md): the comparisons that come with the project",
    "- [Published tables](papers.md): what was reproduced, and what is missing",
    "- [Fields of a config](default.md): every key, with its default",
    "- [Speed](speed.md), and [on accelerators](accelerators.md)",
    "- [Licences of what is embedded](licences.md)",
  ]
  return "\n".join(lines)


def write(found: dict[str, str], folder: Path) -> None:
  """Writes the pages, and removes those of what is gone."""
  for old in folder.rglob("*.md"):
    if str(old.relative_to(folder)) not in found:
      old.unlink()
  for path, page in found.items():
    file = folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(page)
