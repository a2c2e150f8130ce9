"""Tables fit a column and a page, whatever the names and numbers are."""

import dataclasses
import re
import shutil
import subprocess

import pytest

from normjax import statistics
from normjax.record.comparison import Tuning
from normjax.report import latex, load, stats, tables
from tests.report import conftest
from tests.report.test_names import NASTY

_ARTICLE = r"""\documentclass[twocolumn]{article}
\usepackage{tabularx}%s
\overfullrule=5pt
\begin{document}
%s
\end{document}
"""
LONG = "switchable_norm(momentum=0.95)+momentum_8bit(block_size=256)"


def _loaded(tmp_path, **options):
  sweep = load.load(conftest.write_sweep(tmp_path, **options))
  return sweep, stats.summarize(sweep)


def _cases(tmp_path):
  """Sweeps whose names and numbers are of every kind, by name."""
  nine = _loaded(tmp_path / "nine")
  yield "nine", *nine
  norms = {f"norm_number_{i}": 0.01 * i for i in range(9)}
  sweep, rows = _loaded(tmp_path / "many", norms=norms)
  more = (*(f"eval/metric_{i}" for i in range(6)), "eval/accuracy")
  sweep = dataclasses.replace(sweep, other_metrics=more)
  yield "27 rows and 7 further metrics", sweep, stats.summarize(sweep)
  sweep, rows = nine
  yield (
    "odd names", *_named(sweep, rows, [*NASTY[:8], LONG, *NASTY[9:]])
  )  # fmt: skip
  yield "no baseline", *_loaded(tmp_path / "none", baseline=None, trials=False)
  yield "one seed", *_loaded(tmp_path / "one", seeds=(100,), trials=False)
  large = dataclasses.replace(sweep, metric="steps_to(eval/loss<=2.0)")
  yield "large numbers", large, tuple(_scaled(row, 123_456) for row in rows)


def _named(sweep, rows, names):
  renamed = []
  for row, name in zip(rows, names, strict=False):
    method = dataclasses.replace(row.method, label=name)
    renamed.append(dataclasses.replace(row, method=method))
  methods = tuple(row.method for row in renamed)
  return dataclasses.replace(sweep, methods=methods), tuple(renamed)


def _scaled(row, factor):
  def scaled(interval):
    values = dataclasses.asdict(interval)
    n = values.pop("n")
    return statistics.Interval(
      n, **{k: v if v is None else v * factor for k, v in values.items()}
    )

  difference = row.difference and dataclasses.replace(
    row.difference, interval=scaled(row.difference.interval)
  )
  return dataclasses.replace(
    row, interval=scaled(row.interval), difference=difference
  )


def _compiled(folder, body, packages=""):
  """The log of pdfLaTeX; fails where it found an error."""
  (folder / "paper.tex").write_text(_ARTICLE % (packages, body))
  done = subprocess.run(
    ["pdflatex", "-interaction=nonstopmode", "paper.tex"],
    cwd=folder, capture_output=True, timeout=120, check=False,
  )  # fmt: skip
  log = (folder / "paper.log").read_text(errors="replace")
  assert done.returncode == 0, log[-3000:]
  return log


@pytest.mark.slow
@pytest.mark.skipif(
  shutil.which("pdflatex") is None,
  reason="needs pdflatex on PATH: apt install texlive-latex-base",
)
def test_no_box_is_too_wide(tmp_path):
  body = []
  for name, sweep, rows in _cases(tmp_path):
    table = tables.build(sweep, rows)
    body += [
      rf"\typeout{{CASE column, {name}}}",
      latex.column(sweep, rows, table),
      r"\clearpage\onecolumn",
      rf"\typeout{{CASE page, {name}}}",
      latex.full(table),
      r"\clearpage\twocolumn",
    ]
  text = "\n".join(body)
  assert text.isascii()
  for packages in ("", r"\usepackage{booktabs}"):
    # Debian has booktabs in a package of its own.
    if packages and not _has("booktabs.sty"):
      continue
    log = _compiled(tmp_path, text, packages)
    found = re.findall(r"CASE [^\n]*|Overfull \\hbox[^\n]*", log)
    assert [line for line in found if "Overfull" in line] == [], found


def _has(file):
  found = subprocess.run(
    ["kpsewhich", file], capture_output=True, text=True, check=False
  )
  return bool(found.stdout.strip())


def test_the_column_s_numbers(finished_sweep):
  """Those of the full table, the difference with half of its interval."""
  sweep = load.load(finished_sweep)
  rows = stats.summarize(sweep)
  text = latex.column(sweep, rows, tables.build(sweep, rows))
  tabular = text.partition(r"\begin{tabularx}")[2]
  body = tabular.partition(r"\midrule")[2].partition(r"\bottomrule")[0]
  lines = body.strip().splitlines()
  lines = [line for line in lines if "&" in line]
  assert len(lines) == len(rows)
  for row, line in zip(rows, lines, strict=True):
    cells = [cell.strip(" \\") for cell in line.split("&")][-3:]
    mean, half = row.interval.mean, row.interval.half_width
    assert cells[0].startswith(rf"{mean:.4f} $\pm$ {half:.4f}")
    if row.label == sweep.baseline:
      assert cells[1:] == ["--", "--"]
    else:
      interval = row.difference.interval
      mean = f"{interval.mean:+.4f}".replace("-", "$-$")
      mark = r"\textsuperscript{\textdagger}" if row.diverged else ""
      assert cells[1] == rf"{mean} $\pm$ {interval.half_width:.4f}{mark}"
      shown = tables.show_p(row.difference.p_holm)
      assert cells[2] == shown.replace("< ", r"\textless{}").replace("–", "--")
  assert "Seeds per method: 2 to 3." in text
  # Nothing of columns that are not there.
  assert "Seeds needed" not in text
  assert "Train s" not in text


def test_the_page_has_every_column_once(finished_sweep):
  sweep = load.load(finished_sweep)
  rows = stats.summarize(sweep)
  table = tables.build(sweep, rows)
  text = latex.full(table)
  headers = re.findall(r"\\toprule\n(.*) \\\\", text)
  shown = [cell for line in headers for cell in line.split(" & ")]
  assert len(headers) > 1
  assert shown.count("method") == len(headers)
  assert len(shown) - len(headers) == len(table.columns) - 1


def test_no_note_is_of_a_column_that_a_narrow_table_lacks(tmp_path):
  sweep, rows = _loaded(tmp_path)
  tunings = tuple(Tuning((1000 + k,), 4, k) for k in (100, 101, 102))
  sweep = dataclasses.replace(sweep, tunings=tunings)
  table = tables.build(sweep, rows)
  assert "Tuned values" in latex.full(table)
  assert "Tuned values" not in latex.column(sweep, rows, table)
