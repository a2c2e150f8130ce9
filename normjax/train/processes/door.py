"""The door at which the processes of a run meet, and who may come in.

Process 0 listens at the coordinator's address alone. Where all processes have
the same secret in `NORMJAX_TOKEN`, each proves it to the other, by an HMAC of
what the other has just drawn; the secret itself is never sent. Whoever does
not, or is no process of a run, is left outside, and keeps nobody waiting.

The proof is of the meeting alone: what is said afterwards is neither signed nor
encrypted, and JAX's own service knows no secret.
"""

import contextlib
import dataclasses
import errno
import hashlib
import hmac
import json
import logging
import os
import secrets
import selectors
import socket
import time
from collections.abc import Iterator, Mapping
from typing import Any

from normjax import errors
from normjax.train.processes.place import Place

_LOG = logging.getLogger(__name__)
VARIABLE = "NORMJAX_TOKEN"
_LEAST_CHARACTERS = 16
# To say who one is; nobody waits for who does not.
HELLO_S = 20.0
_MOST_BYTES = 1 << 16
_MOST_WAITING = 256  # Strangers hold no more of the process' open files.
_NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
_HELLO = {"process_id": int, "num_processes": int, "facts": dict, "host": str}


def token() -> bytes:
  """The secret of the run's processes; empty: they have none.

  Raises:
    UserError: it can be guessed.
  """
  text = os.environ.get(VARIABLE, "")
  if 0 < len(text) < _LEAST_CHARACTERS:
    raise errors.UserError(
      f"{VARIABLE} has {len(text)} characters; allowed:"
      f" {_LEAST_CHARACTERS} or more, as `openssl rand -hex 16` gives."
    )
  return text.encode(errors="surrogateescape")


def proof(secret: bytes, drawn: str, said: Mapping[str, Any]) -> str:
  """That whoever says something has the secret; "" where there is none.

  Args:
    secret: of `token`.
    drawn: by the one who is to believe it, for this once.
    said: without the proof.
  """
  if not secret:
    return ""
  text = json.dumps([drawn, dict(said)], sort_keys=True)
  return hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()


def is_proved(secret: bytes, drawn: str, said: Mapping[str, Any]) -> bool:
  """Whether what was said has its proof, as "proof"; takes the same time."""
  given = said.get("proof")
  rest = {name: value for name, value in said.items() if name != "proof"}
  try:
    wanted = proof(secret, drawn, rest)
  except RecursionError:  # It may be deeper than its reader minds.
    return False
  return isinstance(given, str) and hmac.compare_digest(
    given.encode(errors="surrogatepass"), wanted.encode()
  )


# ----- Where -----


def listen(place: Place, *, has_token: bool) -> socket.socket:
  """Listens at the coordinator's address.

  Args:
    place: of process 0.
    has_token: whether strangers are told from others. Where the name is no
      address that others reach this machine by (of a translated network, or
      one that stands for 127.0.1.1 here), only then all addresses will do.

  Raises:
    UserError: the port is taken, or the address is not this machine's.
  """
  host, port = place.address
  where = f"--coordinator={place.coordinator}"
  problem = "stands for this machine alone, as 127.0.1.1 does"
  try:
    for family, address in _addresses(place):
      try:
        return socket.create_server((address, port), family=family)
      except OSError as error:
        if error.errno not in _NOT_HERE:
          raise
        problem = "is no address of this machine"
    if not has_token:
      raise errors.UserError(
        f"{where}: process 0 cannot listen there, {host} {problem}. Give an"
        f" address that is; or a secret in {VARIABLE}, the same in all"
        " processes, to listen on all that this machine has."
      )
    _LOG.warning("%s %s; process 0 listens on all addresses", where, problem)
    return _everywhere(port)
  except OSError as error:
    raise errors.UserError(
      f"{where}: process 0 cannot listen on port {port} of this machine:"
      f" {error.strerror}. Give a free port."
    ) from error


def _addresses(place: Place) -> list[tuple[int, str]]:
  """(family, address) of the coordinator, without a name's loopback."""
  host, port = place.address
  try:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
  except OSError as error:
    raise errors.UserError(
      f"--coordinator={place.coordinator}: {host} is no name or address that"
      f" this machine knows: {error.strerror}."
    ) from error
  every = [(family, address[0]) for family, *_, address in found]
  if host.startswith("localhost") or host in [address for _, address in every]:
    return every  # It is what the user means.
  return [each for each in every if not _is_loopback(each[1])]


def _is_loopback(address: str) -> bool:
  return address == "::1" or address.startswith("127.")


def _everywhere(port: int) -> socket.socket:
  if socket.has_dualstack_ipv6():
    return socket.create_server(
      ("", port), family=socket.AF_INET6, dualstack_ipv6=True
    )
  return socket.create_server(("", port))


# ----- Who -----


@dataclasses.dataclass
class Visitor:
  """A connection, until it is known who has come.

  Attributes:
    connection: does not block.
    drawn: what its proof is of.
    until_s: so long it has; monotonic.
    said: so far.
    hello: what it is, once it has said so.
  """

  connection: socket.socket
  drawn: str
  until_s: float
  said: bytes = b""
  hello: dict[str, Any] = dataclasses.field(default_factory=dict)

  def hears(self) -> bool:
    """Takes what has come; whether there is more to wait for."""
    try:
      more = self.connection.recv(1 << 12)
    except BlockingIOError:
      return True
    except OSError:
      return False
    self.said += more
    is_whole = self.said.endswith(b"\n")
    return bool(more) and not is_whole and len(self.said) <= _MOST_BYTES


def visitors(
  server: socket.socket, secret: bytes, deadline_s: float
) -> Iterator[Visitor | None]:
  """The processes of a run that come, until the deadline.

  Args:
    server: listens.
    secret: of `token`.
    deadline_s: monotonic.

  Yields:
    Who has come and has the secret; None for one of a run that has not.
  """
  waiting: dict[socket.socket, Visitor] = {}
  with contextlib.closing(selectors.DefaultSelector()) as selector:
    selector.register(server, selectors.EVENT_READ)
    server.setblocking(False)

    def leave(visitor: Visitor) -> None:
      selector.unregister(visitor.connection)
      del waiting[visitor.connection]

    try:
      while (now_s := time.monotonic()) < deadline_s:
        ends = [deadline_s, *(each.until_s for each in waiting.values())]
        ready = selector.select(max(min(ends) - now_s, 0.0))
        for key, _ in ready:
          if key.fileobj is server:
            if (new := _welcome(server, secret)) is not None:
              waiting[new.connection] = new
              selector.register(new.connection, selectors.EVENT_READ, new)
            continue
          visitor = key.data
          if visitor.hears():
            continue
          leave(visitor)
          visitor.hello = _hello(visitor.said) or {}
          if visitor.hello and is_proved(secret, visitor.drawn, visitor.hello):
            yield visitor
          else:
            visitor.connection.close()
            if visitor.hello and secret:
              yield None
        now_s = time.monotonic()
        late = [each for each in waiting.values() if each.until_s < now_s]
        most = max(0, len(waiting) - _MOST_WAITING)
        for visitor in [*late, *list(waiting.values())[:most]]:
          if visitor.connection in waiting:
            leave(visitor)
            visitor.connection.close()
    finally:
      for visitor in waiting.values():
        visitor.connection.close()


def _welcome(server: socket.socket, secret: bytes) -> Visitor | None:
  """Takes a connection, and says what its proof is to be of."""
  try:
    connection, _ = server.accept()
  except OSError:  # It has gone already, or there are no files left.
    return None
  connection.setblocking(False)
  drawn = secrets.token_hex(16)
  asked = {"drawn": drawn, "asks_token": bool(secret)}
  try:
    connection.send(json.dumps(asked).encode() + b"\n")
  except OSError:
    connection.close()
    return None
  return Visitor(connection, drawn, time.monotonic() + HELLO_S)


def _hello(said: bytes) -> dict[str, Any] | None:
  """Who has come; None: no process of a run."""
  try:
    hello = json.loads(said)
  except (ValueError, RecursionError):
    return None
  if not isinstance(hello, dict) or any(
    type(hello.get(name)) is not kind for name, kind in _HELLO.items()
  ):
    return None
  is_one = 0 <= hello["process_id"] < hello["num_processes"]
  return hello if is_one else None
