"""`normjax bench adapt` on a few pixels, with peers that are pretended."""

import json
import sys
import types

import pytest

from normjax import adapt, cli, errors
from normjax.bench import adapt as bench_adapt
from normjax.bench import contest, torch_peers
from tests.bench import pretender

TINY = ["bench", "adapt", "--images=4,8,8,3", "--depth=8", "--repeats=1"]


def constant(label, seconds, **facts):
  """A contestant whose steps all take so long."""
  facts = {"compile_s": 1.0, **facts}
  return contest.Contestant(label, lambda count: seconds * count, facts)


def test_ratios_bars_and_peers_are_of_the_same_rounds():
  """Rounds get slower; what is compared was timed in the same one."""
  ours = {
    "source": constant("source", 1.0, flops=10.0),
    "batch": constant("batch", 1.2, flops=11.0),
    "tent(steps=2)": constant("tent(steps=2)", 3.0, flops=None),
    "lame": constant("lame", 9.0),
  }
  theirs = {
    "torch evaluation": constant("torch evaluation", 2.0),
    "torch BatchNorm, train": constant("torch train", 3.0),
  }

  def time(contestants):
    return [[c.run(1), 2 * c.run(1), 4 * c.run(1)] for c in contestants]

  failed = {"torch Tent": "ModuleNotFoundError: x"}
  found = bench_adapt.results(ours, theirs, failed, time)
  source, batch, tent, lame = found
  assert "bar" not in source
  assert source["torch"]["ratio"] == pytest.approx(0.5)
  assert (batch["bar"], batch["within_bar"]) == (1.15, False)
  assert batch["of_source"] == pytest.approx(1.2)
  assert batch["flops_of_source"] == pytest.approx(1.1)
  assert batch["torch"]["ratio"] == pytest.approx(0.4)
  assert batch["torch"]["of_evaluation"] == pytest.approx(1.5)
  assert (tent["bar"], tent["within_bar"]) == (3.2, True)
  assert tent["torch"] == {
    "name": "torch Tent",
    "error": "ModuleNotFoundError: x",
  }
  assert "flops_of_source" not in tent
  assert "bar" not in lame
  cells = [bench_adapt.row(each) for each in found]
  assert cells[1][2:5] == ("1.20 [1.20, 1.20]", "1.15 missed", "1.10")
  assert cells[2][3] == "3.2 met"
  assert cells[2][5] == "torch Tent ModuleNotFoundError: x"


def test_bars_and_peers_are_of_methods_that_exist():
  assert set(bench_adapt.BARS) | {"source", "lame"} == set(adapt.names())
  assert set(bench_adapt.TORCH) <= set(adapt.names())


def test_one_of_all_that_does_not_fit_is_a_row(monkeypatch, tmp_path, capsys):
  """As NOTE with one image; who names it is told at once."""

  def adapter(spec, images, depth):
    if spec == "note":
      raise errors.UserError("note: update_every=1")

  def contestant(spec, adapter, images):
    return constant(spec, 1.0)

  monkeypatch.setattr(bench_adapt, "adapter", adapter)
  monkeypatch.setattr(bench_adapt, "contestant", contestant)
  monkeypatch.setattr(adapt, "names", lambda: ("note",))
  flags = ["--images=1,8,8,3", "--nopeers", "--budget_s=1"]
  assert cli.main([*TINY, *flags, f"--out={tmp_path}"]) == 0
  source, note = json.loads((tmp_path / "adapt.json").read_text())["results"]
  assert source["step_s"] > 0
  assert "update_every=1" in note["error"]
  assert "update_every=1" in (tmp_path / "adapt.md").read_text()
  assert cli.main([*TINY, *flags, "--methods=note"]) == 2
  assert "update_every=1" in capsys.readouterr().err


def test_models_of_pytorch_are_timed_each_under_its_name(monkeypatch):
  """The second model that is made leaves the first one there."""
  ran = []
  made = {name: lambda name=name: lambda: ran.append(name) for name in "ab"}
  module = types.SimpleNamespace(MODELS=made)
  monkeypatch.setitem(sys.modules, "pretended_models", module)
  session = torch_peers.Session()
  peers = [
    session.make_model("pretended_models", name, {})["peer"] for name in "ab"
  ]
  ran.clear()
  for peer in (*peers, peers[0]):
    session.steps(1, peer)
  assert ran == ["a", "b", "a"]
  session.drop()
  with pytest.raises(IndexError):
    session.steps(1, peers[0])


@pytest.mark.slow
def test_methods_are_measured(tmp_path, capsys):
  python = pretender.write(tmp_path)
  flags = [f"--peer_python={python}", "--budget_s=1"]
  code = cli.main([*TINY, *flags, f"--out={tmp_path}"])
  assert code == 0, capsys.readouterr().err
  record = json.loads((tmp_path / "adapt.json").read_text())
  results = {r["name"]: r for r in record["results"]}
  assert set(results) == set(adapt.names())
  assert all(r["compile_s"] > 0 and r["step_s"] > 0 for r in results.values())
  assert results["tent"]["torch"]["name"] == "torch Tent"
  # A gradient costs at least as much again as the pass that it is of.
  assert results["tent"]["flops_of_source"] > 1.5
  assert "| unmix_tns |" in (tmp_path / "adapt.md").read_text()


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    (["--methods=tnet"], "unknown adaptation method 'tnet'. Did you mean"),
    pytest.param(
      ["--methods=tent(lr=1)"], "no option 'lr'", marks=pytest.mark.slow
    ),
    (["--images=4,8,3"], "--images=4,8,3: four positive integers"),
    (["--images=4,8,9,3"], "--images=4,8,9,3: adapt has square images"),
    (["--depth=9"], "depth=9 must be 6n + 2"),
  ],
)
def test_bad_flags(flags, message, capsys):
  assert cli.main([*TINY, "--nopeers", *flags]) == 2
  assert message in capsys.readouterr().err
