"""site/: README, guides, tutorials and reference as HTML, with the API.

Links between Markdown files, which work on a repository's web page, become
links between pages; a link to a source file leads to its API page, else to its
text.
"""

import dataclasses
import functools
import html
import itertools
import os
import posixpath
import re
import shutil
from pathlib import Path

import jinja2
import pygments
from markdown_it import MarkdownIt
from markdown_it.token import Token
from pygments import formatters, lexers
from pygments.util import ClassNotFound

from docs import generator
from docs.generator import api, kinds, links, results

_HERE = Path(__file__).parent
_TEMPLATES = jinja2.Environment(
  loader=jinja2.FileSystemLoader(_HERE), autoescape=True
)
_MARKDOWN = ("*.md", "docs/**/*.md", "experiments/**/*.md")
# The contents that every page shows: title to source.
CONTENTS = {
  "Start": {
    "Front page": "README.md",
    "Ablate a norm": "docs/tutorials/ablate_a_norm.md",
    "Swap an optimizer": "docs/tutorials/swap_an_optimizer.md",
    "Read a report": "docs/tutorials/read_a_report.md",
    "Reproduce a table": "docs/tutorials/reproduce_a_table.md",
    "Use an accelerator": "docs/tutorials/accelerators.md",
    "Train at scale": "docs/tutorials/scale.md",
  },
  "Guides": {
    "Sweeps": "docs/guides/sweeps.md",
    "What a verdict is worth": "docs/guides/trust.md",
    "Norms": "docs/guides/norms.md",
    "Optimizers": "docs/guides/optimizers.md",
    "Models": "docs/guides/models.md",
    "Released weights": "docs/guides/weights.md",
    "Statistics that move": "docs/guides/adaptation.md",
    "Data": "docs/guides/data.md",
    "Runs as objects": "docs/guides/runs.md",
    "Bring your own": "docs/guides/own_parts.md",
  },
  "Reference": {
    "Overview": "docs/reference/README.md",
    **{kind.title: f"docs/reference/{kind.folder}.md" for kind in kinds.KINDS},
    "Sweeps": "docs/reference/sweeps.md",
    "Fields of a config": "docs/reference/default.md",
    "Speed": "docs/reference/speed.md",
    "Speed on accelerators": "docs/reference/accelerators.md",
    "Licences": "docs/reference/licences.md",
  },
  "Project": {
    "Architecture": "docs/architecture.md",
    "Contributing": "CONTRIBUTING.md",
    "Changes": "CHANGELOG.md",
    "Lab log": "experiments/LOG.md",
  },
}


@dataclasses.dataclass(frozen=True)
class Page:
  """One HTML page.

  Attributes:
    source: relative to the root.
    target: relative to the site.
  """

  source: str
  target: str


def build(folder: Path) -> str:
  """Makes the whole site anew and checks its links.

  Returns:
    What was made, in a line.

  Raises:
    SystemExit: links or anchors are broken; each is named.
  """
  shutil.rmtree(folder, ignore_errors=True)
  folder.mkdir(parents=True)
  modules = api.build(folder / "api")
  pages = _pages()
  wanted: set[str] = set()
  for page in pages.values():
    _write(folder, page, _page(page, pages, modules, wanted))
  for source in sorted(wanted):
    _write(folder, Page(source, _text_target(source)), _source(source))
  shutil.copy(_HERE / "style.css", folder / "style.css")
  if broken := links.broken(folder):
    raise SystemExit("broken links:\n" + "\n".join(broken))
  count = sum(1 for _ in folder.rglob("*.html"))
  return f"{count} pages in {folder.name}/, open {folder.name}/index.html"


@functools.cache
def _pages() -> dict[str, Page]:
  found = {}
  for pattern in _MARKDOWN:
    for file in sorted(generator.ROOT.glob(pattern)):
      source = str(file.relative_to(generator.ROOT))
      target = source.removesuffix(".md")
      if target.rpartition("/")[2] == "README":
        target = target.removesuffix("README") + "index"
      found[source] = Page(source, target.removeprefix("docs/") + ".html")
  return found


def _text_target(source: str) -> str:
  return f"source/{source}.html"


def _write(folder: Path, page: Page, content: str) -> None:
  file = folder / page.target
  file.parent.mkdir(parents=True, exist_ok=True)
  depth = page.target.count("/")
  title = re.search(r"<h1[^>]*>(.*?)</h1>", content)
  plain = html.unescape(re.sub(r"<[^>]+>", "", title[1])) if title else ""
  contents = {
    part: {name: _pages_target(source) for name, source in entries.items()}
    for part, entries in CONTENTS.items()
  }
  file.write_text(
    _TEMPLATES.get_template("page.html.j2").render(
      title=plain or page.source,
      content=content,
      contents=contents,
      here=page.target,
      root="../" * depth,
    )
  )


def _pages_target(source: str) -> str:
  return _pages()[source].target


def _page(
  page: Page, pages: dict[str, Page], modules: set[str], wanted: set[str]
) -> str:
  parser = MarkdownIt("commonmark", {"html": True, "highlight": _highlight})
  parser.enable("table")
  tokens = parser.parse((generator.ROOT / page.source).read_text())
  for token, content in itertools.pairwise(tokens):
    if token.type == "heading_open":
      token.attrSet("id", results.anchor(_plain(content)))
  for token in tokens:
    for child in token.children or ():
      if child.type == "link_open":
        child.attrSet("href", _link(child, page, pages, modules, wanted))
  body = parser.renderer.render(tokens, parser.options, {})
  # A wide table scrolls by itself, and not the page.
  return body.replace("<table>", '<div class="wide"><table>').replace(
    "</table>", "</table></div>"
  )


def _plain(heading: Token) -> str:
  return "".join(child.content for child in heading.children or ())


def _link(
  token: Token,
  page: Page,
  pages: dict[str, Page],
  modules: set[str],
  wanted: set[str],
) -> str:
  href = str(token.attrGet("href"))
  if "://" in href or href.startswith(("#", "mailto:")):
    return href
  path, _, fragment = href.partition("#")
  source = posixpath.normpath(
    posixpath.join(posixpath.dirname(page.source), path)
  )
  module = source.removesuffix(".py").replace("/", ".")
  module = module.removesuffix(".__init__")
  if source in pages:
    target = pages[source].target
  elif module in modules:
    target = f"api/{module.replace('.', '/')}.html"
  elif (generator.ROOT / source).is_file():
    wanted.add(source)
    target = _text_target(source)
  else:
    target = source  # Which the check of links names.
  relative = os.path.relpath(target, posixpath.dirname(page.target) or ".")
  return relative + (f"#{fragment}" if fragment else "")


def _highlight(code: str, language: str, _: str) -> str:
  try:
    lexer = lexers.get_lexer_by_name(language or "text")
  except ClassNotFound:
    lexer = lexers.get_lexer_by_name("text")
  return pygments.highlight(code, lexer, formatters.HtmlFormatter(nowrap=True))


def _source(source: str) -> str:
  text = (generator.ROOT / source).read_text()
  lexer = "python" if source.endswith(".py") else "text"
  code = _highlight(text, lexer, "")
  return f"<h1>{html.escape(source)}</h1>\n<pre><code>{code}</code></pre>"
