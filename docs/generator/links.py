"""Which links of a folder of HTML lead nowhere."""

import functools
import html.parser
import posixpath
from pathlib import Path
from urllib.parse import unquote


class _Reader(html.parser.HTMLParser):
  def __init__(self):
    super().__init__()
    self.links: list[str] = []
    self.anchors: set[str] = set()

  def handle_starttag(self, tag, attrs):
    given = dict(attrs)
    if name := given.get("id") or (tag == "a" and given.get("name")):
      self.anchors.add(str(name))
    for key in ("href", "src"):
      if given.get(key):
        self.links.append(str(given[key]))


@functools.cache
def _read(file: Path) -> _Reader:
  reader = _Reader()
  reader.feed(file.read_text())
  return reader


def broken(folder: Path) -> list[str]:
  """`page: link` of each link inside `folder` without a file or an anchor."""
  found = []
  for file in sorted(folder.rglob("*.html")):
    here = str(file.relative_to(folder))
    for link in _read(file).links:
      if "://" in link or link.startswith(("data:", "mailto:", "javascript:")):
        continue
      path, _, fragment = unquote(link).partition("#")
      path = path.partition("?")[0]
      target = here
      if path:
        target = posixpath.normpath(
          posixpath.join(posixpath.dirname(here), path)
        )
      there = folder / target
      if target.startswith("..") or not there.is_file():
        found.append(f"{here}: {link}")
      elif (
        fragment
        and there.suffix == ".html"
        and fragment not in _read(there).anchors
      ):
        found.append(f"{here}: {link} (no such anchor)")
  return found
