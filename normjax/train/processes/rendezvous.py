"""How the processes of a run find each other, before JAX connects them.

Process 0 listens (`door`); the others come and say who they are. Whatever does
not fit is said here, to all and in one line: JAX's own service ends a process
that cannot join from C++.
"""

import contextlib
import secrets
import socket
import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from normjax import errors
from normjax.train.processes import door
from normjax.train.processes.group import Group, Line
from normjax.train.processes.place import Place

_RETRY_S = 0.1


class Meeting(NamedTuple):
  """What the processes have met for.

  Attributes:
    group: of them.
    service: where JAX's service is to be: HOST:PORT.
    binds: the address that it listens at, in process 0; None in the others.
  """

  group: Group
  service: str
  binds: str | None


def meet(place: Place, facts: Mapping[str, Any], timeout_s: float) -> Meeting:
  """Waits for all processes of a run.

  Args:
    place: of this one.
    facts: by name; what must be the same in all.
    timeout_s: how long to wait for the others.

  Raises:
    UserError: they do not come together, or do not fit.
  """
  deadline_s = time.monotonic() + timeout_s
  secret = door.token()
  hello = {
    "process_id": place.process_id,
    "num_processes": place.num_processes,
    "facts": dict(facts),
    "host": socket.gethostname(),
  }
  if place.process_id:
    line, service = _go(place, hello, secret, deadline_s, timeout_s)
    group = Group(place.process_id, {0: line}, place.num_processes)
    return Meeting(group, service, None)
  with door.listen(place, has_token=bool(secret)) as server:
    came = _gather(place, hello, server, secret, deadline_s, timeout_s)
    family, address = server.family, server.getsockname()[0]
  port = _free_port(family, address)
  service = f"{place.coordinator.rpartition(':')[0]}:{port}"
  for each in came.values():
    each.answer({"service": service})
  shown = f"[{address}]" if ":" in address else address
  lines = {process: each.line for process, each in came.items()}
  return Meeting(
    Group(0, lines, place.num_processes), service, f"{shown}:{port}"
  )


class _Came(NamedTuple):
  """A process that has come, and what its answer's proof is to be of."""

  line: Line
  drawn: str
  secret: bytes

  def answer(self, said: Mapping[str, Any]) -> None:
    """Answers, with a proof."""
    shown = door.proof(self.secret, self.drawn, said)
    self.line.send({**said, "proof": shown})


def _gather(
  place: Place,
  own: Mapping[str, Any],
  server: socket.socket,
  secret: bytes,
  deadline_s: float,
  timeout_s: float,
) -> dict[int, _Came]:
  """The others, by process."""
  came: dict[int, _Came] = {}
  num_refused = 0
  with contextlib.closing(door.visitors(server, secret, deadline_s)) as all_:
    while len(came) < place.num_processes - 1:
      try:
        visitor = next(all_)
      except StopIteration:
        absent = sorted({*range(1, place.num_processes)} - came.keys())
        problem = (
          f"waited {timeout_s:g} s at {place.coordinator} for"
          f" {place.num_processes} processes; missing: process"
          f" {errors.few(list(map(str, absent)))}."
        )
        if num_refused:
          problem += (
            f" {num_refused} had another {door.VARIABLE} than process 0, or"
            " none."
          )
        raise _refused(problem, came.values()) from None
      if visitor is None:
        num_refused += 1
        continue
      drawn = str(visitor.hello.get("drawn"))
      new = _Came(Line(visitor.connection), drawn, secret)
      if problem := _misfit(own, visitor.hello, came):
        raise _refused(problem, [*came.values(), new])
      came[visitor.hello["process_id"]] = new
  return came


def _misfit(
  own: Mapping[str, Any], other: Mapping[str, Any], came: Mapping[int, Any]
) -> str:
  """What keeps another process from being of this run; empty: nothing."""
  process = other["process_id"]
  who = f"process {process} on {other['host']}"
  if other["num_processes"] != own["num_processes"]:
    return (
      f"{who} has --num_processes={other['num_processes']}, process 0"
      f" {own['num_processes']}: all processes of a run are given the same"
      " number."
    )
  if process in came or process == 0:
    return (
      f"two processes have --process_id={process}, one of them on"
      f" {other['host']}; each needs its own."
    )
  for name, value in own["facts"].items():
    if other["facts"].get(name) != value:
      return (
        f"{who} has another {name}, {other['facts'].get(name)!r}, than process"
        f" 0, {value!r}: all processes of a run are given the same command but"
        " for --process_id."
      )
  return ""


def _refused(problem: str, came: Iterable[_Came]) -> errors.UserError:
  """Tells all that have come."""
  for each in came:
    each.answer({"refused": problem})
    each.line.close()
  return errors.UserError(problem)


def _go(
  place: Place,
  hello: Mapping[str, Any],
  secret: bytes,
  deadline_s: float,
  timeout_s: float,
) -> tuple[Line, str]:
  """A line to process 0, and where JAX's service is."""
  line = Line(_connect(place, deadline_s, timeout_s))
  try:
    answer = _asked(place, line, hello, secret, timeout_s)
    if "refused" in answer:
      raise errors.UserError(str(answer["refused"]))
    return line, str(answer["service"])
  except BaseException:
    line.close()
    raise


def _asked(
  place: Place,
  line: Line,
  hello: Mapping[str, Any],
  secret: bytes,
  timeout_s: float,
) -> Mapping[str, Any]:
  """What process 0 answers, once each has shown the other who it is."""
  where = f"--coordinator={place.coordinator}"
  # Another program says something else, or never speaks.
  first = line.receive(timeout_s + door.HELLO_S)
  if not isinstance(first, dict) or not isinstance(first.get("drawn"), str):
    raise errors.UserError(
      f"{where}: process 0 ended before all were there, or another program has"
      " this port."
    )
  if bool(first.get("asks_token")) != bool(secret):
    has, lacks = ("process 0", "this one")[:: -1 if secret else 1]
    raise errors.UserError(
      f"{where}: {has} has a secret in {door.VARIABLE}, and {lacks} has none;"
      " all processes of a run need the same."
    )
  said = {**hello, "drawn": secrets.token_hex(16)}
  line.send({**said, "proof": door.proof(secret, first["drawn"], said)})
  # Process 0 has a deadline of its own.
  answer = line.receive(timeout_s + door.HELLO_S)
  if answer is None:
    token = f", or has another {door.VARIABLE}" if secret else ""
    raise errors.UserError(
      f"{where}: process 0 ended before all were there{token}, or another"
      " program has this port."
    )
  if not (
    isinstance(answer, dict)
    and {"service", "refused"} & answer.keys()
    and door.is_proved(secret, said["drawn"], answer)
  ):
    raise errors.UserError(f"{where}: another program has this port.")
  return answer


def _connect(
  place: Place, deadline_s: float, timeout_s: float
) -> socket.socket:
  while True:
    left_s = max(deadline_s - time.monotonic(), 0.01)
    try:
      return socket.create_connection(place.address, timeout=left_s)
    except OSError as error:
      if time.monotonic() + _RETRY_S > deadline_s:
        raise errors.UserError(
          f"--coordinator={place.coordinator}: process 0 did not answer within"
          f" {timeout_s:g} s ({error.strerror or error})."
        ) from error
    time.sleep(_RETRY_S)


def _free_port(family: int, address: str) -> int:
  with socket.create_server((address, 0), family=family) as server:
    return server.getsockname()[1]
