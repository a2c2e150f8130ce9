"""Runs whose optimizer moves some blocks at a time, resumed."""

import pytest

from normjax import train
from normjax.record import files
from normjax.train import block_gradients
from tests import support


def config_of(**changes):
  """An MLP of two layers and a head, a block each."""
  return support.tiny_mlp(
    {
      "model.num_layers": 2,
      "optimizer.name": "badam",
      "optimizer.others": "block",
      "optimizer.switch_every": 2,
      "train.num_steps": 8,
      "train.gradient_clip": 0.0,
      block_gradients.PATH: True,
      **changes,
    }
  )


def test_a_run_goes_on_at_a_switch(tmp_path):
  """The step after the checkpoint at 4 is the first of other blocks."""
  config = config_of(**{"train.ema_decay": 0.9, "train.accumulation_steps": 2})
  straight = train.run(config, tmp_path / "straight")

  def stop(name, at):
    if (name, at) == ("step", 6):
      raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    train.run(config, tmp_path / "resumed", stop)
  resumed = train.run(config, tmp_path / "resumed")
  run = files.read_json(tmp_path / "resumed" / files.RUN)
  assert run["resumed_at_steps"] == [4]
  assert resumed["metrics"] == straight["metrics"]
