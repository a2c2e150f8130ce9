"""Who may come in where the processes of a run meet, and who may not."""

import contextlib
import json
import logging
import socket
import threading
import time

import pytest

from normjax import errors
from normjax.train.processes import door, place, rendezvous
from normjax.train.processes.group import Group, Line

PATIENCE_S = 20.0
TOKEN = "0123456789abcdef"
HELLO = {
  "process_id": 1, "num_processes": 2, "facts": {"config": "abc"},
  "host": "elsewhere", "drawn": "00",
}  # fmt: skip


@pytest.fixture
def port():
  """One that is free."""
  with contextlib.closing(socket.create_server(("", 0))) as server:
    return server.getsockname()[1]


@pytest.fixture
def first(port):
  """Process 0 of two, under way; gives what became of it."""
  where = place.Place(f"127.0.0.1:{port}", 2, 0)
  ended = []

  def run():
    try:
      ended.append(rendezvous.meet(where, {"config": "abc"}, PATIENCE_S))
    except errors.UserError as error:
      ended.append(error)

  thread = threading.Thread(target=run, daemon=True)

  def result():
    thread.join(PATIENCE_S)
    (found,) = ended
    return found

  thread.start()
  return result


def second(port, timeout_s=PATIENCE_S):
  where = place.Place(f"127.0.0.1:{port}", 2, 1)
  return rendezvous.meet(where, {"config": "abc"}, timeout_s)


def stranger(port):
  """A line to process 0, which must be there first, and what it draws."""
  for _ in range(200):
    try:
      connection = socket.create_connection(("127.0.0.1", port))
      break
    except ConnectionRefusedError:
      time.sleep(0.05)
  line = Line(connection)
  return line, line.receive(PATIENCE_S)


def leave(*groups):
  threads = [threading.Thread(target=group.leave) for group in groups]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join(PATIENCE_S)


def test_who_has_the_secret_comes_in(port, monkeypatch, request):
  monkeypatch.setenv(door.VARIABLE, TOKEN)
  first = request.getfixturevalue("first")
  found = second(port)
  assert isinstance(found.group, Group)
  assert found.service == first().service
  leave(found.group, first().group)


def test_strangers_disturb_nobody(port, monkeypatch, request):
  """Each says that it is process 1, or ends the meeting; none is answered."""
  monkeypatch.setenv(door.VARIABLE, TOKEN)
  first = request.getfixturevalue("first")
  earlier, old = stranger(port)
  assert old.pop("asks_token") is True
  other = b"another secret of 16"
  for said in (
    lambda drawn: HELLO,
    lambda drawn: {**HELLO, "proof": ""},
    lambda drawn: {**HELLO, "proof": 7},
    lambda drawn: {**HELLO, "proof": "\udc80"},
    lambda drawn: {**HELLO, "proof": door.proof(other, drawn, HELLO)},
    # Of another meeting, or of something else.
    lambda drawn: {
      **HELLO, "proof": door.proof(TOKEN.encode(), old["drawn"], HELLO)
    },
    lambda drawn: {
      **HELLO, "num_processes": 3,
      "proof": door.proof(TOKEN.encode(), drawn, HELLO),
    },
    lambda drawn: ["GET / HTTP/1.1"],
  ):  # fmt: skip
    line, asked = stranger(port)
    line.send(said(asked["drawn"]))
    assert line.receive(PATIENCE_S) is None
    line.close()
  silent = [stranger(port) for _ in range(3)]
  began_s = time.monotonic()
  found = second(port)
  assert time.monotonic() - began_s < door.HELLO_S / 2
  leave(found.group, first().group)
  for line, _ in [(earlier, old), *silent]:
    line.close()


def test_a_process_with_another_secret_is_told_apart(port, monkeypatch):
  secrets = {"0": TOKEN, "other": TOKEN[::-1], "none": ""}
  said = {}

  def token():
    return secrets[threading.current_thread().name].encode()

  def run(process, patience_s):
    where = place.Place(f"127.0.0.1:{port}", 2, process)
    with pytest.raises(errors.UserError) as raised:
      rendezvous.meet(where, {}, patience_s)
    said[threading.current_thread().name] = str(raised.value)

  monkeypatch.setattr(door, "token", token)
  threads = [
    threading.Thread(target=run, args=args, name=name, daemon=True)
    for name, args in (
      ("0", (0, 3.0)),
      ("other", (1, PATIENCE_S)),
      ("none", (1, PATIENCE_S)),
    )
  ]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join(PATIENCE_S)
  assert "missing: process 1. 1 had another NORMJAX_TOKEN than" in said["0"]
  assert "were there, or has another NORMJAX_TOKEN, or" in said["other"]
  has = "process 0 has a secret in NORMJAX_TOKEN, and this one has none"
  assert has in said["none"]


def test_process_0_shows_the_secret_too(port, monkeypatch):
  """Else whoever took the port would say where to go on."""
  monkeypatch.setenv(door.VARIABLE, TOKEN)

  def answer(server):
    connection, _ = server.accept()
    line = Line(connection)
    line.send({"drawn": "11", "asks_token": True})
    line.receive(PATIENCE_S)
    line.send({"service": "evil:1", "proof": "0" * 64})
    line.receive(PATIENCE_S)
    line.close()

  with contextlib.closing(socket.create_server(("127.0.0.1", port))) as server:
    thread = threading.Thread(target=answer, args=(server,), daemon=True)
    thread.start()
    with pytest.raises(errors.UserError, match="another program has this port"):
      second(port)
    thread.join(PATIENCE_S)


def test_only_the_coordinator_s_address_listens(port, first):
  line, asked = stranger(port)
  assert asked["asks_token"] is False
  with pytest.raises(ConnectionRefusedError):
    socket.create_connection(("127.0.0.2", port))
  line.close()
  found = second(port)
  assert first().binds.startswith("127.0.0.1:")
  leave(found.group, first().group)


def test_a_secret_that_can_be_guessed(monkeypatch):
  monkeypatch.setenv(door.VARIABLE, "hunter2")
  with pytest.raises(
    errors.UserError, match="NORMJAX_TOKEN has 7 characters; allowed: 16 or"
  ):
    door.token()
  monkeypatch.delenv(door.VARIABLE)
  assert door.token() == b""


@pytest.mark.parametrize(
  ("address", "said"),
  [
    ("127.0.1.1", "stands for this machine alone, as 127.0.1.1 does"),
    ("192.0.2.7", "is no address of this machine"),  # Of documentation.
  ],
)
def test_a_name_that_is_none_of_this_machine(
  address, said, port, monkeypatch, caplog
):
  """All addresses are listened on where strangers are told apart."""
  kind = socket.AF_INET, socket.SOCK_STREAM, 6, ""
  monkeypatch.setattr(
    socket, "getaddrinfo", lambda *_, **__: [(*kind, (address, port))]
  )
  where = place.Place(f"node-1:{port}", 2, 0)
  with pytest.raises(errors.UserError, match=f"node-1 {said}. .*NORMJAX_TOKEN"):
    door.listen(where, has_token=False)
  monkeypatch.undo()
  with caplog.at_level(logging.WARNING), pytest.MonkeyPatch.context() as patch:
    patch.setattr(
      socket, "getaddrinfo", lambda *_, **__: [(*kind, (address, port))]
    )
    with door.listen(where, has_token=True):
      pass
  assert "listens on all addresses" in caplog.text


def test_a_name_that_nobody_knows(port):
  where = place.Place(f"nowhere.invalid:{port}", 2, 0)
  with pytest.raises(errors.UserError, match=r"nowhere.invalid is no name or"):
    door.listen(where, has_token=True)


def test_a_proof_is_of_what_was_drawn_and_said():
  assert json.loads(json.dumps(HELLO)) == HELLO
  secret = TOKEN.encode()
  shown = {**HELLO, "proof": door.proof(secret, "a", HELLO)}
  assert door.is_proved(secret, "a", shown)
  assert not door.is_proved(secret, "b", shown)
  assert not door.is_proved(secret, "a", {**shown, "process_id": 0})
  assert not door.is_proved(b"", "a", shown)
  assert door.is_proved(b"", "a", {**HELLO, "proof": ""})
