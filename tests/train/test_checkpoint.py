"""Checkpoints that changed on disk, or are another run's, are not used."""

import gc
import json
import random
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from normjax.train import checkpoint
from normjax.train.checkpoint import Checkpoints
from normjax.train.state import State

RUN = "0123456789ab"
CLOCK = {"train": 1.5, "eval": 0.25, "compile": 3.0}

# Orbax leaves coroutines behind where one of many fails to read.
pytestmark = pytest.mark.filterwarnings(
  "ignore::pytest.PytestUnraisableExceptionWarning",
  "ignore::pytest.PytestUnhandledThreadExceptionWarning",
)


@pytest.fixture(autouse=True, scope="module")
def collected():
  """Coroutines left behind end here, where their warnings are ignored."""
  yield
  gc.collect()


def make_state(step):
  """Every kind of leaf that a state has."""
  draw = np.random.default_rng(step)
  return State(
    step=jnp.asarray(step, jnp.int32),
    params={"kernel": jnp.asarray(draw.standard_normal((8, 4)), jnp.float32)},
    stats={"mean": jnp.zeros(4), "on": jnp.array([True, False])},
    grad_stats={},
    optimizer_state={
      "codes": jnp.asarray(draw.integers(0, 256, (2, 16)), jnp.uint8),
      "mu": jnp.asarray(draw.standard_normal((8, 4)), jnp.bfloat16),
      "key": jnp.asarray([step, 7], jnp.uint32),
    },
    diverged_at=jnp.asarray(-1, jnp.int32),
  )


def abstract(state):
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
  )


def save(directory, *steps, run_id=RUN):
  checkpoints = Checkpoints(directory, keep=3, run_id=run_id)
  for step in steps:
    checkpoints.save(make_state(step), CLOCK)
  checkpoints.close()


def restore(directory, run_id=RUN):
  checkpoints = Checkpoints(directory, keep=3, run_id=run_id)
  try:
    return checkpoints.restore(abstract(make_state(0)))
  finally:
    checkpoints.close()


def same(state, other):
  return jax.tree.all(
    jax.tree.map(
      lambda a, b: (
        a.dtype == b.dtype
        and np.asarray(a).tobytes() == np.asarray(b).tobytes()
      ),
      state,
      other,
    )
  )


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
  """A checkpoint folder of one step; tests must not change it."""
  directory = tmp_path_factory.mktemp("saved") / "ckpt"
  save(directory, 4)
  return directory


def flip_and_restore(saved, tmp_path, path, position, bit):
  """What restores, with its clock, after one bit of one file has changed."""
  folder = tmp_path / "flipped"
  shutil.rmtree(folder, ignore_errors=True)
  shutil.copytree(saved, folder / "ckpt")
  target = folder / "ckpt" / path.relative_to(saved)
  data = bytearray(target.read_bytes())
  data[position] ^= 1 << bit
  target.write_bytes(data)
  state, clock, problems = restore(folder / "ckpt")
  where = f"{path.relative_to(saved)}, byte {position}, bit {bit}"
  if state is None:
    assert "checkpoint 4 " in problems[0], where
    assert (folder / "ckpt-unreadable-4").is_dir(), where
  else:
    assert same(state, make_state(4)), where
    assert clock == CLOCK, where
  return state is None


def test_a_flipped_bit_is_set_aside_or_does_not_matter(saved, tmp_path):
  draw = random.Random(0)
  aside = set()
  for path in sorted(p for p in saved.rglob("*") if p.is_file()):
    place = draw.randrange(path.stat().st_size), draw.randrange(8)
    if flip_and_restore(saved, tmp_path, path, *place):
      aside.add(path.relative_to(saved).parts[1])
  assert {"state", "clock", "seal"} <= aside


@pytest.mark.slow
def test_flipped_bits_all_over_every_file(saved, tmp_path):
  draw = random.Random(1)
  for path in sorted(p for p in saved.rglob("*") if p.is_file()):
    size = path.stat().st_size
    places = range(size) if size < 100 else draw.sample(range(size), 100)
    for position in places:
      flip_and_restore(saved, tmp_path, path, position, draw.randrange(8))


def test_other_bits_below_the_readers_are_named(saved, tmp_path):
  """What no checksum of the files can see."""
  directory = tmp_path / "ckpt"
  shutil.copytree(saved, directory)
  path = directory / "4" / "seal" / "metadata"
  seal = json.loads(path.read_text())
  leaves = {**seal["leaves"], "params/kernel": "0" * 16}
  seal |= {"leaves": leaves}
  seal["seal"] = checkpoint._hash([seal["run_id"], leaves, seal["clock"]])
  path.write_text(json.dumps(seal))
  state, _, problems = restore(directory)
  assert state is None
  assert problems[0] == (
    "checkpoint 4 holds other bits than were saved in params/kernel;"
    " it was moved to ckpt-unreadable-4"
  )
  assert "starting over" in problems[1]


def test_another_run_s_checkpoint_is_set_aside(saved, tmp_path):
  shutil.copytree(saved, tmp_path / "ckpt")
  state, clock, problems = restore(tmp_path / "ckpt", run_id="ba9876543210")
  assert (state, clock) == (None, None)
  assert f"is of run {RUN}, not of this one, ba9876543210" in problems[0]
  assert (tmp_path / "ckpt-unreadable-4").is_dir()


def test_what_was_set_aside_earlier_stays(saved, tmp_path):
  for number in range(3):
    shutil.copytree(saved, tmp_path / "ckpt", dirs_exist_ok=True)
    (tmp_path / "ckpt" / "4" / "is number").write_text(str(number))
    restore(tmp_path / "ckpt", run_id="ba9876543210")
  for number, end in enumerate(("", "-2", "-3")):
    kept = tmp_path / f"ckpt-unreadable-4{end}" / "is number"
    assert kept.read_text() == str(number)


@pytest.mark.parametrize("name", [3, 9])
def test_a_checkpoint_under_another_step_s_name_is_set_aside(tmp_path, name):
  directory = tmp_path / "ckpt"
  save(directory, 2, 4)
  (directory / "4").rename(directory / str(name))
  state, _, problems = restore(directory)
  assert same(state, make_state(2))
  assert f"checkpoint {name} is of step 4" in problems[0]


def test_the_one_before_is_taken(tmp_path):
  directory = tmp_path / "ckpt"
  save(directory, 2, 4)
  (directory / "4" / "clock" / "metadata").write_text('{"train": 9.0}')
  state, _, problems = restore(directory)
  assert same(state, make_state(2))
  assert "has a clock that is not the one that was saved" in problems[0]


def test_a_checkpoint_of_an_earlier_version_is_taken_and_said(saved, tmp_path):
  shutil.copytree(saved, tmp_path / "ckpt")
  shutil.rmtree(tmp_path / "ckpt/4/seal")
  state, clock, problems = restore(tmp_path / "ckpt")
  assert same(state, make_state(4))
  assert clock == CLOCK
  assert problems == [
    "checkpoint 4 has no fingerprints, being of an earlier version; it was"
    " taken as it is"
  ]


@pytest.mark.parametrize(
  "error",
  [
    MemoryError(),
    OSError(13, "Permission denied"),
    RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes"),
  ],
)
def test_a_machine_that_fails_costs_no_checkpoint(
  saved, tmp_path, monkeypatch, error
):
  shutil.copytree(saved, tmp_path / "ckpt")

  def fail(*arguments):
    raise error

  monkeypatch.setattr(checkpoint, "check_seal", fail)
  with pytest.raises(type(error)):
    restore(tmp_path / "ckpt")
  monkeypatch.undo()
  assert same(restore(tmp_path / "ckpt")[0], make_state(4))
