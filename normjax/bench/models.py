"""What a model's training step takes, beside peers, and how it compiles."""

import contextlib
import statistics
from collections.abc import Mapping
from typing import Any

import jax
from rich.console import Console

from normjax import errors
from normjax.bench import contest, model_families, tables, torch_client
from normjax.bench.model_families import FAMILIES, MODELS

_COMPILATIONS = 3
_DEEP_VARIANT = "scanned"
_COLUMNS = (
  "model", "ms", "peer", "its ms", "ms, ours/its", "compile s",
  "compile, ours/its", "temporary MiB",
)  # fmt: skip


def _contestants(
  model: model_families.Model, options: Mapping[str, Any]
) -> tuple[list[contest.Contestant], list[contest.Contestant], dict[str, str]]:
  """Ours, the peers of Flax, and what could not be made, with the reason."""
  family, sizes = FAMILIES[model.family], model.sizes
  batch = family.batch(sizes, options)
  own, theirs, failed = [], [], {}
  tx = family.optimizer()
  for label, extra in family.variants.items():
    try:
      init, apply = model_families.ours(family, sizes, extra)
    except (TypeError, ValueError, errors.UserError) as error:
      failed[label] = str(error)
      continue
    state = model_families.state_of(init, tx)
    own.append(
      contest.from_step(label, model_families.step_of(apply, tx), state, *batch)
    )
  tx = family.flax_optimizer()
  for label, make in family.flax.items():
    init, apply = model_families.flax(make(sizes), batch[0][:1])
    state = model_families.state_of(init, tx)
    theirs.append(
      contest.from_step(label, model_families.step_of(apply, tx), state, *batch)
    )
  return own, theirs, failed


def _torch_peers(
  model: model_families.Model,
  client: torch_client.TorchPeers,
  options: Mapping[str, Any],
) -> tuple[list[contest.Contestant], list[dict[str, str]]]:
  """Those that could be made, and records of those that could not."""
  family, made, failed = FAMILIES[model.family], [], []
  batch = {key: options[key] for key in family.batch_sizes}
  for name in family.torch_names:
    try:
      made.append(
        client.model(family.torch_module, name, **model.sizes, **batch)
      )
    except torch_client.PeerError as error:
      failed.append({"name": name, "error": str(error)})
  return made, failed


def _measure(
  model: model_families.Model,
  client: torch_client.TorchPeers | None,
  options: Mapping[str, Any],
) -> list[dict[str, Any]]:
  own, theirs, failed = _contestants(model, options)
  results = [
    {"name": name, "error": reason, "peers": []}
    for name, reason in failed.items()
  ]
  broken = []
  if client is not None:
    made, broken = _torch_peers(model, client, options)
    theirs += made
  seconds = contest.time_rounds(
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
  model: model_families.Model,
  depths: tuple[int, int],
  options: Mapping[str, Any],
) -> dict[str, Any]:
  """Compilation of a deep model beside that of a shallow one, in turn."""
  family, (shallow, deep) = FAMILIES[model.family], depths
  extra = family.variants[_DEEP_VARIANT]
  name = f"{_DEEP_VARIANT}, {deep} layers"
  batch = family.batch(model.sizes, options)
  tx = family.optimizer()

  def compile_s(num_layers: int) -> float:
    sizes = {**model.sizes, "num_layers": num_layers}
    init, apply = model_families.ours(family, sizes, extra)
    params, stats = jax.eval_shape(init)
    state = params, stats, jax.eval_shape(tx.init, params)
    _, facts = contest.compile_step(
      model_families.step_of(apply, tx), state, *batch, donated=(0,)
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
  model = MODELS[options["model"]]
  family = FAMILIES[model.family]
  if options["batch_size"] is None:
    options = {**options, "batch_size": model.batch_size}
  note = (
    f"A training step of {options['model']}, {family.what.format(**options)},"
    f" on {tables.here()}. {tables.ROUNDS_NOTE}"
  )
  with contextlib.ExitStack() as stack:
    stack.enter_context(contest.no_compilation_cache())
    client, versions = tables.connect(
      stack, options, console, family.torch_packages
    )
    report = tables.Report(
      console,
      "models",
      _COLUMNS,
      note,
      options["out"],
      sizes=dict(model.sizes),
      peer_versions=versions,
    )
    with console.status(options["model"]):
      results = _measure(model, client, options)
      if model.depths:
        results.append(_depths(model, model.depths, options))
    for result in results:
      report.add(result, _rows(result))
  report.show()
