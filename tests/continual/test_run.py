"""A run over a stream of tasks: what is measured, replayed and refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from normjax import continual, errors, models
from normjax.continual import loop
from normjax.continual import step as steps

RNG = np.random.default_rng(0)
CENTRES = 3 * RNG.normal(size=(4, 8))


def _examples(count, seed):
  """As many of each of four classes, called 3, 5, 7 and 9."""
  labels = np.tile(np.arange(4), count)
  noise = np.random.default_rng(seed).normal(size=(len(labels), 8))
  inputs = (CENTRES[labels] + noise).astype(np.float32)
  return inputs, 3 + 2 * labels


TRAIN, TEST = _examples(20, 1), _examples(10, 2)
STREAM = continual.split(TRAIN, TEST, 2, 0)


def _model(norm="batch_norm", **options):
  given = {"num_classes": 4, "num_layers": 1, "hidden_dim": 16} | options
  return models.make("mlp", input_shape=(8,), norm=norm, **given)


def _run(norm="batch_norm", stream=STREAM, model=None, learner="er", **options):
  return continual.run(
    _model(norm) if model is None else model,
    stream,
    learner,
    **{"buffer_size": 20, "learning_rate": 0.1} | options,
  )


def test_labels_are_counted_in_the_order_of_tasks():
  assert sorted(STREAM.classes) == [3, 5, 7, 9]
  for (_, before), (_, after) in ((TRAIN, STREAM.train), (TEST, STREAM.test)):
    np.testing.assert_array_equal(STREAM.classes[after], before)
  for task, index in enumerate(STREAM.of_task):
    assert set(STREAM.train[1][index]) == {2 * task, 2 * task + 1}
  assert (STREAM.num_tasks, STREAM.classes_per_task) == (2, 2)
  kept = continual.split(TRAIN, TEST, 2, None)
  assert list(kept.classes) == [3, 5, 7, 9]


def test_replay_keeps_what_finetuning_forgets():
  plain = _run(learner="finetune", epochs=3)
  replayed = _run(learner="er", forward="joint", epochs=3)
  name = "class_incremental/forgetting"
  # Without a replay nearly all of the first task is lost.
  assert plain.accuracies.summary()[name] > 0.7
  assert replayed.accuracies.summary()[name] < 0.5
  # Each row is after a task: of the second nothing is known after the first.
  class_rows = replayed.accuracies.class_incremental
  assert class_rows.shape == (2, 2)
  assert class_rows[0, 0] > 0.9
  assert class_rows[0, 1] == 0
  assert plain.losses.shape == (2 * 4 * 3,)
  # The model is that of the last row.
  logits = replayed.model(jnp.asarray(STREAM.test[0]), train=False)
  hits = np.argmax(logits, -1) == STREAM.test[1]
  np.testing.assert_allclose(
    [hits[STREAM.test[1] // 2 == t].mean() for t in (0, 1)], class_rows[1]
  )


def test_a_run_is_a_function_of_its_seed_and_scalars_share_a_program():
  model = _model({"name": "adab2n", "kappa": 0.4})
  one = functools.partial(
    _run, model=model, forward="joint", penalty=0.1, learner="derpp"
  )
  first = one()
  programs = steps.compiled._cache_size()
  np.testing.assert_array_equal(first.losses, one().losses)
  for other in (
    one(seed=1),
    one(penalty=0.2),
    one(learner="derpp(alpha=0.4)"),
    one(learning_rate=0.05),
    one(penalty_from=3),
  ):
    assert (other.losses != first.losses).any()
  assert steps.compiled._cache_size() == programs


def test_divergence_is_a_result():
  found = _run(learning_rate=1e30, learner="finetune")
  assert found.diverged
  assert found.accuracies.class_incremental.shape == (2, 2)
  assert not _run(learner="finetune").diverged


def test_what_is_planned():
  """A replay is what the buffer has; ER-ACE begins with the second task."""

  def plan(learner, batch_size, replay_size, buffer_size):
    made = loop._plan(
      STREAM,
      continual.make(learner),
      batch_size,
      replay_size,
      buffer_size,
      2,
      0,
    )
    return [(task, len(index), size) for task, index, size in made]

  assert plan("er", 16, 20, 24)[:5] == [
    (0, 16, 0), (0, 16, 16), (0, 8, 20), (0, 16, 20), (0, 16, 20),
  ]  # fmt: skip
  assert {size for task, _, size in plan("er_ace", 10, 10, 20) if not task} == {
    0
  }
  assert plan("er_ace", 10, 10, 20)[8] == (1, 10, 10)
  assert not any(size for *_, size in plan("finetune", 10, 10, 20))
  index = np.concatenate(
    [i for _, i, _ in loop._plan(STREAM, continual.make("er"), 16, 4, 9, 2, 0)]
  )
  np.testing.assert_array_equal(np.bincount(index), 2)


def test_steps_may_be_scanned():
  """A step is pure: its state may be carried."""
  structure, held = loop.nn_variables.split(_model("adab2n"))
  learner = continual.make("derpp")
  program = steps.Program(structure, learner, "joint", 2)
  hyper = steps.Hyper(0.1, 0.1, 0, learner.hyper)
  x, _ = STREAM.train
  state = loop._start(program, held, STREAM, 0.1, 16)
  news = steps.Batch(
    jnp.asarray(x[:32]).reshape(4, 8, 8), jnp.zeros((4, 8), int)
  )
  one = functools.partial(steps.step, program, 4, hyper)

  def body(state, new):
    return one(state, new, jnp.asarray(1), jnp.asarray(0))

  scanned, losses = jax.lax.scan(body, state, news)
  called = jax.jit(body)
  for n in range(4):
    state, loss = called(state, jax.tree.map(lambda a, n=n: a[n], news))
    np.testing.assert_allclose(loss, losses[n], rtol=1e-5)
  np.testing.assert_array_equal(
    state.buffer.rows["inputs"], scanned.buffer.rows["inputs"]
  )
  assert int(scanned.step) == 4


@pytest.mark.parametrize("forward", steps.FORWARDS)
def test_statistics_are_of_one_batch_or_of_several(forward):
  """A norm of batches sees the joint batch, or each part by itself."""
  structure, held = loop.nn_variables.split(_model())
  learner = continual.make("er")
  program = steps.Program(structure, learner, forward, 2)
  hyper = steps.Hyper(0.0, 0.0, 0, learner.hyper)
  x, y = jnp.asarray(STREAM.train[0][:12]), jnp.arange(12) % 4
  new, old = steps.Batch(x[:6], y[:6]), steps.Batch(10 * x[6:], y[6:])
  state = steps.State(
    held["params"], held["stats"], program.optimizer(0.0).init(held["params"]),
    None, jnp.asarray(-1), jnp.asarray(0),
  )  # fmt: skip

  @jax.jit
  def stats_after(new, old):
    update = functools.partial(steps.update, program, hyper, state)
    moved, logits, _ = update(new, (old,), jnp.asarray(1), jax.random.key(0))
    return moved.stats["norms"]["0"]["norm"]["mean"], logits

  mean, logits = stats_after(new, old)
  kernel = held["params"]["layers"]["0"]["kernel"]
  means = [jnp.mean(batch.inputs @ kernel, 0) for batch in (new, old)]
  if forward == "joint":
    expected = 0.1 * (means[0] + means[1]) / 2
  else:
    expected = 0.9 * 0.1 * means[0] + 0.1 * means[1]
  np.testing.assert_allclose(mean, expected, rtol=1e-4, atol=1e-5)
  # The new examples' logits depend on the old ones where they share a batch.
  _, other = stats_after(new, old._replace(inputs=old.inputs + 1))
  assert (np.abs(other - logits).max() > 1e-3) == (forward == "joint")


def test_the_buffer_holds_what_is_not_augmented():
  seen = _run(learner="er", augment=lambda key, x: 0 * x)
  # Zeros tell no class.
  assert seen.accuracies.class_incremental[1, 1] <= 0.5
  structure, held = loop.nn_variables.split(_model())
  learner = continual.make("er")
  program = steps.Program(
    structure, learner, "joint", 2, augment=lambda key, x: 0 * x
  )
  hyper = steps.Hyper(0.1, 0.0, 0, learner.hyper)
  state = loop._start(program, held, STREAM, 0.1, 10)
  new = steps.Batch(jnp.ones((10, 8)), jnp.zeros(10, jnp.int32))
  state, _ = steps.compiled(program, 0, hyper, state, new, np.int32(0), 0)
  np.testing.assert_array_equal(state.buffer.rows["inputs"], 1)


@pytest.mark.parametrize(
  ("changed", "said"),
  [
    ({"learner": "derp"}, "Did you mean 'derpp'"),
    ({"learner": "derpp(alpha=-1)"}, "derpp: alpha=-1"),
    ({"forward": "both"}, "forward='both'; allowed: 'separate', 'joint'"),
    ({"buffer_size": 0}, "buffer_size=0"),
    ({"seed": 1.5}, "seed=1.5"),
    ({"penalty": 0.5}, "'adab2n', and the model has none"),
    ({"model": _model(num_classes=10)}, r"4 classes, and .*\(2, 10\)"),
    ({"norm": {"name": "adab2n", "num_tasks": 1}}, "make the model with"),
    ({"norm": "power_norm"}, "statistics of the backward pass"),
    ({"batch_size": 3}, "a step with 1 new examples and 10 of each draw"),
  ],
)
def test_bad_input_is_named_before_anything_runs(changed, said):
  before = steps.compiled._cache_size()
  with pytest.raises(errors.UserError, match=said):
    _run(**changed)
  assert steps.compiled._cache_size() == before


def test_streams_that_do_not_split():
  with pytest.raises(errors.UserError, match="num_tasks=3"):
    continual.split(TRAIN, TEST, 3)
  fewer = TEST[0][TEST[1] != 3], TEST[1][TEST[1] != 3]
  with pytest.raises(errors.UserError, match="3 only in train"):
    continual.split(TRAIN, fewer, 2)
  with pytest.raises(errors.UserError, match="80 inputs and 79 labels"):
    continual.split((TRAIN[0], TRAIN[1][1:]), TEST, 2)
