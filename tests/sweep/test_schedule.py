"""Which point an idle worker takes."""

from normjax.sweep import schedule
from normjax.sweep.plan import Point
from normjax.sweep.schedule import Running, Timings

UNKNOWN = Timings({}, {})


def points(text):
  """`aab` is two points of program a and one of b."""
  return [
    Point(f"{program}{index}", "final", program, {}, 0, program)
    for index, program in enumerate(text)
  ]


def choose(
  pending, running=(), *, program=None, compiled=(), timings=UNKNOWN, most=1
):
  chosen = schedule.choose(
    program, set(compiled), points(pending), running, timings, lambda _: most
  )
  return " ".join(point.run_id for point in chosen)


def test_a_worker_keeps_to_its_program():
  assert choose("baa", program="a", compiled="a") == "a1"


def test_then_it_takes_the_largest_program_that_nobody_has():
  assert choose("abbc", program="z") == "b1"
  running = [Running("b", 0.0, True)]
  assert choose("abbcc", running) == "c3"


def test_large_means_work_not_count():
  timings = Timings({"a": [10.0], "b": [1.0]}, {})
  assert choose("abbb", timings=timings) == "a0"


def test_a_program_compiled_here_comes_before_a_larger_one():
  assert choose("abb", compiled="a") == "a0"


def test_idle_workers_split_a_program_while_nothing_is_measured():
  running = [Running("a", 0.0, True)]
  assert choose("aaa", running) == "a2"


def test_points_that_are_taken_together_are_of_one_program():
  assert choose("abab", program="b", most=3) == "b1 b3"
  assert choose("abbb", most=2) == "b1 b2"
  assert choose("aaa", [Running("a", 0.0, True)], most=2) == "a1 a2"


def test_timings_grow_by_a_point():
  timings = UNKNOWN.add("a", 5.0, 3.0).add("a", 2.5, 0.0).add("b", 1.0, 4.0)
  assert timings == Timings(
    {"a": [2.0, 2.5], "b": [0.0]}, {"a": [3.0], "b": [4.0]}
  )
  assert Timings({}, {}) == UNKNOWN


def test_a_split_must_pay():
  # The owner needs 1 s more, then 2 s per point; compiling takes 8 s, and a
  # quarter of it from the cache.
  timings = Timings({"a": [2.0]}, {"a": [8.0]})
  running = [Running("a", 1.0, False)]
  assert choose("a", running, timings=timings) == ""
  assert choose("aa", running, timings=timings) == "a1"
  # Nothing is cached while the owner itself still compiles: 10 s left.
  assert choose("a", [Running("a", 0.0, True)], timings=timings) == "a0"
  assert choose("a", [Running("a", 3.0, True)], timings=timings) == ""
  # A program compiled here costs nothing.
  assert choose("a", running, timings=timings, compiled="a") == "a0"


def test_nothing_pending():
  assert choose("", [Running("a", 0.0, True)]) == ""


def test_time_left_counts_what_is_not_planned_yet():
  timings = Timings({"a": [2.0, 2.0]}, {})
  running = [Running("a", 0.5, False)]
  left_s = schedule.expect_left_s(points("aab"), 4, running, 2, timings)
  assert left_s == (4 * 2.0 + 3 * 2.0 + 1.5) / 2
  assert schedule.expect_left_s(points("a"), 0, running, 2, UNKNOWN) is None
