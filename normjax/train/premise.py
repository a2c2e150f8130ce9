"""Whether the matrices that an optimizer keeps at one norm are scale-invariant.

That is the premise of optimizers whose file says `PREMISE`. It is measured on
the parameters that a run starts from and a few examples of its first batch.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from normjax import build, configure, optim, rng
from normjax.data import specs
from normjax.metrics import Batch
from normjax.nn import given
from normjax.optim.scale_invariance import (
  measure,
  names,
  num_calls,
  responses,
)
from normjax.train import frozen, program
from normjax.train import step as train_step
from normjax.train.state import State
from normjax.types import Array, PyTree

# Each matrix costs three forward passes of so many.
NUM_EXAMPLES = 8
# On two cores.
_FEW_SECONDS_FLOPS = 1e11


@dataclasses.dataclass(frozen=True, eq=False)
class Premise:
  """What is measured, for all runs of a program.

  Attributes:
    optimizer: its name, for messages.
    asked: what it asks of the model.
    paths: of the matrices that it keeps at one norm.
    num_calls: how many forward passes it takes.
    initialize: (hyper, batch) -> the state that a run starts from.
    outputs: (variables, batch) -> logits of training, of the first examples.
    measured: (variables, batch) -> what `responses` reads; jitted.
    dtype: of the model's arithmetic.
  """

  optimizer: str
  asked: str
  paths: Sequence[str]
  num_calls: int
  initialize: Callable[..., State]
  outputs: Callable[[Mapping[str, PyTree], Batch], Array]
  measured: Callable[[Mapping[str, PyTree], Batch], tuple[Array, Array]]
  dtype: jnp.dtype

  def notes(
    self,
    variables: Mapping[str, PyTree],
    batch: Batch,
    on: Callable[..., Any] = jax.jit,
  ) -> tuple[str, ...]:
    """What is wrong with the premise; nothing where it holds.

    No numbers, so that runs which differ in the seed say the same.

    Args:
      variables: of the model, as a run starts.
      batch: its first examples are taken.
      on: compiles `measured`, so that this process can read what it gives.
    """
    found = responses(self.paths, on(self.measured)(variables, batch))
    depends = [path for path, r in found.items() if r.depends(self.dtype)]
    unknown = [path for path, r in found.items() if not r.random]
    said = []
    if depends:
      said.append(
        f"optimizer {self.optimizer!r} keeps the norms of matrices that are not"
        f" scale-invariant, {len(depends)} of {len(found)}: {_listed(depends)}."
        " Doubling or halving one moves the logits (optim.scale_invariance says"
        f" how far). It asks for {self.asked}"
      )
    if unknown:
      said.append(
        f"optimizer {self.optimizer!r} asks for {self.asked}. Nothing can be"
        f" told at the start of {len(unknown)} of {len(found)} matrices, which"
        f" move no logit there: {_listed(unknown)}"
      )
    return tuple(said)

  def flops(self, variables: Mapping[str, PyTree], batch: Batch) -> float:
    """The compiler's count of what `measured` computes; shapes will do."""
    lowered = jax.jit(self.outputs).lower(variables, batch)
    return self.num_calls * (lowered.cost_analysis() or {}).get("flops", 0.0)


def _listed(paths: Iterable[str]) -> str:
  """Paths with a star for each number, so that like layers are one."""
  return ", ".join(dict.fromkeys(re.sub(r"\d+", "*", p) for p in paths))


_PREMISES: dict[str, Premise] = {}


def get(config: configure.ConfigDict) -> Premise | None:
  """What to measure of a config's program; None: its optimizer asks nothing.

  Nothing is compiled before it is measured.
  """
  if optim.premise(config.optimizer.name) is None:
    return None
  key = build.program_key(config)
  if key not in _PREMISES:
    _PREMISES[key] = _of(config, *program.recipe_and_initialize(config))
  return _PREMISES[key]


def before_runs(config: configure.ConfigDict) -> tuple[str, ...]:
  """What a run of this config will note, if it can be told in seconds.

  A large model's runs say it when they begin.
  """
  found = get(config)
  if found is None or specs.is_spec(build.dataset(config)):
    return ()
  size = config.train.batch_size
  batch = dict(build.dataset(config).train_batch(config.seed, 0, size))
  start = build.hyper(config), batch
  shapes = jax.eval_shape(found.initialize, *start).variables()
  if found.flops(shapes, batch) > _FEW_SECONDS_FLOPS:
    return ()
  state = jax.jit(found.initialize)(*start)
  return found.notes(state.variables(), batch)


def _of(
  config: configure.ConfigDict,
  recipe: train_step.Recipe,
  initialize: Callable[..., State],
) -> Premise:
  params = jax.eval_shape(initialize, build.hyper(config)).params
  moving = frozen.select(params, recipe.trained)
  dims = build.matrix_dims(config, moving, recipe.roles)
  recipe = recipe._replace(probes=())

  def outputs(variables: Mapping[str, PyTree], batch: Batch) -> Array:
    first = {part: values[:NUM_EXAMPLES] for part, values in batch.items()}
    with given.of_batch(first):
      output, _, _ = train_step.forward(
        recipe,
        dict(variables),
        first["inputs"],
        train=True,
        key=rng.fold(0, "premise"),
      )
    return output.logits

  def measured(variables: Mapping[str, PyTree], batch: Batch) -> Any:
    def of_moving(moving: PyTree) -> Array:
      params = frozen.put_back(variables["params"], moving)
      return outputs({**variables, "params": params}, batch)

    moving = frozen.select(variables["params"], recipe.trained)
    return measure(of_moving, moving, dims)

  name = config.optimizer.name
  return Premise(
    optimizer=name,
    asked=str(optim.premise(name)),
    paths=names(moving, dims),
    num_calls=num_calls(moving, dims),
    initialize=initialize,
    outputs=outputs,
    measured=jax.jit(measured),
    dtype=jnp.dtype(config.train.precision),
  )
