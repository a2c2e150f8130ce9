"""`normjax bench conv_norm` on a few pixels."""

import json

import pytest

from normjax import cli

TINY = ["bench", "conv_norm", "--repeats=1"]


@pytest.mark.slow
def test_every_mode_is_measured(tmp_path, capsys):
  code = cli.main(
    [*TINY, "--images=16,16,16,3", "--depth=8", f"--out={tmp_path}"]
  )
  assert code == 0, capsys.readouterr().err
  record = json.loads((tmp_path / "conv_norm.json").read_text())
  bytes_by_mode = {r["name"]: r["temp_bytes"] for r in record["results"]}
  assert list(bytes_by_mode) == ["train", "eval", "tune", "deploy"]
  # Feature maps are most of it.
  assert bytes_by_mode["tune"] < 0.75 * bytes_by_mode["eval"]
  tune = record["results"][2]
  assert tune["peers"][0]["name"] == "eval"
  assert tune["peers"][0]["ratio"] > 0
  assert "| tune |" in (tmp_path / "conv_norm.md").read_text()


@pytest.mark.parametrize(
  ("flag", "message"),
  [
    ("--images=64,32,3", "--images=64,32,3: four positive integers"),
    ("--depth=9", "depth=9 must be 6n + 2"),
  ],
)
def test_bad_sizes_are_named(flag, message, capsys):
  assert cli.main([*TINY, flag]) == 2
  assert message in capsys.readouterr().err
