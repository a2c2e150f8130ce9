"""The file of a probe: what is written is read, what is damaged is named."""

import json
import math

import pytest

from normjax.record import probe_file

SOUND = {
  "of": {"run_id": "r", "step": 3},
  "left_out": {"spectra": "none"},
  "blocks": ["layers/0"],
  "loss": 2.5,
  "streams": {
    "variance": {"by_depth": [1.0, math.inf], "by_position": [[1.0], [2.0]]}
  },
  "attention_sinks": {"first_token_mass": [None], "rate": 0.5},
}


def test_what_is_written_is_read(tmp_path):
  path = probe_file.write(tmp_path / "probe", SOUND)
  assert path == tmp_path / "probe" / "probe.json"
  found = probe_file.read(tmp_path / "probe")
  assert found.problem == ""
  assert found.value["schema"] == 1
  assert found.value["streams"]["variance"]["by_depth"] == [1.0, None]
  assert probe_file.read(tmp_path) == (None, "", False)


@pytest.mark.parametrize(
  ("changes", "said"),
  [
    ({"left_out": None}, "left_out = None; names with texts is needed"),
    ({"loss": "low"}, "loss = 'low'; a number or null is needed"),
    ({"streams": {"variance": [1]}}, "names with profiles is needed"),
    ({"attention_sinks": {"rate": []}}, "attention_sinks.rate = []"),
    ({"massive_activations": [{}]}, "massive_activations[0] has no 'median'"),
    ({"schema": 2}, "has schema 2; this normjax reads 1; a newer one"),
  ],
)
def test_damage_is_named(tmp_path, changes, said):
  path = tmp_path / "probe.json"
  plain = {**SOUND, "streams": {}}
  path.write_text(json.dumps({"schema": 1, **plain, **changes}))
  found = probe_file.read(tmp_path)
  assert found.value is None
  assert str(path) in found.problem
  assert said in found.problem
