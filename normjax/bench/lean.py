"""What lean methods take: few bits, small factors, losses alone, blocks.

Every part is one run in which all take turns. A bar is on the median of the
rounds' ratios. What is compared with a sum, such as a zeroth-order step with
its passes and draws, is compared with that of the same round.
"""

import dataclasses
import functools
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from rich.console import Console

from normjax import build, configure, errors, optim
from normjax.bench import contest, leaves, tables
from normjax.norms import modes
from normjax.objectives import MINIMIZED
from normjax.train import forward_mode, passes, program
from normjax.train import step as train_step
from normjax.types import PyTree

_COLUMNS = (
  "what", "ms", "beside", "ratio", "bar", "tokens/s", "state B/entry",
  "held MiB", "temporary MiB", "compile s",
)  # fmt: skip
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
    self, label: str, step: Callable[..., Any]
  ) -> contest.Contestant:
    """Of step(recipe, state, batch, hyper) -> (state, anything)."""
    tokens = self.batch["targets"].size
    facts = {"held_bytes": _bytes(self.state), "tokens_per_step": tokens}
    found = contest.from_step(
      label,
      functools.partial(step, self.recipe),
      jax.tree.map(jnp.copy, self.state),  # It is donated.
      self.batch,
      self.hyper,
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


def _product(recipe, state, batch, hyper, *, z):
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
  for label, step in (
    ("forward pass", _forward_pass),
    ("draw of z", _draw_of_z),
    ("jvp", functools.partial(_product, z=z)),
  ):
    made[label] = plain.contestant(label, step)
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


def results(
  comparisons: Sequence[Comparison],
  contestants: Mapping[str, contest.Contestant],
  seconds: Mapping[str, Sequence[float]],
) -> list[dict[str, Any]]:
  """A record per comparison.

  Args:
    comparisons: of one part.
    contestants: of it, by name.
    seconds: of a step of each, by round.
  """
  found = []
  for each in comparisons:
    facts, rounds_s = contestants[each.name].facts, seconds[each.name]
    record = {
      "name": each.name,
      **facts,
      "step_s": statistics.median(rounds_s),
      "rounds_s": list(rounds_s),
    }
    if "tokens_per_step" in facts:
      record["tokens_per_s"] = facts["tokens_per_step"] / record["step_s"]
    if each.beside:
      sums = [0.0] * len(rounds_s)
      for name, times in each.beside.items():
        sums = [a + times * b for a, b in zip(sums, seconds[name], strict=True)]
      ratios = [a / b for a, b in zip(rounds_s, sums, strict=True)]
      record |= {
        "beside": each.told(),
        "ratios": ratios,
        "ratio": statistics.median(ratios),
      }
    if each.bar is not None:
      record["bar"] = each.bar
      record["within_bar"] = record["ratio"] <= each.bar
    found.append(record)
  return found


def row(part: str, result: Mapping[str, Any]) -> tuple[str, ...]:
  """One row of the table."""
  bar, state = "", result.get("state_bytes_per_entry")
  if "bar" in result:
    bar = f"{result['bar']:g} {'met' if result['within_bar'] else 'missed'}"
  speed = result.get("tokens_per_s")
  return (
    f"{part}: {result['name']}",
    tables.milliseconds(result["step_s"]),
    result.get("beside", ""),
    tables.ratio(result),
    bar,
    "" if speed is None else f"{speed:.0f}",
    "" if state is None else f"{state:.4f}",
    tables.mebibytes(result, "held_bytes"),
    tables.mebibytes(result, "temp_bytes"),
    f"{result['compile_s']:.1f}",
  )


def _told(name: str, sizes: Mapping[str, int], note: str) -> str:
  listed = ", ".join(f"{key} {value}" for key, value in sizes.items())
  return f"{name}: {note} ({listed})."


def run(console: Console, options: Mapping[str, Any]) -> None:
  """Measures the parts of `options["parts"]`, or all.

  Args:
    console: where the table goes.
    options: the flags of `normjax bench` by name.

  Raises:
    UserError: no such part.
  """
  names = options["parts"] or list(PARTS)
  unknown = [name for name in names if name not in PARTS]
  if unknown:
    raise errors.UserError(
      f"--parts={','.join(names)}: no {', '.join(unknown)}; known:"
      f" {', '.join(PARTS)}."
    )
  sizes = {name: PARTS[name].sizes[bool(options["tiny"])] for name in names}
  told = [_told(name, sizes[name], PARTS[name].note) for name in names]
  note = (
    f"Steps on {tables.here()}, float32. {' '.join(told)} Tokens of a step are"
    " batch_size x length. State: bytes per entry of the hidden matrices; held:"
    " parameters and what the optimizer and the step keep. Bars are on the"
    f" median. {tables.ROUNDS_NOTE}"
  )
  with contest.no_compilation_cache():
    report = tables.Report(
      console, "lean", _COLUMNS, note, options["out"], sizes=sizes
    )
    for name in names:
      with console.status(name):
        made = PARTS[name].make(sizes[name])
        rounds = contest.time_rounds(
          list(made.values()),
          options["repeats"],
          options["budget_s"] * (len(made) - 1),
        )
      seconds = dict(zip(made, rounds, strict=True))
      for result in results(PARTS[name].comparisons, made, seconds):
        report.add({"part": name, **result}, [row(name, result)])
  report.show()
