"""The README is short, and leads on. Its Python: tests/docs/test_prose.py."""

import re

from tests import support

TEXT = (support.ROOT / "README.md").read_text()
MOST_BYTES = 12_000


def test_it_is_short():
  """What is long is a page of docs, and what is a table is generated."""
  assert len(TEXT.encode()) <= MOST_BYTES


def test_files_that_are_named_exist():
  named = re.findall(r"(?:configs|tests|experiments)/[\w/]+\.(?:py|md)", TEXT)
  assert "configs/sweeps/tuned.py" in named
  for path in named:
    assert (support.ROOT / path).exists(), path


def test_it_leads_to_every_guide_and_tutorial():
  for folder in ("guides", "tutorials"):
    for page in (support.ROOT / "docs" / folder).glob("*.md"):
      assert f"](docs/{folder}/{page.name})" in TEXT, page.name
  assert "](docs/reference/README.md)" in TEXT
