"""The site: links are checked, and the API has every name."""

import pytest

from docs.generator import api, kinds, links, results, site
from tests import support


def _write(folder, **pages):
  for name, text in pages.items():
    (folder / f"{name}.html").write_text(text)


def test_broken_links_are_named(tmp_path):
  _write(
    tmp_path,
    one='<a href="two.html#there">a</a><a href="https://x.org/">b</a>',
    two='<h1 id="there">x</h1><a href="gone.html">c</a><a href="#no">d</a>',
  )
  assert links.broken(tmp_path) == [
    "two.html: gone.html",
    "two.html: #no (no such anchor)",
  ]


def test_anchors_are_those_of_a_repositorys_page():
  heading = "2026-11-21: every norm, and every placement"
  assert results.anchor(heading) == "2026-11-21-every-norm-and-every-placement"


def test_the_api_has_a_page_for_every_module_of_a_table():
  modules = set(api.modules())
  for kind in kinds.KINDS:
    for name in kind.names():
      assert kinds.source(kind, name).module in modules, name


def test_the_contents_name_what_exists():
  named = {s for entries in site.CONTENTS.values() for s in entries.values()}
  for source in named:
    assert (support.ROOT / source).exists(), source
  for folder in ("guides", "tutorials"):
    for page in (support.ROOT / "docs" / folder).glob("*.md"):
      assert f"docs/{folder}/{page.name}" in named


def test_links_without_a_target_are_plain_text():
  page = '<p id="a"></p><a href="#a">kept</a> <a href="#b">plain</a>'
  assert api.without_dead_ends(page) == (
    '<p id="a"></p><a href="#a">kept</a> plain'
  )


# About half a minute.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_whole_site_has_no_broken_link_and_every_name(tmp_path):
  site.build(tmp_path / "site")
  for kind in kinds.KINDS:
    for name in kind.names():
      page = tmp_path / "site" / "reference" / kind.folder / f"{name}.html"
      assert page.exists()
      source = kinds.source(kind, name)
      path = source.module.replace(".", "/")
      content = (tmp_path / "site" / "api" / f"{path}.html").read_text()
      assert f'id="{source.attribute}"' in content, name
  optim = (tmp_path / "site/api/normjax/optim.html").read_text()
  assert 'id="sinkgd"' in optim
  assert "sinkgd" in (tmp_path / "site/api/search.js").read_text()
