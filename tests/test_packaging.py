"""What pyproject.toml, constraints.txt and the Makefile promise."""

import re
import subprocess
import tomllib

from hatchling.builders.wheel import WheelBuilder

from tests import support

PYPROJECT = tomllib.loads((support.ROOT / "pyproject.toml").read_text())
PINS = {
  line.strip()
  for line in (support.ROOT / "constraints.txt").read_text().splitlines()
  if line and not line.startswith("#")
}


def test_uv_uses_the_same_pins():
  assert set(PYPROJECT["tool"]["uv"]["constraint-dependencies"]) <= PINS


def test_constraints_are_exact_and_name_no_place():
  for pin in PINS:
    assert re.fullmatch(r"[\w.-]+==[\w.]+", pin), pin


def test_every_dependency_is_pinned():
  def normalize(name):
    return name.lower().replace("_", "-")

  pinned = {normalize(pin.partition("==")[0]) for pin in PINS}
  needed = [
    *PYPROJECT["project"]["dependencies"],
    *PYPROJECT["dependency-groups"]["dev"],
  ]
  for requirement in needed:
    assert normalize(re.split(r"[=><\[]", requirement)[0]) in pinned


def test_a_python_that_is_too_old_gets_one_clear_line(tmp_path):
  done = subprocess.run(
    ["make", "setup", "PYTHON=", f"VENV={tmp_path / 'venv'}"],
    cwd=support.ROOT,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 2
  assert "normjax needs Python 3.12 or newer; found: Python" in done.stderr


def test_the_wheel_has_what_a_report_s_pages_embed():
  built = WheelBuilder(str(support.ROOT)).recurse_included_files()
  web = "normjax/report/web"
  assert {file.distribution_path for file in built} >= {
    "normjax/report/page.html.j2",
    "normjax/report/run.html.j2",
    f"{web}/page.css",
    f"{web}/page.js",
    f"{web}/uplot/LICENSE",
    f"{web}/uplot/uPlot.iife.min.js",
    f"{web}/uplot/uPlot.min.css",
  }
