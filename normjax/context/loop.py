"""Training and evaluation with context: pure steps, and a loop over blocks."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from normjax import errors, rng, validate
from normjax.context import base, table
from normjax.data import blocks as groups
from normjax.metrics import hits
from normjax.nn import variables as nn_variables
from normjax.types import Array, PyTree

Optimizer = Callable[[Any], optax.GradientTransformation]


class Program(NamedTuple):
  """What a step is compiled for."""

  structure: nn_variables.Structure
  method: base.Method
  optimizer: Optimizer


class State(NamedTuple):
  """What a step changes."""

  params: PyTree
  stats: PyTree
  optimizer: PyTree


class Blocks(NamedTuple):
  """The examples of a step: of g blocks n queries and m controls."""

  queries: Array  # (g, n, …).
  labels: Array  # (g, n).
  controls: Array  # (g, m, …).


@functools.partial(jax.jit, static_argnums=0)
def step(
  program: Program,
  learning_rate: Array | float,
  state: State,
  blocks: Blocks,
  key: Array,
) -> tuple[State, Array]:
  """One step: the mean of the blocks' losses, one block after the other.

  Args:
    program: static.
    learning_rate: of the optimizer.
    state: see `State`.
    blocks: see `Blocks`; each passes the model by itself.
    key: of the model's noise.

  Returns:
    The new state, and the mean cross-entropy of the queries.
  """
  learned = learn(
    program.structure,
    program.method,
    state.params,
    lambda params: params,
    state.stats,
    blocks,
    key,
  )
  moved, optimizer = program.optimizer(learning_rate).update(
    learned.gradients, state.optimizer, state.params
  )
  params = optax.apply_updates(state.params, moved)
  return State(params, learned.stats, optimizer), learned.loss


class Learned(NamedTuple):
  """What a step moves the model by.

  Attributes:
    gradients: of the mean over blocks.
    stats: after the last block.
    loss: the mean cross-entropy of the queries.
    logits: of all queries, (g, n, c).
  """

  gradients: PyTree
  stats: PyTree
  loss: Array
  logits: Array


def learn(
  structure: nn_variables.Structure,
  method: base.Method,
  trained: PyTree,
  params_of: Callable[[PyTree], PyTree],
  stats: PyTree,
  blocks: Blocks,
  key: Array,
) -> Learned:
  """The mean of the blocks' gradients, one block after the other.

  Args:
    structure: of the model.
    method: of context.
    trained: the parameters that move.
    params_of: of `trained` makes all parameters.
    stats: of the norms.
    blocks: see `Blocks`; each passes the model by itself.
    key: of the model's noise.
  """

  def loss_of(trained, stats, block, key):
    model = base.Bound(structure, params_of(trained), stats, key)
    logits, stats = method.forward(model, block.queries, block.controls, True)
    each = optax.softmax_cross_entropy_with_integer_labels(logits, block.labels)
    return jnp.mean(each), (stats, logits)

  def one(carry, given):
    stats, total, loss = carry
    (own, (stats, logits)), gradients = jax.value_and_grad(
      loss_of, has_aux=True
    )(trained, stats, *given)
    total = jax.tree.map(jnp.add, total, gradients)
    return (stats, total, loss + own), logits

  count = blocks.labels.shape[0]
  first = stats, jax.tree.map(jnp.zeros_like, trained), jnp.zeros(())
  (stats, total, loss), logits = jax.lax.scan(
    one, first, (blocks, jax.random.split(key, count))
  )
  mean = jax.tree.map(lambda g: g / count, total)
  return Learned(mean, stats, loss / count, logits)


@functools.partial(jax.jit, static_argnums=(0, 1))
def predict(
  structure: nn_variables.Structure,
  method: base.Method,
  params: PyTree,
  stats: PyTree,
  queries: Array,
  controls: Array,
) -> Array:
  """The logits of the queries, (b, c); nothing moves."""
  model = base.Bound(structure, params, stats)
  return method.forward(model, queries, controls, False)[0]


def train(
  model: nnx.Module,
  examples: groups.Domains,
  method: str | base.Method = "cs_arm_bn",
  *,
  batch_size: int = 64,
  num_controls: int = 128,
  blocks_per_step: int = 8,
  epochs: int = 1,
  learning_rate: float = 1e-3,
  optimizer: Optimizer = optax.adam,
  uniform: bool = True,
  seed: int = 0,
) -> nnx.Module:
  """A model that has learned from blocks of queries; see `groups.sampled`.

  The sizes, the optimizer and its rate are CS-ARM-BN's.

  Args:
    model: where learning starts; it stays as it is.
    examples: controls among them, if the method needs some.
    method: of `context.names()`, or a `Method`.
    batch_size: queries per block.
    num_controls: per block, of a method that needs some.
    blocks_per_step: whose gradients are averaged.
    epochs: over the queries.
    learning_rate: of the optimizer.
    optimizer: a learning rate -> a transform of optax.
    uniform: see `groups.sampled`.
    seed: of all draws.

  Raises:
    UserError: an option out of range; examples, a model and a method that do
      not fit.
  """
  method = table.resolve(method)
  owner = "context.train"
  validate.counts(owner, epochs=epochs, num_controls=num_controls)
  validate.number(owner, "learning_rate", learning_rate, least=0)
  validate.count(owner, "seed", seed, least=0)
  structure, held = nn_variables.split(model)
  _check(owner, method, held, examples)
  validate.count(owner, "batch_size", batch_size, least=1)
  drawn = num_controls if method.needs_controls else 0
  _check_call(owner, structure, method, held, examples, batch_size, drawn)
  program = Program(structure, method, optimizer)
  params, stats = jax.tree.map(jnp.asarray, (held["params"], held["stats"]))
  state = State(params, stats, optimizer(learning_rate).init(params))
  number = 0
  for epoch in range(epochs):
    for blocks in groups.sampled(
      examples,
      batch_size,
      rng.host_seed(seed, f"epoch/{epoch}"),
      num_controls=drawn,
      per_step=blocks_per_step,
      uniform=uniform,
      of_one_domain=method.of_one_domain,
    ):
      chosen = np.stack([block.queries for block in blocks])
      controls = np.stack([block.controls for block in blocks])
      given = Blocks(
        jnp.asarray(examples.inputs[chosen]),
        jnp.asarray(examples.labels[chosen], jnp.int32),
        jnp.asarray(examples.inputs[controls]),
      )
      key = rng.fold(seed, "context", number)
      state, _ = step(program, learning_rate, state, given, key)
      number += 1
  if not number:
    raise errors.UserError(
      f"{owner}: batch_size={batch_size} times"
      f" blocks_per_step={blocks_per_step} is more than the queries of an"
      " epoch; lower one of the two."
    )
  held = {"params": state.params, "stats": state.stats, "grad_stats": {}}
  return nn_variables.merge(structure, held)


def accuracies(
  model: nnx.Module,
  examples: groups.Domains,
  method: str | base.Method = "cs_arm_bn",
  *,
  sizes: Sequence[int] = (64, 8, 1),
  orders: Sequence[groups.Order] = groups.ORDERS,
  num_controls: int = 128,
  seed: int = 0,
) -> list[Mapping[str, Any]]:
  """What is left of a prediction with few queries, and with sorted ones.

  Args:
    model: trained.
    examples: see `groups.queries`.
    method: of `context.names()`, or a `Method`.
    sizes: queries per block; of one vector of features no method takes the
      statistics alone, of an image there are its pixels.
    orders: of the labels.
    num_controls: per block, of a method that needs some.
    seed: of order and controls.

  Returns:
    A row per order, size and domain: "order", "size", "domain", "n" and
    "accuracy".

  Raises:
    UserError: see `train`.
  """
  method = table.resolve(method)
  owner = "context.accuracies"
  validate.count(owner, "num_controls", num_controls)
  validate.count(owner, "seed", seed, least=0)
  for name, given in (("sizes", sizes), ("orders", orders)):
    if isinstance(given, int | str) or not len(given):
      raise errors.UserError(
        f"{owner}: {name}={given!r}; allowed: a sequence of one or more."
      )
  structure, held = nn_variables.split(model)
  _check(owner, method, held, examples)
  drawn = num_controls if method.needs_controls else 0
  plan = {
    (order, size): groups.queries(
      examples, size, seed, order=order, num_controls=drawn
    )
    for order in orders
    for size in sizes
  }
  every = [block for blocks in plan.values() for block in blocks]
  for count in {len(block.queries): None for block in every}:
    _check_call(owner, structure, method, held, examples, count, drawn)
  rows: list[Mapping[str, Any]] = []
  for (order, size), blocks in plan.items():
    by_domain: dict[int, list[np.ndarray]] = {}
    for block in blocks:
      logits = predict(
        structure,
        method,
        held["params"],
        held["stats"],
        jnp.asarray(examples.inputs[block.queries]),
        jnp.asarray(examples.inputs[block.controls]),
      )
      hit = np.asarray(
        hits.hits(logits, jnp.asarray(examples.labels[block.queries]))
      )
      by_domain.setdefault(block.domain, []).append(hit[-block.num_new :])
    for domain, found in by_domain.items():
      hit = np.concatenate(found)
      row = {"order": order, "size": size, "domain": domain}
      rows.append({**row, "n": len(hit), "accuracy": float(hit.mean())})
  return rows


def measured(model: nnx.Module, batches: Sequence[Array]) -> nnx.Module:
  """A copy whose running statistics are the plain average over batches.

  Of a domain's controls, or of controls and queries: each statistic is the mean
  of what each batch gives by itself, whatever the momentum. Variances between
  batches are in no batch, so that one large batch is better than many.

  Args:
    model: stays as it is.
    batches: inputs (b, …); each weighs the same, whatever its size.

  Raises:
    UserError: no batch, or a norm of other statistics.
  """
  if not len(batches) or not all(map(len, batches)):
    raise errors.UserError(
      "context.measured: batches is empty, or one of them; needed: one or more"
      " examples in each."
    )
  structure, held = nn_variables.split(model)
  bound = base.Bound(structure, held["params"], held["stats"])
  each = jax.jit(bound.measure)
  found = [each(jnp.asarray(batch)) for batch in batches]
  stats = jax.tree.map(_mean, held["stats"], *found)
  return nn_variables.merge(structure, held | {"stats": stats})


def _mean(old: Array, *values: Array) -> Array:
  if jnp.issubdtype(old.dtype, jnp.floating):
    return sum(values[1:], values[0]) / len(values)
  return values[-1]


def _check(
  owner: str,
  method: base.Method,
  held: Mapping[str, PyTree],
  examples: groups.Domains,
) -> None:
  examples.members()
  if jax.tree.leaves(held["grad_stats"]):
    raise errors.UserError(
      f"{owner}: the model's norms have statistics of the backward pass, which"
      " no block has by itself; allowed: norms without."
    )
  if method.needs_controls and examples.is_control is None:
    raise errors.UserError(
      f"{owner}: method {method.name!r} needs controls, and is_control of the"
      " examples is None."
    )


def _check_call(
  owner: str,
  structure: nn_variables.Structure,
  method: base.Method,
  held: Mapping[str, PyTree],
  examples: groups.Domains,
  count: int,
  num_controls: int,
) -> None:
  """In shapes: whether so many queries pass, and which classes there are."""
  one, dtype = examples.inputs.shape[1:], examples.inputs.dtype
  queries, controls = (
    jax.ShapeDtypeStruct((n, *one), dtype) for n in (count, num_controls)
  )
  call = functools.partial(predict, structure, method)
  try:
    logits = jax.eval_shape(
      call, held["params"], held["stats"], queries, controls
    )
  except errors.UserError as error:
    raise errors.UserError(
      f"{owner}: method {method.name!r}, {count} queries and {num_controls}"
      f" controls: {error}"
    ) from error
  control = examples.is_control
  answers = examples.labels if control is None else examples.labels[~control]
  low, high = answers.min(), answers.max()
  if low < 0 or high >= logits.shape[-1]:
    raise errors.UserError(
      f"{owner}: labels of queries are from {low} to {high}, and the model has"
      f" {logits.shape[-1]} classes; allowed: 0 to {logits.shape[-1] - 1}."
    )
