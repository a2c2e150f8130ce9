"""Runs in which norms are removed: steps, micro-batches, and resuming."""

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
  "train.num_steps": 6,
  "train.accumulation_steps": 2,
  "evaluate.every_steps": 6,
  "checkpoint.every_steps": 3,
}
# Feed-forward 1, queries and keys 2, values 4; all 5, first tokens 6.
STEP = (
  "remove_norms(start=1, feed_forward_gap=1, query_key_gap=2, value_gap=1,"
  " end_delay=0, first_delay=1)"
)


def config(*entries, **changes):
  return support.tiny(GPT2, {"train.initialize_from": entries, **changes})


def test_a_killed_run_goes_on_bit_for_bit_in_the_middle_of_the_schedule(
  tmp_path,
):
  def stop(name, step):
    if (name, step) == ("step", 4):
      raise KeyboardInterrupt

  made = config(STEP)
  with pytest.raises(KeyboardInterrupt):
    train.run(made, tmp_path / "killed", stop)
  train.run(made, tmp_path / "killed")
  train.run(made, tmp_path / "straight")
  run = files.read_json(tmp_path / "killed" / files.RUN)
  assert run["resumed_at_steps"] == [3]
  killed, straight = (
    load_run(tmp_path / name).state for name in ("killed", "straight")
  )
  jax.tree.map(np.testing.assert_array_equal, killed, straight)
  for kind in ("train", "eval"):
    rows = [support.rows(tmp_path / n, kind) for n in ("killed", "straight")]
    assert rows[0] == rows[1]
  stats = straight.stats["layers"]["0"]["attention_input_norm"]
  # Counted per step, not per micro-batch.
  assert int(stats["step"]) == 6
  assert stats["removed_at"].tolist() == [2, 4]


@pytest.mark.parametrize(
  ("step", "needed"),
  [(STEP, 6), ("taper_norms(taper_from=2, taper_steps=5)", 7)],
)
def test_a_schedule_that_outlasts_the_run_is_refused(step, needed):
  program.check_start(config(step, **{"train.num_steps": needed}))
  short = config(step, **{"train.num_steps": needed - 1})
  with pytest.raises(errors.UserError, match=f"ends at step {needed}, .* or"):
    program.check_start(short)
