import os
import subprocess
import sys
import time

import numpy as np
import pytest

from normjax import errors
from normjax.data import ahead

TWO = ahead.Reading(threads=1, batches=2)


def _counting(made):
  def make(seed, step, batch_size):
    made.append((seed, step))
    if step == 7 and seed == 0:
      raise errors.DataError("a bad file")
    return {"inputs": np.full(batch_size, 100 * seed + step)}

  return make


def test_runs_side_by_side_have_each_batch_made_once():
  made = []
  reader = ahead.ReadAhead(_counting(made), TWO)
  for step in range(5):
    for seed in (1, 2, 1, 2):
      batch = reader.batch(seed, step, 3)
      np.testing.assert_array_equal(batch["inputs"], [100 * seed + step] * 3)
  assert len(made) == len(set(made))
  # What is ahead is at most as much as was asked for, and one in the making.
  assert {step for _, step in made} <= set(range(5 + 3))


def test_an_error_comes_with_its_own_batch():
  reader = ahead.ReadAhead(_counting([]), TWO)
  for step in range(7):
    reader.batch(0, step, 1)
  with pytest.raises(errors.DataError, match="a bad file"):
    reader.batch(0, 7, 1)
  assert reader.batch(0, 8, 1)["inputs"] == 8


def test_what_seeds_that_are_over_had_ahead_is_let_go():
  made = []
  reader = ahead.ReadAhead(_counting(made), ahead.Reading())
  for seed in range(1, 20):
    for step in range(30):
      reader.batch(seed, step, 1)
  assert len(reader._readers) <= 2


def test_many_seeds_side_by_side_each_read_ahead():
  made = []
  reader = ahead.ReadAhead(_counting(made), ahead.Reading())
  for step in range(4):
    for seed in range(40):
      reader.batch(seed, step, 1)
  assert len(reader._readers) == 40
  assert len(made) == len(set(made))
  reader.close()


@pytest.mark.parametrize("threads", [2, 3])
def test_several_threads_keep_the_order(threads):
  def make(seed, step, batch_size):
    time.sleep(0.002 * (step % 3))
    return {"inputs": np.full(batch_size, step)}

  reader = ahead.ReadAhead(make, ahead.Reading(threads))
  seen = [int(reader.batch(0, step, 1)["inputs"][0]) for step in range(12)]
  assert seen == list(range(12))


def _of_process(seed, step, batch_size):
  """A batch that says which process made it."""
  if step == 5:
    raise errors.DataError("a bad file")
  return {"inputs": np.full(batch_size, seed + step), "process": os.getpid()}


def test_processes_make_the_batches_that_follow():
  reader = ahead.ReadAhead(_of_process, ahead.Reading(workers=1))
  batches = [reader.batch(2, step, 3) for step in range(5)]
  for step, batch in enumerate(batches):
    np.testing.assert_array_equal(batch["inputs"], [2 + step] * 3)
  here, *there = (batch["process"] for batch in batches)
  assert here == os.getpid()
  assert {*there} != {here}
  with pytest.raises(errors.DataError, match="a bad file"):
    reader.batch(2, 5, 3)
  reader.close()


@pytest.mark.slow
def test_processes_outlive_signals_but_not_their_run():
  code = (
    "import os, signal, time\n"
    "from normjax.data import ahead\n"
    "from tests.data.test_ahead import _of_process\n"
    "if __name__ == '__main__':\n"
    "  reader = ahead.ReadAhead(_of_process, ahead.Reading(workers=1))\n"
    "  reader.batch(0, 0, 1)\n"
    "  there = int(reader.batch(0, 1, 1)['process'])\n"
    "  for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2):\n"
    "    os.kill(there, number)\n"
    "  reader.batch(0, 2, 1), reader.batch(0, 3, 1), reader.batch(0, 4, 1)\n"
    "  print(there, flush=True)\n"
    "  os.kill(os.getpid(), signal.SIGKILL)\n"
  )
  done = subprocess.run(
    [sys.executable, "-c", code], capture_output=True, text=True, timeout=60
  )
  assert done.returncode == -9, done.stderr
  there = int(done.stdout)
  end_s = time.monotonic() + 20
  while os.path.exists(f"/proc/{there}") and time.monotonic() < end_s:
    time.sleep(0.1)
  assert not os.path.exists(f"/proc/{there}")


@pytest.mark.slow
def test_a_process_that_is_gone_is_an_error_that_says_what_to_do(tmp_path):
  """A script without a guard starts itself anew in each process."""
  script = tmp_path / "script.py"
  script.write_text(
    "from normjax.data import ahead\n"
    "from tests.data.test_ahead import _of_process\n"
    "reader = ahead.ReadAhead(_of_process, ahead.Reading(workers=1))\n"
    "reader.batch(0, 0, 1), reader.batch(0, 1, 1)\n"
  )
  done = subprocess.run(
    [sys.executable, str(script)], capture_output=True, text=True, timeout=60
  )
  assert done.returncode == 1
  assert "data.workers=1: a process that makes batches ended" in done.stderr
  assert "if __name__ == '__main__':" in done.stderr


@pytest.mark.parametrize("option", ["threads", "workers"])
def test_numbers_that_are_none_are_named(option):
  with pytest.raises(errors.UserError, match=f"c4: {option}=-1; allowed: an"):
    ahead.Reading(**{option: -1}).check("c4")
  with pytest.raises(
    errors.UserError, match=f"{option}=257; allowed: 0 to 256"
  ):
    ahead.Reading(**{option: 257}).check("c4")


def test_none_ahead_makes_what_is_asked_for():
  made = []
  reader = ahead.ReadAhead(_counting(made), ahead.NOTHING_AHEAD)
  for step in (0, 1, 1, 2):
    reader.batch(0, step, 1)
  assert made == [(0, 0), (0, 1), (0, 1), (0, 2)]
