"""A run and the user's files that it was trained on."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from normjax import build, configure, errors, train
from normjax.record import files
from normjax.record.directory import RunDirectory, RunState
from normjax.sweep import own_data
from tests import support

SMALL = {
  "model.name": "mlp",
  "model.hidden_dim": 8,
  "model.num_layers": 1,
  "data.name": "arrays",
  "data.path": "mine.npz",
  "data.validation_fraction": 0.3,
  "data.on_bad_file": "skip",
  "evaluate.num_batches": 0,
} | {
  key: value
  for key, value in support.DECODER.items()
  if key.partition(".")[0] in ("train", "checkpoint", "log")
}


def _write(seed):
  draw = np.random.default_rng(seed)
  features = draw.normal(size=(50, 3))
  features[4, 1] = np.nan
  np.savez("mine.npz", x=features, y=draw.normal(size=50))
  build._dataset.cache_clear()  # As another process would.


@pytest.fixture
def config(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  _write(0)
  return configure.override(configure.load("configs/default.py"), SMALL)


def test_a_run_stays_with_the_data_that_it_began_with(config, tmp_path):
  """A regression on a user's arrays, from the files to the refusal."""
  run_id = configure.run_id(config)
  run = tmp_path / "out/runs" / run_id
  result = train.run(config, run)
  rows = support.rows(run, "train")
  assert {"loss", "absolute_error"} <= {*rows[0]}
  told = files.read_json(run / files.RUN)
  assert told["provenance"]["data"]["sizes"]["train"] > 0
  (note,) = told["problems"]
  assert "inputs='x' row 4 (inputs that are not finite" in note
  build._dataset.cache_clear()
  assert train.run(config, run) == result

  _write(1)
  message = r"trained on other data of data.name='arrays': its fingerprint was "
  with pytest.raises(errors.RunError, match=message):
    train.run(config, run)
  # A sweep finds it before anything runs, and names the runs.
  point = SimpleNamespace(run_id=run_id, config=configure.to_dict(config))
  plan = SimpleNamespace(points=[point])
  entries = {run_id: RunDirectory(run, run_id).read()}
  with pytest.raises(errors.RunError, match=f"1 run was .*{run_id}.*new --out"):
    own_data.check(tmp_path / "out", plan, entries)
  pending = dataclasses.replace(entries[run_id], state=RunState.PENDING)
  own_data.check(tmp_path / "out", plan, {run_id: pending})
  # It is not gone on from, either.
  (run / files.RESULT).unlink()
  with pytest.raises(errors.RunError, match=message):
    train.run(config, run)
  _write(0)
  assert train.run(config, run)["metrics"] == result["metrics"]
  assert files.read_json(run / files.RUN)["problems"] == [note]


def test_data_that_is_gone_is_said(config, tmp_path):
  train.run(config, tmp_path / "run")
  (tmp_path / "mine.npz").unlink()
  build._dataset.cache_clear()
  with pytest.raises(
    errors.RunError,
    match=r"trained on data of .*that cannot be read now: .*mine.npz",
  ):
    train.run(config, tmp_path / "run")


def test_what_turns_out_while_it_trains_is_noted(config, tmp_path, monkeypatch):
  dataset = build.dataset(config)
  batch, seen = type(dataset).train_batch, []

  def train_batch(self, seed, step, batch_size):
    if step == 5 and not seen:
      seen.append("a file weighs nothing")
      object.__setattr__(self, "notes", (*self.notes, *seen))
    return batch(self, seed, step, batch_size)

  monkeypatch.setattr(type(dataset), "train_batch", train_batch)
  train.run(config, tmp_path / "run")
  noted = files.read_json(tmp_path / "run" / files.RUN)["problems"]
  assert noted[1:] == seen
