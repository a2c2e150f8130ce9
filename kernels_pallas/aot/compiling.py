"""A function compiled for a chip, and the facts of its program."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental.compilation_cache import compilation_cache
from jax.extend import core
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from kernels_pallas.aot import blockwise, hlo, ptxas, targets

# Optimizing takes two fifths of the time that a training step for an H200 does.
_HASTY = {"xla_backend_optimization_level": 0}
# What XLA says where it finds no assembler, or no library of device functions.
_WITHOUT_NVIDIAS_TOOLS = ("libdevice", "PTX compilation provider")


class MissingError(RuntimeError):
  """What compiles for the target is not installed; says what to install."""


@dataclasses.dataclass(frozen=True)
class Compiled:
  """A program for one chip, as its compiler left it.

  Attributes:
    bytes: that its kernels read and write, on a GPU each operand and each
      result once. A body of a loop counts as often as it runs, where the
      compiler knows; of a conditional all branches count.
    kernels: launched, likewise.
    temporary_bytes: of memory beside arguments and results.
    registers: per thread, the most of a Mosaic GPU kernel; 0 without one.
    spilled_bytes: stored for want of registers, summed over those kernels.
    launches: the kernels by name, those of the most bytes first.
    text: the optimized program.
    argument_bytes: of what it is given; arguments that it does not read are
      left out, and those of a TPU are padded to tiles.
    output_bytes: of what it returns.
    alias_bytes: of the results that are in the memory of arguments.
    moved_bytes: as `bytes`, the least and the most, since of a conditional one
      branch runs: the one that moves the least, and the most.
    jaxpr: the program as it was traced.
  """

  bytes: int
  kernels: int
  temporary_bytes: int
  registers: int
  spilled_bytes: int
  launches: tuple[hlo.Kernel, ...] = dataclasses.field(repr=False)
  text: str = dataclasses.field(repr=False)
  argument_bytes: int = 0
  output_bytes: int = 0
  alias_bytes: int = 0
  moved_bytes: tuple[int, int] = (0, 0)
  jaxpr: core.ClosedJaxpr | None = dataclasses.field(default=None, repr=False)

  @property
  def peak_bytes(self) -> int:
    """Of memory: arguments, results that are in none of them, temporaries."""
    fresh_bytes = self.output_bytes - self.alias_bytes
    return self.argument_bytes + fresh_bytes + self.temporary_bytes


def compile(
  function: Callable[..., Any],
  *shapes: Any,
  target: str,
  devices: int = 1,
  donate: int | Sequence[int] = (),
  machine_code: bool = True,
) -> Compiled:
  """Compiles `jax.jit(function)(*shapes)` for a chip that need not be here.

  Args:
    function: of arrays; traced as on the chip.
    *shapes: trees of `jax.ShapeDtypeStruct`. A leaf without a sharding is
      replicated.
    target: "h200", "v5e" or "v6e".
    devices: of the program. Shardings of more than one are of a mesh of
      `described(target, devices)`.
    donate: positions of arguments that the results may overwrite.
    machine_code: whether that is optimized as well, on a GPU. A program's
      bytes are settled before; registers and spills are not.

  Returns:
    What the program moves and needs, per device.

  Raises:
    MissingError: the compiler is not installed.
    ValueError: no such target.
  """
  chip = targets.chip(target)
  reason = targets.missing(target)
  if reason is not None:
    raise MissingError(reason)
  mesh = _mesh(shapes, target, devices)
  arguments = jax.tree.map(
    lambda leaf: _placed(leaf, NamedSharding(mesh, PartitionSpec())), shapes
  )
  one = mesh.size == 1
  with targets.abstract(target) if one else jax.set_mesh(mesh):
    traced = jax.jit(function, donate_argnums=donate).trace(*arguments)
    lowered = traced.lower()
  on_gpu = chip.platform == "gpu"
  with contextlib.ExitStack() as stack:
    stack.enter_context(_as_users_compile())
    reports = stack.enter_context(ptxas.reported()) if on_gpu else []
    hasty = on_gpu and not machine_code
    program = _program(lowered, target, _HASTY if hasty else None)
  text, memory = program.as_text(), program.memory_analysis()
  if text is None or memory is None:
    raise RuntimeError(f"the compiler for {target} says nothing of programs.")
  calls = None if on_gpu else blockwise.moved(traced.jaxpr.jaxpr)
  launches = hlo.kernels(text, tiled=not on_gpu, moved=calls)
  return Compiled(
    bytes=sum(kernel.bytes * kernel.times for kernel in launches),
    kernels=sum(kernel.times for kernel in launches),
    temporary_bytes=memory.temp_size_in_bytes,
    registers=max((report.registers for report in reports), default=0),
    spilled_bytes=sum(report.spilled_bytes for report in reports),
    launches=launches,
    text=text,
    argument_bytes=memory.argument_size_in_bytes,
    output_bytes=memory.output_size_in_bytes,
    alias_bytes=memory.alias_size_in_bytes,
    moved_bytes=hlo.moved_bytes(text, tiled=not on_gpu, moved=calls),
    jaxpr=traced.jaxpr,
  )


def _program(lowered: Any, target: str, options: dict[str, Any] | None) -> Any:
  """Compiled; what NVIDIA's toolkit lacks is said as what to install."""
  try:
    return lowered.compile(options)
  except RuntimeError as error:
    text = str(error)
    if not any(words in text for words in _WITHOUT_NVIDIAS_TOOLS):
      raise
    raise MissingError(
      f"compiling for {target} needs NVIDIA's assembler and libdevice:"
      f" {targets.INSTALL} (XLA: {text.partition('\n')[0]})"
    ) from error


def _mesh(shapes: Any, target: str, devices: int) -> Mesh:
  """That of the shardings, or one of all the devices."""
  shardings = map(_sharding, jax.tree.leaves(shapes))
  meshes = [s.mesh for s in shardings if s and isinstance(s.mesh, Mesh)]
  if not meshes:
    return Mesh(np.array(targets.described(target, devices)), ("devices",))
  if meshes[0].size != devices:
    raise ValueError(f"devices={devices}, and a mesh of {meshes[0].size}.")
  return meshes[0]


def _sharding(leaf: Any) -> NamedSharding | None:
  """On described devices; what tracing has noted is of none."""
  sharding = getattr(leaf, "sharding", None)
  if not isinstance(sharding, NamedSharding):
    return None
  return sharding if isinstance(sharding.mesh, Mesh) else None


def _placed(leaf: Any, replicated: NamedSharding) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(
    leaf.shape, leaf.dtype, sharding=_sharding(leaf) or replicated
  )


@contextlib.contextmanager
def _as_users_compile() -> Iterator[None]:
  """Optimized, and anew: a kept program of a device that is not here fails."""
  options = {
    "jax_disable_most_optimizations": False,
    "jax_enable_compilation_cache": False,
  }
  before = {name: jax.config.values[name] for name in options}
  for name, value in options.items():
    jax.config.update(name, value)
  compilation_cache.reset_cache()
  try:
    yield
  finally:
    for name, value in before.items():
      jax.config.update(name, value)
    compilation_cache.reset_cache()
