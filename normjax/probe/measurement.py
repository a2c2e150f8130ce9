"""All probes of a model on one batch, as data."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from normjax import errors, objectives
from normjax.nn import given
from normjax.nn.output import Output
from normjax.objectives import Objective
from normjax.probe import angles, lens, outliers, sinks, spectra
from normjax.probe.network import Network, NoStreamError
from normjax.record import files
from normjax.types import Array

PROFILES = {
  "variance": outliers.variance,
  "kurtosis": outliers.kurtosis,
  "max_over_median": outliers.max_over_median,
}
OF_STREAMS = (
  "streams", "massive_activations", "attention_sinks", "angles",
)  # fmt: skip
OF_LOSSES = ("skipping", "logit_lens")


def measure(
  model: nnx.Module,
  batch: Mapping[str, Any],
  *,
  objective: Objective | None = None,
) -> dict[str, Any]:
  """Looks inside a model.

  Depth 0 is the stream before the first block, depth l that after l blocks.
  The model is called as in its evaluations; the batch's padding, where its
  weight is 0, counts in nothing but in the attention of other tokens.

  Args:
    model: stays as it is.
    batch: `inputs`, `targets` and `weight` as data sets give them; without
      targets there are no losses, without weight all counts.
    objective: whose plain loss is measured; None: of classes cross-entropy, of
      values the squared error.

  Returns:
    Parts by name, as JSON has it: `blocks`, `loss`, `streams`,
    `massive_activations`, `attention_sinks`, `angles`, `skipping`,
    `logit_lens`, `spectra`; and `left_out`, which says why there is no more of
    a part. What has no number is None.

  Raises:
    UserError: a batch that has no inputs, or that is all padding.
  """
  batch = _real_examples(batch)
  found: dict[str, Any] = {}
  left_out: dict[str, str] = {}
  try:
    with given.of_batch(batch):
      network = Network(model, batch["inputs"])
  except NoStreamError as error:
    left_out |= dict.fromkeys((*OF_STREAMS, *OF_LOSSES), str(error))
  else:
    found, left_out = _of_network(network, batch, objective)
  found["spectra"] = spectra.weight_spectra(model)
  if not found["spectra"]:
    left_out["spectra"] = "no parameter is a matrix of a hidden layer"
  return files.finite({**found, "left_out": left_out})


def _of_network(
  network: Network, batch: Mapping[str, Any], objective: Objective | None
) -> tuple[dict[str, Any], dict[str, str]]:
  left_out = {}
  streams, masses = network.run()
  real = _real_tokens(batch, streams[0])
  found: dict[str, Any] = {
    "blocks": ["/".join(map(str, path)) for path in network.paths],
    "streams": _profiles(streams, real),
    "massive_activations": [
      outliers.massive(x, _fitting(real, x)) for x in streams
    ],
    "angles": _angles(streams, batch["inputs"], real),
  }
  if any(mass is not None for mass in masses):
    found["attention_sinks"] = {
      "first_token_mass": [None if m is None else m.tolist() for m in masses],
      "threshold": sinks.THRESHOLD,
      "rate": float(sinks.sink_rate(masses)),
    }
  else:
    left_out["attention_sinks"] = "no block gives weights of an attention"
  shapes = itertools.pairwise(x.shape for x in streams)
  changing = [i for i, (x, y) in enumerate(shapes) if x != y]
  if changing:
    said = ", ".join(found["blocks"][i] for i in changing)
    left_out["angles"] = f"across {said}, which change the stream's shape"
  if "targets" not in batch:
    reason = "the batch has no targets, so that there is no loss"
    return found, left_out | dict.fromkeys(OF_LOSSES, reason)
  if changing:
    left_out["skipping"] = f"of {said}, which change the stream's shape"
    left_out["logit_lens"] = (
      f"before {found['blocks'][changing[-1]]}: the model's end takes another"
      " shape"
    )
  is_classes = np.issubdtype(np.asarray(batch["targets"]).dtype, np.integer)
  if objective is None:
    name = objectives.DEFAULTS["classes" if is_classes else "values"]
    objective = objectives.make(name)

  @jax.jit
  def loss(output: Output) -> Array:
    sums = objective.sums(output, batch)
    return sums[objectives.LOSS] / sums[objectives.WEIGHT]

  whole = network.end(streams[-1])
  if is_classes:
    _check_targets(batch["targets"], whole)
  found["loss"] = float(loss(whole))
  found["skipping"] = {"loss": lens.losses_without(network, streams, loss)}
  weight = batch["weight"] if is_classes else None
  found["logit_lens"] = lens.logit_lens(
    network, streams, loss, weight
  )._asdict()
  if not is_classes:
    found["logit_lens"]["divergence"] = [None] * len(streams)
  return found, left_out


def _check_targets(targets: Any, output: Output) -> None:
  """What is compiled cannot refuse them."""
  least, most, size = targets.min(), targets.max(), output.logits.shape[-1]
  if least < 0 or most >= size:
    raise errors.UserError(
      f"probe: targets from {least} to {most}; the model has logits for 0 to"
      f" {size - 1}."
    )


def _real_examples(batch: Mapping[str, Any]) -> dict[str, Any]:
  """The batch without the examples that are padding."""
  if "inputs" not in batch:
    raise errors.UserError(
      f"probe: the batch has {', '.join(batch) or 'nothing'}; needed: inputs."
    )
  batch = {name: np.asarray(value) for name, value in batch.items()}
  if "weight" not in batch:
    targets = batch.get("targets", batch["inputs"][:, :1])
    is_classes = np.issubdtype(targets.dtype, np.integer)
    shape = targets.shape if is_classes else targets.shape[:1]
    batch["weight"] = np.ones(shape, np.float32)
  weight = batch["weight"].reshape(len(batch["weight"]), -1)
  kept = weight.any(axis=1)
  if not kept.any():
    raise errors.UserError("probe: the batch is all padding; needed: examples.")
  return {name: value[kept] for name, value in batch.items()}


def _real_tokens(batch: Mapping[str, Any], stream: Array) -> Array | None:
  """(b, t): which tokens count; None: all."""
  real = batch["weight"] > 0
  if real.shape != stream.shape[:2] or stream.ndim != 3 or real.all():
    return None
  return jnp.asarray(real)


def _fitting(real: Array | None, x: Array) -> Array | None:
  return real if real is None or real.shape == x.shape[:2] else None


def _profiles(
  streams: Sequence[Array], real: Array | None
) -> dict[str, dict[str, Any]]:
  found = {}
  for name, function in PROFILES.items():
    profiles = [function(x, _fitting(real, x)) for x in streams]
    found[name] = {
      "by_depth": [float(each.overall) for each in profiles],
      "by_position": [each.by_position.tolist() for each in profiles],
    }
  return found


def _angles(
  streams: Sequence[Array], inputs: Any, real: Array | None
) -> dict[str, Any]:
  """Of sequences at their last token, as the paper has it; else of all."""
  is_text = inputs.ndim == 2 and np.issubdtype(inputs.dtype, np.integer)
  if is_text:
    vectors = [angles.last_tokens(x, _fitting(real, x)) for x in streams]
  else:
    vectors = [outliers.tokens(x) for x in streams]
  return {
    "tokens": "last" if is_text else "all",
    "distance": angles.distances(vectors),
  }
