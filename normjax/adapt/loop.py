"""The loop over a stream: predict, score, adapt."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from normjax import errors, stopping
from normjax.adapt import base, protocol
from normjax.metrics.hits import hits
from normjax.types import Array


class Score(NamedTuple):
  """Of a batch.

  Attributes:
    step: 1, 2, … over the whole stream.
    segment: its name.
    correct: (b,), whether each prediction was right; of NaN there is none.
    loss: (b,), the cross entropy of each, in nats; not finite where the model
      has diverged.
    domains: (b,), numbers of domains.
  """

  step: int
  segment: str
  correct: np.ndarray
  loss: np.ndarray
  domains: np.ndarray


@dataclasses.dataclass
class Totals:
  """Sums of scores by domain."""

  names: tuple[str, ...]

  def __post_init__(self) -> None:
    """Nothing was scored yet."""
    self.sums = np.zeros((3, len(self.names)))

  def add(self, score: Score) -> None:
    """Takes the examples of a batch in."""
    for row, values in enumerate((1, score.correct, score.loss)):
      np.add.at(self.sums[row], score.domains, values)

  @property
  def num_examples(self) -> int:
    """That were scored."""
    return int(self.sums[0].sum())

  def means(self) -> dict[str, float]:
    """Accuracy and loss of all examples, and of each domain that had some."""
    count, correct, loss = self.sums
    found = {
      "accuracy": correct.sum() / count.sum(),
      "loss": loss.sum() / count.sum(),
    }
    for index, name in enumerate(self.names):
      if count[index]:
        found[f"accuracy/{name}"] = correct[index] / count[index]
        found[f"loss/{name}"] = loss[index] / count[index]
    return {name: float(value) for name, value in found.items()}


def run(
  adapter: base.Adapter,
  domains: Mapping[str, protocol.Examples],
  how: protocol.Protocol,
  observe: Callable[[Score], None] = lambda score: None,
  start: base.State | None = None,
) -> tuple[Totals, base.State]:
  """Predicts a stream, adapting on the way.

  Each batch is scored by the logits of its own step: what these have seen is
  `adapter.seen`. A method with a fit sees each segment once before.

  Args:
    adapter: of the model.
    domains: by name, in order.
    how: the stream.
    observe: is given the score of each batch, once it is known.
    start: what the stream, and each segment that begins anew, starts from;
      None: `adapter.init` with the stream's seed. That of an adapter of the
      same method and another model, as of another seed, shares the compiled
      step.

  Returns:
    The scores by domain, and the last state.

  Raises:
    UserError: a class that the model does not have, a start of another method
      or another model, or what the method raises of a batch of some size;
      before anything is computed.
    KeyboardInterrupt: a signal came.
  """
  own = adapter.init(jax.random.key(how.seed))
  start = own if start is None else start
  _check_start(adapter.name, own, start)
  state, number = start, 0
  _check(adapter, state, domains, how)
  totals = Totals(tuple(domains))
  for segment in how.segments(domains):
    if segment.begins_anew:
      state = start
    if adapter.fit_fn is not None:
      inputs = (batch.inputs for batch in segment.batches)
      state = adapter.fit(inputs, start=start)
    for scored in range(1 - how.passes, 1):
      for batch in segment.batches:
        if stopping.asked():
          raise KeyboardInterrupt
        x, y = map(jnp.asarray, (batch.inputs, batch.targets))
        logits, state = adapter.compiled(state, x)
        if scored < 0:
          continue
        number += 1
        correct, loss = _scored(logits, y)
        score = Score(
          number,
          segment.name,
          np.asarray(correct),
          np.asarray(loss),
          batch.domains,
        )
        totals.add(score)
        observe(score)
  return totals, state


@jax.jit
def _scored(logits: Array, y: Array) -> tuple[Array, Array]:
  """(whether each is right (b,), its loss (b,))."""
  log_p = jax.nn.log_softmax(logits.astype(jnp.float32))
  loss = -jnp.take_along_axis(log_p, y[:, None], axis=-1)[:, 0]
  return hits(logits, y), loss


def _check(
  adapter: base.Adapter,
  state: base.State,
  domains: Mapping[str, protocol.Examples],
  how: protocol.Protocol,
) -> None:
  """In shapes: whether batches of each size pass, and which classes are."""
  sizes = how.batch_sizes(domains)
  for name, each in domains.items():
    _check_targets(name, each.targets)
  one = next(iter(domains.values())).inputs
  dtype = jax.dtypes.canonicalize_dtype(one.dtype)
  classes = 0
  for size in sizes:
    x = jax.ShapeDtypeStruct((size, *one.shape[1:]), dtype)
    try:
      if adapter.fit_fn is not None:
        jax.eval_shape(lambda x: adapter.fit([x]), x)
      classes = jax.eval_shape(adapter.compiled, state, x)[0].shape[-1]
    except errors.UserError as error:
      said = f"stream: a batch of {size} examples: {error}"
      if size < max(sizes):
        said += " drop_remainder leaves this last, smaller batch out."
      raise errors.UserError(said) from error
  for name, each in domains.items():
    _check_classes(name, each.targets, classes)


def _check_start(method: str, own: base.State, start: base.State) -> None:
  def told(state: base.State) -> tuple[Any, list[tuple[int, ...]]]:
    leaves, tree = jax.tree.flatten(state)
    return tree, [leaf.shape for leaf in leaves]

  if told(start) != told(own):
    raise errors.UserError(
      f"stream: start is no state of {method!r} on a model of these shapes;"
      f" needed: adapt.make({method!r}, …).init() of a model that differs in"
      " its values alone."
    )


def _check_targets(name: str, targets: np.ndarray) -> None:
  if not np.issubdtype(targets.dtype, np.integer) or targets.ndim != 1:
    raise errors.UserError(
      f"stream: {name!r} has targets of {targets.dtype}{list(targets.shape)};"
      " needed: a class per example, integers."
    )


def _check_classes(name: str, targets: np.ndarray, classes: int) -> None:
  least, most = int(targets.min()), int(targets.max())
  if least < 0 or most >= classes:
    raise errors.UserError(
      f"stream: {name!r} has the classes {least} to {most}; the model has 0 to"
      f" {classes - 1}."
    )
