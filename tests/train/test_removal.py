"""Runs in which norms are removed: their length, and resuming."""

import jax
import numpy as np
import pytest

from normjax import errors, load_run, train
from normjax.record import files
from normjax.train import program
from tests import support

GPT2 = {
  "model.name": "gpt2",
  "model.num_layers": 1,
  "norm.name": "layer_norm",
  "train.num_steps": 5,
  "evaluate.every_steps": 5,
  "checkpoint.every_steps": 2,
}
# Feed-forward at 1, queries and keys at 2, values at 3, all at 4; first tokens
# are as all others at 5.
STEP = (
  "remove_norms(start=1, feed_forward_gap=1, query_key_gap=1, value_gap=1,"
  " end_delay=0, first_delay=1)"
)


def config(*entries, **changes):
  return support.tiny(GPT2, {"train.initialize_from": entries, **changes})


def test_a_killed_run_goes_on_bit_for_bit_in_the_middle_of_the_schedule(
  tmp_path,
):
  def stop(name, step):
    if (name, step) == ("step", 3):
      raise KeyboardInterrupt

  made = config(STEP)
  with pytest.raises(KeyboardInterrupt):
    train.run(made, tmp_path / "killed", stop)
  train.run(made, tmp_path / "killed")
  train.run(made, tmp_path / "straight")
  run = files.read_json(tmp_path / "killed" / files.RUN)
  assert run["resumed_at_steps"] == [2]
  killed, straight = (
    load_run(tmp_path / name).state for name in ("killed", "straight")
  )
  jax.tree.map(np.testing.assert_array_equal, killed, straight)
  for kind in ("train", "eval"):
    rows = [support.rows(tmp_path / n, kind) for n in ("killed", "straight")]
    assert rows[0] == rows[1]
  stats = straight.stats["layers"]["0"]["attention_input_norm"]
  assert int(stats["step"]) == 5
  assert stats["removed_at"].tolist() == [2, 3]


@pytest.mark.parametrize(
  ("step", "needed"),
  [(STEP, 5), ("taper_norms(taper_from=2, taper_steps=5)", 7)],
  ids=["remove_norms", "taper_norms"],
)
def test_a_schedule_that_outlasts_the_run_is_refused(step, needed):
  program.check_start(config(step, **{"train.num_steps": needed}))
  short = config(step, **{"train.num_steps": needed - 1})
  with pytest.raises(errors.UserError, match=f"ends at step {needed}, .* or"):
    program.check_start(short)
