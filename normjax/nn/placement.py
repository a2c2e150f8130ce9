"""Where norms sit around the residual branches of a block, as data.

    h = input_gain * input_norm(x)
    y = output_norm(branch(h))
    x <- stream_norm(stream_gain * r + branch_gain * y),   r = x or h

A slot without a norm passes its input on, and a gain that is not named is 1.
The block reads the description; no code asks for a placement's name.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Literal, NamedTuple

from normjax.nn import initial
from normjax.registry import Table
from normjax.types import Array

# Slots of a branch; "inner" is before the branch's last projection, "query_key"
# and "value" are inside an attention, "hidden" is before the activation of a
# feed-forward.
SLOTS = ("input", "output", "stream", "inner", "query_key", "value", "hidden")


@dataclasses.dataclass(frozen=True)
class Branch:
  """One residual branch.

  Attributes:
    slots: those of `SLOTS` that hold a norm.
    residual: what the branch is added to: the stream before its input norm,
      or what the input norm gave.
    interpolate: whether the stream goes a learned part of the way to the
      branch's output, x + |a| (y - x), instead of adding it.
    query_key_axes: what queries and keys are normalized over, where they are
      and the model is not told: see `Attention`.
  """

  slots: frozenset[str] = frozenset()
  residual: Literal["stream", "input"] = "stream"
  interpolate: bool = False
  query_key_axes: Literal["head", "joint"] = "head"


class Gains(NamedTuple):
  """The constants of a block, for both of its branches."""

  input: float | Array = 1.0
  stream: float | Array = 1.0


ADDED, NO_GAINS = Branch(), Gains()


@dataclasses.dataclass(frozen=True)
class Layer:
  """What a placement says of one block.

  Attributes:
    attention: the first branch.
    feed_forward: the second branch.
    parallel: whether both branches read the stream and are added at once.
    shared_norms: whether parallel branches read one input norm.
    gains: static floats: they are constants of the program, never variables.
  """

  attention: Branch
  feed_forward: Branch
  parallel: bool = False
  shared_norms: bool = True
  gains: Gains = NO_GAINS

  def is_plain_pre(self) -> bool:
    """Whether each branch is normalized at its input and nowhere else."""
    branches = (self.attention, self.feed_forward)
    return not self.parallel and all(
      branch == _PRE_BRANCH for branch in branches
    )


@dataclasses.dataclass(frozen=True)
class Placement:
  """A rule for all blocks of a stack.

  Attributes:
    name: as in a config.
    layer: `(index, num_layers)` to the block with that 1-based index.
    final_norm: whether the stream is normalized once more before the head.
    embedding_norm: whether it is before the first block.
    init: its own start: the initialization (`normjax.nn.initial`) of its
      source, taken where a model is asked for it.
    gain: num_layers to what goes with `init`: it multiplies the standard
      deviation of the value, output and feed-forward kernels.
    init_source: where `init` is from.
    fixed_length: whether the norms must fix the length of the stream.
    formula: what a branch does, for the reference: N is a norm, F and G are
      branches, x is the stream, l the block of L.
    source: the paper.
  """

  name: str
  layer: Callable[[int, int], Layer]
  final_norm: bool = True
  embedding_norm: bool = False
  init: str = initial.DEFAULT
  gain: Callable[[int], float] = lambda num_layers: 1.0
  init_source: str = dataclasses.field(default="", compare=False)
  fixed_length: bool = False
  formula: str = dataclasses.field(default="", compare=False)
  source: str = dataclasses.field(default="", compare=False)

  def start(
    self, init: str | initial.Init | None, num_layers: int
  ) -> tuple[initial.Init, float]:
    """How the kernels start, and the factor of some of them.

    The factor multiplies the standard deviation of the value, output and
    feed-forward kernels. It is part of a placement's own start and of no
    other: with any other name all placements begin with the same kernels.

    Args:
      init: as a model is given it; None, which older runs have, asks for the
        placement's own.
      num_layers: blocks.
    """
    chosen = initial.resolve(initial.OWN if init is None else init)
    if chosen.name != initial.OWN:
      return chosen, 1.0
    return initial.resolve(self.init), self.gain(num_layers)


_PRE_BRANCH = Branch(frozenset({"input"}))


def _same(*slots: str, **options) -> Layer:
  branch = Branch(frozenset(slots), **options)
  return Layer(branch, branch)


_PRE, _POST = _same("input"), _same("stream")


# All of its rows, pre, post and Mix-LN, start so; the file of the same name in
# the code of arXiv:2502.05795 (lmsdss/LayerNorm-Scaling) says the same of LNS.
_MIX_LN_CODE = (
  "pixeli99/MixLN, peft_pretraining/modeling_llama.py, _init_weights"
)


def mixed(post_percent: int = 25) -> Placement:
  """Mix-LN: the first `post_percent` of the blocks are post, the rest pre.

  Li et al. 2024, arXiv:2412.13795, with their best share as the default.
  """

  def layer(index: int, num_layers: int) -> Layer:
    return _POST if index <= num_layers * post_percent // 100 else _PRE

  return Placement(
    "mix",
    layer,
    init="plain",
    init_source=_MIX_LN_CODE,
    formula="post in the first quarter of the blocks, then pre",
    source="Li et al. 2024, arXiv:2412.13795",
  )


def _layer_norm_scaling(index: int, num_layers: int) -> Layer:
  del num_layers
  return dataclasses.replace(_PRE, gains=Gains(input=1 / math.sqrt(index)))


def _with_stream_gain(layer: Layer, gain: Callable[[int], float]):
  return lambda index, num_layers: dataclasses.replace(
    layer, gains=Gains(stream=gain(num_layers))
  )


def deep_norm_alpha(num_layers: int) -> float:
  """(2 N)^(1/4), of a stack that is an encoder or a decoder alone."""
  return (2 * num_layers) ** 0.25


def deep_norm_beta(num_layers: int) -> float:
  """(8 N)^(-1/4), of a stack that is an encoder or a decoder alone."""
  return (8 * num_layers) ** -0.25


# full_megatron with init_std 0.013975 at d = 2048, which is sqrt(2 / (5 d)).
_HYBRID_CODE = (
  "BryceZhuo/HybridNorm, dense_model/configs/exps, full_megatron;"
  " its deviation, given at one width, read as that of SmallInit"
)
_HYBRID = Layer(
  Branch(frozenset({"query_key", "value"})),
  Branch(frozenset({"input"}), residual="input"),
)
_HYBRID_FIRST = Layer(
  Branch(frozenset({"input", "query_key", "value"})),
  Branch(frozenset({"input"})),
)

TABLE: Table[Placement] = Table(
  "placement",
  (
    Placement(
      "pre",
      lambda index, num_layers: _PRE,
      formula="x + F(N x)",
      source="Xiong et al. 2020, arXiv:2002.04745, figure 1b",
      init_source="GPT-2: Radford et al. 2019, section 2.3",
    ),
    # Its stream ends normalized.
    Placement(
      "post",
      lambda index, num_layers: _POST,
      final_norm=False,
      formula="N(x + F x)",
      init="plain",
      init_source="GPT: Radford et al. 2018, section 4.1",
      source="Vaswani et al. 2017, arXiv:1706.03762",
    ),
    mixed(),
    Placement(
      "layer_norm_scaling",
      _layer_norm_scaling,
      init="plain",
      init_source="lmsdss/LayerNorm-Scaling, peft_pretraining/"
      "modeling_llama.py, _init_weights",
      formula="x + F(N x / sqrt(l)); the final norm is not scaled",
      source="Sun et al. 2025, arXiv:2502.05795",
    ),
    Placement(
      "sandwich",
      lambda index, num_layers: _same("input", "output"),
      formula="x + N F(N x)",
      init_source="THUDM/CogView, mpu/sparse_transformer.py,"
      " scaled_init_method",
      source="Ding et al. 2021, arXiv:2105.13290",
    ),
    Placement(
      "peri",
      lambda index, num_layers: _same("input", "output"),
      embedding_norm=True,
      formula="x + N F(N x), and a norm of the embedding",
      init_source="the default of Megatron-LM, which the paper trains with;"
      " second-hand",
      source="Kim et al. 2025, arXiv:2502.02732",
    ),
    # No input norm.
    Placement(
      "reordered",
      lambda index, num_layers: Layer(
        Branch(frozenset({"output", "query_key"}), query_key_axes="joint"),
        Branch(frozenset({"output"})),
      ),
      init="plain",
      init_source="allenai/OLMo-core, nn/transformer/init.py,"
      " InitMethod.normal, which cuts at three deviations",
      formula="x + N F(x), N q and N k over the features of all heads",
      source="OLMo 2, arXiv:2501.00656, section 3.2",
    ),
    Placement(
      "deep_norm",
      _with_stream_gain(_POST, deep_norm_alpha),
      final_norm=False,
      init="xavier",
      gain=deep_norm_beta,
      init_source="the paper, figure 2: values, outputs and feed-forwards times"
      " (8 L)^(-1/4)",
      formula="N((2 L)^(1/4) x + F x)",
      source="Wang et al. 2022, arXiv:2203.00555, figure 2",
    ),
    Placement(
      "sub_ln",
      lambda index, num_layers: _same("input", "inner"),
      init="xavier",
      gain=lambda num_layers: math.sqrt(math.log(2 * num_layers)),
      init_source="the paper, figure 2: values, outputs and feed-forwards times"
      " sqrt(log 2 L)",
      formula="x + F(N x), N before F's last kernel too",
      source="Magneto: Wang et al. 2022, arXiv:2210.06423",
    ),
    # The number of branches, two per block.
    Placement(
      "keel",
      _with_stream_gain(_same("input", "stream"), lambda n: 2.0 * n),
      final_norm=False,
      formula="N(2 L x + F(N x))",
      init="plain",
      init_source="no special one, by its abstract; second-hand",
      source="arXiv:2601.19895",
    ),
    Placement(
      "hybrid",
      lambda index, num_layers: _HYBRID,
      init="small",
      init_source=_HYBRID_CODE,
      formula="x + F x with norms on q, k, v; then N x + F(N x)",
      source="Zhuo et al. 2025, arXiv:2503.04598",
    ),
    Placement(
      "hybrid_star",
      lambda index, num_layers: _HYBRID_FIRST if index == 1 else _HYBRID,
      init="small",
      init_source=_HYBRID_CODE,
      formula="hybrid whose first block is x + F(N x) twice, with norms on"
      " q, k, v",
      source="Zhuo et al. 2025, arXiv:2503.04598",
    ),
    Placement(
      "parallel",
      lambda index, num_layers: dataclasses.replace(_PRE, parallel=True),
      formula="x + F(N x) + G(N x), one norm for both branches",
      init="gpt_j",
      init_source="kingoflolz/mesh-transformer-jax, mesh_transformer/layers.py,"
      " which cuts at two deviations",
      source="GPT-J: Wang, Komatsuzaki 2021",
    ),
    Placement(
      "parallel_two_norms",
      lambda index, num_layers: dataclasses.replace(
        _PRE, parallel=True, shared_norms=False
      ),
      init="gpt_neox",
      init_source="EleutherAI/gpt-neox, megatron/model/init_functions.py",
      formula="x + F(N x) + G(M x), a norm for each branch",
      source="GPT-NeoX-20B: Black et al. 2022, arXiv:2204.06745; Pythia:"
      " Biderman et al. 2023, arXiv:2304.01373",
    ),
    # A norm between each matrix and what its scale would show in, so that no
    # matrix of a block has one.
    Placement(
      "nap",
      lambda index, num_layers: Layer(
        Branch(frozenset({"input", "query_key", "inner", "output"})),
        Branch(frozenset({"input", "hidden", "inner", "output"})),
      ),
      init_source="none: that of pre, of which only directions count",
      formula="x + N F(N x), N q and N k, N before the activation and before"
      " F's last kernel",
      source="a norm before every nonlinearity, as Lyle et al. 2024,"
      " arXiv:2407.01800, ask for Normalize-and-Project; where exactly in a"
      " transformer is our reading",
    ),
    # The stream stays on a sphere.
    Placement(
      "normalized_stream",
      lambda index, num_layers: _same("output", "stream", interpolate=True),
      final_norm=False,
      embedding_norm=True,
      init="unit",
      init_source="NVIDIA/ngpt, train.py, normalize_matrices; embeddings and"
      " head are of length 1 from the first step of ngpt_adam on",
      fixed_length=True,
      formula="N(x + |a| (N F x - x)), a learned",
      source="nGPT: Loshchilov et al. 2024, arXiv:2410.01131, equations 10"
      " and 11",
    ),
  ),
  {"mix": mixed},
)
resolve = TABLE.resolve
