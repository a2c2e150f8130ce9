"""Members of a population: what each gives, and that no other notices."""

import itertools
import json
import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from normjax import build, configure, errors, stopping
from normjax.record import choices, files
from normjax.train import entry, program
from normjax.train.population import choice, chunks
from normjax.train.population import together as together_lib
from normjax.train.throughput import peaks
from tests import support

BASE = {
  "train.num_steps": 6,
  "evaluate.every_steps": 3,
  "checkpoint.every_steps": 2,
  "norm.name": "batch_norm",
}
LANES = {
  "first": {},
  "other seed and rate": {"seed": 3, "optimizer.learning_rate": 0.01},
  "shorter": {"train.num_steps": 3, "log.every_steps": 2},
}
LAST = ("ckpt/6/seal/metadata", "ckpt/3/seal/metadata")
DIVERGES = {"optimizer.learning_rate": 1e30, "train.gradient_clip": 0.0}


def _runs(directory, lanes=LANES, observe=None):
  return [
    entry.Run(
      support.tiny_mlp(BASE, change),
      directory / name,
      *([observe[name]] if observe and name in observe else []),
    )
    for name, change in lanes.items()
  ]


def _content(directory):
  """Rows, and what the checkpoints hold."""
  found = {kind: support.rows(directory, kind) for kind in ("train", "eval")}
  for path in (directory / files.CHECKPOINTS).glob("*/seal/metadata"):
    leaves = json.loads(path.read_text())["leaves"]
    found[str(path.relative_to(directory))] = leaves
  return found


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
  """What the members give that nothing has stopped."""
  directory = tmp_path_factory.mktemp("straight")
  results = entry.run_together(_runs(directory), most=4)
  assert [result["state"] for result in results] == ["done"] * 3
  assert [result["steps"] for result in results] == [6, 6, 3]
  return directory


def test_the_record_says_where_a_member_stood(straight):
  told = [
    files.read_json(straight / name / files.RUN)["provenance"]["population"]
    for name in LANES
  ]
  assert told == [
    {"size": 3, "place": place, "batches": "own"} for place in range(3)
  ]


def test_trials_of_one_seed_have_their_batches_in_common(
  straight, tmp_path, monkeypatch
):
  """A larger rate changes nothing for the member beside it."""
  monkeypatch.setattr(peaks, "flops_per_s", lambda *_: 1e12)
  lanes = {"first": {}, "faster": {"optimizer.learning_rate": 0.01}}
  runs = _runs(tmp_path, lanes)
  result, _ = entry.run_together(runs, most=4)
  assert result["peak_flops_per_s"] == 0.5e12  # Its share of the device.
  assert 0 < result["mfu"] < 1
  record = files.read_json(tmp_path / "first" / files.RUN)
  told = record["provenance"]["population"]
  assert told == {"size": 2, "place": 0, "batches": "of all"}
  for kind in ("train", "eval"):
    want = support.rows(straight / "first", kind)
    found = support.rows(tmp_path / "first", kind)
    for name in ("step", "loss"):
      np.testing.assert_allclose(
        [row[name] for row in found], [row[name] for row in want], rtol=1e-5
      )


def test_others_do_not_notice_that_one_diverges(straight, tmp_path):
  lanes = {**LANES, "first": DIVERGES}
  results = entry.run_together(_runs(tmp_path, lanes), most=4)
  assert [result["state"] for result in results] == ["diverged", "done", "done"]
  assert results[0]["diverged_at_step"] < results[0]["steps"] <= 6
  for name in list(LANES)[1:]:
    assert _content(tmp_path / name) == _content(straight / name)


def test_after_a_kill_all_go_on_bit_for_bit(straight, tmp_path):
  """Also where the newest checkpoint of one is lost, and one is over."""

  def kill(*event):
    if event == ("step", 4):
      os.kill(os.getpid(), 15)

  runs = _runs(tmp_path, observe={"first": kill})
  with stopping.interruptible(), pytest.raises(KeyboardInterrupt):
    entry.run_together(runs, most=4)
  for name, step in zip(LANES, "553", strict=True):
    assert (tmp_path / name / files.CHECKPOINTS / step).is_dir()
  shutil.rmtree(tmp_path / "first" / files.CHECKPOINTS / "5")
  again = dict(reversed(LANES.items()))
  entry.run_together(_runs(tmp_path, again), most=4)
  for name in LANES:
    found, want = _content(tmp_path / name), _content(straight / name)
    for kind in ("train", "eval", *LAST):
      assert found.get(kind) == want.get(kind), (name, kind)
    assert files.read_json(tmp_path / name / files.RUN)["problems"] == []


def test_one_that_is_ahead_waits_until_the_others_are_over(straight, tmp_path):
  """What is shared is then at a step to which nobody has taken it."""
  shutil.copytree(straight, tmp_path, dirs_exist_ok=True)
  for name in LANES:
    (tmp_path / name / files.RESULT).unlink()
  for name in list(LANES)[:2]:
    shutil.rmtree(tmp_path / name / files.CHECKPOINTS / "6")
  shutil.rmtree(tmp_path / "shorter" / files.CHECKPOINTS / "3")
  entry.run_together(_runs(tmp_path), most=4)
  for name in LANES:
    found, want = _content(tmp_path / name), _content(straight / name)
    for kind in ("train", "eval", *LAST):
      assert found.get(kind) == want.get(kind), (name, kind)


def test_a_member_goes_on_alone_and_is_marked(straight, tmp_path):
  name = "other seed and rate"
  shutil.copytree(straight / name, tmp_path / name)
  (tmp_path / name / files.RESULT).unlink()
  shutil.rmtree(tmp_path / name / files.CHECKPOINTS / "6")
  (run,) = _runs(tmp_path, {name: LANES[name]})
  entry.run_together([run])
  record = files.read_json(tmp_path / name / files.RUN)
  assert record["problems"] == [
    "before step 4 it trained at place 1 of a population of 3, now alone"
  ]
  assert record["provenance"]["population"] == {"size": 1}
  want = support.rows(straight / name, "train")
  found = support.rows(tmp_path / name, "train")
  assert found[:4] == want[:4]
  np.testing.assert_allclose(found[5]["loss"], want[5]["loss"], rtol=1e-5)


def test_one_on_several_devices_is_no_member(tmp_path):
  runs = _runs(tmp_path, {str(n): {"seed": n} for n in range(2)})
  for run in runs:
    run.config.train.num_devices = 2
  with pytest.raises(errors.UserError, match="takes 2 .*num_devices=1, or"):
    entry.run_together(runs, most=2)
  axes = [f"train.layout.{axis}" for axis in ("fsdp", "tensor")]
  sizes = dict(zip(axes, (2, 1), strict=True))
  split = [
    each._replace(config=configure.override(each.config, sizes))
    for each in runs
  ]
  with pytest.raises(errors.UserError, match="=1 and train.layout.fsdp=1, or"):
    entry.run_together(split, most=2)


# ----- Who stands where -----


def _placed(tmp_path, *facts, seeds=range(10)):
  """Runs that stood there, and have a checkpoint; None: new ones."""
  lanes = {
    str(n): {"seed": seed, "optimizer.learning_rate": 0.1 + n}
    for n, (_, seed) in enumerate(zip(facts, seeds, strict=False))
  }
  runs = _runs(tmp_path, lanes)
  for run, told in zip(runs, facts, strict=True):
    if told is not None:
      (run.directory / files.CHECKPOINTS / "2").mkdir(parents=True)
      run.files.write_run(
        config={}, problems=[], provenance={"population": told}
      )
  return runs


def _at(size, place):
  return {"size": size, "place": place, "batches": "own"}


def test_places_are_kept(tmp_path):
  begun = _at(3, 2), _at(3, 0), None, _at(8, 5), {"size": 1}, _at(3, 2)
  found = [
    (chunk.size, [run.config.seed for run in chunk.runs], list(chunk.places))
    for chunk in chunks.split(_placed(tmp_path, None, *begun), 4)
  ]
  # Who was alone stays so; a population of 8 is too large now.
  assert found == [
    (1, [5], []),
    (3, [1, 2], [2, 0]),
    (3, [6], [2]),
    (3, [0, 3, 4], [0, 1, 2]),
  ]


def test_batches_are_of_all_whose_seed_it_is(tmp_path):
  """Members of two populations that each had one seed's in common."""
  alike = [_at(2, place) | {"batches": "of all"} for place in (0, 1, 0, 1)]
  runs = _placed(tmp_path, *alike, seeds=(0, 1, 1, 0))
  found = [
    (sorted(run.config.seed for run in chunk.runs), chunk.same_batches)
    for chunk in chunks.split(runs, 4)
  ]
  assert found == [([0, 0], True), ([1, 1], True)]


@pytest.mark.parametrize(
  "told",
  [
    _at(2, 2),
    _at(2, -1),
    _at(2, "0"),
    _at("2", 0),
    _at(2, True),
    _at(1, 0),
    {**_at(2, 0), "batches": "some"},
  ],
)
def test_what_is_no_place_is_none(tmp_path, told):
  """A record that was damaged: such a run goes on alone."""
  (chunk,) = chunks.split(_placed(tmp_path, told), 2)
  assert chunk.size == 1


def test_chunks_are_halved_until_they_fit(tmp_path, monkeypatch):
  """Of 100 bytes per member; a tenth of the device is left free."""
  runs = _placed(tmp_path, *[None] * 5)

  def compiled(self, size, **kinds):
    return together_lib.Compiled(size, None, None, 100 * size, 0.0)

  monkeypatch.setattr(together_lib.Together, "get", compiled)

  def sizes(limit_bytes):
    return [chunk.size for chunk in chunks.split(runs, 4, lambda: limit_bytes)]

  assert sizes(None) == sizes(450) == [4, 1]
  assert sizes(440) == [2, 3]
  assert sizes(150) == [1] * 5


def test_a_choice_that_memory_did_not_allow_is_one_too(tmp_path, monkeypatch):
  """Else each list of runs would try again, and one may come through."""

  def timed(runs, most):
    raise MemoryError

  monkeypatch.setattr(choice, "_timed", timed)
  runs = _runs(tmp_path)
  assert choice.members(runs, 4, tmp_path) == 1
  monkeypatch.undo()
  assert choice.members(runs, 4, tmp_path) == 1
  found = choices.read(tmp_path, build.program_key(runs[0].config))
  assert (found["together"], found["why"]) == (False, "memory")


# ----- As good as alone -----

_OPTIMIZERS = ("adamw", "muon", "conda", "adam_8bit")
_NORMS = ("layer_norm", "batch_norm", "power_norm")
_PAIRS = [
  pytest.param(
    *pair, marks=[] if pair == ("muon", "batch_norm") else pytest.mark.slow
  )
  for pair in itertools.product(_OPTIMIZERS, _NORMS)
]
MORE = {
  "train.ema_decay": 0.9,
  "evaluate.weights": "ema",
  "train.output_frozen": True,
  "train.mixup_alpha": 0.2,
}


@pytest.mark.parametrize(("optimizer", "norm"), _PAIRS)
def test_losses_are_those_of_a_run_alone(optimizer, norm, tmp_path):
  """Off by no more than 3 times what 1e-7 of the weights makes."""
  change = {
    "optimizer.name": optimizer,
    "norm.name": norm,
    "train.num_steps": 5,
    **({"model.hidden_dim": 64} if optimizer == "adam_8bit" else MORE),
  }
  lanes = {
    str(n): {**change, "seed": n, "checkpoint.every_steps": 0} for n in range(3)
  }
  runs = _runs(tmp_path, lanes)
  entry.run_together(runs, most=3)
  for run in runs:
    rows = support.rows(run.directory, "train")
    alone = _losses(run.config, 0.0)
    others = [_losses(run.config, 1e-7, draw) for draw in range(3)]
    bound = 3 * np.max(np.abs(np.array(others) - alone), axis=0)
    # Half a unit in the last place may round to a whole one.
    bound = np.maximum.accumulate(bound) + np.spacing(np.float32(alone))
    found = np.array([row["loss"] for row in rows])
    assert np.all(np.abs(found - alone) <= bound), (found - alone, bound)


def _losses(config, scale, draw=0):
  """Of a run alone, whose first weights are off by a relative `scale`."""
  compiled, _ = program.get(config)
  dataset, hyper = build.dataset(config), build.hyper(config)

  def batch(step):
    return compiled.layout.put_batch(
      dataset.train_batch(config.seed, step, config.train.batch_size)
    )

  hyper = compiled.layout.put_scalars(hyper)
  state = compiled.initialize(hyper, batch(0))
  rng = np.random.default_rng(draw)
  params = jax.tree.map(
    lambda w: jnp.float32(w * (1 + scale * rng.choice([-1, 1], w.shape))),
    state.params,
  )
  state = jax.device_put(
    state._replace(params=params),
    jax.tree.map(lambda x: x.sharding, compiled.abstract_state),
  )
  losses = []
  for step in range(config.train.num_steps):
    state, metrics = compiled.step(state, batch(step), hyper)
    losses.append(float(metrics["loss"]))
  return np.array(losses)
