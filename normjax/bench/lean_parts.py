"""What takes turns in `normjax bench lean`, and what is compared with what."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from normjax import build, configure, optim
from normjax.bench import contest, leaves
from normjax.norms import modes
from normjax.objectives import MINIMIZED
from normjax.train import forward_mode, passes, program
from normjax.train import step as train_step
from normjax.types import PyTree

_RATE = 1e-3
_STILL = modes.Mode(noise=True, statistics="batch", update=False)
_ZEROTH = {
  "optimizer.name": "sgd",
  "train.gradient_clip": 0.0,  # Else its norm draws z once more.
}


@dataclasses.dataclass(frozen=True)
class Comparison:
  """One row.

  Attributes:
    name: whose steps.
    beside: what they are compared with: multiples, by name, that are added.
    bar: the most that the ratio should be, or None.
  """

  name: str
  beside: Mapping[str, float]
  bar: float | None = None

  def told(self) -> str:
    """What it is compared with, for the table."""
    return " + ".join(
      name if times == 1 else f"{times:g} x {name}"
      for name, times in self.beside.items()
    )


@dataclasses.dataclass(frozen=True)
class Part:
  """What takes turns.

  Attributes:
    make: sizes -> contestants by name.
    sizes: those it is made with, and small ones, to try it.
    comparisons: its rows.
    note: of the table, from the sizes.
  """

  make: Callable[[Mapping[str, int]], Mapping[str, contest.Contestant]]
  sizes: tuple[Mapping[str, int], Mapping[str, int]]
  comparisons: Sequence[Comparison]
  note: str


def _of_tx(
  label: str,
  tx: optax.GradientTransformation,
  shapes: PyTree,
  dtype: Any = jnp.float32,
) -> contest.Contestant:
  """An update in place, of float32 gradients and parameters of a dtype."""

  def step(held, gradients):
    params, state = optim.apply(tx, gradients, held[1], held[0])
    return (params, state), ()

  params = jax.tree.map(
    lambda leaf: leaf.astype(dtype), leaves.normal(shapes, 0, 0.02)
  )
  gradients = leaves.normal(shapes, 1, 1e-3)
  held = params, jax.jit(tx.init)(params)
  facts = {
    "held_bytes": _bytes(held),
    "state_bytes_per_entry": leaves.state_bytes_per_entry(tx, shapes),
  }
  found = contest.from_step(label, step, held, gradients)
  return dataclasses.replace(found, facts=found.facts | facts)


def _updates(sizes: Mapping[str, int]) -> dict[str, contest.Contestant]:
  """Updates alone: moments in few bits, parameters that are rounded."""
  shapes = leaves.llama(**sizes)
  names = ("adamw", "adamw_8bit", "adamw_4bit", "adamw_fp8")
  made = {
    name: _of_tx(name, optim.make(name, learning_rate=_RATE), shapes)
    for name in names
  }
  for rounding in ("stochastic", "kahan"):
    label = f"adamw, bfloat16 {rounding}"
    tx = optim.rounded_parameters(
      optim.make("adamw", learning_rate=_RATE), rounding
    )
    made[label] = _of_tx(label, tx, shapes, jnp.bfloat16)
  return made


def _bytes(tree: PyTree) -> int:
  return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


def _config(
  sizes: Mapping[str, int], overrides: Mapping[str, Any]
) -> configure.ConfigDict:
  """A run of a LLaMA on bytes."""
  model = ("num_layers", "num_heads", "model_dim", "hidden_dim")
  return configure.override(
    configure.load("configs/default.py"),
    {
      "data.name": "shakespeare",
      "data.sequence_length": sizes["length"],
      "model.name": "llama",
      **{f"model.{name}": sizes[name] for name in model},
      "norm.name": "rms_norm",
      "optimizer.name": "adamw",
      "optimizer.learning_rate": _RATE,
      "train.batch_size": sizes["batch_size"],
      **overrides,
    },
  )


@dataclasses.dataclass(frozen=True)
class _Prepared:
  """A run before its first step.

  Attributes:
    recipe: static choices.
    state: of its start.
    batch: the first.
    hyper: scalars.
  """

  recipe: train_step.Recipe
  state: Any
  batch: Mapping[str, Any]
  hyper: Mapping[str, Any]

  def contestant(
    self, label: str, step: Callable[..., Any], *others: Any
  ) -> contest.Contestant:
    """Of step(recipe, state, batch, hyper, *others) -> (state, anything)."""
    tokens = self.batch["targets"].size
    facts = {"held_bytes": _bytes(self.state), "tokens_per_step": tokens}
    found = contest.from_step(
      label,
      functools.partial(step, self.recipe),
      jax.tree.map(jnp.copy, self.state),  # It is donated.
      self.batch,
      self.hyper,
      *others,
    )
    return dataclasses.replace(found, facts=found.facts | facts)


def _prepare(
  sizes: Mapping[str, int], overrides: Mapping[str, Any]
) -> _Prepared:
  config = _config(sizes, overrides)
  recipe, initialize = program.recipe_and_initialize(config)
  data = build.dataset(config)
  batch = jax.device_put(dict(data.train_batch(0, 0, config.train.batch_size)))
  hyper = build.hyper(config)
  return _Prepared(recipe, jax.jit(initialize)(hyper, batch), batch, hyper)


def _steps(
  runs: Callable[[Mapping[str, int]], Mapping[str, Mapping[str, Any]]],
  sizes: Mapping[str, int],
) -> dict[str, contest.Contestant]:
  """Training steps of runs: names and what their configs override."""
  return {
    label: _prepare(sizes, overrides).contestant(label, train_step.train_step)
    for label, overrides in runs(sizes).items()
  }


def _linear_runs(sizes: Mapping[str, int]) -> dict[str, dict[str, Any]]:
  rank = f"rank={sizes['rank']}"
  specs = {
    "dense": "dense",
    "sltrain": f"sltrain({rank})",
    "low_rank": f"low_rank({rank})",
    "lora": f"lora({rank})",
    "relora": f"relora({rank})",
  }
  return {label: {"model.linear": spec} for label, spec in specs.items()}


def _block_runs(sizes: Mapping[str, int]) -> dict[str, dict[str, Any]]:
  del sizes
  badam = {"optimizer.name": "badam"}
  return {
    "adamw": {},
    "badam, all gradients": badam,
    "badam, block_gradients": badam | {"train.block_gradients": True},
  }


def _forward_pass(recipe, state, batch, hyper):
  """The loss at w, as a zeroth-order step has it."""
  return state, _loss(recipe, state, batch, hyper, state.params)


def _loss(recipe, state, batch, hyper, params):
  still = train_step.means_in_training(
    recipe, state, batch, hyper, train=_STILL
  )
  variables = {**state.variables(), "params": params}

  def one(indexed):
    means, _, measured = still(variables, indexed)
    return means, {}, measured

  means, _, _ = passes.over_batch(one, batch, recipe.accumulation_steps)
  return means[MINIMIZED]


def _draws(state):
  """A normal number for every parameter, other ones at every step."""
  key = jax.random.fold_in(jax.random.key(0), state.step)
  flat, structure = jax.tree.flatten(state.params)
  keys = jax.random.split(key, len(flat))
  return structure.unflatten(
    jax.random.normal(key, leaf.shape)
    for key, leaf in zip(keys, flat, strict=True)
  )


def _draw_of_z(recipe, state, batch, hyper):
  del recipe, batch, hyper
  return state._replace(step=state.step + 1), _draws(state)


def _product(recipe, state, batch, hyper, z):
  """The derivative of the loss along a z that is there."""

  def along(t):
    params = jax.tree.map(lambda w, d: w + t * d, state.params, z)
    return _loss(recipe, state, batch, hyper, params), ()

  return state, forward_mode.derivative(along, jnp.zeros(()))[0]


def _zeroth_order(sizes: Mapping[str, int]) -> dict[str, contest.Contestant]:
  """Steps from losses alone, and what they are made of."""
  ways = {
    label: _prepare(sizes, {**_ZEROTH, "train.gradient": way})
    for label, way in (
      ("backpropagation", "backpropagation"),
      ("zeroth order", "zeroth_order"),
      ("forward gradient", "zeroth_order(derivative='forward')"),
    )
  }
  made = {
    label: run.contestant(label, train_step.train_step)
    for label, run in ways.items()
  }
  plain = ways["backpropagation"]
  z = jax.jit(_draws)(plain.state)
  for label, step, *others in (
    ("forward pass", _forward_pass),
    ("draw of z", _draw_of_z),
    ("jvp", _product, z),
  ):
    made[label] = plain.contestant(label, step, *others)
  return made


def _beside(names: Sequence[str], baseline: str, **bars: float):
  return [Comparison(n, {baseline: 1}, bars.get(n)) for n in names]


_OF_LINEAR = ("sltrain", "low_rank", "lora", "relora")
_TINY = {
  "num_layers": 2, "num_heads": 2, "model_dim": 16, "hidden_dim": 32,
  "rank": 4, "length": 16, "batch_size": 2,
}  # fmt: skip
_SMALL = {
  "num_layers": 2, "num_heads": 4, "model_dim": 256, "hidden_dim": 688,
  "rank": 64, "length": 128, "batch_size": 8,
}  # fmt: skip
_LARGE = {
  "num_layers": 2, "num_heads": 8, "model_dim": 512, "hidden_dim": 1376,
  "rank": 128, "length": 128, "batch_size": 8,
}  # fmt: skip
_LINEAR = functools.partial(_steps, _linear_runs)
_LINEAR_NOTE = (
  "Training steps with AdamW of a LLaMA whose matrices are held as named"
)
_LINEAR_ROWS = [
  Comparison("dense", {}),
  *_beside(_OF_LINEAR, "dense", sltrain=1.3),
]
PARTS: Mapping[str, Part] = {
  "update": Part(
    _updates,
    (
      {
        "num_layers": 3,
        "model_dim": 512,
        "hidden_dim": 1376,
        "vocab_size": 1024,
      },
      {
        "num_layers": 1,
        "model_dim": 16,
        "hidden_dim": 32,
        "vocab_size": 32,
      },
    ),
    [
      Comparison("adamw", {}),
      *_beside(("adamw_8bit", "adamw_4bit", "adamw_fp8"), "adamw"),
      *_beside(("adamw_4bit", "adamw_fp8"), "adamw_8bit", adamw_4bit=1.3),
      *_beside(
        ("adamw, bfloat16 stochastic", "adamw, bfloat16 kahan"), "adamw"
      ),
    ],
    "Updates alone of a LLaMA's parameters, by float32 gradients",
  ),
  "linear_256": Part(_LINEAR, (_SMALL, _TINY), _LINEAR_ROWS, _LINEAR_NOTE),
  "linear_512": Part(_LINEAR, (_LARGE, _TINY), _LINEAR_ROWS, _LINEAR_NOTE),
  "zeroth_order": Part(
    _zeroth_order,
    (_SMALL, _TINY),
    [
      Comparison("forward pass", {}),
      Comparison("draw of z", {"forward pass": 1}),
      Comparison("backpropagation", {"forward pass": 1}),
      Comparison("zeroth order", {"forward pass": 1}),
      Comparison("zeroth order", {"draw of z": 1}),
      Comparison("zeroth order", {"forward pass": 2.1, "draw of z": 3}, 1.0),
      Comparison("zeroth order", {"backpropagation": 1}),
      Comparison("forward gradient", {"jvp": 1}),
      Comparison("forward gradient", {"backpropagation": 1}),
    ],
    "Steps of SGD from losses alone, what they are made of, and from gradients",
  ),
  "blocks": Part(
    functools.partial(_steps, _block_runs),
    ({**_SMALL, "num_layers": 4}, _TINY),
    [
      Comparison("adamw", {}),
      Comparison("badam, all gradients", {"adamw": 1}),
      Comparison("badam, block_gradients", {"adamw": 1}),
      Comparison("badam, block_gradients", {"badam, all gradients": 1}),
    ],
    "Training steps where one block of layers moves",
  ),
}
