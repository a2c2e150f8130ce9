"""docs/reference is what the generator makes, with a page for every name."""

import importlib
import inspect
import re
from pathlib import Path

import pytest

from docs import generator
from docs.generator import kinds, reference, results, text
from normjax import configure, registry
from tests import support


@pytest.fixture(scope="module", name="pages")
def made_pages():
  """Half a minute: every table is imported, every config read."""
  return reference.pages()


def test_the_pages_are_those_of_the_sources(pages):
  """`make docs` rewrites them."""
  for path, page in pages.items():
    file = generator.REFERENCE / path
    assert file.exists(), f"run `make docs`: {path} is missing"
    assert file.read_text() == page, f"run `make docs`: {path} changed"


def test_no_page_is_left_of_what_is_gone(pages):
  found = generator.REFERENCE.rglob("*.md")
  paths = {str(file.relative_to(generator.REFERENCE)) for file in found}
  assert paths == set(pages)


def test_every_name_of_every_table_has_a_page(pages):
  """Also of a table that nobody told the generator of."""
  known = [set(kind.names()) for kind in kinds.KINDS]
  for kind in kinds.KINDS:
    for name in kind.names():
      page = pages[f"{kind.folder}/{name}.md"]
      assert f"\n# {name}\n" in page
      assert f"]({kind.folder}/{name}.md)" in pages[f"{kind.folder}.md"]
  count = 0
  for file in (support.ROOT / "normjax").rglob("*.py"):
    source = file.read_text()
    if re.search(r"^TABLE\b.*= (?:\w+\()?[{(]?$", source, re.MULTILINE):
      module = _import(file)
      if module.__name__ == "normjax.bench":
        continue
      names = _names(module.TABLE)
      assert names in known, module.__name__
      count += 1
  assert count >= len(kinds.KINDS)


def _import(file: Path):
  parts = file.relative_to(support.ROOT).with_suffix("").parts
  return importlib.import_module(".".join(parts).removesuffix(".__init__"))


def _names(table) -> set[str]:
  if isinstance(table, registry.Table):
    return set(table.names())
  return set(table)


def test_every_config_has_a_page(pages):
  for file in configure.configs_dir().rglob("*.py"):
    path = file.relative_to(configure.configs_dir()).with_suffix(".md")
    assert str(path) in pages, path


def test_every_option_of_a_config_is_on_its_page_with_its_default(pages):
  for kind in kinds.KINDS:
    for name in kind.names():
      page = pages[f"{kind.folder}/{name}.md"]
      for key, value in text.options(kind.config(name)).items():
        row = re.search(
          rf"^\| `{re.escape(key)}` \|(.*?)\|", page, re.MULTILINE
        )
        assert row, (name, key)
        assert text.default(value) in row[1], (name, key)


@pytest.mark.parametrize(
  ("page", "said"),
  [
    ("norms/dyt", '`--config.norm.name=dyt`, `normjax.norms.make("dyt")`'),
    ("optimizers/sinkgd", "`normjax.optim.sinkgd(learning_rate)`"),
    ("placements/peri", "N is a norm"),
  ],
)
def test_a_page_says_how_to_name_it_and_what_its_letters_are(page, said):
  file = support.ROOT / "docs" / "reference" / f"{page}.md"
  assert said in file.read_text()


def test_a_formula_is_its_docstrings():
  """The longest one is cut, and running statistics are left out."""
  docstring = """First.

      h = x / s
      y = h
          * scale                  one per channel
      running <- batch

  Args:
    eps: inside.
  """
  cleaned = inspect.cleandoc(docstring)
  assert text.formula(cleaned) == "h = x / s; y = h * scale"
  assert text.entries(text.sections(cleaned)["Args"]) == {"eps": "inside."}


def test_papers_are_linked_outside_of_code():
  page = kinds.papers(
    "    arXiv:1607.06450\n\n`arXiv:1607.06450`\n\narXiv:1607.06450, 1312.3005"
  )
  assert page == (
    "    arXiv:1607.06450\n\n`arXiv:1607.06450`\n\n"
    "[arXiv:1607.06450](https://arxiv.org/abs/1607.06450), 1312.3005"
  )


def test_results_name_what_exists():
  """A sweep or a method that was renamed would leave its results behind."""
  assert results.log()
  for measured in results.log():
    file = measured.sweep.partition(":")[0]
    assert (support.ROOT / file).exists(), measured.entry
  names = {name for kind in kinds.KINDS for name in kind.names()}
  for benchmark in ("norms", "image_norms", "optimizers"):
    for row in results.speeds()[benchmark]["rows"]:
      assert row[0] in names
