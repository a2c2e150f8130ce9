"""`normjax bench equivalence` on a few tokens."""

import json

import pytest

from normjax import cli

TINY = [
  "--repeats=1",
  "--num_layers=1",
  "--model_dim=16",
  "--hidden_dim=32",
  "--vocab_size=23",
  "--length=8",
  "--batch_size=2",
]


@pytest.mark.slow
def test_every_form_is_counted_and_timed(tmp_path, capsys):
  code = cli.main(["bench", "equivalence", *TINY, f"--out={tmp_path}"])
  assert code == 0, capsys.readouterr().err
  results = json.loads((tmp_path / "equivalence.json").read_text())["results"]
  calls = {r["name"]: r for r in results if r["what"] == "call"}
  assert len(calls) == 5
  assert len(results) == 10
  assert [r["stream"] for r in calls.values()] == [16, 16, 16, 16, 15]
  counts = {name: r["flops"] for name, r in calls.items()}
  assert counts["pre_crms_norm"] < counts["pre_rms_norm"] < counts["pre_ln"]
  assert calls["pre_crms_norm"]["peers"][0]["ratio"] > 0
  assert (
    "| pre_crms_norm | step | 15 |" in (tmp_path / "equivalence.md").read_text()
  )
