"""What of a user's own code is known by its hash, and kept."""

import subprocess
import sys

import optax
import pytest

from normjax import beside
from normjax.record import provenance, sources
from normjax.record.directory import PLAN, RUNS, RunDirectory
from normjax.record.state import RunState

FILES = {
  "part.py": "import json, numpy\nimport helper\nfrom pack.inner import x\n",
  "helper.py": "def late():\n  from pack import other\n",
  "pack/__init__.py": "",
  "pack/inner/__init__.py": "from . import near\nfrom ..far import y\n",
  "pack/inner/near.py": "import normjax\n",
  "pack/far.py": "",
  "pack/other.py": "",
  "unused.py": "",
  "sweep.py": "",
}
MODULES = {
  "part", "helper", "pack", "pack.inner", "pack.inner.near", "pack.far",
  "pack.other",
}  # fmt: skip
CONFIG = {
  "seed": 0,
  "norm": {"name": "part:norm", "eps": 1e-5},
  "model": {"slot_norms": {"final": "part:norm(eps=1)"}, "name": "llama"},
  "train": {"initialize_from": ["pack.other:step", "deploy"]},
}


@pytest.fixture(autouse=True)
def _beside_nothing(monkeypatch):
  """Whatever file another test has read a config from."""
  monkeypatch.setattr(beside, "_place", None)


@pytest.fixture
def folder(tmp_path, monkeypatch):
  """A user's files, beside a sweep file."""
  for name, text in FILES.items():
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
  monkeypatch.setattr(sys, "path", list(sys.path))
  beside.search(tmp_path / "sweep.py")
  sources._as_imported.cache_clear()
  return tmp_path


def test_the_modules_that_a_component_imports_count(folder):
  names = sources.components(CONFIG)
  assert names == {"part", "pack.other"}
  found = sources.modules(names)
  assert set(found) == MODULES
  assert found["pack.far"] == folder / "pack" / "far.py"


def test_of_installed_packages_only_the_component_s_own_counts():
  """Nor do ours: their commit says what they are."""
  found = sources.modules({"einops.layers", "normjax.norms.dyt", "json"})
  packages = {name.partition(".")[0] for name in found}
  assert packages <= {"einops"}
  found = sources.modules({"pluggy"})
  assert "pluggy" in found
  assert {name.partition(".")[0] for name in found} == {"pluggy"}


def test_an_installed_package_is_known_by_hash_and_version():
  config = {"optimizer": {"name": "optax:lion"}}
  kept = sources.snapshot(config, None)
  (said,) = kept.facts["own"]["modules"].values()
  assert said.endswith(f"-optax {optax.__version__} (installed)")
  assert kept.files == {}
  now = sources.digests({"optax"})
  assert sources.changed({"provenance": kept.facts}, now) == []
  assert sources.changed({"provenance": kept.facts}, {"optax": "0"}) == [
    "optax"
  ]


@pytest.mark.parametrize("left", ["result", "checkpoint", "nothing"])
def test_an_edited_helper_counts_where_a_run_has_left_something(folder, left):
  run = RunDirectory(folder / "run", "run")
  kept = sources.snapshot(CONFIG, None)
  run.write_run(config=CONFIG, provenance=kept.facts)
  if left == "result":
    run.write_result(RunState.DONE, metrics={}, steps=1)
  elif left == "checkpoint":
    (run.checkpoints / "3").mkdir(parents=True)
  names = sources.components(CONFIG)
  assert sources.changed_since(run, sources.digests(names)) == []
  (folder / "unused.py").write_text("changed = 1")
  assert sources.changed_since(run, sources.digests(names)) == []
  (folder / "pack" / "far.py").write_text("y = 2")
  (folder / "helper.py").unlink()
  expected = [] if left == "nothing" else ["helper", "pack.far", "pack.other"]
  changed = sources.changed_since(run, sources.digests({"part"}))
  assert changed == expected
  # This process runs what it has imported.
  assert sources.snapshot(CONFIG, None) == kept


def test_a_run_of_an_earlier_version_says_nothing_of_its_code(folder):
  assert sources.changed({"config": CONFIG}, {"part": "0"}) == []


@pytest.mark.parametrize("in_sweep", [True, False])
def test_each_content_is_kept_once(folder, in_sweep):
  if in_sweep:
    (folder / PLAN).write_text("{}")
  kept = sources.snapshot(CONFIG, {"commit": "0", "dirty": True, "diff": "+é"})
  for name in "ab":
    run = RunDirectory(folder / RUNS / name, name)
    sources.keep(run.sources, kept.files)
  own = kept.facts["own"]
  assert own["config_file"].endswith("-sweep.py")
  where = folder if in_sweep else run.path
  assert {p.name for p in (where / "sources").iterdir()} == {*kept.files}
  assert sources.read(run.sources, own["modules"]["part"]) == FILES["part.py"]
  assert sources.read(run.sources, kept.facts["git"]["diff_file"]) == "+é"
  assert kept.facts["git"] == {
    "commit": "0", "dirty": True, "diff_file": kept.facts["git"]["diff_file"]
  }  # fmt: skip
  assert sources.read(run.sources, "none") == ""


def test_what_is_too_large_is_known_but_not_kept(folder, monkeypatch):
  monkeypatch.setattr(sources, "_MOST_BYTES", 30)
  kept = sources.snapshot(CONFIG, None)
  said = kept.facts["own"]["modules"]["part"]
  assert said.endswith(f"-part.py (not kept: {len(FILES['part.py'])} bytes)")
  assert said.partition(" ")[0] not in kept.files
  now = sources.digests({"part"})
  assert said.startswith(now["part"])


def test_the_state_of_the_user_s_repository_goes_with_the_run(folder):
  def git(*arguments):
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True)

  git("init", "-q")
  git("add", "-A")
  git("commit", "-qm", "first")
  (folder / "helper.py").write_text("x = 1\n")
  provenance.git.cache_clear()
  kept = sources.snapshot(CONFIG, None)
  own = kept.facts["own"]["git"]
  assert own["dirty"]
  assert len(own["commit"]) == 40
  assert b"+x = 1" in kept.files[own["diff_file"]]


def test_a_cut_difference_says_so(folder, monkeypatch):
  monkeypatch.setattr(provenance, "_DIFF_LIMIT_CHARS", 5)
  monkeypatch.setattr(provenance, "_git", lambda *_: "0123456789")
  provenance.git.cache_clear()
  said = provenance.git(folder)["diff"]
  provenance.git.cache_clear()
  assert said == "01234\n… 5 more characters are not kept\n"
