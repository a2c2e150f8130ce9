"""What a name says of the axes of a leaf: (in, out), (d, h, k), HWIO, …

Letters: d model, h heads, k a head's size, f hidden, L layers, E experts.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from normjax.optim import groups


@dataclasses.dataclass(frozen=True)
class MatrixDims:
  """The axes of a leaf that are a matrix's inputs and outputs.

  The field names are those of optax's `MuonDimensionNumbers`. Axes that are
  in neither are batched: stacked layers, experts.

  Attributes:
    reduction_axis: summed over by the layer; one axis or several.
    output_axis: kept by the layer; one axis or several.
    assumed: whether the name leaves another reading open and no sibling
      decides; `describe` shows it. It does not count in comparisons.
  """

  reduction_axis: int | Sequence[int] = 0
  output_axis: int | Sequence[int] = 1
  assumed: bool = dataclasses.field(default=False, compare=False)


@dataclasses.dataclass(frozen=True)
class Kind:
  """What a kind of name says.

  Attributes:
    dims: by the number of axes; no entry means no matrix.
    role: of attention, "split" for (d, h, k) and "merge" for (h, k, d).
    open: numbers of axes that leave two readings: layers of a scan, or not.
    certain: whether a bias of other axes does not change the reading.
  """

  dims: Mapping[int, MatrixDims]
  role: str = ""
  open: tuple[int, ...] = ()
  certain: bool = False


Rules = Sequence[tuple[str, Kind]]


def _from(ndim: int, dims: MatrixDims) -> dict[int, MatrixDims]:
  return dict.fromkeys(range(ndim, 7), dims)


NONE = Kind({})
_WEIGHT = r"(/(kernel|weight|w))?(/\d+)?"
# Of latent attention, wq_b and wkv_b are (rank, h, k).
_SPLIT = (
  r"(.*/)?(query|key|value|[qkv]|w[qkv]|w(q|k|v|kv)_b"
  rf"|([qkv]|query|key|value)_proj){_WEIGHT}"
)
_MERGE = rf"(.*/)?(out|o|wo|o_proj|out_proj|output_proj){_WEIGHT}"
# But not the attention inside a block that is called so.
_EXPERTS = (
  r"(.*/)?(?i:\w*expert\w*)(/.*)?"
  r"|(.*/)?(?i:\w*moe\w*)(?!/.*(?i:attention|attn))(/.*)?"
)
_CONV_1D = r"(.*/)?(?i:\w*conv_?1_?d\w*)(/.*)?"
_CONV = r"(.*/)?(?i:\w*conv\w*)(/.*)?"

# Flax: kernels (in, out), convolutions HWIO, q, k, v (d, h, k), the output of
# attention (h, k, d).
_IN_OUT = MatrixDims(-2, -1)
_MERGED = MatrixDims((-3, -2), -1)
_HWIO = MatrixDims((-4, -3, -2), -1)
FLAX: Rules = (
  (_EXPERTS, Kind(_from(2, _IN_OUT), certain=True)),
  # Fused (d, 3, h, k): q, k and v are three matrices.
  (
    rf"(.*/)?(qkv|kv)(_proj)?{_WEIGHT}",
    Kind(
      {2: _IN_OUT, 3: _IN_OUT} | _from(4, MatrixDims(-4, (-2, -1))), "split"
    ),
  ),
  # Gemma's (h, d, k) and (3, h, d, k), and its output (h, k, d).
  (
    rf"(.*/)?(q|k|v|kv|qkv)_einsum{_WEIGHT}",
    Kind({2: _IN_OUT} | _from(3, MatrixDims(-2, (-3, -1)))),
  ),
  (
    rf"(.*/)?attn_vec_einsum{_WEIGHT}",
    Kind({2: _IN_OUT} | _from(3, _MERGED)),
  ),
  (rf"(.*/)?\w*einsum{_WEIGHT}", Kind(_from(2, _IN_OUT))),
  (
    _SPLIT,
    Kind({2: _IN_OUT} | _from(3, MatrixDims(-3, (-2, -1))), "split", (3,)),
  ),
  (_MERGE, Kind({2: _IN_OUT} | _from(3, _MERGED), "merge", (3,))),
  # One-dimensional convolutions: (width, inputs, outputs).
  (_CONV_1D, Kind({2: _IN_OUT} | _from(3, _MERGED))),
  (_CONV, Kind({2: _IN_OUT, 3: _MERGED, 4: _HWIO, 5: _HWIO})),
  (r"(.*/)?stem(/kernel)?", Kind({2: _IN_OUT, 4: _HWIO})),
  (".*", Kind({2: _IN_OUT, 3: _IN_OUT, 4: _HWIO, 5: _HWIO}, open=(4,))),
)

# PyTorch and Equinox: (out, in), convolutions (out, in, *window), embeddings
# (vocab, d), whose units are the rows too.
_OUT_IN = MatrixDims(-1, -2)
_OUT_IN_W = MatrixDims((-2, -1), -3)
_OIHW = MatrixDims((-3, -2, -1), -4)
TORCH: Rules = (
  (_EXPERTS, Kind(_from(2, _OUT_IN), certain=True)),
  (_CONV_1D, Kind({2: _OUT_IN} | _from(3, _OUT_IN_W))),
  (_CONV, Kind({2: _OUT_IN, 3: _OUT_IN_W, 4: _OIHW, 5: _OIHW})),
  (".*", Kind({2: _OUT_IN, 3: _OUT_IN, 4: _OIHW, 5: _OIHW}, open=(4,))),
)

# What an Adam should move beside the hidden matrices.
NOT_HIDDEN: Rules = ((groups.EMBEDDING_NAMES, NONE), (groups.HEAD_NAMES, NONE))
# An embedding's unit is a token, a row.
EMBEDDING_UNITS: Rules = (
  (r"(.*/)?\w*embedding(_\d+)?", Kind({2: MatrixDims(-1, -2)})),
)
# An embedding as a linear map: its inputs are the tokens.
EMBEDDING_MAPS: Rules = ((groups.EMBEDDING_NAMES, Kind({2: _IN_OUT})),)
