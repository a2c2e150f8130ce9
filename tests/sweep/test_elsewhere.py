"""Points that other launchers have: waited for, taken back, left to them."""

import pytest
from test_launcher import Stage

from normjax import errors
from normjax.record.directory import ATTEMPTS, RunState, SweepDirectory
from normjax.record.lease import Leases
from normjax.sweep import Sweep, elsewhere, grid
from normjax.sweep.executor import Began, Cause, Failed, Finished, Ready
from normjax.sweep.plan import Point
from normjax.sweep.planner import Planner


@pytest.fixture(autouse=True)
def always_looks(monkeypatch):
  monkeypatch.setattr(elsewhere, "LOOK_S", 0.0)


@pytest.fixture
def other(tmp_path):
  """Another launcher, which works."""
  with Leases(tmp_path) as leases:
    yield leases


def points(*run_ids):
  return [Point(run_id, "final", "m", {}, 0, "p") for run_id in run_ids]


def end(out, run_id):
  SweepDirectory(out).run(run_id).write_result(
    RunState.DONE, steps=4, metrics={}, wall_s=7.0
  )


class Script(Stage):
  """A stage on which something happens before each call of `events`."""

  def events(self, timeout_s):
    step = self._script.pop(0)
    if callable(step):
      step()
      return []
    return self._tell(step)


def test_what_another_launcher_has_is_waited_for(tmp_path, other):
  other.take("a1")
  told, attempts = Script(
    tmp_path,
    [Ready(0)],
    lambda: end(tmp_path, "b1"),
    [Began(0, "b1"), Finished(0, "b1", 2.5)],
    list,
    lambda: end(tmp_path, "a1"),
    list,
  ).run(points("a1", "b1"))
  assert told == [
    "start 0", "submit 0: b1", "over: b1 done 2.5",
    f"note: waiting for 1 run of {other.launcher}; without a sign of life for"
    " 60 s what it has is run here",
    "over: a1 done 7",
  ]  # fmt: skip
  assert attempts == ["b1 done"]  # The other books its own.


def test_what_another_launcher_ended_after_the_plan_is_not_run(tmp_path, other):
  end(tmp_path, "a1")
  told, attempts = Script(tmp_path, [Ready(0)], list).run(points("a1"))
  assert told == ["start 0", "over: a1 done 7"]
  assert attempts == []


def test_what_is_given_back_is_run_here(tmp_path, other):
  other.take("a1")
  told, _ = Script(
    tmp_path,
    lambda: other.release("a1"),
    [Ready(0)],
    [Began(0, "a1"), Failed(0, "a1", "why", Cause.INPUT)],
  ).run(points("a1"))
  assert told == [
    "start 0", "submit 0: a1", "failed: a1 why, given up",
  ]  # fmt: skip


def test_what_another_launcher_gave_up_is_not_tried_again(tmp_path, other):
  other.take("a1")
  other.release("a1", given_up="no such data")
  scene = Script(tmp_path, list)
  told, attempts = scene.run(points("a1"))
  assert told == ["failed: a1 no such data, given up"]  # No slot was started.
  assert scene.launcher.failed == {"a1": "no such data"}
  assert attempts == []


def test_what_was_taken_over_is_left_to_the_other(tmp_path, other):
  """Its slot ends, and takes no other point along."""
  with Leases(tmp_path) as own:

    def take_over():
      other._observer.is_gone = lambda launcher: True
      assert other.take("a1") is None
      other._observer.is_gone = lambda launcher: False
      own._look()

    told, attempts = Script(
      tmp_path,
      [Ready(0)],
      [Began(0, "a1")],
      take_over,
      lambda: end(tmp_path, "a1"),
      [Ready(0)],
      lambda: end(tmp_path, "a2"),
      [Began(0, "a2"), Finished(0, "a2", 1.0)],
      leases=own,
      max_lanes=2,
    ).run(points("a1", "a2"))
  assert told == [
    "start 0", "submit 0: a1 a2", "end 0",
    f"note: run a1 was taken over by {other.launcher}",
    "start 0", "over: a1 done 7", "submit 0: a2", "over: a2 done 1",
  ]  # fmt: skip
  assert attempts == ["a2 done"]


def test_a_worker_that_finds_out_itself_has_not_failed(tmp_path, other):
  with Leases(tmp_path) as own:

    def take_over():
      other._observer.is_gone = lambda launcher: True
      other.take("a1")
      other._observer.is_gone = lambda launcher: False

    told, attempts = Script(
      tmp_path,
      [Ready(0)],
      [Began(0, "a1")],
      take_over,
      [Failed(0, "a1", "it was taken over", Cause.BUSY)],
      lambda: end(tmp_path, "a1"),
      list,
      leases=own,
    ).run(points("a1"))
  assert told[2] == "note: run a1 was taken over"
  assert told[3].startswith("note: waiting for 1 run of process")
  assert told[4:] == ["over: a1 done 7"]
  assert attempts == []


def test_attempts_of_several_are_whole_lines(tmp_path):
  sweep = SweepDirectory(tmp_path)
  with sweep.open_attempts() as one, sweep.open_attempts() as two:
    for number in range(3):
      one.add(f"a{number}", RunState.DONE)
      two.add(f"b{number}", RunState.DONE)
    with (tmp_path / ATTEMPTS).open("ab") as file:
      file.write(b'{"run_id": "c')  # Of one that was killed.
    two.add("d", RunState.DONE)
  found, problems = sweep.read_attempts()
  assert list(found) == ["a0", "b0", "a1", "b1", "a2", "b2", "d"]
  assert len(problems) == 1


def test_of_two_sweeps_that_begin_at_once_one_is_refused(tmp_path):
  def planner(names):
    import ml_collections

    config = ml_collections.ConfigDict({"seed": 0, "toy": {"name": "a"}})
    sweep = Sweep(grid("toy.name", names), seeds=(0, 1))
    key = lambda config: config.toy.name  # noqa: E731
    return Planner(sweep, config, "c.py", tmp_path, key)

  first, same, other = planner(["a"]), planner(["a"]), planner(["a", "b"])
  for each in (first, same, other):
    assert each.claim() == ""
  first.write(first.plan({}).plan)
  same.write(same.plan({}).plan)
  whole = (tmp_path / "plan.json").read_bytes()
  with pytest.raises(errors.RunError, match="holds sweep"):
    other.write(other.plan({}).plan)
  assert (tmp_path / "plan.json").read_bytes() == whole


def test_a_sweep_whose_folder_was_moved_ends(tmp_path):
  """It would run all again, in a folder of its own making."""
  with Leases(tmp_path / "at first") as own:

    def move():
      (tmp_path / "at first").rename(tmp_path / "now")
      while own._heart._is_found() or not own._heart.is_lost:
        pass

    script = [Ready(0)], move, list
    scene = Script(tmp_path / "at first", *script, leases=own)
    with pytest.raises(errors.RunError, match="goes on where the folder is"):
      scene.run(points("a1", "a2"))
    assert scene.launcher.grace_s == 0
  assert not (tmp_path / "at first").exists()
