"""`train.matmul_precision`: what is traced, on each platform."""

import functools
import re
import subprocess
import sys

import jax
import pytest
from jax import lax

from kernels_pallas import aot
from normjax import build, configure, errors, fields
from normjax.train import precision, program, step
from tests import products, support

CHOICES = fields.FIELDS[precision.KEY].choices
HIGH = (lax.Precision.HIGH,) * 2
DEFAULT = (lax.Precision.DEFAULT,) * 2


def traced(config, function=step.train_step):
  """The products of a step, and of the first state."""
  recipe, initialize = program.recipe_and_initialize(config)
  hyper = build.hyper(config)
  batch = dict(build.dataset(config).train_batch(0, 0, config.train.batch_size))
  start = jax.make_jaxpr(initialize, return_shape=True)(hyper, batch)
  jaxpr = jax.make_jaxpr(functools.partial(function, recipe))(
    start[1], batch, hyper
  )
  return [*products.of(start[0]), *products.of(jaxpr)]


@pytest.mark.parametrize(
  "config",
  [
    # A gradient of its own kind: gated_norm has matrices, and remat scans.
    support.tiny({"norm.name": "gated_norm", "optimizer.name": "conda"}),
    support.tiny_resnet(),
  ],
  ids=["llama", "resnet"],
)
def test_a_float32_model_says_float32(config):
  found = traced(config)
  assert len(found) > 10
  assert not [each for each in found if each.is_rounded]


def test_products_of_16_bits_are_the_same_with_every_choice():
  """They stay of 16 bits: no choice widens or narrows them."""
  short = support.tiny({"train.precision": "bfloat16"})
  kinds = [
    [(p.dtypes, p.sums) for p in traced(short, step.evaluation_step)]
    for short in (short, configure.override(short, {precision.KEY: "tf32"}))
  ]
  assert kinds[0] == kinds[1]
  assert any(dtypes == ("bfloat16",) * 2 for dtypes, _ in kinds[0])


@pytest.mark.parametrize(
  ("choice", "platform", "expected"),
  [
    ("float32", "gpu", products.HIGHEST),
    ("tf32", "gpu", HIGH),
    ("tf32", "tpu", HIGH),
    ("bfloat16", "gpu", lax.DotAlgorithmPreset.BF16_BF16_F32),
    ("bfloat16", "tpu", DEFAULT),
    ("default", "gpu", DEFAULT),
    ("default", "tpu", DEFAULT),
  ],
)
def test_what_a_choice_is_traced_as(choice, platform, expected):
  config = support.tiny_mlp({precision.KEY: choice})
  with products.compiled_for(platform):
    found = traced(config, step.evaluation_step)
  assert {each.precision for each in found} == {expected}


def test_a_cpu_computes_in_float32_with_every_choice():
  assert {precision.meaning(choice).operands for choice in CHOICES} == {
    "float32"
  }


def test_the_optimizer_does_not_take_the_models():
  """With tf32 its products are float32's, the model's are not."""
  config = support.tiny({precision.KEY: "tf32", "optimizer.name": "conda"})
  with products.compiled_for("gpu"):
    found = traced(config)
  assert {each.precision for each in found} == {HIGH, products.HIGHEST}


def test_the_config_s_comment_says_what_the_table_says():
  assert set(precision.MEANINGS) == set(CHOICES)
  source = (configure.configs_dir() / "default.py").read_text()
  head, *lines = re.findall(
    r"^  #  +(.+)$", source[: source.index("matmul_precision =")], re.M
  )[-len(CHOICES) - 1 :]
  platforms = head.lower().split()
  told = [re.split("  +", line) for line in lines]
  assert told == [
    [choice, *(precision.MEANINGS[choice][p].operands for p in platforms)]
    for choice in CHOICES
  ]


def test_it_is_static_and_left_out_where_it_is_the_default():
  """Programs differ by it; a run that does not say it keeps its name."""
  config = support.tiny()
  said = configure.override(config, {precision.KEY: "float32"})
  other = configure.override(config, {precision.KEY: "tf32"})
  assert "matmul_precision" not in configure.to_dict(said)["train"]
  assert configure.run_id(said) == configure.run_id(config)
  assert configure.run_id(other) != configure.run_id(config)
  assert build.program_key(other) != build.program_key(config)


def test_another_word_is_refused():
  config = support.tiny({precision.KEY: "tf23"})
  with pytest.raises(
    errors.ConfigError,
    match="train.matmul_precision='tf23'; allowed: 'float32', 'tf32', 'bfloat16"
    "', 'default'. Did you mean 'tf32'?",
  ):
    fields.check(config)


_COMPILE = """
import jax, jax.numpy as jnp
from kernels_pallas import aot
from normjax.optim.muon import polar_factors
from normjax.optim.whitening import whiten
from normjax.train import precision

def compile(name, function, shape):
  function.__name__ = f"product_{name}"
  aot.compile(function, jax.ShapeDtypeStruct(shape, "float32"), target="h200")

for choice in precision.MEANINGS:
  def product(x, choice=choice):
    with precision.applied(choice):
      return x @ x
  compile(choice, product, (256, 256))
compile("muon", lambda x: polar_factors([x])[0], (1, 256, 256))
compile("swan", lambda x: whiten(x), (1, 256, 256))
"""


@pytest.mark.slow
def test_machine_code_of_an_h200(tmp_path):
  """What products are compiled to: FMA in float32, or tensor cores."""
  if reason := aot.missing("h200"):
    pytest.skip(reason)
  flags = (
    f"--xla_dump_to={tmp_path} --xla_dump_emitter_re=.*"
    # Of hundreds of tiles for each product the first will do.
    " --xla_gpu_autotune_level=0"
  )
  done = subprocess.run(
    [sys.executable, "-c", _COMPILE],
    cwd=support.ROOT,
    env={**support.environment(), "XLA_FLAGS": flags},
    capture_output=True,
    text=True,
    timeout=600,
    check=False,
  )
  assert done.returncode == 0, done.stderr[-2000:]

  def instructions(name):
    files = tmp_path.glob(f"*.jit_product_{name}.*.ptx")
    text = "".join(file.read_text() for file in files)
    found = re.findall(r"mma[\w.]*\.(tf32|bf16)\.|(fma\.rn\.f32)", text)
    return {kind or fma for kind, fma in found}

  assert instructions("float32") == {"fma.rn.f32"}
  assert "tf32" in instructions("tf32")
  assert "tf32" in instructions("default")
  assert "bf16" in instructions("bfloat16")
  assert "tf32" not in instructions("bfloat16")
  # Whatever the model's choice, which is none of theirs.
  assert "bf16" in instructions("muon")
  assert "tf32" not in instructions("muon")
  assert not {"tf32", "bf16"} & instructions("swan")
  assert "fma.rn.f32" in instructions("swan")
