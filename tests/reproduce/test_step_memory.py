"""Memory of SLTrain's figure: what is counted, and what is compiled."""

import jax
import pytest

from kernels_pallas import aot
from normjax import configure, errors, papers
from normjax.nn import linear
from normjax.reproduce import step_memory
from tests.papers.test_proxies import _load, _piece

# Hidden units and layers of the official configs, and their widths.
OFFICIAL = {
  "60M": (512, 1376, 8),
  "130M": (768, 2048, 12),
  "350M": (1024, 2736, 24),
  "1B": (2048, 5461, 24),
  "7B": (4096, 11008, 32),
}


def _by_hand(size):
  """(parameters of full matrices, of SLTrain, positions): splora_linear.py."""
  width, hidden, layers = OFFICIAL[size]
  of = step_memory.SIZES[size]
  matrices = [(width, width)] * 4 + [(width, hidden)] * 3
  others = 2 * 32_000 * width + (2 * layers + 1) * width
  full = layers * sum(i * o for i, o in matrices)
  low = layers * sum(of.rank * (i + o) for i, o in matrices)
  entries = layers * sum(int(of.density * o * i) for i, o in matrices)
  return others + full, others + low + entries, entries


@pytest.mark.parametrize(
  "size",
  ["60M", *(pytest.param(s, marks=pytest.mark.slow) for s in [*OFFICIAL][1:])],
)
def test_what_is_counted_is_what_the_shapes_say(size):
  full, sparse, entries = _by_hand(size)
  adam, lean = (
    step_memory.counted(step_memory.config(method, size))
    for method in (step_memory.ADAM, step_memory.SLTRAIN)
  )
  assert adam.num_parameters == full
  assert adam.parameter_bytes == 2 * full
  assert 0 <= adam.state_bytes - 4 * full < 100  # Counts.
  assert adam.num_positions == 0
  assert (lean.num_parameters, lean.num_positions) == (sparse, entries)
  held = lean.parameter_bytes + lean.state_bytes
  assert lean.total_bytes(8) - held == 8 * entries
  # Codes of m and v, their scales per 256 entries, and leaves that are small.
  assert 2.03 < lean.state_bytes / sparse < 2.05


@pytest.mark.parametrize("size", OFFICIAL)
def test_stated_counts_are_those_of_the_shapes(size):
  module = _load("sltrain_memory")
  full, sparse, entries = _by_hand(size)
  numbers = full / 1e6, sparse / 1e6, 8 * entries / 1e6
  assert module.PARAMETERS[size] == pytest.approx(numbers, abs=0.0501)


def test_each_method_differs_in_what_its_row_says():
  configs = {
    method: step_memory.config(method, "60M") for method in step_memory.METHODS
  }
  module = _load("sltrain_memory")
  assert module.METHODS == step_memory.METHODS
  lean = configs[step_memory.SLTRAIN]
  assert linear.resolve(lean.model.linear).name == "sltrain"
  assert lean.optimizer == configs[step_memory.ADAM_8BIT].optimizer
  assert configs[step_memory.GALORE].optimizer.rank == 128
  for config in configs.values():
    assert config.train.param_dtype == "bfloat16"
    assert config.train.gradient_clip == 0.0


def _tiny(method):
  config = step_memory.config(method, "60M", vocab_size=64)
  small = {"num_layers": 2, "num_heads": 2, "model_dim": 32}
  overrides = {f"model.{key}": value for key, value in small.items()}
  overrides["model.linear"] = "dense"
  return configure.override(config, overrides)


def test_a_step_takes_what_it_holds_and_more():
  config = _tiny(step_memory.ADAM_8BIT)
  held, made = step_memory.counted(config), step_memory.compiled(config, None)
  # Beside it a batch of 256 tokens, targets and weights, and some scalars.
  beside = made.arguments - held.total_bytes(0)
  assert 3 * 4 * 256 <= beside < 3 * 4 * 256 + 1000
  assert made.temporaries > 4 * held.num_parameters  # Gradients.
  # Metrics are results that no argument has room for.
  assert 0 <= made.peak - made.arguments - made.temporaries < 5000


def test_a_compiler_that_is_not_there_is_named(monkeypatch):
  monkeypatch.setattr(aot, "missing", lambda target: "install it")
  with pytest.raises(errors.UserError, match="h200: install it"):
    step_memory.compiled(_tiny(step_memory.ADAM), "h200")


@pytest.mark.parametrize("scale", ["proxy", "paper"])
def test_a_table_has_a_value_for_each_cell(scale, monkeypatch):
  module = _load("sltrain_memory")
  asked = []

  def compiled(config, target):
    asked.append((config.model.get("size"), target))
    return step_memory.Compiled(2_000_000_000, 10**9, 3 * 10**9)

  monkeypatch.setattr(step_memory, "compiled", compiled)
  held = step_memory.Counted(10**6, 2 * 10**6, 4 * 10**6, 5 * 10**5)
  monkeypatch.setattr(step_memory, "counted", lambda config: held)
  found = module.measure(scale, _piece)
  table = module.table(scale)
  assert {cell.ref for cell in table.cells} == set(found)
  wanted = {"proxy": ("60m", None), "paper": ("350m", "h200")}[scale]
  assert asked == [wanted] * len(module.METHODS)
  (peak,) = (
    ref
    for ref in found
    if ref[0] == module.ADAM and ref[1].endswith("peak, GB")
  )
  assert found[peak] == [3.0]
  size = module.COUNTED[scale][0]
  # 2 + 4 MB, and half a million positions of 8 bytes.
  assert found[module.SLTRAIN, module._counted(size)] == [0.01]


def test_a_low_rank_as_large_as_sltrain_has_as_many_parameters():
  module = _load("sltrain_order")
  width, hidden = module.MODEL_DIM, 176
  matrices = [(width, width)] * 4 + [(width, hidden)] * 3
  sparse, low = (
    sum(
      sum(
        leaf.size
        for leaf in jax.tree.leaves(_params(module.LINEARS[name], *shape))
      )
      for shape in matrices
    )
    for name in (module.SLTRAIN, module.AS_LARGE)
  )
  assert 0.98 * sparse < low <= sparse
  assert {cell.ref for cell in module.table("proxy").cells} == set(
    module.METHODS
  )
  assert all(
    isinstance(e, papers.Expected) for e in module.table("proxy").expected
  )


def _params(spec, inputs, outputs):
  from flax import nnx

  made = nnx.eval_shape(
    lambda: linear.resolve(spec).make(
      inputs,
      outputs,
      use_bias=False,
      kernel_init=nnx.initializers.normal(),
      dtype="float32",
      rngs=nnx.Rngs(0),
    )
  )
  return nnx.state(made, nnx.Param)
