"""One run on the devices of several processes.

    facts = {"config": configure.run_id(config)}
    with distributed.joined(place.find(), facts):
      train.run(config, directory)

All processes do the same, in the same order; process 0 writes the files and
decides what depends on files. In one process everything here is the identity.
"""

import contextlib
import functools
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from normjax import errors, faults, stopping
from normjax.train.processes import rendezvous
from normjax.train.processes.group import Group
from normjax.train.processes.place import Place
from normjax.types import PyTree

# A process that dies takes others' steps down with it; of the two messages,
# the one that names it is the one to read.
_LOSS_IS_HEARD_S = 2.0
# All end at one place; one that was told to end at once is not waited for.
_LEAVING_S = 60.0
# After an error that the others do not have.
_ENDS_WITHIN_S = 20.0

_group: Group | None = None
# The error that all processes raise, if they do.
_shared_error: BaseException | None = None


@contextlib.contextmanager
def joined(
  where: Place, facts: Mapping[str, Any], timeout_s: float = 300
) -> Iterator[Group]:
  """A block in which JAX's devices are those of all processes.

  Where one fails, it tells the others, which end with its message; it raises
  the error, and ends a little later if nothing else ends it.

  Args:
    where: this process.
    facts: by name; what must be the same in all, such as the run's id.
    timeout_s: how long to wait for the others.

  Raises:
    UserError: they do not come together, or do not fit.
  """
  global _group, _shared_error
  _shared_error = None
  if jax.distributed.is_initialized():
    raise errors.UserError("jax.distributed is initialized already.")
  group, service, binds = rendezvous.meet(where, facts, timeout_s)
  # SIGTERM stays what it was: JAX would take it, and knows of no other signal.
  jax.config.update("jax_enable_preemption_service", False)
  try:
    jax.distributed.initialize(
      service,
      where.num_processes,
      where.process_id,
      local_device_ids=where.local_device_ids,
      cluster_detection_method="deactivate",
      initialization_timeout=max(60, int(timeout_s)),
      coordinator_bind_address=binds,  # Else JAX takes all of the machine's.
    )
    _group = group
    with stopping.agreed_by(group.stops_here):
      yield group
  except BaseException as error:
    _end(group, error)
    raise
  else:
    group.leave()
    jax.distributed.shutdown()
  finally:
    _group = None


def all_end(error: BaseException) -> bool:
  """Whether all processes end with this error, at this place."""
  if _group is None or error is _shared_error:
    return True
  return isinstance(error, KeyboardInterrupt) and _group.is_stopping


def _end(group: Group, error: BaseException) -> None:
  """Leaves with the others where they have the error too, else tells them."""
  if _group and all_end(error) and group.leave(_LEAVING_S):
    jax.distributed.shutdown()
    return
  if isinstance(error, errors.UserError):
    said = str(error)
  elif isinstance(error, Exception):
    time.sleep(_LOSS_IS_HEARD_S)
    if group.is_lost:
      threading.Event().wait()  # What heard it ends this process.
    said = faults.one_line(error)
  else:
    said = "it was interrupted."
  group.fail(said)
  # What still saves in the background waits for the others.
  faults.wait_in_vain()
  end = threading.Timer(_ENDS_WITHIN_S, os._exit, (1,))
  end.daemon = True
  end.start()


# ----- What all must know -----


def is_first() -> bool:
  """Whether this process is the one that writes."""
  return _group is None or _group.process_id == 0


def num_processes() -> int:
  """How many train this run."""
  return 1 if _group is None else _group.num_processes


def check_joined() -> None:
  """Raises UserError where JAX has processes that this module knows not of."""
  if _group is None and jax.process_count() > 1:
    raise errors.UserError(
      f"JAX runs in {jax.process_count()} processes; a run needs `normjax train"
      " --distributed`, or normjax.train.processes.distributed.joined in place"
      " of jax.distributed.initialize."
    )


def together[T](action: Callable[[], T]) -> T:
  """Does the same in all processes; bad input that one finds, all raise.

  Args:
    action: called in each.
  """
  if _group is None:
    return action()
  own, problem, result = None, None, None
  try:
    result = action()
  except errors.UserError as error:
    own, problem = error, [type(error).__name__, str(error)]
  _raise_shared(own, _group.exchange(problem))
  return result  # type: ignore[return-value]  # Else `own` was raised.


def from_first[T](make: Callable[[], T]) -> T:
  """What process 0 makes, in all; its bad input too.

  Args:
    make: called in process 0 alone; gives what JSON has.
  """
  if _group is None:
    return make()
  if _group.process_id:
    problem, value = _group.exchange(None)[0]
    _raise_shared(None, [problem])
    return value
  own, problem, value = None, None, None
  try:
    value = make()
  except errors.UserError as error:
    own, problem = error, [type(error).__name__, str(error)]
  _group.exchange([problem, value])
  _raise_shared(own, [problem])
  return value  # type: ignore[return-value]


def every(value: Any) -> list[Any]:
  """What each process gives here, by process; JSON."""
  return [value] if _group is None else _group.exchange(value)


def check_same(what: str, value: Any) -> None:
  """Raises UserError, in all processes, where one has another value."""
  first, *others = every(value)
  for process, other in enumerate(others, 1):
    if other != first:
      problem = (
        f"process {process} has another {what} than process 0: {other!r}, not"
        f" {first!r}."
      )
      _raise_shared(None, [["RunError", problem]])


def _raise_shared(own: Any, problems: Sequence[Any]) -> None:
  """Raises what one process found, its own error where it has one."""
  global _shared_error
  found = next(filter(None, problems), None)
  if found is None:
    return
  name, text = found
  error = own or getattr(errors, name, errors.UserError)(text)
  _shared_error = error
  raise error


# ----- Arrays -----


class Rows(NamedTuple):
  """Some examples of a batch, in a row: from `start` to `stop` of `size`."""

  start: int
  stop: int
  size: int


def rows_here(size: int, sharding: jax.sharding.Sharding) -> Rows:
  """The examples of a batch that the devices of this process hold.

  Args:
    size: examples of the batch.
    sharding: of the batch.
  """
  if _group is None:
    return Rows(0, size, size)
  parts = sharding.addressable_devices_indices_map((size,)).values()
  bounds = [index[0].indices(size) for index in parts]
  return Rows(min(b[0] for b in bounds), max(b[1] for b in bounds), size)


def put(tree: PyTree, shardings: Any, rows: Rows | None = None) -> PyTree:
  """Arrays of the host on the devices of all processes.

  Args:
    tree: of arrays; each the same in every process, and whole.
    shardings: one, or a tree of them.
    rows: of a batch: which of its examples are in the arrays; None: all.
  """
  if _group is None:
    return jax.device_put(tree, shardings)
  if isinstance(shardings, jax.sharding.Sharding):
    shardings = jax.tree.map(lambda _: shardings, tree)
  return jax.tree.map(functools.partial(_put, rows=rows), tree, shardings)


def _put(
  leaf: Any, sharding: jax.sharding.Sharding, *, rows: Rows | None
) -> jax.Array:
  if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
    return jax.device_put(leaf, sharding)  # It is on all devices already.
  host, shape = np.asarray(leaf), np.shape(leaf)
  if rows is not None and len(host) < rows.size:
    shape = rows.size, *shape[1:]

  def part(index: Any) -> np.ndarray:
    if rows is None or shape == host.shape:
      return host[index]
    start, stop, _ = index[0].indices(rows.size)
    return host[start - rows.start : stop - rows.start, *index[1:]]

  return jax.make_array_from_callback(shape, sharding, part, dtype=host.dtype)


def whole(tree: PyTree) -> PyTree:
  """Arrays of all devices, each whole on this host, as NumPy's.

  What start steps change is needed so: a model that one host cannot hold
  cannot start from them.

  Args:
    tree: of arrays; all processes give the same.
  """
  if _group is None:
    return tree

  def gather(leaf: Any) -> Any:
    if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable:
      return leaf
    if leaf.is_fully_replicated:
      return np.asarray(leaf)
    return multihost_utils.process_allgather(leaf, tiled=True)

  return jax.tree.map(gather, tree)
