"""Processes of one run: they meet, stop at one place, and end together."""

import contextlib
import itertools
import json
import socket
import threading
import time

import pytest

from normjax import errors
from normjax.train.processes import door, place, rendezvous
from normjax.train.processes.group import Group, Line

PATIENCE_S = 20.0


def connected():
  """Both ends of a connection."""
  with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as server:
    there = socket.create_connection(server.getsockname())
    return server.accept()[0], there


def joined(size, losses):
  """A group, as if each were a process; what each hears of a loss."""
  pairs = {process: connected() for process in range(1, size)}
  hub = {process: Line(ours) for process, (ours, _) in pairs.items()}
  groups = [Group(0, hub, size, losses[0].append)]
  for process, (_, theirs) in pairs.items():
    lines = {0: Line(theirs)}
    groups.append(Group(process, lines, size, losses[process].append))
  return groups


def side_by_side(function, *arguments):
  """What it gives of each argument, all at the same time, or its error."""
  found = [None] * len(arguments)

  def run(index, argument):
    try:
      found[index] = function(argument)
    except Exception as error:  # It is what the test looks at.
      found[index] = error

  threads = [
    threading.Thread(target=run, args=each, daemon=True)
    for each in enumerate(arguments)
  ]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
  return found


def until(holds):
  """Waits for what another thread does."""
  end_s = time.monotonic() + PATIENCE_S
  while not holds():
    assert time.monotonic() < end_s
    time.sleep(0.001)


@pytest.mark.parametrize("asks", [{0: 9}, {2: 9}, {1: 8, 2: 9}])
def test_all_stop_at_one_place(asks):
  """A step needs all: one that stopped earlier would leave the others in it."""
  losses = [[], [], []]

  def train(group):
    for count in itertools.count(1):
      if group.stops_here(asks.get(group.process_id) == count):
        return count, group.leave()
      if count % 3:  # A step; else an evaluation that is on one host.
        group.exchange(count)

  found = side_by_side(train, *joined(3, losses))
  places = {place for place, _ in found}
  assert len(places) == 1
  # At the earliest where it was asked for, if no other had passed that.
  assert places.pop() >= min(asks.values())
  assert all(left for _, left in found)
  assert losses == [[], [], []]


def test_every_value_is_everyones():
  groups = joined(3, [[], [], []])
  found = side_by_side(lambda g: g.exchange({"p": g.process_id}), *groups)
  assert found == [[{"p": 0}, {"p": 1}, {"p": 2}]] * 3
  side_by_side(Group.leave, *groups)


@pytest.mark.parametrize("process", [0, 1])
def test_an_end_is_told_with_its_reason(process):
  losses = [[], [], []]
  groups = joined(3, losses)
  groups[process].fail("the disk is full")
  others = [losses[p] for p in range(3) if p != process]
  until(lambda: all(others))
  assert others == [[f"process {process} ended: the disk is full"]] * 2
  assert not losses[process]


def test_an_end_without_a_word_is_heard_by_who_waits():
  losses = [[], [], []]
  groups = joined(3, losses)
  waits = threading.Timer(0.05, groups[2]._lines[0].close)
  waits.start()
  found = side_by_side(lambda g: g.exchange(1), *groups[:2])
  assert [type(error) for error in found] == [ConnectionError] * 2
  until(lambda: losses[0] and losses[1])
  assert losses[0][0].startswith("process 2 is gone without a word")


def test_a_line_closed_by_another_thread_is_as_one_that_is_gone():
  """A thread may be between two messages when the line is closed."""
  ours, theirs = map(Line, connected())
  theirs.send({"kind": "stop"})
  assert ours.receive() == {"kind": "stop"}
  ours.close()
  assert ours.receive() is None
  ours.send({"kind": "stop"})
  theirs.close()


# ----- The meeting -----


def here(process, port, *, size=2):
  """Of a process on this machine."""
  return place.Place(f"127.0.0.1:{port}", size, process)


@pytest.fixture
def port():
  """One that is free."""
  with contextlib.closing(socket.create_server(("", 0))) as server:
    return server.getsockname()[1]


def meet(given):
  """A process that comes with a config."""
  where, config, patience_s = given
  return rendezvous.meet(where, {"config": config}, patience_s)


def test_processes_meet_and_hear_where_to_go_on(port):
  found = side_by_side(
    meet, *((here(process, port), "abc", PATIENCE_S) for process in (1, 0))
  )
  groups, services, binds = zip(*found, strict=True)
  assert binds == (None, services[0])
  assert services[0] == services[1] != f"127.0.0.1:{port}"
  assert [group.process_id for group in groups] == [1, 0]
  side_by_side(Group.leave, *groups)


@pytest.mark.parametrize(
  ("others", "said"),
  [
    ([(1, 2, "other")], "has another config, 'other', than process 0, 'abc'"),
    ([(1, 3, "abc")], "has --num_processes=3, process 0 2"),
    ([(2, 3, "abc")], "has --num_processes=3, process 0 2"),
  ],
)
def test_what_does_not_fit_is_said_to_all(port, others, said):
  given = [(here(p, port, size=n), c, PATIENCE_S) for p, n, c in others]
  found = side_by_side(meet, (here(0, port), "abc", PATIENCE_S), *given)
  for error in found:
    assert isinstance(error, errors.UserError)
    assert said in str(error)


def test_one_number_is_one_process(port):
  given = [(here(p, port, size=3), "abc", PATIENCE_S) for p in (0, 1, 1)]
  for error in side_by_side(meet, *given):
    assert "two processes have --process_id=1" in str(error)


def test_who_does_not_come_is_named(port):
  """Also where somebody else calls at the door."""
  given = [(here(p, port, size=4), "abc", 1.5) for p in (0, 2)]

  def come(each):
    if not isinstance(each, bytes):
      return meet(each)
    time.sleep(0.1)
    with socket.create_connection(("127.0.0.1", port)) as other:
      other.sendall(each)

  hello = {"num_processes": 4, "facts": {"config": "abc"}, "host": "here"}
  strangers = [
    b"GET / HTTP/1.1\r\n\r\n\n",
    *(
      json.dumps({**hello, "process_id": number}).encode() + b"\n"
      for number in ([], 4)
    ),
  ]
  first, second, *_ = side_by_side(come, *given, *strangers)
  assert "waited 1.5 s" in str(first)
  assert str(first).endswith("missing: process 1, 3.")
  assert str(second) == str(first)


def test_nobody_there_and_a_port_that_is_taken(port):
  with pytest.raises(errors.UserError, match=r"did not answer within 0\.2 s"):
    meet((here(1, port), "abc", 0.2))
  with (
    contextlib.closing(socket.create_server(("", port))),
    pytest.raises(errors.UserError, match=f"cannot listen on port {port}"),
  ):
    meet((here(0, port), "abc", 0.2))


def test_a_program_that_never_answers_is_not_waited_for(port, monkeypatch):
  monkeypatch.setattr(door, "HELLO_S", 0.1)
  with contextlib.closing(socket.create_server(("127.0.0.1", port))):
    (error,) = side_by_side(meet, (here(1, port), "abc", 0.1))
  assert str(error).endswith("or another program has this port.")


@pytest.mark.parametrize(
  ("given", "said"),
  [
    (("here:1", 2, 2), r"--process_id=2; allowed: 0 to 1"),
    (("here:1", 2, -1), r"--process_id=-1; allowed: 0 to 1"),
    (("here:1", 0, 0), r"--num_processes=0; allowed: 1 or more"),
    (("here", 2, 0), r"--coordinator=here; needed: HOST:PORT"),
    (("here:70000", 2, 0), r"--coordinator=here:70000; needed"),
    (("here:²", 2, 0), r"--coordinator=here:²; needed"),
    ((None, 2, 0), r"--coordinator missing"),
    ((None, None, 0), r"--coordinator and --num_processes missing"),
    ((None, None, None), r"no cluster that JAX knows is here"),
  ],
)
def test_a_place_that_cannot_be(given, said, monkeypatch):
  for name in ("SLURM_JOB_ID", "OMPI_MCA_orte_hnp_uri"):
    monkeypatch.delenv(name, raising=False)
  with pytest.raises(errors.UserError, match=said):
    place.find(*given)


@pytest.mark.parametrize(
  ("more", "devices"),
  [
    ({"SLURM_STEP_TASKS_PER_NODE": "4(x2)"}, (1,)),
    ({"SLURM_STEP_TASKS_PER_NODE": "1(x8)"}, None),
    ({"CUDA_VISIBLE_DEVICES": "1"}, None),
    ({"CUDA_VISIBLE_DEVICES": "0,1,2,3"}, (1,)),
    ({"JAX_LOCAL_DEVICE_IDS": "2,3"}, None),
  ],
)
def test_slurm_says_where_a_process_stands(monkeypatch, more, devices):
  told = {
    "SLURM_JOB_ID": "4097",
    "SLURM_STEP_NODELIST": "node[003-004]",
    "SLURM_NTASKS": "8",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
  }
  for name, value in {**told, **more}.items():
    monkeypatch.setenv(name, value)
  assert place.find() == place.Place("node003:61441", 8, 5, devices)
