"""Tiles of kernels over rows: how many rows a step of a grid has, and how.

The one place that computes them, for every op whose unit is a row; a kernel
that gives its name takes what was `tuned` on the device first. Nothing of
Pallas is imported, so that asking whether a kernel can run costs nothing.

On a GPU, a memory of 4.8 TB/s that answers after some 0.6 us keeps busy only
with 22 KB on their way to each multiprocessor (Little's law); the tiles aim at
32 KB. What limits them is the register file, which the next power of two of
rows, or another load ahead, would overflow into memory. The estimate of it is
rough (ptxas reports up to 30 fewer forward, up to 40 more backward), and chosen
such that `rms_norm` and `layer_norm` spill nothing up to 8192 values.
"""

import dataclasses
import math
import re
from collections.abc import Sequence

import jax.numpy as jnp
from jax.typing import DTypeLike

from kernels_pallas import tuned
from kernels_pallas.programs import Target, one_device

Shapes = Sequence[tuple[int, ...]]

_LANES = 128

_HOPPER = re.compile(r"\bG?H\d+")
_MULTIPROCESSORS = 132  # of an H100 or H200
_THREADS = 128  # of a warpgroup
_REGISTERS = 65536  # of a multiprocessor
_MOST_REGISTERS = 240  # of a thread: ptxas spills from 255 on
_OTHER_REGISTERS = 45  # addresses, counters, sums
_LOAD_BYTES = 16  # the widest load of a thread
_BLOCK_BYTES = 8192
_MOST_ROWS = 8  # of a block: they are unrolled
_MOST_WIDTH = 8192
# What a kernel can take, and what a search tries.
_FLAG = (0, 1)
_GPU_ALLOWED = {
  "rows": (1, 2, 4, 8),
  "ctas": range(1, 33),
  "ahead": _FLAG,
  "wide": _FLAG,
}
_GPU_TRIED = {**_GPU_ALLOWED, "ctas": (1, 2, 3, 4, 6, 8, 12, 16)}

# Half of the 16 MiB that a TPU kernel gets.
_VMEM_BYTES = 8 * 2**20
_VMEM_BYTES_PER_VALUE = 48
_SUBLANES = 16  # rows of a bfloat16 tile; float32 has 8
_MOST_TPU_ROWS = 512
_TPU_ALLOWED_ROWS = 4096
_TPU_TRIED = tuple(2**n for n in range(4, 11))


@dataclasses.dataclass(frozen=True)
class GpuTile:
  """How a Mosaic GPU kernel goes over rows, with one warpgroup per CTA.

  Attributes:
    ctas: in the grid; each goes on with the block `ctas` further on.
    rows: of a block, whose loads are on their way together; it divides the
      number of rows.
    vector: values of one load of a thread, 16 bytes if the width allows.
    ahead: whether the next block is loaded before this one is computed.
    wide: whether registers do not hold the vectors of the row's size: those
      that are read are read anew for each row, sums are in shared memory, and
      a third array of rows is read when it is needed.
  """

  ctas: int
  rows: int
  vector: int
  ahead: bool
  wide: bool


def gpu(
  rows: int,
  width: int,
  dtype: DTypeLike,
  *,
  arrays: int,
  vectors: int,
  per_multiprocessor: int = 8,
  ahead: bool = False,
  kernel: str = "",
) -> GpuTile:
  """The tile for rows of `width` values.

  Args:
    rows: how many there are.
    width: a multiple of 128.
    dtype: of the rows in memory.
    arrays: how many arrays of rows are read.
    vectors: of the row's size, read or summed up.
    per_multiprocessor: the most CTAs that shall run beside each other; each
      leaves a row of partial sums, where there are any.
    ahead: whether to load ahead, if registers allow.
    kernel: see `tuned.Ask`; without a name no tuned tile is looked for.
  """
  itemsize = jnp.dtype(dtype).itemsize
  most = max(1, min(_MOST_ROWS, _BLOCK_BYTES // (width * itemsize)))
  block = math.gcd(rows, 2 ** (most.bit_length() - 1))

  def registers(ahead: bool, wide: bool) -> int:
    values = (2 if wide else arrays) * block + (1 if wide else vectors)
    values += arrays * block * itemsize / 4 if ahead else 0
    return _OTHER_REGISTERS + math.ceil(values * width / _THREADS)

  options = [(True, False)] if ahead else []
  options += [(False, False)]
  ahead, wide = next(
    (o for o in options if registers(*o) <= _MOST_REGISTERS), (False, True)
  )
  resident = _REGISTERS // (_THREADS * registers(ahead, wide))
  ctas = min(max(1, resident), per_multiprocessor)
  if kernel:
    name = jnp.dtype(dtype).name
    ask = tuned.Ask(
      kernel,
      f"{width} {name} arrays={arrays} vectors={vectors}",
      {"rows": block, "ctas": ctas, "ahead": int(ahead), "wide": int(wide)},
      _GPU_ALLOWED,
      _GPU_TRIED,
    )
    tile = tuned.choose(ask)
    block, ctas = math.gcd(rows, tile["rows"]), tile["ctas"]
    ahead, wide = bool(tile["ahead"]), bool(tile["wide"])
  return GpuTile(
    ctas=min(_MULTIPROCESSORS * ctas, rows // block),
    rows=block,
    vector=math.gcd(width // _THREADS, _LOAD_BYTES // itemsize),
    ahead=ahead,
    wide=wide,
  )


def gpu_ctas(kernel: str, about: str, per_multiprocessor: int) -> int:
  """Blocks of threads of a launch, at most, of a kernel with no other choice.

  Args:
    kernel: see `tuned.Ask`.
    about: likewise.
    per_multiprocessor: where none was tuned.
  """
  names = ("ctas",)
  ask = tuned.Ask(
    kernel,
    about,
    {"ctas": per_multiprocessor},
    {name: _GPU_ALLOWED[name] for name in names},
    {name: _GPU_TRIED[name] for name in names},
  )
  return _MULTIPROCESSORS * tuned.choose(ask)["ctas"]


def gpu_supports(
  target: Target, shapes: Shapes, dtypes: Sequence[DTypeLike]
) -> str | None:
  """Why a Mosaic GPU kernel cannot take such rows, or None."""
  reason = elsewhere("gpu", target) or _rows_refuse(shapes[0], dtypes[0])
  if reason is not None:
    return reason
  if shapes[0][-1] > _MOST_WIDTH:
    return (
      f"rows of {shapes[0][-1]} values do not fit the registers; {_MOST_WIDTH}"
      " do"
    )
  return gpu_offsets_refuse(shapes[0]) or one_device(target)


def elsewhere(platform: str, target: Target) -> str | None:
  """Why a kernel for such a platform is not for this target, or None."""
  if target.platform != platform:
    return f"needs a {platform.upper()}, this is {target.platform}"
  if platform == "gpu" and not _HOPPER.search(target.device_kind):
    return f"is for GPUs of Hopper, this is {target.device_kind}"
  return None


def gpu_offsets_refuse(shape: tuple[int, ...]) -> str | None:
  """Why a Mosaic GPU kernel cannot point into such an array, or None."""
  if math.prod(shape) >= 2**31:
    # What the compiler makes of offsets is 32 bits wide in places.
    return f"takes fewer than 2^31 values, not shape {shape}"
  return None


def tpu_rows(
  width: int, bytes_per_value: int = _VMEM_BYTES_PER_VALUE
) -> int | None:
  """Rows of a TPU kernel's block; None if not one tile fits.

  Args:
    width: of a row.
    bytes_per_value: that a step holds. By default of four arrays of rows, each
      twice (double buffering), and some four temporaries, in float32.
  """
  rows = _VMEM_BYTES // (bytes_per_value * width)
  rows = min(rows, _MOST_TPU_ROWS) // _SUBLANES * _SUBLANES
  return rows or None


def tpu_block(
  rows: int,
  width: int,
  bytes_per_value: int = _VMEM_BYTES_PER_VALUE,
  *,
  kernel: str = "",
  about: str = "",
) -> int:
  """`tpu_rows`, but no more tiles than there are rows for.

  Args:
    rows: how many there are.
    width: of a row.
    bytes_per_value: see `tpu_rows`.
    kernel: see `tuned.Ask`; without a name no tuned tile is looked for.
    about: likewise, beside the width.

  Raises:
    ValueError: not one tile fits.
  """
  most = tpu_rows(width, bytes_per_value)
  if most is None:
    raise ValueError(f"rows of {width} values do not fit the kernel's memory.")
  if kernel:
    most = tpu_most(kernel, f"{width} {about}".strip(), most)
  return min(most, math.ceil(rows / _SUBLANES) * _SUBLANES)


def tpu_most(
  kernel: str, about: str, rows: int, sublanes: int = _SUBLANES
) -> int:
  """The most rows of a TPU kernel's block.

  Args:
    kernel: see `tuned.Ask`.
    about: likewise.
    rows: where none was tuned.
    sublanes: rows of a tile of the memory.
  """
  ask = tuned.Ask(
    kernel,
    about,
    {"rows": rows},
    {"rows": range(sublanes, _TPU_ALLOWED_ROWS + 1, sublanes)},
    {"rows": tuple(n for n in _TPU_TRIED if n % sublanes == 0)},
  )
  return tuned.choose(ask)["rows"]


def tpu_supports(
  target: Target, shapes: Shapes, dtypes: Sequence[DTypeLike]
) -> str | None:
  """Why a Mosaic TPU kernel cannot take such rows, or None."""
  reason = elsewhere("tpu", target) or _rows_refuse(shapes[0], dtypes[0])
  if reason is not None:
    return reason
  width = shapes[0][-1]
  if tpu_rows(width) is None:
    return f"rows of {width} values do not fit the kernel's memory"
  return one_device(target)


def _rows_refuse(shape: tuple[int, ...], dtype: DTypeLike) -> str | None:
  if dtype not in (jnp.float32, jnp.bfloat16):
    return f"needs float32 or bfloat16, not {dtype}"
  if shape[-1] % _LANES or not all(shape):
    return f"needs rows of a multiple of {_LANES} values, not shape {shape}"
  return None
