"""A sweep over a component that was edited since."""

import io
import json
import sys

import pytest
import rich.console
from toy_runner import results

from normjax import beside, errors
from normjax.record import sources

SWEEP = """
import ml_collections
from normjax import configure
from normjax.sweep import Sweep, point, chain

def get_config():
  return ml_collections.ConfigDict({
    "seed": 0,
    "norm": configure.component("norm", "edited_part:norm"),
    "optimizer": {"name": "toy", "learning_rate": 0.1},
    "train": {"num_steps": 4},
    "toy": {"name": "t", "width": 1, "trouble": "", "optimum": 0.1,
            "diverges_above": 100.0, "step_s": 0.0},
  })

def sweep():
  return Sweep(
    methods=chain(point({"norm.eps": 1e-5}), point({"norm.name": "dyt"})),
    seeds=(0, 1),
  )
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
  """A sweep, and a norm beside it."""
  monkeypatch.setattr(sys, "path", list(sys.path))
  monkeypatch.setattr(beside, "_place", None)
  (tmp_path / "sweep.py").write_text(SWEEP)
  (tmp_path / "edited_part.py").write_text("def norm(eps: float = 1e-6): ...\n")
  yield tmp_path
  sys.modules.pop("edited_part", None)


def _note(out):
  """Writes into each run what a runner that keeps sources writes there."""
  for file in out.glob("runs/*/run.json"):
    value = json.loads(file.read_text())
    now = sources.digests(sources.components(value["config"]))
    own = {"own": {"modules": {k: f"{v}-x.py" for k, v in now.items()}}}
    file.write_text(json.dumps(value | {"provenance": own}))


def test_an_edited_norm_is_not_done(folder, run_toy):
  sweep, out = folder / "sweep.py", folder / "out"
  assert run_toy(sweep, out).num_ran == 4
  _note(out)
  before = results(out)
  assert run_toy(sweep, out).num_ran == 0
  part = folder / "edited_part.py"
  part.write_text(part.read_text() + "# Mended.\n")
  for dry_run in (True, False):
    with pytest.raises(errors.RunError) as error:
      run_toy(sweep, out, dry_run=dry_run)
    said = str(error.value)
    assert "the code of 'edited_part' has changed since 2 runs began" in said
    # Those of the other method do not count.
    assert "dyt" not in said
    assert "Give another --out, or --accept_code_change" in said
  assert results(out) == before
  console = rich.console.Console(file=io.StringIO(), width=500)
  summary = run_toy(sweep, out, console=console, accept_code_change=True)
  assert summary.exit_code == 0
  assert summary.num_ran == 0
  assert "note: the code of 'edited_part'" in console.file.getvalue()
  assert run_toy(sweep, folder / "other").num_ran == 4
