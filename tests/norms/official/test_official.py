"""normjax against the official PyTorch norms, as recorded by `record.py`."""

import json
import pathlib

import numpy as np
import pytest

from normjax import norms
from tests.norms import trajectory
from tests.norms.official import inputs

FOLDER = pathlib.Path(__file__).parent

# Official option -> ours.
OPTIONS = {
  "group_num": "num_groups",
  "warmup_iters": "warmup_steps",
  "alpha_bkw": "backward_momentum",
  "window_size": "window",
}
NAMES = {
  "iters": "steps",
  "skip_counter": "skips",
}


@pytest.mark.parametrize(
  "path", sorted(FOLDER.glob("*.npz")), ids=lambda path: path.stem
)
def test_trajectory(path):
  with np.load(path) as file:
    recording = dict(file)
  meta = json.loads(str(recording.pop("meta")))
  options = {OPTIONS.get(k, k): v for k, v in meta["options"].items()}
  name = {"MaskPowerNorm": "power_norm", "UN1d": "unified_norm"}[meta["class"]]
  norm = norms.make(name, **options, padding_in_gradient=True)
  steps = range(1, inputs.STEPS + 1)
  mask = ~inputs.padding() if meta["masked"] else None
  seen, evaluated = trajectory.compiled(
    norm,
    trajectory.start(norm, *inputs.parameters()),
    np.stack([inputs.tokens(step) for step in steps]),
    np.stack([inputs.cotangents(step) for step in steps]),
    mask,
  )
  ours = {"y": seen["y"], "dx": seen["dx"]}
  ours |= {f"d{name}": value for name, value in seen["dparams"].items()}
  ours |= seen["stats"] | seen["grad_stats"]
  recorded = np.array(inputs.RECORDED_STEPS) - 1
  ours = {name: value[recorded] for name, value in ours.items()}
  expected_y = recording.pop("evaluated")
  theirs = {
    NAMES.get(name, name): value.reshape(ours[NAMES.get(name, name)].shape)
    for name, value in recording.items()
  }
  assert set(theirs) == set(ours)
  trajectory.assert_close(norm, (ours, evaluated), (theirs, expected_y))
  # What the method does has been exercised.
  assert np.abs(theirs["ema_gz"]).max() > 0.01
  if meta["options"].get("outlier_filtration"):
    assert theirs["skips"][-1] == len(inputs.SPIKES)
