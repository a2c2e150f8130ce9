r"""Gradients estimated from losses alone: a step without a backward pass.

    g_j = (L(w + eps z_j) - L(w - eps z_j)) / (2 eps),   z_j ~ N(0, I)
    estimate = 1/q sum_j g_j z_j

Two-sided, as MeZO has it (arXiv:2305.17333, definition 1 and algorithm 1). The
other forms are those that arXiv:2402.11592 compares. E[estimate] is the
gradient up to eps^2, and its squared norm d + 2 times the gradient's: the rate
of SGD shrinks like one over the number of parameters d.

Any optimizer takes the estimate: ZO-SGD is `sgd`, ZO-SGD-MMT its momentum,
ZO-Adam `adamw`. Decay is the optimizer's; the released code of 2402.11592 has
none.

The released codes, MeZO's too, move w in place by +eps, -2 eps, +eps, which
leaves a rounding error in w at each step. Here w stays as it is, and each pass
draws w + t z where it is used (`nn.shifted`): z is never kept. Both passes have
the same dropout. Neither moves a running statistic: option `statistics`.

Read: princeton-nlp/MeZO (MIT), large_models/trainer.py. Of ZO-Bench/ZO-LLM
(GPL-3) the equations only, as the paper and notes on that code give them.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from normjax import errors, objectives, rng, validate
from normjax.metrics import Batch
from normjax.norms import modes
from normjax.optim import in_place
from normjax.train import (
  forward_mode,
  frozen,
  leaf_by_leaf,
  param_dtype,
  passes,
  sparse,
)
from normjax.train import step as train_step
from normjax.train.gradient import (
  EPS,
  PATH,
  Estimate,
  Gradient,
  has_statistics,
)
from normjax.train.perturbed import BLOCKS, Plan, plan_of
from normjax.train.state import State
from normjax.types import Array, Hyper, PyTree, StaticFloat

Means = dict[str, Array]
# t -> (L(w + t z), what else was measured there).
Along = Callable[[Array], tuple[Array, Means]]


class Derivative(NamedTuple):
  """A way to z . grad L from values of L along z.

  Attributes:
    of: (along, eps, L(w)) -> (g, what was measured).
    reads_loss: whether it needs L(w), by one pass for all directions.
    num_forwards: what a direction costs, in products of a forward pass.
  """

  of: Callable[[Along, Array, Array | None], tuple[Array, Means]]
  reads_loss: bool
  num_forwards: int


def _two_sided(
  along: Along, eps: Array, loss: Array | None
) -> tuple[Array, Means]:
  del loss
  # A loop: one pass is over before the next begins.
  (up, down), measured = lax.map(along, jnp.stack([eps, -eps]))
  return (up - down) / (2 * eps), passes.over_passes(measured)


def _one_sided(
  along: Along, eps: Array, loss: Array | None
) -> tuple[Array, Means]:
  moved, measured = along(eps)
  return (moved - loss) / eps, measured


def _forward(
  along: Along, eps: Array, loss: Array | None
) -> tuple[Array, Means]:
  """The limit of eps -> 0: Baydin et al. 2022, arXiv:2202.08587."""
  del loss
  zero = jnp.zeros_like(eps)
  return forward_mode.derivative(along, zero)


DERIVATIVES: Mapping[str, Derivative] = {
  "two_sided": Derivative(_two_sided, reads_loss=False, num_forwards=2),
  "one_sided": Derivative(_one_sided, reads_loss=True, num_forwards=1),
  # A product has two tangents.
  "forward": Derivative(_forward, reads_loss=False, num_forwards=3),
}
STATISTICS = ("once", "kept")
# As in training, but that nothing moves.
_STILL = modes.Mode(noise=True, statistics="batch", update=False)


@dataclasses.dataclass(frozen=True)
class _ZerothOrder:
  """The options of `zeroth_order`."""

  derivative: Derivative
  num_directions: int
  sign: bool
  blocks: str
  first_order_layers: int
  sparsity: float
  layer_sparsity: str
  resample_steps: int
  statistics: str

  def plan(self, recipe: train_step.Recipe) -> Plan:
    """Which leaves are moved, and together with which."""
    return plan_of(
      recipe.roles, recipe.trained, self.blocks, self.first_order_layers
    )

  def estimate(
    self, recipe: train_step.Recipe, state: State, batch: Batch, hyper: Hyper
  ) -> Estimate:
    """See `Gradient`."""
    plan = self.plan(recipe)
    at_w = self._at_parameters(recipe, plan, state, batch, hyper)
    eps = hyper.get(EPS, jnp.float32(1e-3))
    key = rng.fold(hyper["seed"], "zeroth_order", state.step)
    drawn_at = state.step // self.resample_steps
    mask_key = rng.fold(hyper["seed"], "zeroth_order_mask", drawn_at)
    directions = plan.directions(
      key, mask_key, state.params, self.sparsity, self.layer_sparsity
    )
    still = train_step.means_in_training(
      recipe, state, batch, hyper, train=_STILL
    )

    def along(direction: Array, block: Array) -> Along:
      def measured(t: Array) -> tuple[Array, Means]:
        # Bound to t, nothing is drawn before a loop over several.
        bound, t = lax.optimization_barrier((directions, t))
        params = plan.moved(state.params, t, bound, direction, block)
        variables = {**state.variables(), "params": params}
        means, _, values = passes.over_batch(
          lambda indexed: _without_statistics(still(variables, indexed)),
          batch,
          recipe.accumulation_steps,
        )
        return means.pop(objectives.MINIMIZED), means | values

      return measured

    def of_one(index: Array) -> tuple[Array, Means]:
      direction, block = jnp.divmod(index, plan.num_blocks)
      loss = None if at_w is None else at_w.loss
      return self.derivative.of(along(direction, block), eps, loss)

    count = self.num_directions * plan.num_blocks
    if count == 1:
      slopes, measured = of_one(jnp.zeros((), jnp.int32))
    else:
      slopes, measured = lax.map(of_one, jnp.arange(count))
      measured = passes.over_passes(measured)
    slopes = slopes.reshape(self.num_directions, plan.num_blocks)
    if self.sign:
      slopes = jnp.sign(slopes)
    trained = frozen.select(state.params, recipe.trained)
    first = {} if at_w is None else at_w.gradients
    gradients = plan.gradients(trained, first, slopes, directions)

    def norm() -> Array:
      return leaf_by_leaf.call(optax.tree.norm, gradients)

    clips = hyper["train.gradient_clip"] > 0
    return Estimate(
      gradients,
      state.stats if at_w is None else at_w.stats,
      state.grad_stats if at_w is None else at_w.grad_stats,
      measured if at_w is None else at_w.measured,
      norm=lax.cond(clips, norm, lambda: jnp.zeros(())),
    )

  def _at_parameters(
    self,
    recipe: train_step.Recipe,
    plan: Plan,
    state: State,
    batch: Batch,
    hyper: Hyper,
  ) -> "_AtParameters | None":
    """The pass at w itself, where something is read of it."""
    moves = self.statistics == "once" and has_statistics(
      recipe.graphdef, state.variables()
    )
    if not (moves or plan.first or self.derivative.reads_loss):
      return None
    means_of = train_step.means_in_training(
      recipe, state, batch, hyper, train=True if moves else _STILL
    )

    def minimized(first, grad_stats, indexed):
      params = frozen.put_back(plan.held(state.params), first)
      variables = {"params": params, "stats": state.stats}
      means, stats, measured = means_of(
        variables | {"grad_stats": grad_stats}, indexed
      )
      return means[objectives.MINIMIZED], (stats, means, measured)

    def one(indexed):
      first = param_dtype.widen(frozen.select(state.params, plan.first))
      if not plan.first:
        _, (stats, means, measured) = minimized({}, state.grad_stats, indexed)
        return ({}, means), (stats, state.grad_stats), measured
      (gradients, grad_stats), (stats, means, measured) = jax.grad(
        minimized, argnums=(0, 1), has_aux=True
      )(first, state.grad_stats, indexed)
      return (gradients, means), (stats, grad_stats), measured

    (gradients, means), (stats, grad_stats), measured = passes.over_batch(
      one, batch, recipe.accumulation_steps
    )
    if not moves:
      stats, grad_stats = state.stats, state.grad_stats
    loss = means.pop(objectives.MINIMIZED)
    return _AtParameters(loss, gradients, stats, grad_stats, means | measured)


class _AtParameters(NamedTuple):
  """What a pass at w gave: L(w), and the gradient of the last layers."""

  loss: Array
  gradients: PyTree
  stats: PyTree
  grad_stats: PyTree
  measured: Means


def _without_statistics(found: tuple[Means, PyTree, Means]) -> Any:
  means, _, measured = found
  return means, {}, measured


def _best_of_three(
  recipe: train_step.Recipe,
  state: State,
  batch: Batch,
  hyper: Hyper,
  step: in_place.Step,
) -> Array:
  """0, 1 or -1: which multiple of the update has the least loss."""
  trained = frozen.select(state.params, recipe.trained)
  still = train_step.means_in_training(
    recipe, state, batch, hyper, train=_STILL
  )

  def loss(factor: Array) -> Array:
    moved = in_place.multiplied(step, trained, factor).params
    params = frozen.put_back(state.params, moved)
    variables = {**state.variables(), "params": params}
    means, _, _ = passes.over_batch(
      lambda indexed: _without_statistics(still(variables, indexed)),
      batch,
      recipe.accumulation_steps,
    )
    return means[objectives.MINIMIZED]

  # Of equals the first: staying is preferred.
  factors = jnp.asarray([0.0, 1.0, -1.0])
  losses = lax.map(loss, factors)
  return factors[jnp.argmin(jnp.where(jnp.isnan(losses), jnp.inf, losses))]


def zeroth_order(
  derivative: str = "two_sided",
  num_directions: int = 1,
  sign: bool = False,
  conservative: bool = False,
  blocks: str = "whole",
  first_order_layers: int = 0,
  sparsity: StaticFloat = 0.0,
  layer_sparsity: str = "equal",
  resample_steps: int = 1,
  statistics: str = "once",
) -> Gradient:
  """An estimate of the gradient from losses; eps is `train.perturbation_eps`.

  The loss of a step's row is that at w where there is a pass at w, else the
  mean of those along z, which is the same up to eps^2.

  Args:
    derivative: what is taken along z. "two_sided": two passes per direction.
      "one_sided": (L(w + eps z) - L(w)) / eps, one pass, and one at w for all.
      "forward": the derivative itself, by one pass with tangents.
    num_directions: q.
    sign: whether the sign of g_j takes its place (ZO-SGD-Sign: z stays
      Gaussian; it is not the sign of g z).
    conservative: whether the best of w, w + update and w - update on the same
      batch is taken (ZO-SGD-Cons), by three further passes. The update is then
      kept as a whole; the state of the optimizer moves in any case.
    blocks: what is perturbed together: the "whole"; the "layers" one after the
      other, each with passes of its own; the "branches" of each layer
      (attention or feed-forward network, with the norms around it; a factor
      that both share is a block); the "modules", as a linear layer's kernel and
      bias; or single "leaves". All of a step at the same w, and then one step
      of the optimizer. The released code moves a block before it perturbs the
      next, which any optimizer with a state could not follow; to first order in
      the rate it is the same.
    first_order_layers: how many of the last layers have their gradient by
      backpropagation (hybrid), counted as `train.layer_decay` does: the head
      with the last norm is one, each block is one.
    sparsity: s: this share of the entries, drawn anew, stays as it is; all q
      directions leave the same.
    layer_sparsity: how many of a leaf. "equal": floor(s n) of its n entries.
      "magnitude": as many as it has among the smallest |w| of all leaves, s of
      all entries, by 31 readings of w in each step; which of the leaf's own, is
      drawn all the same.
    resample_steps: for how many steps they are the same entries; by "magnitude"
      as far as their number, which follows w, allows.
    statistics: running statistics move "once" per step, by a pass at w in
      training mode, where the model has some; or they are "kept" as they are,
      such as those of a trained model. Statistics of the backward pass move
      where there is one.

  Raises:
    UserError: a value that is not allowed.
  """
  who = "zeroth_order"
  found = validate.choose(who, "derivative", derivative, DERIVATIVES)
  # Both meet int32 arrays: numbers of directions, and that of the step.
  most = validate.MAX_INT32
  validate.count(who, "num_directions", num_directions, most=most)
  validate.count(who, "resample_steps", resample_steps, most=most)
  validate.count(who, "first_order_layers", first_order_layers, least=0)
  validate.flags(who, sign=sign, conservative=conservative)
  validate.choice(who, "blocks", blocks, BLOCKS)
  validate.choice(who, "statistics", statistics, STATISTICS)
  validate.number(who, "sparsity", sparsity, least=0.0, below=1.0)
  validate.choice(who, "layer_sparsity", layer_sparsity, sparse.TABLE)
  if layer_sparsity != "equal" and not sparsity:
    validate.refuse(
      who, "layer_sparsity", layer_sparsity, "'equal' without sparsity"
    )
  if resample_steps > 1 and not sparsity:
    validate.refuse(who, "resample_steps", resample_steps, "1 without sparsity")
  made = _ZerothOrder(
    found,
    num_directions,
    sign,
    blocks,
    first_order_layers,
    float(sparsity),
    layer_sparsity,
    resample_steps,
    statistics,
  )
  passes_per_step = num_directions * found.num_forwards + int(found.reads_loss)
  return Gradient(
    estimate=made.estimate,
    choose=_best_of_three if conservative else None,
    check=lambda recipe: _check(made, recipe),
    reads_eps=derivative != "forward",
    # How many blocks there are, and what a part of backpropagation takes, the
    # model says.
    num_forwards=passes_per_step
    if blocks == "whole" and not first_order_layers
    else None,
    num_choosing=3 * int(conservative),
    moves_apart=statistics == "once" and not found.reads_loss,
  )


def _check(options: _ZerothOrder, recipe: train_step.Recipe) -> None:
  try:
    options.plan(recipe)
  except errors.UserError as error:
    raise type(error)(f"{PATH}: zeroth_order: {error}") from error
