"""A run that learns nothing any more says since when."""

import pytest

from normjax import build, configure, train
from normjax.record import files, recorder
from tests import support

CONFIG = {
  **{k: v for k, v in support.RESNET.items() if "model." not in k},
  "model.name": "mlp",
  "model.num_layers": 1,
  "model.hidden_dim": 8,
  "norm.name": "rms_norm",
  # Its bias learns the frequencies of the classes, whatever the rest does.
  "train.output_frozen": True,
}


class _Dead:
  """A set whose images are too large for a norm in some steps.

  The mean square of what the norm reads is infinite, its output and its
  gradient are 0; the loss is that of the head's bias, log 10.
  """

  def __init__(self, held, steps):
    self._held, self._steps = held, steps

  def __getattr__(self, name):
    return getattr(self._held, name)

  def train_batch(self, seed, step, batch_size):
    batch = self._held.train_batch(seed, step, batch_size)
    if step in self._steps:
      batch["inputs"] = batch["inputs"] * 1e20
    return batch


def _run(monkeypatch, directory, steps, observe=None, **changes):
  config = configure.override(
    configure.load("configs/default.py"), {**CONFIG, **changes}
  )
  dead = _Dead(build.dataset(config), steps)
  with monkeypatch.context() as patch:
    patch.setattr(build, "dataset", lambda config: dead)
    return train.run(config, directory, *([observe] if observe else []))


@pytest.mark.parametrize(
  ("steps", "log_every", "since"),
  [
    (range(0), 1, None),
    (range(12), 1, 0),
    (range(4, 12), 1, 4),
    # It came to itself again.
    (range(4, 8), 1, None),
    ((*range(2, 5), *range(7, 12)), 1, 7),
    # Of steps without a row the last is looked at too.
    (range(4, 12), 5, 5),
    (range(4, 11), 5, None),
    (range(11, 12), 5, 11),
  ],
)
def test_since_when_the_gradient_is_zero(
  monkeypatch, tmp_path, steps, log_every, since
):
  result = _run(monkeypatch, tmp_path, steps, **{"log.every_steps": log_every})
  assert result["state"] == "done"
  assert result["gradient_zero_since_step"] == since
  assert files.read_json(tmp_path / files.RESULT) == result
  rows = support.rows(tmp_path, "train")
  for row in rows:
    assert (row["grad_norm"] == 0) == (row["step"] in steps)
    assert 0 < row["loss"] < 10


@pytest.mark.parametrize("stopped_at", [7, 10])
def test_it_survives_an_interruption(monkeypatch, tmp_path, stopped_at):
  """The step is before the checkpoint, and the first rows are read again."""

  def stop(name, step):
    if (name, step) == ("step", stopped_at):
      raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    _run(monkeypatch, tmp_path, range(2, 12), stop)
  result = _run(monkeypatch, tmp_path, range(2, 12))
  assert files.read_json(tmp_path / files.RUN)["resumed_at_steps"]
  assert result["gradient_zero_since_step"] == 2


@pytest.mark.parametrize(
  ("norm", "loss", "dead"),
  [
    (0.0, 2.3, True),
    (0.0, 0.0, False),
    (1e-30, 2.3, False),
    (0.0, None, False),
    (None, 2.3, False),
    (0.0, float("nan"), False),
    (float("nan"), 2.3, False),
  ],
)
def test_a_solved_problem_is_not_a_dead_network(norm, loss, dead):
  gradient = recorder.ZeroGradient()
  for step in (3, 4):
    gradient.see(step, norm, loss)
    assert gradient.since_step == (3 if dead else None)
