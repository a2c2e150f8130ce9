"""Every table of `configs/papers`: its cells, its sweeps, its models."""

import tomllib

import jax
import pytest

from normjax import build, configure, data, papers
from normjax.sweep import labels, spec
from normjax.train import drawing, program
from tests import support

FOLDER = configure.configs_dir() / "papers"
MODULES = {
  file.stem: configure.load_module(file) for file in sorted(FOLDER.glob("*.py"))
}
TABLES = [(name, s) for name, module in MODULES.items() for s in module.SCALES]
# The parts of a table that train.
SWEEPS = [
  (name, papers.argument(scale, part))
  for name, scale in TABLES
  for part in MODULES[name].table(scale).parts
  if part != papers.MEASURE
]
# What is built in every run; the others, which take seconds each, are slow.
SMALL = {("scale_main", "small"), ("galore_c4", "paper")}
# Of models whose step is lowered.
NUM_LAYERS, RESNET_DEPTH = 4, 20


def _targets(paper):
  """(table, method, column) -> its entry."""
  file = support.ROOT / "experiments" / paper / "targets.toml"
  return {
    (table["id"], row["method"], row["column"]): row
    for table in tomllib.loads(file.read_text())["tables"]
    for row in table["rows"]
  }


def _methods(name, arg):
  """(label, config) of the methods of a sweep."""
  path = f"configs/papers/{name}.py:{arg}"
  config = configure.load(path)
  sweep = spec.load(path, config)
  configs = [configure.override(config, m) for m in sweep.methods]
  said = sweep.labels or labels.labels(
    sweep.methods, [configure.to_dict(c) for c in configs]
  )
  return dict(zip(said, configs, strict=True))


@pytest.mark.parametrize(("name", "scale"), TABLES)
def test_cells_are_measured_and_their_numbers_are_the_papers(name, scale):
  module = MODULES[name]
  assert scale in papers.SCALES
  table = module.table(scale)
  numbers = _targets(table.paper)
  for each in table.expected:
    assert each.source, f"{each.claim!r} says not where it is from"
  for cell in table.cells:
    if cell.paper is not None:
      place = (
        cell.paper if len(cell.paper) == 3 else (table.target, *cell.paper)
      )
      assert place in numbers, f"{cell.ref}: no {place} in targets.toml"
      assert numbers[place]["mark"] != "unverified", cell.ref
  if table.target is not None:
    assert table.target in {place[0] for place in numbers}
  for part in table.parts:
    own = [cell for cell in table.cells if cell.part == part]
    assert own, f"no cell is of part {part!r}"
    if part == papers.MEASURE:
      assert callable(module.measure)
      continue
    there = _methods(name, papers.argument(scale, part))
    assert {cell.label for cell in own} <= {*there}
  # "" is the first scale.
  first = papers.argument(module.SCALES[0], papers.SWEEP)
  if papers.SWEEP in module.table(module.SCALES[0]).parts:
    assert configure.render(module.get_config()) == configure.render(
      module.get_config(first)
    )


def _small(config):
  """Two examples per device of eight; of a deep model fewer of its blocks."""
  return configure.override(
    config,
    {
      "train.batch_size": max(16, config.norm.get("virtual_batch_size") or 0),
      "train.accumulation_steps": 1,
      "evaluate.batch_size": 16,
      **_fewer_blocks(config.model),
    },
  )


def _fewer_blocks(model):
  """Enough for one of each kind: a deep model's step takes minutes to trace.

  Mix-LN has a quarter of its blocks of another kind.
  """
  if "num_layers" in model and (
    model.num_layers is None or model.num_layers > NUM_LAYERS
  ):
    return {"model.num_layers": NUM_LAYERS}
  if model.name == "cifar_resnet" and model.depth > RESNET_DEPTH:
    return {"model.depth": RESNET_DEPTH}
  return {}


@pytest.mark.parametrize(
  ("name", "arg"),
  [
    pytest.param(*each, marks=[] if each in SMALL else pytest.mark.slow)
    for each in SWEEPS
  ],
)
def test_models_have_the_papers_size_and_steps_of_few_blocks_lower(name, arg):
  assert jax.device_count() == 8
  stated = getattr(MODULES[name], "PARAMETERS", {}).get(arg)
  methods = _methods(name, arg)
  if (name, arg) in SMALL:
    methods = dict([*methods.items()][:1])
  for label, config in methods.items():
    with data.shapes_suffice():
      count = _num_parameters(config)
      wanted = stated.get(label) if isinstance(stated, dict) else stated
      assert wanted in (None, count), f"{label}: {count:,} parameters"
      _lower(config)


_COUNTS = {}
_LOWERED = set()


def _num_parameters(config):
  """Of the whole model; rows of a table share it."""
  key = drawing.key(config)
  if key not in _COUNTS:
    leaves = jax.tree.leaves(drawing.of(config).shapes["params"])
    _COUNTS[key] = sum(leaf.size for leaf in leaves)
  return _COUNTS[key]


def _lower(config):
  """Lowers the step; tables share programs, and each is lowered once."""
  config = _small(config)
  key = build.program_key(config)
  if key not in _LOWERED:
    step = program.lower(config).step
    assert step.as_text().startswith("module")
    _LOWERED.add(key)
