"""Names that mean something to an output arrive in it as they were written."""

import csv
import html.parser
import io
import itertools
import json
import re
import xml.etree.ElementTree as ElementTree

import markdown_it
import pytest
from rich.console import Console

from normjax import escape, report
from normjax.report import drawing, load, plots, stats
from tests.report import conftest

NASTY = (
  "[red]warm[/red] [/] [bold",
  r"$\foo$ and $5",
  "[1cm] begins",
  "*starred* \\\\ \\input{x} %s {0}",
  "a & b % c # d ~ e ^ f {g} _h_ __init__ _private _",
  "β₂=0.999, α→∞, naïve Łódź",
  "😀 👩‍🔬 :smile: 日本語",
  "two\nlines, tab\there\x1b[31m\x00\x07 right\u202eleft",
  "lone \udcff surrogate",
  "<b>bold</b> <script>alert(1)</script> <!-- --> ]]> -->",
  "&lt; &#60; &amp;",
  "pipe | pipe || \\|",
  "`code` ``x`` ~~gone~~",
  "![x](http://a) [y][z] [w]: v [^1]",
  "- [ ] item",
  "# heading",
  "1. one",
  "> quote",
  "\"quoted\", 'single' ``tex''",
  ' id="x" xmlns="y" url(#z) href="#w" #1a1b1c',
  "_x --config.x ---",
  "w" * 200,
)


@pytest.fixture(scope="module")
def nasty(tmp_path_factory):
  """A sweep whose methods have these labels, and its written report."""
  out = tmp_path_factory.mktemp("nasty") / "out"
  norms = {f"n{index}": 0.0 for index in range(len(NASTY))}
  conftest.write_sweep(
    out,
    norms=norms,
    optimizers={"adamw": (0.0, 1e-3)},
    seeds=(100, 101),
    diverged=[("n0+adamw", 101, 140)],
    trials=False,
    baseline="n3+adamw",
  )
  plan = json.loads((out / "plan.json").read_text())
  label = {
    f"{norm}+adamw": name for norm, name in zip(norms, NASTY, strict=True)
  }
  plan["baseline"] = label[plan["baseline"]]
  plan["config_file"] = f"configs/{NASTY[0]} {NASTY[2]}.py"
  for method in plan["methods"]:
    method["label"] = label[method["label"]]
    method["overrides"]["norm.name"] = method["label"]
  for point in plan["points"]:
    point["method"] = label[point["method"]]
  (out / "plan.json").write_text(json.dumps(plan))
  return out, report.write_report(out)


def _unfolded(text: str) -> str:
  return re.sub(r"\s+", " ", text)


def test_markdown_reads_as_it_was_written(nasty):
  """Parsed by another program than ours."""
  _, paths = nasty
  parser = markdown_it.MarkdownIt("commonmark").enable(
    ["table", "strikethrough"]
  )
  text = paths.markdown.read_text()
  tokens = parser.parse(text)
  rows = []
  for token, inline in itertools.pairwise(tokens):
    if token.type == "tr_open":
      rows.append([])
    if token.type in ("td_open", "th_open"):
      assert {child.type for child in inline.children} <= {
        "text",
        "text_special",
      }, inline.content
      rows[-1].append("".join(child.content for child in inline.children))
  assert len({len(row) for row in rows}) == 1
  assert [_unfolded(row[0]) for row in rows[1:]] == [
    _unfolded(escape.plain(label)).strip() for label in NASTY
  ]
  lists = [token.type for token in tokens if token.level == 0]
  assert lists.count("table_open") == lists.count("bullet_list_open") == 1
  assert not {"heading_open", "html_block", "fence"} & {t.type for t in tokens}


def test_csv_holds_the_label_itself(nasty):
  _, paths = nasty
  rows = list(csv.DictReader(io.StringIO(paths.csv.read_text())))
  expected = [
    label.encode("utf-8", "backslashreplace").decode() for label in NASTY
  ]
  assert [row["method"] for row in rows] == expected


class _Cells(html.parser.HTMLParser):
  """Text of the row headers, and every tag."""

  def __init__(self):
    super().__init__()
    self.tags, self.cells, self.inside = [], [], False

  def handle_starttag(self, tag, attrs):
    self.tags.append(tag)
    if tag == "th" and ("scope", "row") in attrs:
      self.inside = True
      self.cells.append("")

  def handle_endtag(self, tag):
    if tag == "th":
      self.inside = False

  def handle_data(self, data):
    if self.inside:
      self.cells[-1] += data


def test_the_page_shows_names_and_runs_none(nasty):
  _, paths = nasty
  cells = _Cells()
  cells.feed(paths.html.read_text())
  assert cells.tags.count("script") == 1  # Ours.
  assert "b" not in cells.tags
  shown = [_unfolded(escape.plain(name, keep="\n\t")) for name in NASTY]
  assert [_unfolded(cell) for cell in cells.cells[: len(shown)]] == shown


def test_figures_are_xml_with_the_names_in_them(nasty):
  out, paths = nasty
  sweep = load.load(out)
  figures = plots.build(sweep, stats.summarize(sweep))
  assert len(figures) == len(paths.figures)
  # One of rows, one of lines.
  for figure in figures[:2]:
    root = ElementTree.fromstring(drawing.svg(figure))
    texts = [element.text or "" for element in root.iter()]
    for label in NASTY:
      if figure.name == "intervals" and len(label) < 60:
        assert any(escape.plain(label) in text for text in texts), label


@pytest.mark.parametrize("width", [40, 1000])
def test_the_terminal_shows_names_and_obeys_none(nasty, width):
  out, _ = nasty
  file = io.StringIO()
  report.print_table(out, Console(file=file, width=width, color_system=None))
  text = file.getvalue()
  assert "\x1b" not in text
  if width == 1000:
    for label in NASTY:
      assert escape.lines(label).split("\n")[0] in text, label


def _tex_cells(text: str) -> list[str]:
  tabular = text.partition(r"\begin{tabularx}")[2]
  body = tabular.partition(r"\midrule")[2].partition(r"\bottomrule")[0]
  return [row.partition(" & ")[0].strip() for row in body.split("\\\\\n")[:-1]]


def test_tex_has_one_row_a_method_and_no_argument_by_accident(nasty):
  _, paths = nasty
  assert paths.tex.read_text().isascii()
  text = paths.tex.with_name("table_full.tex").read_text()
  assert text.isascii()
  cells = _tex_cells(text)
  assert len(cells) == len(NASTY)
  for cell in cells:
    # \\ and \midrule would take these for an argument of theirs.
    assert not cell.startswith(("[", "*"))
    # Whatever is active is a command of ours or escaped.
    bare = re.sub(r"\\[A-Za-z]+(\{\})?|\\.|\$\\?[^$]*\$", "", cell)
    assert not re.search(r"[&%$#_~^\\]", bare), cell
    depth = 0
    for sign in re.sub(r"\\[{}]", "", cell):
      depth += {"{": 1, "}": -1}.get(sign, 0)
      assert depth >= 0, cell
    assert depth == 0, cell


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    ("[5pt]", "{[}5pt{]}"),
    ("βΩς", r"$\beta$$\Omega$$\varsigma$"),
    ("λ Λ Α", r"$\lambda$ $\Lambda$ A"),
    ("é ñ ç", r"\'{e} \~{n} \c{c}"),
    ("😀", "U+1F600"),
    ("a--b", "a-{}-b"),
    ("two\nlines", r"two\textbackslash{}nlines"),
  ],
)
def test_tex(text, expected):
  assert escape.tex(text) == expected


def test_usual_names_need_no_escape():
  for name in ("layer_norm + adamw", "dyt(alpha_init=0.5)", "lr=3e-4 [a, b]"):
    assert escape.markdown(name) == name
    assert escape.plain(name) == name


def test_figures_of_two_keys_of_one_tail_are_two_files(make_sweep):
  out = make_sweep(
    diverged=(), norms={"dyt": 0}, optimizers={"sgd": (0, 0.1)}, seeds=(1,)
  )
  plan = json.loads((out / "plan.json").read_text())
  keys = ["a b/learning_rate", "a_b/learning_rate"]
  plan["tuned"] = keys
  for point in plan["points"]:
    rate = point["overrides"].get("optimizer.learning_rate", 1)
    point["overrides"] |= dict.fromkeys(keys, rate)
  (out / "plan.json").write_text(json.dumps(plan))
  names = [path.name for path in report.write_report(out).figures]
  assert len(set(names)) == len(names)
  assert sum(name.startswith("sensitivity_a_b") for name in names) == 2
  assert load.load(out).tuned_keys == tuple(keys)
