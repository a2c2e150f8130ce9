"""A population takes little more kernels than one member does, on an H200."""

import functools
import types

import jax
import pytest

from kernels_pallas import aot
from normjax import build
from normjax.bench import compiled_steps
from normjax.train import program
from normjax.train import step as train_step
from normjax.train.population import together as together_lib

MEMBERS = 16
SMALL = {
  "model.name": "llama",
  "model.size": "tiny",
  "train.batch_size": 16,
  "data.name": "normjax.bench.compiled_steps:tokens",
  "data.length": 64,
  "data.vocab_size": 256,
}
ELSEWHERE = types.SimpleNamespace(
  traced=lambda function: function, everywhere=None
)


def _program():
  """Of the small model, on no device."""
  config = compiled_steps.config(
    "llama_60m", "float32", **{**SMALL, "norm.name": "layer_norm"}
  )
  recipe, initialize = program.recipe_and_initialize(config)
  batch, hyper = (
    jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), dict(tree))
    for tree in (
      build.dataset(config).train_batch(0, 0, config.train.batch_size),
      build.hyper(config),
    )
  )
  return types.SimpleNamespace(
    recipe=recipe,
    layout=ELSEWHERE,
    abstract_state=jax.eval_shape(initialize, hyper, batch),
    abstract=program.Arguments(batch, batch, hyper),
  )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Of compilers.
def test_members_share_the_launches():
  """208 kernels for one member and 210 for sixteen, when this was written."""
  reason = aot.missing("h200")
  if reason is not None:
    pytest.skip(reason)
  with aot.abstract("h200"):
    alone = _program()
    together = together_lib.Together(alone)
  kinds = {"same_batches": False, "same_evaluation": True}
  stacked, (batch, _, hyper) = together.arguments(MEMBERS, **kinds)
  going = jax.ShapeDtypeStruct((MEMBERS,), bool)
  of_all = aot.compile(
    together.mapped(**kinds)[0], stacked, batch, hyper, going,
    target="h200", donate=0,
  )  # fmt: skip
  of_one = aot.compile(
    functools.partial(train_step.train_step, alone.recipe),
    alone.abstract_state, alone.abstract.batch, alone.abstract.hyper,
    target="h200", donate=0,
  )  # fmt: skip
  assert of_all.kernels <= 1.1 * of_one.kernels
