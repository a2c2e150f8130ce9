"""The lines between an executor and its workers."""

import contextlib
import io
import json
import os
from pathlib import Path

import pytest
from toy_runner import run

from normjax.sweep import executor, protocol, worker
from normjax.sweep.executor import Began, Cause, Failed, Finished, Interrupted

LANES = [
  executor.Lane(name, {"seed": 0, "norm": {"eps": 1e-6}}, Path("/out") / name)
  for name in ("a", "bb")
]
ANSWERS = [
  executor.Ready(3),
  Began(3, "a"),
  Finished(3, "a", 1.5),
  Failed(3, "a", "no\nroom…", Cause.DISK),
  Interrupted(3, "a"),
]


def test_a_request_comes_back():
  line = protocol.write_request(LANES)
  assert line.count("\n") == 1
  assert protocol.read_request(line) == LANES


@pytest.mark.parametrize("answer", ANSWERS, ids=str)
def test_an_answer_comes_back(answer):
  line = protocol.write_answer(answer)
  assert line.count("\n") == 1
  assert protocol.read_answer(line, slot=3) == answer


def _request(**changes):
  version = protocol.PROTOCOL
  return json.dumps({"protocol": version, "lanes": [], **changes})


@pytest.mark.parametrize(
  ("line", "said"),
  [
    ("", "it is no JSON"),
    ("[1]", "it is no object"),
    ('{"config": {}, "directory": "x"}', "version None of the workers'"),
    (_request(protocol=1), "version 1 of the workers' protocol, not 2"),
    (_request(), "'lanes' is no list of lanes: '{"),
    (_request(lanes={"a": 1}), "'lanes' is no list"),
    (_request(lanes=[3]), "the lane 3 is no object"),
    (_request(lanes=[{"run_id": "a"}]), "it has ['run_id'], but must have"),
    (
      _request(lanes=[{"run_id": 1, "config": {}, "directory": "", "most": 1}]),
      "'run_id' is 1",
    ),
    (
      _request(
        lanes=[{"run_id": "a", "config": [], "directory": "", "most": 1}]
      ),
      "'config' is []",
    ),
  ],
)
def test_a_malformed_request_is_one_line(line, said):
  with pytest.raises(protocol.ProtocolError) as error:
    protocol.read_request(line)
  assert said in str(error.value)
  assert "\n" not in str(error.value)


def _answer(event, **fields):
  return json.dumps({"event": event, "slot": 3, **fields})


@pytest.mark.parametrize(
  ("line", "said"),
  [
    ("ready", "it is no JSON: 'ready'"),
    ("[" * 100_000, "it is no JSON: '[[["),
    ("{}", "'event' is None"),
    (_answer("Died", message="x"), "'event' is 'Died'"),
    (_answer(["Ready"]), "'event' is ['Ready']"),
    (_answer("Ready"), "version None of the workers' protocol"),
    (_answer("Ready", protocol=1), "version 1 of the workers' protocol, not 2"),
    (_answer("Began"), "it has ['slot'], but must have ['run_id', 'slot']"),
    (_answer("Began", run_id="a", x=1), "it has ['run_id', 'slot', 'x']"),
    (_answer("Began", run_id=None), "'run_id' is None"),
    (_answer("Finished", run_id="a", wall_s="1"), "'wall_s' is '1'"),
    (_answer("Finished", run_id="a", wall_s=True), "'wall_s' is True"),
    (_answer("Failed", run_id="a", message="", cause="?"), "'cause' is '?'"),
    (_answer("Began", run_id="a" * 300, slot=4), "'slot' is 4, not 3: '{"),
  ],
)
def test_a_malformed_answer_is_one_line(line, said):
  with pytest.raises(protocol.ProtocolError) as error:
    protocol.read_answer(line, slot=3)
  assert said in str(error.value)
  assert "\n" not in str(error.value)
  assert len(str(error.value)) < 250


@pytest.fixture
def serve(tmp_path):
  """Serves request lines as a worker does; returns status and answers."""

  def serve(*lines, num_ends):
    read, write = os.pipe()
    requests, sender = os.fdopen(read), os.fdopen(write, "w")
    said = []

    class Answers(io.StringIO):
      def write(self, line):
        said.append(protocol.read_answer(line, slot=3))
        # A sweep that is through closes the input.
        ends = [e for e in said if isinstance(e, Finished | Failed)]
        if len(ends) == num_ends:
          sender.close()

    with requests, contextlib.closing(sender):
      sender.writelines(lines)
      sender.flush()
      status = worker.serve(3, run, requests, Answers())
    return status, said

  return serve


def _lanes(tmp_path, *troubles):
  config = {
    "seed": 0,
    "optimizer": {"learning_rate": 0.1},
    "train": {"num_steps": 1},
  }
  toy = {"name": "a", "optimum": 0.1, "diverges_above": 1.0, "step_s": 0.0}
  return [
    executor.Lane(
      str(index),
      {**config, "toy": {**toy, "trouble": trouble}},
      tmp_path / str(index),
    )
    for index, trouble in enumerate(troubles)
  ]


def _told(said):
  return [(type(e).__name__, getattr(e, "run_id", "")) for e in said]


def test_a_worker_answers_for_each_lane_of_each_list(serve, tmp_path):
  lanes = _lanes(tmp_path, "", "raise", "", "memory", "busy", "cache")
  status, said = serve(
    protocol.write_request(lanes[:3]),
    protocol.write_request(lanes[3:]),
    num_ends=6,
  )
  assert status == 0
  assert _told(said) == [
    ("Ready", ""),
    ("Began", "0"), ("Finished", "0"),
    ("Began", "1"), ("Failed", "1"),
    ("Began", "2"), ("Finished", "2"),
    ("Began", "3"), ("Failed", "3"),
    ("Began", "4"), ("Failed", "4"),
    ("Began", "5"), ("Failed", "5"),
  ]  # fmt: skip
  causes = [each.cause for each in said if isinstance(each, Failed)]
  assert causes == [Cause.ERROR, Cause.MEMORY, Cause.BUSY, Cause.DISK]
  assert said[4].message == "RuntimeError: toy trouble in attempt 1"
  assert (tmp_path / "2" / "result.json").exists()


def test_after_an_interruption_no_other_lane_begins(serve, tmp_path):
  lanes = _lanes(tmp_path, "", "interrupt", "")
  status, said = serve(protocol.write_request(lanes), num_ends=3)
  assert status == worker.INTERRUPTED
  assert _told(said)[3:] == [
    ("Began", "1"), ("Interrupted", "1"), ("Interrupted", "2"),
  ]  # fmt: skip
  assert not (tmp_path / "2").exists()


def test_a_request_that_is_none_ends_the_worker(serve, capsys):
  status, said = serve('{"protocol": 0}\n', num_ends=1)
  assert status == worker.BAD_REQUEST
  assert _told(said) == [("Ready", "")]
  assert capsys.readouterr().err == (
    "the request has version 0 of the workers' protocol, not 2: the package has"
    " changed since the sweep was started; start it again\n"
  )
