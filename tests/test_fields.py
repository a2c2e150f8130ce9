"""Every leaf of the run blocks has a type, a range and an effect."""

import ast
import math

import ml_collections
import pytest

from normjax import build, configure, errors, fields, optional_leaves
from normjax.commands import arguments
from tests import support

DEFAULT = dict(
  configure.leaves(configure.to_dict(configure.load("configs/default.py")))
)
RUN_LEAVES = [
  path
  for path, _ in configure.leaves(configure.load("configs/default.py"))
  if not fields.is_component(path)
]
NUMBERS = [
  path for path, field in fields.FIELDS.items() if field.kind in (int, float)
]


def _changed(path, value):
  """The default config with one leaf replaced, whatever the type."""
  flat = {**DEFAULT, path: value}
  config = {}
  for key, leaf in flat.items():
    block, _, name = key.rpartition(".")
    node = config
    for part in filter(None, block.split(".")):
      node = node.setdefault(part, {})
    node[name] = leaf
  return ml_collections.ConfigDict(config)


def test_the_default_config_and_the_table_have_the_same_leaves():
  assert sorted(RUN_LEAVES) == sorted(fields.FIELDS)
  fields.check(configure.load("configs/default.py"))


def test_every_number_has_a_bound_on_either_side():
  for path in NUMBERS:
    field = fields.FIELDS[path]
    assert math.isfinite(field.low), path
    assert math.isfinite(field.high), path
    assert not field.problem((configure.OPTIONAL | DEFAULT)[path]), path


@pytest.mark.parametrize("path", NUMBERS)
def test_what_no_number_may_be_is_refused(path):
  for value in (
    None, math.nan, math.inf, -math.inf, -1, -0.5, 1e60, True, "1", "", [],
    [1], {},
  ):  # fmt: skip
    with pytest.raises(errors.ConfigError) as error:
      fields.check(_changed(path, value))
    assert path in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
  ("path", "value", "message"),
  [
    ("seed", 2**31, "seed=2147483648 must be at least 0 and at most 21474836"),
    ("seed", 10**400, "must be at least 0 and at most 2147483647"),
    ("train.z_loss", -(10**400), "must be at least 0"),
    ("train.max_loss", 10**400, "must be above 0"),
    ("seed", 3.0, "seed=3.0 must be an integer, at least 0"),
    ("checkpoint.every_steps", -1, "every_steps=-1 must be at least 0"),
    ("evaluate.num_batches", -1, "num_batches=-1 must be at least 0"),
    ("schedule.warmup_fraction", 2.0, "2.0 must be at least 0 and at most 1"),
    ("train.label_smoothing", 1.0, "1.0 must be at least 0 and below 1"),
    ("train.gradient_clip", math.nan, "clip=nan must be a finite number"),
    ("train.gradient_clip", 1e-60, "computed with in float32"),
    ("train.max_loss", 0.0, "max_loss=0.0 must be above 0"),
    (
      "train.precision",
      "bfloat61",
      "allowed: 'float32', 'bfloat16'. Did you mean 'bfloat16'",
    ),
    ("train.norms_frozen", 1, "norms_frozen=1 must be True or False"),
    ("evaluate.corruptions", "fog", "='fog' must be a tuple of strings"),
    ("log.probes", [1], "must be a tuple of strings"),
    ("train.num_stps", 3, "'train.num_stps'. Did you mean 'train.num_steps'"),
    ("trian.num_steps", 3, "'trian.num_steps'. Did you mean"),
    ("model.name", None, "names no model: model.name=None"),
  ],
)
def test_messages(path, value, message):
  with pytest.raises(errors.ConfigError) as error:
    fields.check(_changed(path, value))
  assert message in str(error.value)


@pytest.mark.parametrize(
  "path",
  [*sorted(fields.FIELDS.keys() - configure.OPTIONAL.keys()), "norm.name"],
)
def test_what_is_missing_is_named(path):
  config = configure.load("configs/default.py")
  block, _, key = path.rpartition(".")
  holder = config[block] if block else config
  del holder[key]
  with pytest.raises(errors.ConfigError, match=path.replace(".", r"\.")):
    fields.check(config)


@pytest.mark.parametrize("path", configure.OPTIONAL)
def test_what_a_config_may_lack(path):
  """With its default, or left out: the same run and the same program."""
  config = configure.load("configs/default.py")
  block, _, key = path.rpartition(".")
  without = configure.override(config, {})
  holder = optional_leaves.block_of(without, block) or {}
  if key in holder:
    del holder[key]
  fields.check(without)
  assert path not in dict(configure.leaves(configure.to_dict(config)))
  assert configure.run_id(without) == configure.run_id(config)
  assert build.program_key(without) == build.program_key(config)
  # It can be given all the same, and then it counts.
  value = {
    "objective.name": "squared_error",
    "evaluate.metrics": ("perplexity",),
    "optimizer.keep": "embedding/.*",
    "optimizer.mask": "input_scales",
    "evaluate.split": "tuning",
    "evaluate.weights": "ema",
    "train.layout.batch_statistics": "device",
    "train.layout.matrices": "local",
    "train.matmul_precision": "tf32",
    "train.mixup_mode": "element",
    "train.ema_warmup": True,
    "train.block_gradients": True,
    "train.param_dtype": "bfloat16",
    "train.param_rounding": "kahan",
    "schedule.milestones": (0.5,),
    "continual.forward": "joint",
    "context.protocols": ("mixed_8",),
    "evaluate.adapt.methods": ("tent",),
    "evaluate.adapt.corruptions": ("clean",),
  }.get(path, "mine")
  if isinstance(configure.OPTIONAL[path], float):
    value = 0.75
  elif type(configure.OPTIONAL[path]) is int:
    value = 3
  changed = configure.override(without, {path: value})
  fields.check(changed)
  assert configure.run_id(changed) != configure.run_id(config)
  is_same_program = build.program_key(changed) == build.program_key(config)
  assert is_same_program == fields.is_loop(path)
  restored = configure.override(changed, {path: configure.OPTIONAL[path]})
  assert configure.run_id(restored) == configure.run_id(config)


@pytest.mark.parametrize("text", ["12.5", "25", "None"])
def test_a_share_whose_default_is_whole_may_be_a_fraction(text):
  overrides = ["--config.optimizer.name=dion"]
  whole, _ = arguments.load_config("configs/default.py", overrides)
  assert type(whole.optimizer.rank_percent) is int
  overrides.append(f"--config.optimizer.rank_percent={text}")
  config, _ = arguments.load_config("configs/default.py", overrides)
  assert config.optimizer.rank_percent == ast.literal_eval(text)
  fields.check(config)
  assert configure.run_id(config) != configure.run_id(whole)


@pytest.mark.parametrize("text", ["half", "True", "(1, 2)"])
def test_a_share_is_a_number(text):
  overrides = [
    "--config.optimizer.name=dion",
    f"--config.optimizer.rank_percent={text}",
  ]
  with pytest.raises(errors.ConfigError, match=r"rank_percent.* is no number"):
    arguments.load_config("configs/default.py", overrides)


def test_an_empty_config_names_what_it_lacks():
  with pytest.raises(errors.ConfigError, match="names no model"):
    fields.check(ml_collections.ConfigDict())


def test_the_role_decides_the_program():
  """Traced and loop leaves leave the key alone; static ones change it."""
  config = support.tiny()
  key = build.program_key(config)
  other = {
    bool: lambda v: not v, int: lambda v: v + 8, float: lambda v: v / 2 + 0.01,
    tuple: lambda v: (*v, "x"), fields.FRACTIONS: lambda v: (*v, 0.5),
  }  # fmt: skip
  for path, field in fields.FIELDS.items():
    value = dict(configure.leaves(config))[path]
    change = other.get(field.kind, lambda v: f"{v}x")
    first = key
    if path in configure.OPTIONAL and field.effect is fields.Effect.TRACED:
      # Off, it is another program; on, its number is none.
      value = change(value)
      first = build.program_key(configure.override(config, {path: value}))
      assert first != key
    changed = build.program_key(
      configure.override(config, {path: change(value)})
    )
    is_same = field.effect is not fields.Effect.STATIC
    assert (changed == first) == is_same, path


def test_an_integer_where_a_float_is_meant_is_traced_as_one():
  hyper = build.hyper(_changed("train.gradient_clip", 1))
  assert hyper["train.gradient_clip"].dtype == "float32"
  assert hyper["train.num_steps"].dtype == "int32"
  assert build.program_key(_changed("train.z_loss", 1)) == build.program_key(
    _changed("train.z_loss", 0.5)
  )
