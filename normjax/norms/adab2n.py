"""AdaB2N: Lyu and others 2023, arXiv:2310.08855.

Its official repository is github.com/lvyilin/AdaB2N (MIT licence).
"""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax

from normjax import errors, validate
from normjax.norms import affine, base, modes, moments, running
from normjax.types import Array


class Tasks(NamedTuple):
  """Of which tasks a batch is: the `context` of `adab2n`."""

  of_example: Array  # (b,), integers from 0.
  current: Array | int  # The task that is being learned, from 0.


def adab2n(
  num_tasks: int = 5,
  kappa: float = 1.0,
  momentum: float = 0.9,
  eps: float = 1e-5,
  renormalize: bool = False,
) -> base.Norm:
  """A batch norm whose statistics are balanced between tasks.

      y = (x - mean) / sqrt(var + eps) * scale + bias
      mean = sum_i a_i mean_p(x_i),  var = sum_i a_i mean_p((x_i - mean)^2)
      a_i = w_t / N_t,  t the task of example i
      w_t = (exp(psi_t) + N_t) / sum_s (exp(psi_s) + N_s)
      running <- running + eta (batch - running)

  arXiv:2310.08855, as the official code has it. mean_p is that over the pixels
  of an example, N_t the number of examples of task t in the batch, and s runs
  over the tasks seen so far, 0 to the current one. psi, the parameter
  `task_weight`, starts at 0. In the first task, and without a context, mean and
  var are those of a batch norm. Both variances are the biased ones.

  The weights a_i do not sum to 1 where a task seen before is not in the batch:
  mean and var are then drawn to 0. So it is in the official code; with
  `renormalize` s runs over the tasks of the batch alone. An example of a task
  after the current one has the weight 0, where the official code fails.

  The rate of the n-th training step is, with m = 1 - momentum,

      eta_1 = m^kappa,  eta_n = eta_{n-1} / (eta_{n-1} + (1 - m)^kappa)

  which tends to 1 - (1 - m)^kappa: m for kappa = 1 from the beginning, and the
  plain average, 1 / n, for kappa = 0. It is computed from the step in closed
  form.

  A training step that moves the statistics leaves in the statistic `penalty`

      mean_c((mean - running_mean)^2) + mean_c((var - running_var)^2)

  with the running ones after the step, as constants: its gradient passes mean
  and var. What trains the model adds it, over all layers, to what is minimized
  (`normjax.continual`); a train step that does not know of it leaves it out.

  Statistics are float32 (float64 for float64), two passes, of the masked-in
  values: of an example that a mask hides nothing counts.

  Args:
    num_tasks: the number of psi, >= 1: tasks of the whole stream.
    kappa: in [0, 1]; 1 as the official class has it, searched over 0.1, 0.4,
      0.7 and 1 there.
    momentum: weighs the old running value, in (0, 1); PyTorch's is 1 minus
      this one.
    eps: inside the square root, > 0.
    renormalize: whether the weights of absent tasks are shared out.

  Raises:
    UserError: an option out of range; from `apply`, a training batch of one
      value per channel, a context that is none, or missing statistics.
  """
  name = "adab2n"
  validate.count(name, "num_tasks", num_tasks, least=1)
  validate.number(name, "kappa", kappa, least=0, most=1)
  validate.number(name, "momentum", momentum, above=0, below=1)
  validate.number(name, "eps", eps, above=0)
  validate.flags(name, renormalize=renormalize)
  return base.Norm(
    name=name,
    options={
      "num_tasks": num_tasks,
      "kappa": kappa,
      "momentum": momentum,
      "eps": eps,
      "renormalize": renormalize,
    },
    traits=base.NormTraits(
      statistics="batch",
      scale_invariant=True,
      shift_invariant=True,
      foldable=True,
      needs_train_flag=True,
      blends=True,
    ),
    init_fn=_init,
    apply_fn=_apply,
  )


def rate(step: Array, kappa: float, momentum: float) -> Array:
  """The rate of a training step: weighs the batch in what runs.

      1 / eta_n = (1 - q^(n-1)) / (1 - q) + q^(n-1) / m^kappa
      q = (1 - m)^kappa,  m = 1 - momentum

  Args:
    step: n, from 1, floating.
    kappa: see `adab2n`.
    momentum: see `adab2n`.
  """
  before = step - 1
  q, first = momentum**kappa, (1 - momentum) ** kappa
  if q == 1:
    return 1 / (before + 1 / first)
  exponent = before * math.log(q)
  return 1 / (-jnp.expm1(exponent) / (1 - q) + jnp.exp(exponent) / first)


def _init(shape, dtype, *, num_tasks: int, **_: Any):
  return {
    "params": affine.init(shape, dtype)
    | {"task_weight": jnp.zeros((num_tasks,), dtype)},
    "stats": running.start(shape, dtype, mean=0, var=1)
    | {
      "steps": jnp.zeros((), jnp.int32),
      "penalty": jnp.zeros((), jnp.promote_types(dtype, jnp.float32)),
    },
  }


def _apply(
  variables: base.Variables,
  x: Array,
  *,
  mode: modes.Mode,
  mask: Array | None,
  context: Any,
  kappa: float,
  momentum: float,
  eps: float,
  renormalize: bool,
  **_: Any,
):
  name = "adab2n"
  stats, params = variables["stats"], variables["params"]
  base.check_variables(name, variables, "stats", ("mean", "var", "steps"))
  base.check_features(name, x, stats["mean"].size)
  wide = moments.promote(x)

  def normalized(mean: Array, var: Array) -> Array:
    mean, var = mean.astype(wide.dtype), var.astype(wide.dtype)
    y = (wide - mean) * lax.rsqrt(var + eps)
    return affine.apply(y, params).astype(x.dtype)

  if mode.statistics == "running":
    return normalized(stats["mean"], stats["var"]), stats
  if context is None:
    batch = running.measure(name, wide, mask)
  else:
    weight = params["task_weight"]
    batch = _balanced(name, wide, mask, context, weight, renormalize)
  fixed = {"mean": batch.mean, "var": batch.variance}
  fixed = lax.stop_gradient(fixed)
  if mode.statistics == "blended":
    given = {"mean": batch.mean, "var": batch.variance}
    mixed = running.blend(stats, given, mode, jnp.max(batch.size))
    return normalized(mixed["mean"], mixed["var"]), stats
  steps = stats["steps"] + 1
  eta = rate(steps.astype(stats["mean"].dtype), kappa, momentum)
  moved = running.advance(stats, fixed, 1 - eta, jnp.max(batch.size))
  penalty = _distance(batch.mean, moved["mean"])
  penalty += _distance(batch.variance, moved["var"])
  old = stats["penalty"]
  # It squares a variance, which overflows long before that does.
  is_known = (jnp.max(batch.size) > 1) & jnp.isfinite(penalty)
  penalty = jnp.where(is_known, penalty.astype(old.dtype), old)
  moved |= {"steps": steps, "penalty": penalty}
  return normalized(batch.mean, batch.variance), moved


def _distance(batch: Array, moved: Array) -> Array:
  return jnp.mean(jnp.square(batch - moved.astype(batch.dtype)))


def _balanced(
  norm: str,
  x: Array,
  mask: Array | None,
  context: Any,
  task_weight: Array,
  renormalize: bool,
) -> running.Batch:
  """The moments of a batch with a weight for each example."""
  base.check_batch(norm, x)
  tasks = _tasks(norm, context, x)
  axes = tuple(range(1, x.ndim - 1))
  pixels = jnp.full(x.shape[:1], math.prod(x.shape[1:-1]), x.dtype)
  if mask is not None:
    mask = moments.broadcast_mask(mask, x)
    shown = jnp.sum(mask, axis=tuple(range(1, x.ndim)), dtype=x.dtype)
    hidden_axes = math.prod(
      full for full, own in zip(x.shape[1:-1], mask.shape[1:-1], strict=True)
      if own == 1
    )  # fmt: skip
    pixels = shown * hidden_axes
  weight = _weights(tasks, pixels, task_weight.astype(x.dtype), renormalize)

  def weighted(values: Array) -> Array:
    of_example = moments.mean(values, axes, mask).reshape(x.shape[0], -1)
    # No matrix product: those round their operands on some devices.
    return jnp.sum(weight[:, None] * of_example, axis=0)

  mean = weighted(x)
  return running.Batch(
    mean, weighted(jnp.square(x - mean)), jnp.sum(pixels)[None]
  )


def _weights(
  tasks: Tasks, pixels: Array, task_weight: Array, renormalize: bool
) -> Array:
  """a_i, (b,); in the first task the part of all pixels."""
  ids = jnp.arange(task_weight.size)
  is_of = (tasks.of_example[:, None] == ids) & (pixels > 0)[:, None]
  counts = jnp.sum(is_of, axis=0).astype(pixels.dtype)
  takes_part = ids <= tasks.current
  if renormalize:
    takes_part &= counts > 0
  share = jnp.where(takes_part, jnp.exp(task_weight) + counts, 0)
  share /= jnp.maximum(jnp.sum(share), jnp.finfo(share.dtype).tiny)
  of_example = jnp.sum(is_of * (share / jnp.maximum(counts, 1)), axis=1)
  plain = pixels / jnp.maximum(jnp.sum(pixels), 1)
  return jnp.where(jnp.asarray(tasks.current) > 0, of_example, plain)


def _tasks(norm: str, context: Any, x: Array) -> Tasks:
  try:
    of_example, current = map(jnp.asarray, context)
  except (TypeError, ValueError) as error:
    raise errors.UserError(
      f"{norm}: the context is Tasks(of_example, current);"
      f" got a {type(context).__name__}."
    ) from error
  whole = all(
    jnp.issubdtype(a.dtype, jnp.integer) for a in (of_example, current)
  )
  if not whole or of_example.shape != x.shape[:1] or current.shape:
    raise errors.UserError(
      f"{norm}: the context has the task of each example, {x.shape[:1]}"
      " integers, and the current task, one integer; got"
      f" {of_example.dtype}{list(of_example.shape)} and"
      f" {current.dtype}{list(current.shape)}."
    )
  return Tasks(of_example, current)
