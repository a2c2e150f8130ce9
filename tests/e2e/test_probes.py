"""Probes named in a config are values in metrics.jsonl."""

import json

from normjax import cli
from tests import support

PROBES = (
  "activation/layers/0/stream",
  "gradient_norm/",
  "scale/final_norm",
  "effective_learning_rate/head",
  "spectrum/.*attention/query",
)


def test_probes_are_in_the_rows(tmp_path, capsys):
  overrides = support.DECODER | {
    "train.num_steps": 3,
    "log.every_steps": 2,
    "log.probes": PROBES,
    "checkpoint.every_steps": 0,
  }
  code = cli.main(
    [
      "train",
      "configs/default.py",
      *support.flags(overrides),
      f"--out={tmp_path}",
    ]
  )
  assert code == 0, capsys.readouterr().err
  (path,) = tmp_path.rglob("metrics.jsonl")
  rows = [json.loads(line) for line in path.read_text().splitlines()]
  probe_rows = [row for row in rows if row["kind"] == "probe"]
  assert [row["step"] for row in probe_rows] == [0, 2]
  for row in probe_rows:
    assert all(isinstance(row[name], float) for name in row if "/" in name)
    assert row["activation/layers/0/stream/0/variance"] > 0
    assert row["gradient_norm/layers/0"] > 0
    assert row["effective_learning_rate/head/kernel"] > 0
    # exp(entropy) >= sum s / s_1 >= sum s^2 / s_1^2.
    query = "spectrum/layers/0/attention/query/kernel"
    assert 1 <= row[f"{query}/stable_rank"] <= row[f"{query}/effective_rank"]
    assert row[f"{query}/effective_rank"] <= 16.001
  assert probe_rows[0]["scale/final_norm/scale/min"] == 1.0
  assert probe_rows[1]["scale/final_norm/scale/min"] < 1.0
