"""Every config rendered as text: a diff shows what a change did to each.

`make golden` rewrites the files.
"""

import os
from pathlib import Path

import pytest

from normjax import configure

HERE = Path(__file__).parent
CONFIGS = sorted(
  path.relative_to(configure.configs_dir()).with_suffix("")
  for path in configure.configs_dir().rglob("*.py")
)


@pytest.mark.parametrize("name", CONFIGS, ids=str)
def test_rendering_is_the_reviewed_one(name):
  path = configure.configs_dir() / name.with_suffix(".py")
  module = configure.load_module(path)
  rendered = ""
  if hasattr(module, "get_config"):
    rendered += configure.render(configure.load(path))
  if hasattr(module, "sweep"):
    sweep = module.sweep()
    rendered += "".join(f"method {method}\n" for method in sweep.methods)
    rendered += f"seeds {sweep.seeds}\ntune {sweep.tune}\n"
    rendered += f"ladder {sweep.ladder}\n" if sweep.ladder else ""
  for scale in getattr(module, "SCALES", ()):
    claims = [expected.told() for expected in module.table(scale).expected]
    rendered += "".join(f"{scale} {claim}\n" for claim in claims)
  golden = HERE / "rendered" / name.with_suffix(".txt")
  if os.environ.get("NORMJAX_UPDATE_GOLDEN"):
    golden.parent.mkdir(parents=True, exist_ok=True)
    golden.write_text(rendered)
  assert golden.exists(), f"run `make golden` and review {golden}"
  assert rendered == golden.read_text(), "run `make golden` if this was meant"


def test_no_golden_file_is_left_of_a_config_that_is_gone():
  rendered = {
    path.relative_to(HERE / "rendered").with_suffix("")
    for path in (HERE / "rendered").rglob("*.txt")
  }
  assert rendered == set(CONFIGS)
