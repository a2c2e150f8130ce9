"""NOTE: Gong et al. 2022, arXiv:2208.05117.

Official code: github.com/TaesikGong/NOTE (MIT).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from normjax import errors, validate
from normjax.adapt import affine, base, descent, memory, sites
from normjax.nn.variables import split
from normjax.types import Array, PyTree


class Own(NamedTuple):
  """What NOTE keeps.

  Attributes:
    optimizer: its state.
    memory: of examples, balanced by prediction.
    key: of what is drawn next.
    waiting: examples since the last update.
  """

  optimizer: PyTree
  memory: memory.Memory
  key: Array
  waiting: Array


def note(
  model: nnx.Module,
  input_shape: tuple[int, ...],
  learning_rate: float = 1e-4,
  momentum: float = 0.9,
  statistics_momentum: float = 0.99,
  capacity: int = 64,
  update_every: int = 64,
  freeze: str = "",
) -> base.Adapter:
  """Instance-aware batch norm that learns from a balanced memory.

  Each example is predicted by the norm `iabn` in evaluation and taken into the
  memory (`memory.add`) under its predicted class. After every `update_every`
  examples the norms see the memory once as in training: their running
  statistics move, and scale and bias descend by Adam on

      loss = -mean_bc p log(p + 1e-6),

  a mean over classes too. The logits have seen nothing of their batch but what
  came `update_every` examples earlier.

  Args:
    model: whose norms with running statistics are all `norms.iabn`, and which
      was trained with it.
    input_shape: of one example, as the data set's.
    learning_rate: of Adam.
    momentum: b1 of Adam.
    statistics_momentum: weighs the old running value; the official code's is 1
      minus this one.
    capacity: of the memory; at most `update_every`, so that it is full at the
      first update.
    update_every: divides the batch size, or is divided by it.
    freeze: see `affine.choose`.

  Raises:
    UserError: an option out of range, or another norm; from `step`, a batch
      that does not go into `update_every`.
  """
  descent.check("note", learning_rate, "adam", momentum)
  validate.number(
    "note", "statistics_momentum", statistics_momentum, least=0, most=1
  )
  validate.count("note", "update_every", update_every, 2)
  validate.count("note", "capacity", capacity, 2)
  if capacity > update_every:
    validate.refuse(
      "note", "capacity", capacity, f"2 to update_every={update_every}"
    )

  def slow(norm, variables):
    return sites.with_options(norm, momentum=statistics_momentum), variables

  def pin(**mode):
    return sites.pin("note", model, needs="iabn", change=slow, **mode)

  pinned = pin()
  training, _ = split(pin(statistics="batch", update=True))
  paths = affine.choose("note", pinned, freeze)
  classes = affine.num_classes("note", pinned)

  def own(variables, key):
    values = affine.of(variables["params"], paths)
    dtype = values[paths[0]].dtype
    return Own(
      descent.first("adam", values),
      memory.empty(capacity, classes, tuple(input_shape), dtype),
      key,
      jnp.zeros((), jnp.int32),
    )

  def loss(logits):
    p = jax.nn.softmax(logits)
    return -jnp.mean(p * jnp.log(p + 1e-6))

  def update(variables, optimizer, examples, scalars):
    def measured(values):
      params = affine.into(variables["params"], values)
      logits, stats = base.predict(
        training, {**variables, "params": params}, examples
      )
      return loss(logits), stats

    values = affine.of(variables["params"], paths)
    gradients, stats = jax.grad(measured, has_aux=True)(values)
    rule = descent.make("adam", **scalars)
    variables, optimizer = descent.moved(
      {**variables, "stats": stats}, gradients, rule, optimizer
    )
    return variables, optimizer

  def part(structure, state, inputs):
    """At most `update_every` examples."""
    logits, _ = base.predict(structure, state.variables, inputs)
    affine.check_classes("note", logits, classes)
    key, use = jax.random.split(state.own.key)
    kept = memory.add_all(
      state.own.memory,
      inputs,
      jnp.argmax(logits, axis=-1),
      memory.draw(use, len(inputs)),
    )
    count = state.own.waiting + len(inputs)
    variables, optimizer = jax.lax.cond(
      count >= update_every,
      lambda: update(
        state.variables, state.own.optimizer, kept.examples, state.scalars
      ),
      lambda: (state.variables, state.own.optimizer),
    )
    new = Own(optimizer, kept, key, count % update_every)
    return logits, state._replace(variables=variables, own=new)

  def step(structure, state, inputs):
    size = len(inputs)
    if size % update_every and update_every % size:
      raise errors.UserError(
        f"note: a batch of {size} examples; allowed: what divides"
        f" update_every={update_every}, or a multiple of it; drop_remainder of"
        " a stream leaves a smaller last batch out."
      )
    logits = []
    for begin in range(0, size, update_every):
      found, state = part(
        structure, state, inputs[begin : begin + update_every]
      )
      logits.append(found)
    return jnp.concatenate(logits), state

  return base.adapter(
    "note",
    pinned,
    step,
    scalars={"learning_rate": learning_rate, "momentum": momentum},
    own=own,
  )
