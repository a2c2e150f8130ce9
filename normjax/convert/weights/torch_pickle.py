"""The pickle inside a PyTorch file, read without running any of it.

A pickle is a program for a small machine. This one has no way to import: a name
that is asked for stays a name, and a call is looked up in a table of what
state dicts are made of. All else is refused before anything happens.
"""

import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from normjax import errors

# PyTorch's storages by the dtype of their numbers.
STORAGES = {
  "DoubleStorage": "float64",
  "FloatStorage": "float32",
  "HalfStorage": "float16",
  "BFloat16Storage": "bfloat16",
  "LongStorage": "int64",
  "IntStorage": "int32",
  "ShortStorage": "int16",
  "CharStorage": "int8",
  "ByteStorage": "uint8",
  "BoolStorage": "bool",
}


class Global(NamedTuple):
  """A name that the pickle asks for; it is nothing but its name."""

  module: str
  name: str


class Storage(NamedTuple):
  """A file in the archive: `size` numbers of a dtype."""

  dtype: str
  key: str
  size: int


class View(NamedTuple):
  """A tensor: numbers of a storage, in units of its numbers."""

  storage: Storage
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]


def _ordered_dict() -> dict[Any, Any]:
  return {}


def _tensor(
  storage: Storage,
  offset: int,
  shape: tuple[int, ...],
  strides: tuple[int, ...],
  requires_grad: bool,
  hooks: Any,
  metadata: Any = None,
) -> View:
  del requires_grad, hooks, metadata
  numbers = (offset, *shape, *strides)
  # A bool is an int to Python.
  if not isinstance(storage, Storage) or {*map(type, numbers)} != {int}:
    raise TypeError("a tensor of no storage, or of sizes that are no numbers")
  if max(map(abs, numbers)) > _MOST or len(shape) > _MOST_AXES:
    raise ValueError("a tensor of sizes or axes that no array has")
  return View(storage, offset, tuple(shape), tuple(strides))


def _parameter(data: View, requires_grad: bool, hooks: Any) -> View:
  del requires_grad, hooks
  if not isinstance(data, View):
    raise TypeError("a parameter of no tensor")
  return data


# All that is ever called, by the exact name.
_CALLS: dict[Global, Callable[..., Any]] = {
  Global("collections", "OrderedDict"): _ordered_dict,
  Global("torch._utils", "_rebuild_tensor_v2"): _tensor,
  Global("torch._utils", "_rebuild_parameter"): _parameter,
}
_KINDS = {Global("torch", name): dtype for name, dtype in STORAGES.items()}
_ALLOWED = {*_CALLS, *_KINDS}
_MARK: Any = object()
# In 64 bits its bytes can be counted; of axes NumPy has as many.
_MOST, _MOST_AXES = 2**48, 64
# A name may be as long as the file.
_MOST_SHOWN = 80

# Opcodes that push what they carry.
_PUSHED = {
  "BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "LONG4",
  "BINFLOAT", "FLOAT",
  "BINUNICODE", "BINUNICODE8", "SHORT_BINUNICODE", "UNICODE",
  "BINSTRING", "SHORT_BINSTRING", "STRING",
}  # fmt: skip
_MADE: dict[str, Callable[[], Any]] = {
  "NONE": lambda: None,
  "NEWTRUE": lambda: True,
  "NEWFALSE": lambda: False,
  "EMPTY_TUPLE": tuple,
  "EMPTY_LIST": list,
  "EMPTY_DICT": dict,
  "MARK": lambda: _MARK,
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_PUTS = {"BINPUT", "LONG_BINPUT", "PUT"}
_GETS = {"BINGET", "LONG_BINGET", "GET"}
_NOTHING = {"PROTO", "FRAME"}


def load(content: bytes, file: Path) -> Any:
  """What a pickle holds: numbers, texts, tuples, lists, dicts and `View`s.

  Args:
    content: of the pickle.
    file: for messages.

  Raises:
    DataError: the pickle asks for another name, or is damaged.
  """
  machine = _Machine(file)
  try:
    for opcode, argument, _ in pickletools.genops(content):
      if opcode.name == "STOP":
        return machine.stack.pop()
      machine.step(opcode.name, argument)
  except errors.UserError:
    raise
  except (ValueError, TypeError, LookupError, AttributeError) as error:
    raise errors.DataError(
      f"{file}: its pickle is damaged: {type(error).__name__}: {error}."
    ) from error
  raise errors.DataError(f"{file}: its pickle is damaged: it has no end.")


class _Machine:
  """The stack and the memo, and what an opcode does to them."""

  def __init__(self, file: Path):
    self.file = file
    self.stack: list[Any] = []
    self.memo: dict[int, Any] = {}

  def step(self, name: str, argument: Any) -> None:
    """Carries out one opcode."""
    stack = self.stack
    if name in _PUSHED:
      stack.append(argument)
    elif name in _MADE:
      stack.append(_MADE[name]())
    elif name in _TUPLES:
      stack[-_TUPLES[name] :] = [tuple(stack[-_TUPLES[name] :])]
    elif name in _PUTS:
      self.memo[argument] = stack[-1]
    elif name in _GETS:
      stack.append(self.memo[argument])
    elif name == "MEMOIZE":
      self.memo[len(self.memo)] = stack[-1]
    elif name not in _NOTHING:
      act = getattr(self, f"_{name.lower()}", None)
      if act is None:
        self._refuse(f"the instruction {name}")
      act(argument)

  def _refuse(self, what: str) -> NoReturn:
    raise errors.DataError(
      f"{self.file}: its pickle asks for {what}; it was not run. Read here are"
      " tensors in dicts, as torch.save(model.state_dict(), …) writes them."
    )

  def _marked(self) -> list[Any]:
    """What was pushed since the last mark."""
    index = len(self.stack) - 1
    while self.stack[index] is not _MARK:
      index -= 1
      if index < 0:
        raise LookupError("no mark")
    found = self.stack[index + 1 :]
    del self.stack[index:]
    return found

  def _global(self, argument: str) -> None:
    self._named(*argument.split(" ", 1))

  def _stack_global(self, argument: None) -> None:
    del argument
    name = self.stack.pop()
    self._named(self.stack.pop(), name)

  def _named(self, module: Any, name: Any) -> None:
    # Types first, here and below: to hash or to show tuples of tuples of one
    # another may take forever.
    if type(module) is not str or type(name) is not str:
      self._refuse("a name that is no text")
    found = Global(module, name)
    if found not in _ALLOWED:
      self._refuse(f"{module[:_MOST_SHOWN]}.{name[:_MOST_SHOWN]}")
    self.stack.append(found)

  def _binpersid(self, argument: None) -> None:
    del argument
    kind, storage, key, _, size = self.stack.pop()
    types = [type(part) for part in (kind, storage, key, size)]
    if types != [str, Global, str, int] or storage not in _KINDS:
      raise ValueError("a storage without its kind, name and size")
    if abs(size) > _MOST:
      raise ValueError("a storage of a size that no file has")
    self.stack.append(Storage(_KINDS[storage], key, size))

  def _reduce(self, argument: None) -> None:
    del argument
    given = self.stack.pop()
    called = self.stack.pop()
    if type(called) is not Global:
      self._refuse(f"a call of a {type(called).__name__}")
    if called not in _CALLS:
      self._refuse(f"a call of {called.module}.{called.name}")
    if type(given) is not tuple:
      raise TypeError("a call without its arguments")
    self.stack.append(_CALLS[called](*given))

  def _build(self, argument: None) -> None:
    # Of a state dict: versions of modules, which say nothing of weights.
    del argument
    self.stack.pop()
    if type(self.stack[-1]) is not dict:
      self._refuse(f"a state of a {type(self.stack[-1]).__name__}")

  def _tuple(self, argument: None) -> None:
    del argument
    self.stack.append(tuple(self._marked()))

  def _list(self, argument: None) -> None:
    del argument
    self.stack.append(self._marked())

  def _appends(self, argument: None) -> None:
    del argument
    found = self._marked()
    self._top(list).extend(found)

  def _append(self, argument: None) -> None:
    del argument
    found = self.stack.pop()
    self._top(list).append(found)

  def _setitems(self, argument: None) -> None:
    del argument
    found = self._marked()
    for key, value in zip(found[::2], found[1::2], strict=True):
      self._set(key, value)

  def _setitem(self, argument: None) -> None:
    del argument
    value, key = self.stack.pop(), self.stack.pop()
    self._set(key, value)

  def _set(self, key: Any, value: Any) -> None:
    if type(key) not in (str, int):
      raise TypeError(f"a {type(key).__name__} as a key")
    self._top(dict)[key] = value

  def _top(self, kind: type) -> Any:
    top = self.stack[-1]
    if type(top) is not kind:
      raise TypeError(f"{type(top).__name__} in place of a {kind.__name__}")
    return top
