"""`normjax bench lean` on a few numbers."""

import json

import pytest

from normjax import cli
from normjax.bench import contest, lean, lean_parts

TINY = ["bench", "lean", "--tiny", "--repeats=1", "--budget_s=1"]


def constant(label, seconds, **facts):
  """A contestant whose steps all take so long."""
  facts = {"compile_s": 1.0, **facts}
  return contest.Contestant(label, lambda count: seconds * count, facts)


def test_a_sum_is_of_the_same_round():
  """Rounds get slower; 2.1 passes and 3 draws are those of the same one."""
  seconds = {
    "forward pass": [1.0, 2.0, 4.0],
    "draw of z": [0.1, 0.2, 0.4],
    "zeroth order": [2.4, 4.8, 12.0],
  }
  made = {
    name: constant(name, rounds[0], tokens_per_step=48)
    for name, rounds in seconds.items()
  }
  rows = [
    lean_parts.Comparison("forward pass", {}),
    lean_parts.Comparison(
      "zeroth order", {"forward pass": 2.1, "draw of z": 3}, 1.0
    ),
    lean_parts.Comparison("zeroth order", {"forward pass": 1}, 2.3),
  ]
  alone, of_sum, of_pass = lean.results(rows, made, seconds)
  assert "ratio" not in alone
  assert of_sum["ratios"] == pytest.approx([1.0, 1.0, 1.25])
  assert of_sum["ratio"] == pytest.approx(1.0)
  assert of_sum["beside"] == "2.1 x forward pass + 3 x draw of z"
  assert of_sum["tokens_per_s"] == pytest.approx(10)
  assert of_pass["ratio"] == pytest.approx(2.4)
  assert (of_pass["bar"], of_pass["within_bar"]) == (2.3, False)
  cells = lean.row("zeroth_order", of_pass)
  assert cells[:5] == (
    "zeroth_order: zeroth order",
    "4800.0",
    "forward pass",
    "2.40 [2.40, 3.00]",
    "2.3 missed",
  )


def test_bars_are_as_stated():
  bars = {
    (name, each.name, each.told()): each.bar
    for name, part in lean_parts.PARTS.items()
    for each in part.comparisons
    if each.bar is not None
  }
  assert bars == {
    ("update", "adamw_4bit", "adamw_8bit"): 1.3,
    ("linear_256", "sltrain", "dense"): 1.3,
    ("linear_512", "sltrain", "dense"): 1.3,
    ("zeroth_order", "zeroth order", "2.1 x forward pass + 3 x draw of z"): 1,
  }


@pytest.mark.slow
@pytest.mark.parametrize("part", lean_parts.PARTS)
def test_every_part_is_measured(part, tmp_path, capsys):
  code = cli.main([*TINY, f"--parts={part}", f"--out={tmp_path}"])
  assert code == 0, capsys.readouterr().err
  record = json.loads((tmp_path / "lean.json").read_text())
  found = record["results"]
  assert [each["name"] for each in found] == [
    each.name for each in lean_parts.PARTS[part].comparisons
  ]
  assert all(each["step_s"] > 0 and each["held_bytes"] > 0 for each in found)
  assert all(each["ratio"] > 0 for each in found if "beside" in each)
  assert all(
    each["tokens_per_s"] > 0 for each in found if "tokens_per_step" in each
  )


def test_an_unknown_part_is_named(capsys):
  assert cli.main([*TINY, "--parts=blocks,wings"]) == 2
  assert "--parts=blocks,wings: no wings; known: update" in (
    capsys.readouterr().err
  )
