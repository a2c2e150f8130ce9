"""Flags of `normjax sweep` that are no sweep's business."""

import pytest

from normjax import cli

FILE = "configs/sweeps/quickstart.py"


@pytest.mark.parametrize(
  ("given", "said"),
  [
    (["--seeds=1-3"], "--seeds=1-3: whole numbers with commas"),
    (["--seeds="], "--seeds: names no seed"),
    (["--seeds=7"], "the sweep has no seed 7; its seeds: 1, 2"),
    (["--methods=rsm"], "'rsm' matches no method. Did you mean 'rms'"),
    (["--nocompile"], "--nocompile is for --dry_run"),
  ],
)
def test_bad_choices(capsys, tmp_path, given, said):
  out = tmp_path / "out"
  assert cli.main(["sweep", FILE, f"--out={out}", *given]) == 2
  assert said in capsys.readouterr().err
  assert not out.exists()
