"""Bytes that the kernels of an optimized XLA program read and write.

A kernel is taken to read its operands once and to write its results once: what
one reads twice, be it XLA's or a Mosaic GPU kernel, is not seen. Of a fusion,
an operand that is only sliced counts as its slices, and a result that is
updated in place counts as the update. The body of a loop counts as often as the
loop runs, if the compiler knows; of a conditional every branch counts. Caches
are not modelled. On a TPU arrays count with the padding of their tiles, and
those in the chip's own memory do not count.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from kernels_pallas.aot import blockwise

_BITS = {"pred": 8, "s2": 2, "u2": 2, "s4": 4, "u4": 4, "bf16": 16}
_ARRAY = re.compile(
  r"\b(pred|bf16|f8\w*|f4\w*|[sfuc]\d+)\[([\d,]*)\](?:\{([^}]*)\})?"
)
_INSTRUCTION = re.compile(r"\s*(ROOT )?%?([\w.\-]+) = (.*)")
_COMPUTATION = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*\{\s*$")
_NAMES = re.compile(r"%([\w.\-]+)")
_CALLED = re.compile(
  r"(?:to_apply|calls|true_computation|false_computation)=%?([\w.\-]+)"
)
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_TRIPS = re.compile(r"known_trip_count[^\d]*(\d+)")
# They move nothing, or what the instruction that began it has counted.
_FREE = frozenset(
  {
    "after-all", "all-gather-done", "all-reduce-done", "async-done",
    "async-update", "bitcast", "collective-permute-done", "constant",
    "copy-done", "get-tuple-element", "iota", "opt-barrier",
    "optimization-barrier", "parameter", "partition-id", "replica-id",
    "slice-done", "tuple",
  }
)  # fmt: skip
_SLICING = ("dynamic-slice", "slice", "gather")


@dataclasses.dataclass(frozen=True)
class Kernel:
  """One kernel of a program.

  Attributes:
    name: of its instruction.
    kind: of the fusion, the target of a custom call, or the operation.
    bytes: that it reads and writes when it runs once.
    times: that it runs.
    source: the operation of the traced function.
  """

  name: str
  kind: str
  bytes: int
  times: int
  source: str


@dataclasses.dataclass(frozen=True)
class _Instruction:
  name: str
  type: str
  operation: str
  inside: str
  attributes: str
  is_root: bool

  @property
  def operands(self) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_NAMES.findall(self.inside)))


_Program = Mapping[str, Sequence[_Instruction]]


def kernels(
  text: str,
  *,
  tiled: bool = False,
  moved: Sequence[blockwise.Call] | None = None,
) -> tuple[Kernel, ...]:
  """The kernels of a program, those of the most bytes first.

  Args:
    text: of the optimized program, as `Compiled.as_text` gives it.
    tiled: whether layouts have tiles and memories, as those of a TPU.
    moved: bytes of its Pallas calls; None if their arrays say it.
  """
  computations, entry = _parse(text)
  found = _Walk(computations, tiled, moved or ()).run(entry, 1)
  return tuple(sorted(found, key=lambda k: -k.bytes * k.times))


def moved_bytes(
  text: str,
  *,
  tiled: bool = False,
  moved: Sequence[blockwise.Call] | None = None,
) -> tuple[int, int]:
  """Bytes that a program moves when it runs once, the least and the most.

  Of each conditional one branch runs: that of the fewest bytes, or of the most.

  Args:
    text: as for `kernels`, like the others.
    tiled: likewise.
    moved: likewise.
  """
  computations, entry = _parse(text)
  walk = _Walk(computations, tiled, moved or ())
  return walk.total(entry, min), walk.total(entry, max)


def _parse(text: str) -> tuple[_Program, str]:
  computations: dict[str, list[_Instruction]] = {}
  name, entry = "", ""
  for line in text.splitlines():
    head = _COMPUTATION.match(line)
    if head:
      name = head[2]
      computations[name] = []
      entry = name if head[1] else entry
    elif line.startswith("}"):
      name = ""
    elif name and (instruction := _instruction(line)):
      computations[name].append(instruction)
  return computations, entry


def _instruction(line: str) -> _Instruction | None:
  match = _INSTRUCTION.match(line)
  if match is None:
    return None
  root, name, rest = match.groups()
  if rest.startswith("("):
    end = _closing(rest, 0) + 1
    type_, rest = rest[:end], rest[end:].lstrip()
  else:
    type_, _, rest = rest.partition(" ")
  operation, bracket, _ = rest.partition("(")
  if not bracket:
    return None
  end = _closing(rest, len(operation))
  inside, attributes = rest[len(operation) + 1 : end], rest[end + 1 :]
  return _Instruction(name, type_, operation, inside, attributes, bool(root))


def _closing(text: str, start: int) -> int:
  """Where the bracket that opens at `start` is closed."""
  depth = 0
  for index in range(start, len(text)):
    depth += (text[index] == "(") - (text[index] == ")")
    if not depth:
      return index
  return len(text)


def shapes(type_: str) -> Iterator[tuple[int, ...]]:
  """Those of the arrays of a type."""
  for _, dims, _ in _ARRAY.findall(type_):
    yield tuple(int(size) for size in dims.split(",") if size)


@functools.cache
def size_bytes(type_: str, tiled: bool = False) -> int:
  """Bytes of the arrays of a type, such as `(f32[8,128]{1,0}, s32[])`."""
  total = 0
  for element, dims, layout in _ARRAY.findall(type_):
    if tiled and re.search(r"S\([1-4]\)", layout):
      continue
    sizes = [int(size) for size in dims.split(",") if size]
    if tiled:
      sizes = _padded(sizes, layout)
    digits = re.search(r"\d+", element)
    bits = _BITS.get(element) or int(digits[0] if digits else 8)
    total += math.prod(sizes) * bits // 8
  return total


def _padded(sizes: list[int], layout: str) -> list[int]:
  """Sizes with the minor ones filled up to the first tile of the layout."""
  order, _, tiles = layout.partition(":")
  tile = re.search(r"T\(([\d,]+)\)", tiles)
  if tile is None or not order:
    return sizes
  edges = [int(size) for size in tile[1].split(",")]
  minor_first = [int(axis) for axis in order.split(",")]
  sizes = list(sizes)
  for axis, edge in zip(minor_first, reversed(edges), strict=False):
    sizes[axis] = -(-sizes[axis] // edge) * edge
  return sizes


@dataclasses.dataclass(frozen=True)
class _Walk:
  """Over a program's computations, as often as each runs."""

  computations: _Program
  tiled: bool
  moved: Sequence[blockwise.Call]

  def run(self, name: str, times: int) -> Iterator[Kernel]:
    types: dict[str, str] = {}
    for each in self.computations[name]:
      types[each.name] = each.type
      if each.operation == "while":
        yield from self._loop(each, times)
      elif each.operation in ("call", "conditional", "async-start"):
        for called in _called(each):
          if called in self.computations:
            yield from self.run(called, times)
      elif each.operation not in _FREE:
        yield self._kernel(each, types, times)

  def _loop(self, each: _Instruction, times: int) -> Iterator[Kernel]:
    body, trips = _body(each)
    if body:
      yield from self.run(body, times * trips)

  def total(self, name: str, choose: Callable[[list[int]], int]) -> int:
    """Bytes of a computation; `choose` says those of a conditional's."""
    types: dict[str, str] = {}
    total = 0
    for each in self.computations[name]:
      types[each.name] = each.type
      if each.operation == "while":
        body, trips = _body(each)
        total += trips * self.total(body, choose) if body else 0
      elif each.operation in ("call", "conditional", "async-start"):
        called = [
          self.total(one, choose)
          for one in _called(each)
          if one in self.computations
        ]
        is_choice = each.operation == "conditional" and called
        total += choose(called) if is_choice else sum(called)
      elif each.operation not in _FREE:
        total += self._kernel(each, types, 1).bytes
    return total

  def _size(self, type_: str) -> int:
    return size_bytes(type_, self.tiled)

  def _kernel(
    self, each: _Instruction, types: Mapping[str, str], times: int
  ) -> Kernel:
    custom = re.search(r'custom_call_target="([^"]+)"', each.attributes)
    fused = re.search(r"kind=k(\w+)", each.attributes)
    source = re.search(r'op_name="([^"]*)"', each.attributes)
    named = custom or fused
    kind = named[1] if named else each.operation
    operands = [types.get(operand, "") for operand in each.operands]
    return Kernel(
      each.name,
      kind,
      self._bytes(each, operands, kind, source[1] if source else ""),
      times,
      source[1] if source else "",
    )

  def _bytes(
    self, each: _Instruction, operands: list[str], kind: str, source: str
  ) -> int:
    result = self._size(each.type)
    read = [self._size(operand) for operand in operands]
    if each.operation in _SLICING:
      return 2 * result
    if each.operation == "dynamic-update-slice":
      return 2 * (read[1] if len(read) > 1 else 0)
    if each.operation in ("copy-start", "slice-start"):
      # Its result names the source beside the copy.
      return result
    if each.operation == "fusion":
      called = _called(each)
      if called and called[0] in self.computations:
        return self._fusion(each, called[0], read)
    if kind == "tpu_custom_call":
      call = self._pallas(each, operands, source)
      if call is not None:
        return call.bytes
    if re.search("cublas|cudnn", each.attributes) and each.type[0] == "(":
      # The last result is the library's scratch memory.
      scratch = re.findall(r"[su]8\[\d+\]", each.type)
      result -= sum(self._size(s) for s in scratch[-1:])
    return result + sum(read)

  def _pallas(
    self, each: _Instruction, operands: list[str], source: str
  ) -> blockwise.Call | None:
    """What moved of a call of these arrays; the name decides among several."""
    arrays = tuple(
      shape
      for type_ in (
        *(dict(zip(each.operands, operands, strict=True)).get(n, "")
          for n in _NAMES.findall(each.inside)),
        each.type,
      )
      for shape in shapes(type_)
    )  # fmt: skip
    fitting = [call for call in self.moved if call.shapes == arrays]
    named = [call for call in fitting if call.name in source]
    return next(iter(named or fitting), None)

  def _fusion(self, each: _Instruction, name: str, read: list[int]) -> int:
    body = self.computations[name]
    uses: dict[str, list[tuple[_Instruction, int]]] = {}
    for inner in body:
      for position, operand in enumerate(_NAMES.findall(inner.inside)):
        uses.setdefault(operand, []).append((inner, position))
    total = 0
    positions = list(_NAMES.findall(each.inside))
    for inner in body:
      if inner.operation == "parameter":
        index = int(inner.inside)
        # An operand that is given twice is read once.
        if positions.index(positions[index]) == index:
          full = read[each.operands.index(positions[index])]
          total += self._read(full, list(_through_bitcasts(inner.name, uses)))
    return total + self._written(each, body)

  def _written(self, each: _Instruction, body: Sequence[_Instruction]) -> int:
    """Bytes written of the results of a fusion; in place only the updates."""
    by_name = {inner.name: inner for inner in body}

    def origin(name: str) -> _Instruction | None:
      found = by_name.get(name)
      while found is not None and found.operation == "bitcast":
        found = by_name.get(_NAMES.findall(found.inside)[0])
      return found

    root = next(inner for inner in body if inner.is_root)
    several = root.operation == "tuple"
    names = _NAMES.findall(root.inside) if several else [root.name]
    sizes = [self._size(array[0]) for array in _ARRAY.finditer(each.type)]
    if len(sizes) != len(names):
      return sum(sizes)
    for n, name in enumerate(names):
      made = origin(name)
      if made is None or made.operation != "dynamic-update-slice":
        continue
      whole, update, *_ = _NAMES.findall(made.inside)
      old, new = origin(whole), by_name.get(update)
      # What is made in the fusion has no place before it.
      if old is not None and old.operation == "parameter" and new is not None:
        sizes[n] = min(sizes[n], self._size(new.type))
    return sum(sizes)

  def _read(self, full: int, uses: list[tuple[_Instruction, int]]) -> int:
    """Bytes read of an operand of that size."""
    first = all(position == 0 for _, position in uses)
    if uses and first:
      if all(use.operation in _SLICING for use, _ in uses):
        return min(full, sum(self._size(use.type) for use, _ in uses))
      if all(use.operation == "dynamic-update-slice" for use, _ in uses):
        return 0
    return full


def _body(each: _Instruction) -> tuple[str, int]:
  """That of a loop, and how often it runs; 1 where the compiler says not."""
  body = re.search(r"body=%?([\w.\-]+)", each.attributes)
  trips = _TRIPS.search(each.attributes)
  return body[1] if body else "", int(trips[1]) if trips else 1


def _called(each: _Instruction) -> list[str]:
  branches = _BRANCHES.search(each.attributes)
  listed = re.findall(r"%?([\w.\-]+)", branches[1]) if branches else []
  return _CALLED.findall(each.attributes) + listed


def _through_bitcasts(
  name: str, uses: Mapping[str, list[tuple[_Instruction, int]]]
) -> Iterator[tuple[_Instruction, int]]:
  for use, position in uses.get(name, ()):
    if use.operation == "bitcast":
      yield from _through_bitcasts(use.name, uses)
    else:
      yield use, position
