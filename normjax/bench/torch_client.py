"""The other interpreter, where PyTorch's threads do not fight XLA's."""

import contextlib
import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from normjax import errors
from normjax.bench import contest, leaves

_SCRIPT = Path(__file__).with_name("torch_peers.py")


class PeerError(RuntimeError):
  """A peer that could not be measured; the message says why."""


class TorchPeers:
  """`torch_peers.py` in its interpreter: one JSON line asks, one answers."""

  def __init__(self, python: str):
    """Starts it.

    Args:
      python: path of the interpreter.

    Raises:
      UserError: it cannot be started.
    """
    self._stderr = tempfile.TemporaryFile("w+")  # noqa: SIM115
    try:
      self._process = subprocess.Popen(
        [python, str(_SCRIPT)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=self._stderr,
        text=True,
      )
    except OSError as error:
      self._stderr.close()
      raise errors.UserError(
        f"--peer_python={python} cannot be started: {error.strerror}."
      ) from error
    self.python = python

  def __enter__(self) -> "TorchPeers":
    return self

  def __exit__(
    self,
    kind: type[BaseException] | None,
    error: BaseException | None,
    trace: TracebackType | None,
  ) -> None:
    for pipe in (self._process.stdin, self._process.stdout):
      assert pipe is not None
      with contextlib.suppress(BrokenPipeError):
        pipe.close()  # The script ends where its input does.
    self._process.wait()
    self._stderr.close()

  def ask(self, **message: Any) -> dict[str, Any]:
    """Sends a message and waits for its answer.

    Raises:
      PeerError: the answer is an error, or the process has ended.
    """
    assert self._process.stdin is not None
    assert self._process.stdout is not None
    try:
      print(json.dumps(message), file=self._process.stdin, flush=True)
      line = self._process.stdout.readline()
    except BrokenPipeError:
      line = ""
    if not line:
      self._stderr.seek(0)
      last = self._stderr.read().strip().splitlines()[-1:] or ["no message"]
      raise PeerError(f"{self.python} ended: {last[0]}")
    reply = json.loads(line)
    if "error" in reply:
      raise PeerError(reply["error"])
    return reply

  def hello(self) -> dict[str, Any]:
    """Versions of the peers' packages; takes as many threads as XLA."""
    return self.ask(do="hello", threads=len(os.sched_getaffinity(0)))

  def contestant(
    self, name: str, shapes: Sequence[leaves.TorchLeaf]
  ) -> contest.Contestant:
    """Makes a peer on these leaves; it replaces all before.

    Raises:
      PeerError: its package is missing or fails.
    """
    flat = [[list(leaf.shape), leaf.kind] for leaf in shapes]
    return self._make(name, do="make", leaves=flat)

  def norm(
    self, name: str, shape: Sequence[int], eps: float
  ) -> contest.Contestant:
    """Makes a norm's forward and backward pass; see `contestant`."""
    return self._make(name, do="make_norm", shape=list(shape), eps=eps)

  def model(self, module: str, name: str, **sizes: int) -> contest.Contestant:
    """Makes a step of a model of a module; those made before stay.

    Args:
      module: the file beside `torch_peers.py` that has it in `MODELS`.
      name: in there.
      **sizes: its maker's arguments.

    Raises:
      PeerError: as `contestant`.
    """
    return self._make(name, do="make_model", module=module, sizes=sizes)

  def _make(self, name: str, **message: Any) -> contest.Contestant:
    facts = self.ask(name=name, **message)
    peer = facts.pop("peer")

    def run(count: int) -> float:
      return self.ask(do="steps", count=count, peer=peer)["seconds"]

    return contest.Contestant(name, run, facts)

  def drop(self) -> None:
    """Frees the memory of all peers."""
    self.ask(do="drop")
