"""What Pre-LN, Pre-RMSNorm and Pre-CRMSNorm cost: arXiv:2305.14858.

One function in all forms; no target is set. Pre-CRMSNorm has a stream of d - 1
features, and d - 1 fits no tile of a matrix unit.
"""

import contextlib
import functools
import statistics
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from rich.console import Console

from normjax import convert, models
from normjax.bench import contest, tables
from normjax.nn import start
from normjax.nn import variables as nn_variables

# What the others are compared with.
BASELINE = "pre_ln"
_ON_THE_FLY = functools.partial(convert.pre_rms_norm, centring="on_the_fly")
FORMS: Mapping[str, Callable[[nnx.Module], nnx.Module]] = {
  BASELINE: nnx.clone,
  "pre_ln, folded": lambda model: convert.fold(model)[0],
  "pre_rms_norm": convert.pre_rms_norm,
  "pre_rms_norm, on the fly": _ON_THE_FLY,
  "pre_crms_norm": convert.pre_crms_norm,
}
_LEARNING_RATE = 1e-3
_BATCH_SIZE = 8
_COLUMNS = (
  "form", "what", "stream", "parameters", "GFLOP", "moved MiB", "ms",
  f"ms, /{BASELINE}",
)  # fmt: skip


def _model(options: Mapping[str, Any]) -> nnx.Module:
  """GPT-2 with an untied head, as all forms but the first need it."""
  model_dim = options["model_dim"]
  heads = next(n for n in (8, 4, 2, 1) if model_dim % n == 0)
  return models.make(
    "gpt2",
    vocab_size=options["vocab_size"],
    num_layers=options["num_layers"],
    num_heads=heads,
    model_dim=model_dim,
    hidden_dim=options["hidden_dim"],
    max_length=options["length"],
    tied_embeddings=False,
    rngs=nnx.Rngs(0),
  )


def contestants(
  form: str, model: nnx.Module, tokens_bt: jax.Array
) -> dict[str, contest.Contestant]:
  """A call in evaluation and a step of gradient descent, by "call" and "step".

  Args:
    form: of `FORMS`.
    model: of Pre-LN.
    tokens_bt: one batch.
  """
  structure, variables = start.of_module(FORMS[form]).apply(
    *nn_variables.split(model)
  )

  def call(variables, tokens_bt):
    module = nn_variables.merge(structure, variables)
    return variables, module(tokens_bt, train=False)

  def step(variables, tokens_bt):
    def mean_loss(params):
      module = nn_variables.merge(structure, {**variables, "params": params})
      log_p = jax.nn.log_softmax(module(tokens_bt[:, :-1], train=True))
      picked = jnp.take_along_axis(log_p, tokens_bt[:, 1:, None], axis=2)
      return -jnp.mean(picked)

    params = jax.tree.map(
      lambda leaf, slope: leaf - _LEARNING_RATE * slope,
      variables["params"],
      jax.grad(mean_loss)(variables["params"]),
    )
    return {**variables, "params": params}, ()

  size = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
  made = {}
  for what, function in (("call", call), ("step", step)):
    # Each of its own: the state is donated.
    held = jax.tree.map(jnp.array, variables)
    made[what] = contest.from_step(form, function, held, tokens_bt)
    made[what].facts |= {
      "what": what,
      "parameters": size,
      "stream": variables["params"]["position_embedding"].shape[-1],
    }
  return made


def _row(result: Mapping[str, Any]) -> tuple[str, ...]:
  (peer,) = result["peers"] or [{}]
  operations = result.get("flops")
  return (
    result["name"],
    result["what"],
    str(result["stream"]),
    str(result["parameters"]),
    "" if operations is None else f"{operations / 1e9:.3f}",
    tables.mebibytes(result, "moved_bytes"),
    tables.milliseconds(result["step_s"]),
    tables.ratio(peer),
  )


def run(console: Console, options: Mapping[str, Any]) -> None:
  """Measures every form: a call in evaluation, and a step of training.

  Args:
    console: where the table goes.
    options: the flags of `normjax bench` by name.
  """
  batch = options["batch_size"] or _BATCH_SIZE
  shape = batch, options["length"]
  tokens_bt = jax.random.randint(
    jax.random.key(0), shape, 0, options["vocab_size"]
  )
  note = (
    f"GPT-2 of {options['num_layers']} layers, {shape} tokens, float32, on"
    f" {tables.here()}. GFLOP is XLA's count before it optimizes, moved MiB"
    " after."
    f" {tables.ROUNDS_NOTE}"
  )
  with contextlib.ExitStack() as stack:
    stack.enter_context(contest.no_compilation_cache())
    report = tables.Report(
      console, "equivalence", _COLUMNS, note, options["out"], shape=shape
    )
    model = _model(options)
    with console.status("compiling"):
      made = {form: contestants(form, model, tokens_bt) for form in FORMS}
    for what in ("call", "step"):
      own = {form: pair[what] for form, pair in made.items()}
      rounds = contest.time_rounds(
        list(own.values()), options["repeats"], options["budget_s"]
      )
      seconds = dict(zip(own, rounds, strict=True))
      for form, ours in own.items():
        rival = own[BASELINE], seconds[form], seconds[BASELINE]
        result = {
          "name": form,
          **ours.facts,
          "step_s": statistics.median(seconds[form]),
          "rounds_s": seconds[form],
          "peers": [] if form == BASELINE else [contest.compare(ours, *rival)],
        }
        report.add(result, [_row(result)])
  report.show()
