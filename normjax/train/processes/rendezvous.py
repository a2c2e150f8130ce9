"""How the processes of a run find each other, before JAX connects them.

Process 0 listens; the others come and say who they are. Whatever does not fit
is said here, to all and in one line: JAX's own service ends a process that
cannot join from C++.
"""

import contextlib
import json
import socket
import time
from collections.abc import Mapping
from typing import Any

from normjax import errors
from normjax.train.processes.group import Group, Line
from normjax.train.processes.place import Place

_HELLO_S = 5.0
_RETRY_S = 0.1


def meet(
  place: Place, facts: Mapping[str, Any], timeout_s: float
) -> tuple[Group, str]:
  """Waits for all processes of a run.

  Args:
    place: of this one.
    facts: by name; what must be the same in all.
    timeout_s: how long to wait for the others.

  Returns:
    The group, and where JAX's service is to be: HOST:PORT.

  Raises:
    UserError: they do not come together, or do not fit.
  """
  deadline_s = time.monotonic() + timeout_s
  hello = {
    "process_id": place.process_id,
    "num_processes": place.num_processes,
    "facts": dict(facts),
    "host": socket.gethostname(),
  }
  if place.process_id:
    line, service = _go(place, hello, deadline_s, timeout_s)
    return Group(place.process_id, {0: line}, place.num_processes), service
  lines = _gather(place, hello, deadline_s, timeout_s)
  service = f"{place.coordinator.rpartition(':')[0]}:{_free_port()}"
  for line in lines.values():
    line.send({"service": service})
  return Group(0, lines, place.num_processes), service


def _gather(
  place: Place, own: Mapping[str, Any], deadline_s: float, timeout_s: float
) -> dict[int, Line]:
  """The lines of the others, by process."""
  lines: dict[int, Line] = {}
  with _listening(place) as server:
    while len(lines) < place.num_processes - 1:
      server.settimeout(max(deadline_s - time.monotonic(), 0.01))
      try:
        connection, _ = server.accept()
      except TimeoutError:
        absent = sorted({*range(1, place.num_processes)} - lines.keys())
        problem = (
          f"waited {timeout_s:g} s at {place.coordinator} for"
          f" {place.num_processes} processes; missing: process"
          f" {errors.few(list(map(str, absent)))}."
        )
        raise _refused(problem, lines.values()) from None
      hello = _hello(connection)
      if hello is None:  # Nobody of ours.
        connection.close()
        continue
      line = Line(connection)
      if problem := _misfit(own, hello, lines):
        raise _refused(problem, [*lines.values(), line])
      lines[hello["process_id"]] = line
  return lines


def _listening(place: Place) -> socket.socket:
  _, port = place.address
  try:
    if socket.has_dualstack_ipv6():
      return socket.create_server(
        ("", port), family=socket.AF_INET6, dualstack_ipv6=True
      )
    return socket.create_server(("", port))
  except OSError as error:
    raise errors.UserError(
      f"--coordinator={place.coordinator}: process 0 cannot listen on port"
      f" {port} of this machine: {error.strerror}. Give a free port."
    ) from error


def _hello(connection: socket.socket) -> dict[str, Any] | None:
  """Who has come; None: no process of a run."""
  connection.settimeout(_HELLO_S)
  said = b""
  try:
    while not said.endswith(b"\n"):
      if not (more := connection.recv(1 << 12)) or len(said) > 1 << 16:
        return None
      said += more
    hello = json.loads(said)
  except (OSError, ValueError, RecursionError):
    return None
  needed = {
    "process_id": int, "num_processes": int, "facts": dict, "host": str
  }  # fmt: skip
  if not isinstance(hello, dict) or any(
    type(hello.get(name)) is not kind for name, kind in needed.items()
  ):
    return None
  is_one = 0 <= hello["process_id"] < hello["num_processes"]
  return hello if is_one else None


def _misfit(
  own: Mapping[str, Any], other: Mapping[str, Any], lines: Mapping[int, Any]
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
  if process in lines or process == 0:
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


def _refused(problem: str, lines: Any) -> errors.UserError:
  """Tells all that have come."""
  for line in lines:
    line.send({"refused": problem})
    line.close()
  return errors.UserError(problem)


def _go(
  place: Place, hello: Mapping[str, Any], deadline_s: float, timeout_s: float
) -> tuple[Line, str]:
  """A line to process 0, and where JAX's service is."""
  line = Line(_connect(place, deadline_s, timeout_s))
  line.send(hello)
  # Process 0 has a deadline of its own; another program would never answer.
  answer = line.receive(timeout_s + _HELLO_S)
  if answer is not None and "service" in answer:
    return line, str(answer["service"])
  line.close()
  gone = (
    f"--coordinator={place.coordinator}: process 0 ended before all were there,"
    " or another program has this port."
  )
  raise errors.UserError(answer["refused"] if answer else gone)


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


def _free_port() -> int:
  with contextlib.closing(socket.create_server(("", 0))) as server:
    return server.getsockname()[1]
