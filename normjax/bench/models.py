"""What a LLaMA's training step takes, beside peers, and how it compiles."""

import contextlib
import statistics
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from rich.console import Console

from normjax import errors, models, optim
from normjax.bench import contest, linen_llama, tables, torch_client
from normjax.nn import variables as nn_variables
from normjax.types import Array, PyTree

_LEARNING_RATE = 1e-3
# 58 million parameters: the smallest of the tables of GaLore and its kin
# (arXiv:2403.03507, table 2).
SIZES: Mapping[str, Mapping[str, int]] = {
  "llama_60m": {
    "vocab_size": 32000,
    "num_layers": 8,
    "num_heads": 8,
    "model_dim": 512,
    "hidden_dim": 1376,
  },
  "tiny": {
    "vocab_size": 64,
    "num_layers": 2,
    "num_heads": 2,
    "model_dim": 16,
    "hidden_dim": 32,
  },
}
# Options of ours, by what the table calls them.
VARIANTS: Mapping[str, Mapping[str, Any]] = {
  "unrolled": {},
  "scanned": {"scan_layers": True},
}
# Whose compile times are compared.
_DEPTHS = {"llama_60m": (6, 24), "tiny": (1, 2)}
_COMPILATIONS = 3
_DEEP_VARIANT = "scanned"
_TORCH = "transformers LlamaForCausalLM"
_COLUMNS = (
  "model", "ms", "peer", "its ms", "ms, ours/its", "compile s",
  "compile, ours/its", "temporary MiB",
)  # fmt: skip

# (params, tokens (b, t)) -> logits.
_Apply = Callable[[PyTree, Array], Array]


def _state(init: Callable[[], PyTree], tx: optax.GradientTransformation):
  params = jax.jit(init)()
  return params, jax.jit(tx.init)(params)


def _step(apply: _Apply, tx: optax.GradientTransformation):
  """(params, optimizer state), tokens -> the same after an update, loss."""

  def step(state, tokens):
    params, optimizer_state = state

    def mean_loss(params):
      logits = apply(params, tokens[:, :-1])
      losses = optax.softmax_cross_entropy_with_integer_labels(
        logits, tokens[:, 1:]
      )
      return jnp.mean(losses)

    loss, gradients = jax.value_and_grad(mean_loss)(params)
    updates, optimizer_state = tx.update(gradients, optimizer_state, params)
    return (optax.apply_updates(params, updates), optimizer_state), loss

  return step


def ours(sizes: Mapping[str, int], options: Mapping[str, Any]):
  """Our model: a function to its parameters, and its forward pass.

  Raises:
    UserError: options that the model does not take.
  """

  def make():
    return models.make("llama", **sizes, **options, rngs=nnx.Rngs(0))

  structure, variables = nn_variables.split(nnx.eval_shape(make))
  stats = {name: tree for name, tree in variables.items() if name != "params"}

  def apply(params, tokens):
    model = nn_variables.merge(structure, {"params": params, **stats})
    return model(tokens)

  return lambda: nn_variables.split(make())[1]["params"], apply


def flax(sizes: Mapping[str, int], scanned: bool):
  """That of `linen_llama`, as `ours`."""
  model = linen_llama.Llama(**sizes, scanned=scanned)
  tokens = jnp.zeros((1, 8), jnp.int32)

  def init():
    return model.init(jax.random.key(0), tokens)["params"]

  return init, lambda params, tokens: model.apply({"params": params}, tokens)


def _tokens(sizes: Mapping[str, int], options: Mapping[str, Any]) -> Array:
  shape = options["batch_size"], options["length"] + 1
  return jax.random.randint(jax.random.key(1), shape, 0, sizes["vocab_size"])


def _contestants(
  sizes: Mapping[str, int], options: Mapping[str, Any]
) -> tuple[list[contest.Contestant], list[contest.Contestant], dict[str, str]]:
  """Ours, the peers of Flax, and what could not be made, with the reason."""
  tokens = _tokens(sizes, options)
  own, theirs, failed = [], [], {}
  tx = optim.make("adamw", learning_rate=_LEARNING_RATE, weight_decay=0.1)
  for label, extra in VARIANTS.items():
    try:
      init, apply = ours(sizes, extra)
    except (TypeError, ValueError, errors.UserError) as error:
      failed[label] = str(error)
      continue
    own.append(
      contest.from_step(label, _step(apply, tx), _state(init, tx), tokens)
    )
  tx = optax.adamw(_LEARNING_RATE, weight_decay=0.1)
  for label, scanned in (("unrolled", False), ("scanned", True)):
    init, apply = flax(sizes, scanned)
    theirs.append(
      contest.from_step(
        f"flax.linen, {label}", _step(apply, tx), _state(init, tx), tokens
      )
    )
  return own, theirs, failed


def _measure(
  sizes: Mapping[str, int],
  client: torch_client.TorchPeers | None,
  options: Mapping[str, Any],
) -> list[dict[str, Any]]:
  own, theirs, failed = _contestants(sizes, options)
  results = [
    {"name": name, "error": reason, "peers": []}
    for name, reason in failed.items()
  ]
  broken = []
  if client is not None:
    batch = {key: options[key] for key in ("batch_size", "length")}
    try:
      theirs.append(client.llama(_TORCH, **sizes, **batch))
    except torch_client.PeerError as error:
      broken.append({"name": _TORCH, "error": str(error)})
  seconds = contest.hold(
    [*own, *theirs], options["repeats"], options["budget_s"]
  )
  own_s, theirs_s = seconds[: len(own)], seconds[len(own) :]
  for contestant, rounds_s in zip(own, own_s, strict=True):
    results.append(
      {
        "name": contestant.label,
        **contestant.facts,
        "step_s": statistics.median(rounds_s),
        "rounds_s": rounds_s,
        "peers": [
          contest.compare(contestant, rival, rounds_s, rival_s)
          for rival, rival_s in zip(theirs, theirs_s, strict=True)
        ]
        + broken,
      }
    )
  return results


def _depths(
  sizes: Mapping[str, int], options: Mapping[str, Any]
) -> dict[str, Any]:
  """Compilation of a deep model beside that of a shallow one, in turn."""
  extra = VARIANTS[_DEEP_VARIANT]
  shallow, deep = _DEPTHS[options["model"]]
  name = f"{_DEEP_VARIANT}, {deep} layers"
  tokens = _tokens(sizes, options)
  tx = optim.make("adamw", learning_rate=_LEARNING_RATE, weight_decay=0.1)

  def compile_s(num_layers: int) -> float:
    init, apply = ours({**sizes, "num_layers": num_layers}, extra)
    params = jax.eval_shape(init)
    state = params, jax.eval_shape(tx.init, params)
    _, facts = contest.compile_step(
      _step(apply, tx), state, tokens, donated=(0,)
    )
    return facts["compile_s"]

  try:
    compile_s(shallow)  # Not counted: what only the first one pays.
    pairs = [
      (compile_s(shallow), compile_s(deep))
      for _ in range(min(_COMPILATIONS, options["repeats"]))
    ]
  except (TypeError, ValueError, errors.UserError) as error:
    return {"name": name, "error": str(error), "peers": []}
  return {
    "name": name,
    "compile_s": statistics.median(deep_s for _, deep_s in pairs),
    "peers": [
      {
        "name": f"{_DEEP_VARIANT}, {shallow} layers",
        "compile_s": statistics.median(shallow_s for shallow_s, _ in pairs),
        "compile_ratio": statistics.median(
          deep_s / shallow_s for shallow_s, deep_s in pairs
        ),
        "rounds_s": pairs,
      }
    ],
  }


def _rows(result: Mapping[str, Any]) -> list[tuple[str, ...]]:
  """One row a peer; the model's own numbers stand in the first."""
  if "error" in result:
    return [(result["name"], "", result["error"], *("" for _ in _COLUMNS[3:]))]
  rows = []
  for peer in result["peers"] or [{}]:
    own = (
      result["name"],
      tables.milliseconds(result["step_s"]) if "step_s" in result else "",
      f"{result['compile_s']:.1f}",
      tables.mebibytes(result, "temp_bytes"),
    )
    subject, ms, compile_s, temporary = ("",) * 4 if rows else own
    compile_ratio = peer.get("compile_ratio")
    rows.append(
      (
        subject,
        ms,
        " ".join(peer.get(key, "") for key in ("name", "error")).strip(),
        tables.milliseconds(peer["step_s"]) if "step_s" in peer else "",
        tables.ratio(peer),
        compile_s,
        "" if compile_ratio is None else f"{compile_ratio:.2f}",
        temporary,
      )
    )
  return rows


def run(console: Console, options: Mapping[str, Any]) -> None:
  """Measures the model of `options["model"]`.

  Args:
    console: where the table goes.
    options: the flags of `normjax bench` by name.

  Raises:
    UserError: an interpreter that does not start.
  """
  sizes = SIZES[options["model"]]
  note = (
    f"A training step of {options['model']}, {options['batch_size']} x"
    f" {options['length']} tokens, float32, with AdamW, on {tables.here()}."
    f" {tables.ROUNDS_NOTE}"
  )
  with contextlib.ExitStack() as stack:
    stack.enter_context(contest.no_compilation_cache())
    needs = ("torch", "transformers")
    client, versions = tables.connect(stack, options, console, needs)
    report = tables.Report(
      console,
      "models",
      _COLUMNS,
      note,
      options["out"],
      sizes=dict(sizes),
      peer_versions=versions,
    )
    with console.status(options["model"]):
      results = _measure(sizes, client, options)
      results.append(_depths(sizes, options))
    for result in results:
      report.add(result, _rows(result))
  report.show()
