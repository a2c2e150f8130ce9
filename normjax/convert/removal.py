"""The norms of a trained model taken away while it is fine-tuned.

arXiv:2507.02559. Official code, against which schedules and the loss on
deviations were held: config.py and train.py of
github.com/submarat/removing-layer-norm (583a9e6; its README says MIT, a licence
file is not there).
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import jax.numpy as jnp
from flax import nnx

from normjax import errors, validate
from normjax.convert import watched
from normjax.nn import neighbours
from normjax.nn import start as start_lib
from normjax.nn.neighbours import Neighbours
from normjax.nn.norm_layer import NormLayer
from normjax.nn.paths import TwoPathNorm
from normjax.nn.variables import attach_variables
from normjax.norms import Norm, fake_layer_norm

ASKED = "remove_norms"
INPUT_NORM = "_input_norm"  # How the paths of norms before branches end.


class Schedule(NamedTuple):
  """When which norm is removed, in training steps of 2^19 tokens.

  With n blocks: feed-forward input norms from `start`, a block each
  `feed_forward_gap` steps, from block 0 up; then, from start + n
  feed_forward_gap, those of attention for queries and keys; then for values;
  then the final norm. A gap of 0 removes a kind's norms all at one step.

  Attributes:
    start: the step of the first removal.
    feed_forward_gap: steps per block.
    query_key_gap: steps per block.
    value_gap: steps per block.
    end_delay: steps from the final norm's removal until end tokens are as all
      others.
    first_delay: steps from then until first tokens are.
    momentum: of the average deviations, per step: the official 0.9 to the
      power of micro-batches per step.
    deviation_loss: weight of the loss on deviations.
    num_steps: of the official run, or of the released model.
    learning_rate: its peak; the run's config has to say it.
    final_learning_rate: at the end of the cosine.
    warmup_steps: of the learning rate.
  """

  start: int
  feed_forward_gap: int
  query_key_gap: int
  value_gap: int
  end_delay: int = 2
  first_delay: int = 10
  momentum: float = 0.9
  deviation_loss: float = 0.0
  num_steps: int | None = None
  learning_rate: float | None = None
  final_learning_rate: float | None = None
  warmup_steps: int | None = None


# As config.py has them: weight decay 0.01, cosine, gradients clipped at 1.
SCHEDULES: Mapping[str, Schedule] = {
  "gpt2_small": Schedule(20, 2, 2, 3, 2, 10, 0.9**12, 0.0, 300, 6e-4, 3e-4, 20),
  "gpt2_small_aux": Schedule(
    20, 2, 2, 3, 2, 10, 0.9**16, 0.1, 300, 6e-4, 3e-4, 25
  ),
  "gpt2_medium": Schedule(
    20, 2, 2, 3, 2, 10, 0.9**23, 0.0, 500, 6e-4, 3e-4, 10
  ),
  "gpt2_medium_aux": Schedule(
    20, 2, 2, 3, 2, 10, 0.9**23, 0.1, 500, 6e-4, 3e-4, 10
  ),
  "gpt2_large": Schedule(
    30, 4, 4, 6, 2, 10, 0.9**15.75, 0.0, 1200, 3e-4, 4e-5, 15
  ),
  "gpt2_large_aux": Schedule(
    30, 4, 4, 6, 2, 10, 0.9**15.75, 0.03, 1200, 3e-4, 4e-5, 15
  ),
  "gpt2_xl": Schedule(
    20, 2, 2, 3, 2, 10, 0.9**15.75, 0.0, 1200, 1e-4, 2e-5, 20
  ),
  "gpt2_xl_aux": Schedule(
    50, 4, 4, 6, 2, 10, 0.9**15.75, 0.01, 1200, 1e-4, 2e-5, 20
  ),
}


def remove_norms_step(
  schedule: str = "gpt2_small",
  start: int | None = None,
  feed_forward_gap: int | None = None,
  query_key_gap: int | None = None,
  value_gap: int | None = None,
  end_delay: int | None = None,
  first_delay: int | None = None,
  momentum: float | None = None,
  deviation_loss: float | None = None,
  end_token: int | None = None,
  special_first: bool = True,
) -> start_lib.StartStep:
  """Fine-tuning during which each norm becomes linear, arXiv:2507.02559.

  Each layer_norm of the stream (or rms_norm, which the paper has not) becomes
  a `normjax.norms.fake_layer_norm` with the gain and offset that it had:
  measured at first, then, at its step of the schedule, divided by the average
  deviation instead of each token's. After the last step of the schedule
  `convert.fold` puts what is left into kernels, `convert.stock_layer_norms`
  into layer norms that are linear.

      train.initialize_from = ("runs/a", "remove_norms(start=50)")

  and the same without the second entry, for as many steps, is the control. An
  average of weights (train.ema_decay) has the deviations in it, too, from 1 on,
  where they start: with one, set train.ema_warmup.

  Args:
    schedule: one of `convert.removal.SCHEDULES`, for what is None below.
    start: see `Schedule`, as those that follow; 1 or later.
    feed_forward_gap: 0 or more.
    query_key_gap: 0 or more.
    value_gap: 0 or more. 0 for all gaps removes all norms at `start`.
    end_delay: 0 or more.
    first_delay: 0 or more.
    momentum: of the average deviations, per step.
    deviation_loss: weight of mean (std - stop_gradient(mean std))^2, where std
      is the deviation of the final norm's input, over all tokens, and the
      second mean is over tokens neither first nor end; as the official code,
      whose first tokens are in the first mean. Logged as "deviation_spread".
    end_token: the id whose tokens are treated as first ones for a while; None:
      no token is. By all norms, and none of their deviations enter the
      averages; in the official code by the norms of values alone, and they do.
    special_first: whether first tokens are divided by their own average until
      the schedule's end. The official code has the option; as it is published
      nothing turns it on.

  Raises:
    UserError: an option out of range; from the step, a model with norms that
      cannot go: post-norm, a norm inside of a branch, another norm; or a run
      that ends before the schedule.
  """
  base = validate.choose(ASKED, "schedule", schedule, SCHEDULES)
  given = {
    "start": start,
    "feed_forward_gap": feed_forward_gap,
    "query_key_gap": query_key_gap,
    "value_gap": value_gap,
    "end_delay": end_delay,
    "first_delay": first_delay,
    "momentum": momentum,
    "deviation_loss": deviation_loss,
  }
  given = {name: value for name, value in given.items() if value is not None}
  chosen = base._replace(**given)
  _check_options(chosen, end_token, special_first)
  special = {"end_token": end_token, "special_first": special_first}

  def change(model: nnx.Module) -> nnx.Module:
    return remove_norms(model, chosen, **special)

  def steps_needed(model: nnx.Module) -> int:
    steps = removal_steps(norm_sites(model), chosen)
    return max(_last(steps), *_special_until(steps, chosen, **special))

  return start_lib.of_module(change, steps_needed=steps_needed)


def remove_norms[Model: nnx.Module](
  model: Model,
  schedule: Schedule,
  *,
  end_token: int | None = None,
  special_first: bool = True,
) -> Model:
  """A copy of the model whose norms go by the schedule as it is trained.

  Args:
    model: stays as it is.
    schedule: when they go.
    end_token: see `remove_norms_step`.
    special_first: see `remove_norms_step`.

  Raises:
    UserError: see `remove_norms_step`.
  """
  _check_options(schedule, end_token, special_first)
  made = nnx.clone(model)
  sites = norm_sites(made)
  steps = removal_steps(sites, schedule)
  until = _special_until(steps, schedule, end_token, special_first)
  for path, beside in sites.items():
    layer = neighbours.module_at(made, path)
    layer.norm = _fake_of(layer.norm, schedule.momentum)
    attach_variables(layer, {"stats": layer.norm.init((1,))["stats"]})
    layer.removed_at.set_value(jnp.asarray(steps[path], jnp.int32))
    layer.special_until.set_value(jnp.asarray(until, jnp.int32))
    if _feeds_attention_alone(beside):
      object.__setattr__(layer, "__class__", TwoPathNorm)
  return watched.watch(made, schedule.deviation_loss, end_token)


def _check_options(
  schedule: Schedule, end_token: int | None, special_first: bool
) -> None:
  """Raises UserError for an option out of range."""
  for name in Schedule._fields[:6]:
    # Of no step before the first one is there an average.
    least = int(name == "start")
    validate.count(ASKED, name, getattr(schedule, name), least=least)
  validate.number(ASKED, "momentum", schedule.momentum, least=0, most=1)
  validate.number(ASKED, "deviation_loss", schedule.deviation_loss, least=0)
  if end_token is not None:
    validate.count(ASKED, "end_token", end_token, least=0)
  validate.flags(ASKED, special_first=special_first)


def _last(steps: Mapping[str, tuple[int, int]]) -> int:
  return max(max(pair) for pair in steps.values())


def _special_until(
  steps: Mapping[str, tuple[int, int]],
  schedule: Schedule,
  end_token: int | None,
  special_first: bool,
) -> tuple[int, int]:
  """The steps from which end tokens, and first ones, are as all others."""
  end = _last(steps) + schedule.end_delay
  first = end + schedule.first_delay
  return (end if end_token is not None else 0, first if special_first else 0)


def removal_steps(
  sites: Mapping[str, Neighbours], schedule: Schedule
) -> dict[str, tuple[int, int]]:
  """By path of a norm, the steps at which it is fake: see `removed_at`.

  Args:
    sites: the norms that read the stream, in the order of the blocks.
    schedule: when they go.
  """
  kinds: dict[str, list[str]] = {"attention": [], "feed_forward": []}
  final = []
  for path in sites:
    kind = path.rpartition("/")[2].removesuffix(INPUT_NORM)
    kinds.get(kind, final).append(path)
  query_key = (
    schedule.start + len(kinds["feed_forward"]) * schedule.feed_forward_gap
  )
  value = query_key + len(kinds["attention"]) * schedule.query_key_gap
  end = value + len(kinds["attention"]) * schedule.value_gap
  steps = {}
  for i, path in enumerate(kinds["feed_forward"]):
    steps[path] = (schedule.start + i * schedule.feed_forward_gap,) * 2
  for i, path in enumerate(kinds["attention"]):
    at = value + i * schedule.value_gap
    # One that feeds more than queries and keys goes when all of it may.
    alone = _feeds_attention_alone(sites[path])
    steps[path] = (query_key + i * schedule.query_key_gap if alone else at, at)
  return steps | dict.fromkeys(final, (end, end))


def _feeds_attention_alone(beside: Neighbours) -> bool:
  names = {path.rpartition("/")[2] for path in beside.readers}
  return {"query", "value"} <= names <= {"query", "key", "value", "output_gate"}


def norm_sites(model: nnx.Module) -> dict[str, Neighbours]:
  """The norms that read the stream; all that there are.

  Raises:
    UserError: others are there, or the stream is normalized itself.
  """
  known = neighbours.of(model)
  found = list(neighbours.stream_obstacles(model))
  sites = {}
  for path, module in nnx.iter_modules(model):
    place = "/".join(map(str, path))
    if not isinstance(module, NormLayer) or module.norm.name == "identity":
      continue
    beside = known.get(place, Neighbours())
    if beside.stream:
      sites[place] = beside
      found += _norm_obstacles(place, module)
    else:
      found.append(f"{place} ({module.norm.name}) does not read the stream")
  if not sites and not found:
    found = ["no norm of it says that it reads the stream"]
  if found:
    few = errors.few(found, 3, "; ")
    raise errors.UserError(
      f"the norms of {type(model).__name__} cannot go: {few}."
    )
  return sites


# What the fake form of a norm has to be told, and what it has not.
_PLAIN = {
  "zero_centered": False,
  "scale_form": "plain",
  "eps_placement": "inside",
  "partial": 1.0,
}


def _norm_obstacles(path: str, layer: NormLayer) -> Iterator[str]:
  norm = layer.norm
  if norm.name not in ("layer_norm", "rms_norm"):
    yield f"{path} is {norm.name}; needed: layer_norm or rms_norm"
  for name, plain in _PLAIN.items():
    if norm.options.get(name, plain) != plain:
      yield f"{path} has {name}={norm.options[name]!r}; needed: {plain!r}"


def _fake_of(norm: Norm, momentum: float) -> Norm:
  return fake_layer_norm.fake_layer_norm(
    eps=norm.options["eps"],
    momentum=momentum,
    use_bias=norm.options.get("use_bias", False),
    use_scale=norm.options["use_scale"],
    centred=norm.name == "layer_norm",
  )
