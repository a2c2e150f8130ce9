"""What counts as waiting for data, on a made-up device."""

import threading
import time

import pytest

from normjax.train.throughput import data_wait


class Running:
  """An array that is there after some seconds."""

  def __init__(self, seconds):
    self.end_s = time.perf_counter() + seconds

  def is_ready(self):
    return time.perf_counter() >= self.end_s

  def block_until_ready(self):
    time.sleep(max(0.0, self.end_s - time.perf_counter()))


def _slow(seconds):
  def make():
    time.sleep(seconds)
    return "batch"

  return make


def test_a_batch_that_is_there_in_time_is_not_waited_for():
  wait = data_wait.DataWait()
  for _ in range(2):
    assert wait.fetch(_slow(0.01), Running(0.1)) == ("batch", 0.0)


def test_all_of_a_batch_counts_where_the_devices_are_idle():
  wait = data_wait.DataWait()
  _, waited_s = wait.fetch(_slow(0.02), Running(0.0))
  assert waited_s == pytest.approx(0.02, abs=0.02)
  assert waited_s >= 0.02


def test_of_a_long_batch_that_counts_which_comes_after_the_step():
  wait = data_wait.DataWait()
  wait.fetch(_slow(0.01), Running(0.1))  # Long ones are looked at.
  _, waited_s = wait.fetch(_slow(0.3), Running(0.2))
  assert 0.03 < waited_s < 0.25


def test_batches_that_come_at_once_start_no_thread():
  before = threading.active_count()
  wait = data_wait.DataWait()
  data_wait._watcher.cache_clear()
  for _ in range(3):
    wait.fetch(lambda: "batch", Running(0.0005))
  assert threading.active_count() == before
