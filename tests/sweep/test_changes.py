"""A folder whose runs had other configs: what differs is said."""

import io
import json

import pytest
import rich.console
from toy_runner import results

from normjax import config_files, errors

COMPONENT = """
import ml_collections
def get_config():
  return ml_collections.ConfigDict({{"name": {name!r}, "eps": {eps}}})
"""
CONFIG = """
import ml_collections
from normjax import configure
from normjax.sweep import Sweep, Tune, grid, log_grid

def get_config():
  return ml_collections.ConfigDict({{
    "seed": 0,
    "norm": configure.component("norm", "a"),
    "optimizer": {{"name": "toy", "learning_rate": 0.1}},
    "train": {{"num_steps": 4}},
    "toy": {{"name": "t", "width": 1, "trouble": "", "optimum": 0.1,
             "diverges_above": 100.0, "step_s": 0.0}},
  }})

def sweep():
  return Sweep(methods=grid("norm.name", {norms}), seeds={seeds}{tune})
"""
TUNE = """, tune=Tune({"optimizer.learning_rate": log_grid(0.01, 1.0, 3)},
  repeat="shared", second_pass=False)"""


@pytest.fixture
def write(tmp_path, monkeypatch):
  """Writes the sweep file and the components' defaults; returns the file."""
  monkeypatch.setattr(config_files, "configs_dir", lambda: tmp_path / "configs")
  (tmp_path / "configs" / "norms").mkdir(parents=True)

  def write(*, eps=(1e-5, 1e-6), norms=("a", "b"), seeds=(0, 1), tune=""):
    for name, value in zip("ab", eps, strict=True):
      path = tmp_path / "configs" / "norms" / f"{name}.py"
      path.write_text(COMPONENT.format(name=name, eps=value))
    path = tmp_path / "sweep.py"
    path.write_text(CONFIG.format(norms=norms, seeds=seeds, tune=tune))
    return path

  return write


@pytest.mark.parametrize("tune", ["", TUNE])
def test_a_changed_default_is_said_and_the_points_run_again(
  write, run_toy, tmp_path, tune
):
  out = tmp_path / "out"
  first = run_toy(write(tune=tune), out)
  assert first.notes == ()
  console = rich.console.Console(file=io.StringIO(), width=500)
  changed = write(tune=tune, eps=(1e-5, 1e-3))
  finished = 5 if tune else 2
  said = (
    f"{out} was run with other values: norm.eps was 1e-06, is 0.001"
    f" (b). {finished} finished runs no longer match; their points run again"
  )
  dry = rich.console.Console(file=io.StringIO(), width=500)
  run_toy(changed, out, dry_run=True, console=dry, estimate=lambda config: {})
  assert said in dry.file.getvalue()
  summary = run_toy(changed, out, console=console)
  assert said in console.file.getvalue()
  assert said in summary.text()
  assert summary.exit_code == 0
  assert summary.num_done == first.num_done
  # Nothing is lost, and the same call has nothing more to say.
  assert len(results(out)) == first.num_done + finished
  assert run_toy(changed, out).notes == ()


def test_tuning_that_chooses_otherwise_says_what_it_replaces(
  write, run_toy, tmp_path
):
  out = tmp_path / "out"
  config = write(tune=TUNE)
  run_toy(config, out)
  made = json.loads((out / "plan.json").read_text())
  (choice,) = made["methods"][0]["choices"]
  (trial,) = (
    p
    for p in made["points"]
    if p["stage"] == "tune"
    and p["method"] == made["methods"][0]["label"]
    and choice["values"].items() <= p["overrides"].items()
  )
  path = out / "runs" / trial["run_id"] / "result.json"
  path.write_text(path.read_text().replace('"done"', '"diverged"'))
  (note,) = run_toy(config, out).notes
  assert note.startswith("tuning chooses otherwise than it did: ")
  assert note.count(f"{trial['method']} seed ") == 2
  assert run_toy(config, out).notes == ()


@pytest.mark.parametrize(
  ("edit", "message"),
  [
    (
      {"eps": (1e-3, 1e-6)},
      "norm.eps was 1e-05, is 0.001; of 4 finished runs there, 2 are none of",
    ),
    (
      {"norms": ("a",)},
      "method 'b' is gone; of 4 finished runs there, 2 are none of",
    ),
    (
      {"seeds": (0, 7)},
      r"the seeds were \[0, 1\], are \[0, 7\]; of 4 finished .*, 2 are none of",
    ),
    (
      {"tune": TUNE},
      "tuning was none, is shared; of 4 finished runs there, 4 are none of",
    ),
  ],
)
def test_an_edited_sweep_is_refused_and_told_what_differs(
  write, run_toy, tmp_path, edit, message
):
  out = tmp_path / "out"
  run_toy(write(), out)
  with pytest.raises(errors.RunError, match=message):
    run_toy(write(**edit), out)
  assert len(results(out)) == 4


def test_another_tuning_is_told_how_it_differs(write, run_toy, tmp_path):
  out = tmp_path / "out"
  run_toy(write(norms=("a",), tune=TUNE), out)
  for old, new, said in (
    ("second_pass=False", "second_pass=True", "Tune.second_pass was False, is"),
    ('repeat="shared", ', "", "tuning was shared, is per_seed"),
    ("shared", 'shared", seeds=(7, 8), search="grid', "of 5 finished runs"),
  ):
    assert old in TUNE
    edited = write(norms=("a",), tune=TUNE.replace(old, new))
    with pytest.raises(errors.RunError, match=said):
      run_toy(edited, out)
