"""The processes that train one run together, and what they tell each other.

JAX moves arrays between processes. What is no array goes over one line per
process to process 0: values that all must have, the wish to end, and the end
of a process. JAX's own service would do, but a process that it finds dead
takes all others down from C++, without a word to their Python, and a minute
later: an open line ends with its process, whatever ended it.

What a signal asked for must be done by all at one place of the program, since
a step is a joint program. So processes count the places where they may stop
(`stops_here`; all pass the same ones in the same order). When one asks, each
one's reader, not its main thread, which may be waiting for the others in a
step, says how far it is, and holds it there; all stop at the first place that
none has passed. This costs no step anything until somebody asks.
"""

import contextlib
import json
import os
import queue
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

# Of what a line carries: fingerprints of a large model are a few megabytes.
_MOST_BYTES = 1 << 28
# The kernel asks a silent machine so often whether it is still there.
_KEEPALIVE = {"TCP_KEEPIDLE": 20, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 4}
# With process 0 JAX's service ends, and with that, at once, who is still
# telling what went wrong.
_LAST_WORDS_S = 3.0

Message = Mapping[str, Any]


class Line:
  """A connection that carries messages: JSON, one per line of text."""

  def __init__(self, connection: socket.socket):
    """Takes the connection over."""
    connection.settimeout(None)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
      if (option := getattr(socket, name, None)) is not None:
        connection.setsockopt(socket.IPPROTO_TCP, option, value)
    self._connection = connection
    self._reader = connection.makefile("rb")
    self._sending = threading.Lock()

  def send(self, message: Message) -> None:
    """Sends a message; one that nobody reads any more is lost."""
    data = json.dumps(message).encode() + b"\n"
    # Of an end the reader hears.
    with self._sending, contextlib.suppress(OSError):
      self._connection.sendall(data)

  def receive(self, timeout_s: float | None = None) -> Message | None:
    """The next message; None: the other end is gone.

    Args:
      timeout_s: after which it counts as gone; None: never.
    """
    try:
      # Another thread may have closed it since the last message.
      self._connection.settimeout(timeout_s)
      text = self._reader.readline(_MOST_BYTES)
      if text.endswith(b"\n"):
        return json.loads(text)
    except (OSError, ValueError, RecursionError):
      pass  # As where it is gone.
    return None

  def close(self) -> None:
    """Ends it, for both sides."""
    with contextlib.suppress(OSError):
      self._connection.shutdown(socket.SHUT_RDWR)  # A thread that reads ends.
    self._reader.close()
    self._connection.close()


class Group:
  """One process among those of a run.

  Attributes:
    process_id: from 0.
    num_processes: of the run.
    is_lost: whether a process has ended before its time.
  """

  def __init__(
    self,
    process_id: int,
    lines: Mapping[int, Line],
    num_processes: int,
    on_loss: Callable[[str], Any] | None = None,
  ):
    """Starts to listen.

    Args:
      process_id: of this process.
      lines: by process: of process 0 to all others, of these to process 0.
      num_processes: of the run.
      on_loss: is told, in a thread, that another process has ended; None
        ends this one, whose main thread may wait for what the other had to do.
    """
    self.process_id, self.num_processes = process_id, num_processes
    self._lines, self._on_loss = lines, on_loss or self._end
    self._hub = _Hub(self._to_all, num_processes) if process_id == 0 else None
    self._round, self._values = 0, queue.SimpleQueue[Any]()
    self._all_left = threading.Event()
    self.is_lost = False
    # Places passed, whether the count is being taken, and where all stop.
    self._turn = threading.Condition()
    self._passed, self._is_counted = 0, False
    self._stop_at: int | None = None
    self._has_asked = False
    for process, line in lines.items():
      threading.Thread(
        target=self._listen, args=(process, line), daemon=True
      ).start()

  # ----- What the run asks -----

  def exchange(self, value: Any) -> list[Any]:
    """What each process gives here, by process; all call it together.

    Args:
      value: as JSON has it.

    Raises:
      ConnectionError: a process is gone.
    """
    self._round += 1
    self._send({"kind": "value", "round": self._round, "value": value})
    values = self._values.get()
    if values is None:
      raise ConnectionError("a process of this run is gone")
    return values

  def stops_here(self, asked: bool) -> bool:
    """Whether all processes stop at this place.

    Args:
      asked: whether this process was asked to.
    """
    if asked and not self._has_asked:
      self._has_asked = True
      self._send({"kind": "stop"})
    with self._turn:
      self._turn.wait_for(lambda: not self._is_counted)
      self._passed += 1
      return self.is_stopping

  @property
  def is_stopping(self) -> bool:
    """Whether the place where all stop is reached."""
    return self._stop_at is not None and self._passed >= self._stop_at

  def leave(self, patience_s: float | None = None) -> bool:
    """Waits until all have done their part, and closes the lines.

    Args:
      patience_s: how long; None: until they have.

    Returns:
      Whether they have.
    """
    self._send({"kind": "left"})
    if not self._all_left.wait(patience_s):
      return False
    for line in self._lines.values():
      line.close()
    return True

  def fail(self, message: str) -> None:
    """Tells the others that this process ends, and why."""
    self.is_lost = True
    self._send({"kind": "lost", "who": self.process_id, "why": message})
    for line in self._lines.values():
      line.close()

  # ----- What it hears -----

  def _listen(self, process: int, line: Line) -> None:
    while (message := line.receive()) is not None:
      if self._hub is not None:
        self._hub.hear(process, message)
      else:
        self._hear(message)
    line.close()
    if self._hub is not None:
      self._hub.hear(process, {"kind": "lost", "who": process, "why": ""})
    elif not self._all_left.is_set():
      self._hear({"kind": "lost", "who": process, "why": ""})

  def _end(self, message: str) -> NoReturn:
    print(f"normjax: {message}", file=sys.stderr, flush=True)
    if self.process_id == 0:
      time.sleep(_LAST_WORDS_S)
    os._exit(1)

  def _send(self, message: Message) -> None:
    if self._hub is not None:
      self._hub.hear(0, message)
    else:
      self._lines[0].send(message)

  def _to_all(self, message: Message) -> None:
    for line in self._lines.values():
      line.send(message)
    self._hear(message)

  def _hear(self, message: Message) -> None:
    match message["kind"]:
      case "values":
        self._values.put(message["values"])
      case "count":
        with self._turn:
          self._is_counted = True
          passed = self._passed
        self._send({"kind": "passed", "passed": passed})
      case "stop":
        with self._turn:
          self._stop_at, self._is_counted = message["at"], False
          self._turn.notify_all()
      case "left":
        self._all_left.set()
      case "lost" if message["who"] != self.process_id and not self.is_lost:
        self.is_lost = True
        self._values.put(None)
        self._on_loss(_loss(message["who"], message["why"]))


def _loss(process: int, why: str) -> str:
  if why:
    return f"process {process} ended: {why}"
  return (
    f"process {process} is gone without a word, as after a SIGKILL or where"
    " its machine is; this one ends with it. The same command goes on from the"
    " last checkpoint."
  )


class _Hub:
  """What process 0 knows of all; heard from many threads, one at a time."""

  def __init__(self, to_all: Callable[[Message], None], num_processes: int):
    self._to_all, self._num_processes = to_all, num_processes
    self._lock = threading.RLock()  # What it sends to itself, it hears.
    self._values: dict[int, dict[int, Any]] = {}
    self._passed: dict[int, int] = {}
    self._left: set[int] = set()
    self._is_counting = False

  def hear(self, process: int, message: Message) -> None:
    """Takes a message of a process."""
    with self._lock:
      match message["kind"]:
        case "value":
          values = self._values.setdefault(message["round"], {})
          values[process] = message["value"]
          if len(values) == self._num_processes:
            del self._values[message["round"]]
            every = [values[each] for each in range(self._num_processes)]
            self._to_all({"kind": "values", "values": every})
        case "stop" if not self._is_counting:
          self._is_counting = True
          self._to_all({"kind": "count"})
        case "passed":
          self._passed[process] = message["passed"]
          if len(self._passed) == self._num_processes:
            at = max(self._passed.values()) + 1
            self._to_all({"kind": "stop", "at": at})
        case "left":
          self._left.add(process)
          if len(self._left) == self._num_processes:
            self._to_all({"kind": "left"})
        case "lost" if len(self._left) < self._num_processes:
          self._to_all(message)
