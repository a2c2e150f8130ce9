"""What a sweep does about each event, in which order; no process is started.

Events are told by a script; a run's result is there when its end is told.
"""

import json

import pytest
from in_process import InProcess

from normjax import errors
from normjax.record.directory import (
  ATTEMPTS,
  RUNS,
  Attempts,
  RunState,
  SweepDirectory,
)
from normjax.record.lease import Leases
from normjax.sweep import launch, local
from normjax.sweep.executor import (
  Began,
  Cause,
  Died,
  Failed,
  Finished,
  Interrupted,
  NoRoomError,
  Note,
  Preempted,
  Ready,
)
from normjax.sweep.plan import Point

LATER = "later"


class Stage:
  """A launcher, its executor and its watcher; all that happens is in `told`."""

  same_machine = True

  def __init__(self, out, *script, num_slots=1, last=(), room=9, **options):
    self.told = []
    self._script = [*script]
    self._last = last
    self._room = room
    self._out = out
    (out / RUNS).mkdir(exist_ok=True)
    self._attempts = (out / ATTEMPTS).open("ab+", buffering=0)
    self.launcher = launch.Launcher(
      **{
        "executor": self,
        "directory": SweepDirectory(out),
        "leases": Leases(out),
        "num_slots": num_slots,
        "retries": 1,
        "attempts": Attempts(self._attempts),
        "stopping": lambda: not self._script,
        "watcher": self,
        **options,
      },
    )

  # As an executor:

  def start(self, slot):
    if not self._room:
      raise NoRoomError("no memory")
    self._room -= 1
    self.told.append(f"start {slot}")

  def submit(self, slot, lanes):
    names = " ".join(lane.directory.name for lane in lanes)
    self.told.append(f"submit {slot}: {names}")

  def events(self, timeout_s):
    return self._tell(self._script.pop(0))

  def end(self, slot):
    self.told.append(f"end {slot}")

  def stop(self, grace_s):
    self.told.append(f"stop {grace_s:g}")
    return list(self._tell(self._last))

  def _tell(self, events):
    for event in events:
      if isinstance(event, Finished):
        end = SweepDirectory(self._out / LATER).run(event.run_id).path
        if end.exists():
          end.rename(SweepDirectory(self._out).run(event.run_id).path)
      yield event

  # As a watcher:

  def note(self, text):
    self.told.append(f"note: {text}")

  def over(self, point, result, wall_s):
    self.told.append(f"over: {point.run_id} {result['state']} {wall_s:g}")

  def failed(self, point, message, again):
    then = "again" if again else "given up"
    self.told.append(f"failed: {point.run_id} {message}, {then}")

  def tick(self, launcher):
    assert launcher is self.launcher

  def run(self, points, stop=False):
    """Runs points; returns what was told, and the attempts."""
    try:
      self.launcher.run(points)
    finally:
      if stop:
        self.launcher.stop()
      self._attempts.close()
    return self.told, self.attempts()

  def attempts(self):
    with open(self._attempts.name) as file:
      rows = [json.loads(line) for line in file]
    return [f"{row['run_id']} {row['state']}" for row in rows]


@pytest.fixture
def stage(tmp_path):
  """Makes a stage; its script is what `events` returns, call by call."""
  return lambda *script, **options: Stage(tmp_path, *script, **options)


@pytest.fixture
def points(tmp_path):
  """`a1 b1! c1?`: points of three programs; one diverged, one has no result."""

  def points(text):
    made = []
    for name in text.split():
      run_id = name.rstrip("?!")
      if not name.endswith("?"):
        diverged = name.endswith("!")
        SweepDirectory(tmp_path / LATER).run(run_id).write_result(
          RunState.DIVERGED if diverged else RunState.DONE,
          steps=4,
          metrics={},
          compile_s=1.0,
        )
      made.append(Point(run_id, "final", run_id[0], {}, 0, run_id[0]))
    return made

  return points


def _ran(slot, *run_ids):
  """The events of runs that finish."""
  return [
    event
    for run_id in run_ids
    for event in (Began(slot, run_id), Finished(slot, run_id, 2.5))
  ]


def test_the_order_of_a_run_without_trouble(stage, points):
  told, attempts = stage(
    [Note("the queue is long"), Ready(0)],
    [Began(0, "a1")],
    [],
    [Finished(0, "a1", 2.5), Ready(1)],
    _ran(0, "a2") + _ran(1, "b1"),
    num_slots=2,
  ).run(points("a1 a2! b1"))
  assert told == [
    "start 0",
    "start 1",
    "note: the queue is long",
    "submit 0: a1",
    "over: a1 done 2.5",
    "submit 0: a2",
    "submit 1: b1",
    "over: a2 diverged 2.5",
    "over: b1 done 2.5",
  ]
  assert attempts == ["a1 done", "a2 diverged", "b1 done"]


def test_what_a_place_takes_back_counts_no_attempt(stage, points):
  """Of two runs one had begun; both go on in the slot's next life."""
  told, attempts = stage(
    [Ready(0)],
    [Began(0, "a1"), Preempted(0, "a1"), Preempted(0, "a2"), Died(0, "x")],
    [Ready(0)],
    _ran(0, "a1", "a2"),
    retries=0,
    max_lanes=2,
  ).run(points("a1 a2"))
  assert told == [
    "start 0",
    "submit 0: a1 a2",
    "start 0",
    "submit 0: a1 a2",
    "over: a1 done 2.5",
    "over: a2 done 2.5",
  ]
  assert attempts == ["a1 interrupted", "a1 done", "a2 done"]


def test_what_a_program_took_is_remembered(stage, points):
  scene = stage([Ready(0)], _ran(0, "a1"))
  scene.run(points("a1"))
  assert scene.launcher.timings.expect_point_s("a") == 1.5
  assert scene.launcher.timings.expect_compile_s("a") == 1.0
  assert scene.launcher.slots[0].compiled == {"a"}


@pytest.mark.parametrize(
  ("cause", "retries", "tries"),
  [
    (Cause.ERROR, 0, 1),
    (Cause.ERROR, 2, 3),
    (Cause.BUSY, 1, 2),
    (Cause.INPUT, 5, 1),
  ],
)
def test_a_failed_run_is_tried_again(stage, points, cause, retries, tries):
  failure = [Began(0, "a1"), Failed(0, "a1", "why", cause)]
  told, attempts = stage([Ready(0)], *[failure] * tries, retries=retries).run(
    points("a1?")
  )
  again = ["submit 0: a1", "failed: a1 why, again"] * (tries - 1)
  assert told == [
    "start 0", *again, "submit 0: a1", "failed: a1 why, given up",
  ]  # fmt: skip
  assert attempts == ["a1 failed"] * tries


def test_a_retry_waits_for_its_turn(stage, points):
  told, _ = stage(
    [Ready(0)],
    [Began(0, "a1"), Failed(0, "a1", "why", Cause.ERROR)],
    _ran(0, "a2"),
    _ran(0, "a1"),
  ).run(points("a1 a2"))
  assert told[1::2] == ["submit 0: a1", "submit 0: a2", "submit 0: a1"]


def test_a_run_without_a_result_has_failed(stage, points, tmp_path):
  told, attempts = stage([Ready(0)], _ran(0, "a1"), retries=0).run(
    points("a1?")
  )
  assert told[-1] == (
    f"failed: a1 the run ended without {tmp_path}/runs/a1/result.json, given up"
  )
  assert attempts == ["a1 failed"]


def test_out_of_memory_the_slot_goes_and_takes_no_other_point_along(
  stage, points
):
  told, attempts = stage(
    [Ready(0)],
    [Began(0, "a1"), Failed(0, "a1", "full", Cause.MEMORY)],
    [Ready(0)],
    _ran(0, "a2", "a1"),
    max_lanes=2,
  ).run(points("a1 a2"))
  assert told == [
    "start 0", "submit 0: a1 a2", "end 0", "failed: a1 full, again",
    "start 0", "submit 0: a2 a1", "over: a2 done 2.5", "over: a1 done 2.5",
  ]  # fmt: skip
  assert attempts == ["a1 failed", "a2 done", "a1 done"]


def test_a_disk_s_fault_ends_the_sweep(stage, points):
  scene = stage(
    [Ready(0), Ready(1)],
    [Began(1, "b1"), Began(0, "a1"), Failed(0, "a1", "full.", Cause.DISK)],
    num_slots=2,
  )
  with pytest.raises(errors.RunError, match=r"^full\. What is done is kept; "):
    scene.run(points("a1 b1"), stop=True)
  assert scene.told[-1] == "stop 25"
  assert scene.attempts() == ["a1 failed", "b1 interrupted"]


def test_what_a_slot_was_at_when_it_died_is_tried_again(stage, points):
  told, attempts = stage(
    [Ready(0)],
    [*_ran(0, "a1"), Began(0, "a2"), Died(0, "killed")],
    [Ready(0)],
    _ran(0, "a3", "a2"),
    max_lanes=3,
  ).run(points("a1 a2 a3"))
  assert told == [
    "start 0", "submit 0: a1 a2 a3", "over: a1 done 2.5",
    "failed: a2 killed, again",
    "start 0", "submit 0: a3 a2", "over: a3 done 2.5", "over: a2 done 2.5",
  ]  # fmt: skip
  assert attempts == ["a1 done", "a2 failed", "a3 done", "a2 done"]


def test_a_slot_that_dies_before_any_run_begins_is_not_tried_for_ever(
  stage, points
):
  told, _ = stage(*[[Ready(0)], [Died(0, "killed")]] * 4).run(
    points("a1? a2?"), stop=True
  )
  # The last signal to stop comes from the end of the script.
  assert [text for text in told if "failed" in text] == [
    "failed: a1 killed, again", "failed: a2 killed, again",
    "failed: a1 killed, given up", "failed: a2 killed, given up",
  ]  # fmt: skip


def test_a_slot_that_ends_between_points_is_replaced(stage, points):
  told, attempts = stage(
    [Ready(0)], [*_ran(0, "a1"), Died(0, "gone")], [Ready(0)], _ran(0, "a2")
  ).run(points("a1 a2"))
  assert told[2:] == [
    "over: a1 done 2.5", "start 0", "submit 0: a2", "over: a2 done 2.5",
  ]  # fmt: skip
  assert attempts == ["a1 done", "a2 done"]


def test_a_run_that_the_slot_does_not_have_ends_the_slot(stage, points):
  what = "the worker told of run b7, which it did not have"
  told, _ = stage(
    [Ready(0)], [Began(0, "a1"), Began(0, "b7")], [Ready(0)], _ran(0, "a1")
  ).run(points("a1"))
  assert told[2:4] == ["end 0", f"failed: a1 {what}, again"]
  assert told[-1] == "over: a1 done 2.5"


def test_a_run_that_begins_twice_ends_the_slot(stage, points):
  told, _ = stage(
    [Ready(0)], [Began(0, "a1"), Began(0, "a1")], [Ready(0)], _ran(0, "a1")
  ).run(points("a1"))
  assert told[2] == "end 0"
  assert told[-1] == "over: a1 done 2.5"


def test_three_bad_starts_are_enough(stage, points):
  scene = stage(*[[Died(0, "no module")]] * 4)
  with pytest.raises(errors.RunError, match="do not start: no module. What"):
    scene.run(points("a1"))
  assert scene.told == ["start 0"] * 3
  scene = stage(
    [Ready(0), Died(1, "x")], [Died(1, "x")], [Died(1, "x")], _ran(0, "a1"),
    _ran(0, "b1"), num_slots=2,
  )  # fmt: skip
  told, _ = scene.run(points("a1 b1"))
  assert told.count("start 1") == 3
  assert "note: workers do not start: x. Going on with 1." in told
  assert told[-1] == "over: b1 done 2.5"


def test_without_room_there_are_fewer_slots(stage, points):
  told, _ = stage([Ready(0)], _ran(0, "a1"), num_slots=2, room=1).run(
    points("a1 b1?")
  )
  assert told[1] == "note: workers do not start: no memory. Going on with 1."
  with pytest.raises(errors.RunError, match="do not start: no memory. What"):
    stage([Ready(0)], room=0).run(points("a1"))


def test_an_interruption_from_elsewhere_is_a_failure(stage, points):
  told, attempts = stage(
    [Ready(0)],
    [Began(0, "a1"), Interrupted(0, "a1"), Interrupted(0, "a2")],
    [Died(0, "ended with status 130")],  # Nothing is given to it before.
    [Ready(0)],
    _ran(0, "a1", "a2"),
    max_lanes=2,
  ).run(points("a1 a2"))
  assert told == [
    "start 0", "submit 0: a1 a2",
    "failed: a1 a signal interrupted the worker, again",
    "start 0", "submit 0: a1 a2", "over: a1 done 2.5", "over: a2 done 2.5",
  ]  # fmt: skip
  assert attempts == ["a1 failed", "a1 done", "a2 done"]


def test_when_it_is_stopped_what_had_begun_is_interrupted(stage, points):
  """What still ended has ended; what never began has no attempt."""
  told, attempts = stage(
    [Ready(0), Ready(1), Ready(2)],
    [Began(0, "a1"), Began(1, "b1")],
    num_slots=3,
    grace_s=7.0,
    last=[
      Finished(0, "a1", 2.5), Failed(1, "b1", "cut off", Cause.ERROR),
      Interrupted(2, "c1"), Died(1, "ended"),
    ],
  ).run(points("a1 b1? c1?"), stop=True)  # fmt: skip
  assert told[-2:] == ["stop 7", "over: a1 done 2.5"]
  assert attempts == ["a1 done", "b1 interrupted"]


@pytest.mark.parametrize("place", [InProcess, local.LocalPool])
def test_lists_of_lanes_run_in_any_executor(tmp_path, place):
  config = {
    "seed": 0,
    "optimizer": {"learning_rate": 0.1},
    "train": {"num_steps": 2},
    "toy": {
      "name": "a", "optimum": 0.1, "diverges_above": 1.0, "step_s": 0.0,
      "trouble": "",
    },
  }  # fmt: skip
  made = [
    Point(f"{p}{i}", "final", p, {}, i, p, config={**config, "seed": i})
    for p in "ab"
    for i in range(3)
  ]
  with Leases(tmp_path) as leases:
    executor = place(
      out=tmp_path,
      runner="toy_runner:run",
      num_slots=1,
      lock=leases.descriptor,
    )
    scene = Stage(
      tmp_path,
      executor=executor,
      leases=leases,
      stopping=lambda: False,
      max_lanes=2,
    )
    _, attempts = scene.run(made, stop=True)
  assert attempts == [f"{p}{i} done" for p in "ab" for i in range(3)]
