"""What pyproject.toml, constraints.txt and the Makefile promise."""

import re
import shutil
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


def test_the_wheel_has_papers_numbers_and_results(tmp_path):
  shutil.copy(support.ROOT / "pyproject.toml", tmp_path)
  paper = "experiments/selu"
  for name in (
    "normjax/__init__.py", "kernels_pallas/__init__.py", "configs/default.py",
    f"{paper}/targets.toml", f"{paper}/results/depth_proxy.json",
    f"{paper}/README.md", f"{paper}/plot.py",
    "experiments/LOG.md", "experiments/not_yet.toml",
    "experiments/speed/train.toml",
  ):  # fmt: skip
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).touch()
  built = WheelBuilder(str(tmp_path)).recurse_included_files()
  assert {file.distribution_path for file in built} == {
    "normjax/__init__.py",
    "kernels_pallas/__init__.py",
    f"normjax/{paper}/targets.toml",
    f"normjax/{paper}/results/depth_proxy.json",
    "normjax/configs/default.py",
  }
