"""Every kind of figure as matplotlib draws it, once, in a process of its own.

Of a sweep that has all: trials, divergence, probes, states of two sizes.
"""

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest

from normjax.report import drawing, load, page, plots, redraw, stats
from tests.report import conftest

# Writes the report of argv[1]; tells what that imported.
_WRITE = """
import json, sys, normjax.report as report
report.write_report(sys.argv[1])
print(json.dumps(sorted(sys.modules)))
"""
FIGURES = {
  "curves", "divergence", "intervals", "probes", "sensitivity_learning_rate",
  "state_bytes", "time",
}  # fmt: skip


def _written(out):
  """Modules that writing the report imported."""
  done = subprocess.run(
    [sys.executable, "-c", _WRITE, str(out)],
    capture_output=True, text=True, check=True,
  )  # fmt: skip
  return set(json.loads(done.stdout))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
  """A sweep, and what drawing its report imported."""
  out = conftest.write_sweep(
    tmp_path_factory.mktemp("drawn") / "out",
    norms={"layer_norm": 0.0},
    optimizers={"adamw": (0.0, 1e-3), "muon": (-0.09, 3e-3)},
    seeds=(100, 101, 102, 103),
    diverged=(("layer_norm+muon", 101, 140),),
  )
  conftest.add_probes(out)
  sizes = {"adamw": 3_000_000, "muon": 1_500_000}
  conftest.set_state_bytes(out, lambda c: sizes[c["optimizer"]["name"]])
  return out, _written(out)


def test_a_report_imports_neither_jax_nor_global_state(drawn):
  _, modules = drawn
  assert "matplotlib" in modules
  assert not {"jax", "matplotlib.pyplot"} & modules


def test_figures_are_xml_with_the_methods_names(drawn):
  out, _ = drawn
  paths = list((out / "report" / "figures").glob("*.svg"))
  assert {path.stem for path in paths} == FIGURES
  for path in paths:
    root = ElementTree.parse(path).getroot()
    assert root.tag.endswith("svg")
    texts = {element.text for element in root.iter() if element.text}
    assert any("layer_norm+muon" in text for text in texts), path
    pdf = path.with_suffix(".pdf").read_bytes()
    assert pdf.startswith(b"%PDF-")
    # TrueType: journals refuse Type 3.
    assert b"/Type3" not in pdf


def test_the_first_figure_has_the_noise_floor(drawn):
  out, _ = drawn
  folder = out / "report" / "figures"
  text = (folder / "intervals.svg").read_text()
  assert "noise floor: baseline against itself" in text
  html = (out / "report" / "report.html").read_text()
  assert html.index('id="figure-intervals"') == min(
    html.index(f'id="figure-{name}"') for name in FIGURES
  )
  assert "no verdict: seeds are not paired" in html


def test_inline_ids_of_two_figures_differ(drawn):
  out, _ = drawn
  sweep = load.load(out)
  figures = plots.build(sweep, stats.summarize(sweep))
  found = redraw.draw(figures, out / "report" / "figures")
  assert all(each.old for each in found)
  ids = [set(re.findall(r'\bid="([^"]+)"', page.inline(d))) for d in found]
  assert all(ids)
  assert len(set.union(*ids)) == sum(map(len, ids))


def test_a_report_again_imports_no_plotting_library(drawn):
  out, _ = drawn
  assert not {"jax", "matplotlib", "scipy.stats"} & _written(out)


@pytest.mark.parametrize(
  ("value", "label"),
  [(1e-3, "0.001"), (29.79, "29.8"), (400, "400"), (1200, "1,200"),
   (1e6, "1e+06")],
)  # fmt: skip
def test_steps_and_rates_are_told_as_in_the_tables(value, label):
  assert drawing.tick_label(value) == label
