"""What tables of test-time adaptation share: networks on corrupted digits.

A ResNet-8 learns 4,000 digits of MNIST, and meets the 1,000 held-out ones
corrupted. Networks differ in their seed; one program serves all of a method.
"""

import dataclasses
import functools
from collections.abc import Iterable, Mapping

import jax
from flax import nnx

from normjax import adapt, convert, data, models
from normjax.adapt import loop, protocol
from normjax.nn import variables as nn_variables
from normjax.registry import parse_call

# Nothing is tuned: all that is held out is evaluated.
_DATA = {"name": "mnist_5k", "tuning_split": False}
MEAN = "mean"  # Of all kinds.
_TRAINING = (
  "pretrained(data='mnist_5k(tuning_split=False)', num_steps=300,"
  " batch_size=64, learning_rate=0.1, seed={seed})"
)


@functools.cache
def network(seed: int) -> nnx.Module:
  """A ResNet-8 of width 8 with batch norm, trained for about 5 epochs; kept."""
  model = models.make(
    "cifar_resnet",
    depth=8,
    width=8,
    norm="batch_norm",
    rngs=nnx.Rngs(seed),
    **_dataset().model_options,
  )
  training = convert.start_step(_TRAINING.format(seed=seed))
  return nn_variables.merge(*training.apply(*nn_variables.split(model)))


def accuracies(
  method: str,
  networks: Mapping[int, nnx.Module],
  how: protocol.Protocol,
  kinds: Iterable[str],
) -> dict[str, list[float]]:
  """Accuracy on a stream of each kind of corruption, by network.

  Args:
    method: of `normjax.adapt`: "name" or "name(option=value, …)".
    networks: by seed, which is that of the stream and of all draws, too.
    how: the stream.
    kinds: "<kind>_<severity>", or "clean".

  Returns:
    By kind, in percent, and as "mean" that of all; a value per network.
  """
  name, options = parse_call("adaptation method", method)
  domains = {kind: _images(kind) for kind in kinds}
  found: dict[str, list[float]] = {kind: [] for kind in (*domains, MEAN)}
  first = None
  for seed, model in networks.items():
    adapter = adapt.make(name, model, **options)
    first = adapter if first is None else first  # Its program serves all.
    own = dataclasses.replace(how, seed=seed)
    start = adapter.init(jax.random.key(seed))
    means = loop.run(first, domains, own, start=start)[0].means()
    for kind in domains:
      found[kind].append(100 * means[f"accuracy/{kind}"])
    found[MEAN].append(100 * means["accuracy"])
  return found


@functools.cache
def _dataset():
  options = dict(_DATA)
  return data.make(options.pop("name"), **options)


@functools.cache
def _images(kind: str) -> protocol.Examples:
  own = _dataset()
  return protocol.gather(own if kind == "clean" else own.corrupted(kind))
