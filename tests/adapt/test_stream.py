"""Streams, and the loop over them."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from normjax import adapt, errors
from normjax.adapt import loop, protocol
from normjax.adapt.protocol import Examples, Protocol


def domains(*sizes, classes=4):
  """Examples whose input says which domain and which number they are."""
  return {
    f"d{n}": Examples(
      np.stack([np.full(size, n), np.arange(size)], axis=1).astype(np.float32),
      np.arange(size) % classes,
    )
    for n, size in enumerate(sizes)
  }


def seen(segments):
  return [
    tuple(row)
    for segment in segments
    for batch in segment.batches
    for row in batch.inputs.astype(int).tolist()
  ]


@pytest.mark.parametrize("setting", protocol.NAMES)
def test_every_example_once(setting):
  given = domains(10, 7)
  segments = list(Protocol(setting, batch_size=4).segments(given))
  rows = seen(segments)
  assert sorted(rows) == [(0, n) for n in range(10)] + [
    (1, n) for n in range(7)
  ]
  for segment in segments:
    for batch in segment.batches:
      assert batch.domains.tolist() == batch.inputs[:, 0].tolist()
      assert (batch.inputs[:, 1] % 4 == batch.targets).all()
  mixed = setting.startswith("mixed")
  assert [s.name for s in segments] == (["mixed"] if mixed else ["d0", "d1"])
  assert segments[0].begins_anew == setting.startswith("reset")
  sizes = [[len(b.targets) for b in s.batches] for s in segments]
  assert sizes == ([[4, 4, 4, 4, 1]] if mixed else [[4, 4, 2], [4, 3]])


def test_correlated_labels_come_together():
  def changes(setting):
    (segment,) = Protocol(setting, concentration=1e-3).segments(domains(64))
    y = np.concatenate([batch.targets for batch in segment.batches])
    return np.sum(y[1:] != y[:-1])

  assert changes("continual_correlated") < 8 < changes("continual")


def test_the_order_is_the_seeds():
  def order(seed):
    return seen(Protocol("continual", seed=seed).segments(domains(20, 20)))

  assert order(1) == order(1) != order(2)


def test_a_remainder_may_be_left_out():
  how = Protocol(batch_size=4, drop_remainder=True)
  (segment,) = how.segments(domains(11))
  assert [len(b.targets) for b in segment.batches] == [4, 4]
  with pytest.raises(errors.UserError, match="no whole batch of 4"):
    list(how.segments(domains(3)))


class Net(nnx.Module):
  """Batch norm and a head."""

  def __init__(self, seed=0):
    self.norm = nnx.BatchNorm(2, rngs=nnx.Rngs(seed))
    self.head = nnx.Linear(2, 4, rngs=nnx.Rngs(seed))

  def __call__(self, x):
    return self.head(self.norm(x))


@pytest.mark.parametrize(
  ("setting", "anew"), [("reset_each_shift", True), ("continual", False)]
)
def test_a_reset_begins_with_the_trained_model(setting, anew):
  given = domains(8, 8)
  adapter = adapt.make("ema", Net())
  how = Protocol(setting, batch_size=8)
  _, state = loop.run(adapter, given, how)
  alone = adapter.init()
  (segment,) = Protocol("continual", batch_size=8).segments({"d1": given["d1"]})
  (batch,) = segment.batches
  _, alone = adapter.step(alone, jnp.asarray(batch.inputs))
  same = np.allclose(
    state.variables["stats"]["norm"]["mean"],
    alone.variables["stats"]["norm"]["mean"],
  )
  assert same == anew


def test_scores_are_of_each_domain():
  """By the logits of the steps, whatever the order; the last pass counts."""
  adapter = adapt.make("source", Net())
  given, told = domains(6, 3), []
  how = Protocol("mixed_domains", batch_size=4, passes=2)
  totals, _ = loop.run(adapter, given, how, told.append)
  assert [score.step for score in told] == [1, 2, 3]
  assert totals.num_examples == 9
  means = totals.means()
  for name, each in given.items():
    logits, _ = adapter.step(adapter.init(), jnp.asarray(each.inputs))
    expected = np.mean(np.argmax(logits, -1) == each.targets)
    np.testing.assert_allclose(means[f"accuracy/{name}"], expected)
  weighted = (6 * means["loss/d0"] + 3 * means["loss/d1"]) / 9
  np.testing.assert_allclose(means["loss"], weighted)


@pytest.mark.parametrize("method", ["tent", "adabn"])
def test_models_of_other_seeds_share_the_program(method):
  """And each has its own scores, from its own start at every reset."""
  given, how = domains(8, 8), Protocol(batch_size=8)
  first, other = (adapt.make(method, Net(seed)) for seed in (0, 1))
  loop.run(first, given, how)
  ours, _ = loop.run(first, given, how, start=other.init())
  assert first.compiled._cache_size() == 1
  alone, _ = loop.run(other, given, how)
  assert ours.means() == alone.means()
  assert ours.means() != loop.run(first, given, how)[0].means()


def test_a_start_of_another_method_is_refused():
  given, adapter = domains(8), adapt.make("source", Net())
  start = adapt.make("tent", Net()).init()
  with pytest.raises(errors.UserError, match="start is no state of 'source'"):
    loop.run(adapter, given, Protocol(batch_size=8), start=start)


def test_a_method_with_a_fit_sees_each_domain_once_before():
  given = domains(6, 3)
  _, state = loop.run(adapt.make("adabn", Net()), given, Protocol(batch_size=4))
  np.testing.assert_allclose(
    state.variables["stats"]["norm"]["mean"], given["d1"].inputs.mean(0)
  )


@pytest.mark.parametrize(
  ("options", "said"),
  [
    ({"setting": "continuous"}, "setting='continuous'.*'continual'"),
    ({"batch_size": 0}, "batch_size=0"),
    ({"concentration": 0}, "concentration=0; allowed: a finite number > 0"),
    ({"passes": 0}, "passes=0"),
  ],
)
def test_bad_options(options, said):
  with pytest.raises(errors.UserError, match=said):
    Protocol(**options)


@pytest.mark.parametrize("setting", ["continual", "mixed_domains"])
@pytest.mark.parametrize("drop_remainder", [True, False])
def test_sizes_are_known_beforehand(setting, drop_remainder):
  how = Protocol(setting, batch_size=4, drop_remainder=drop_remainder)
  given = domains(10, 7)
  segments = how.segments(given)
  found = {len(b.targets) for s in segments for b in s.batches}
  assert how.batch_sizes(given) == sorted(found, reverse=True)


@pytest.mark.parametrize("name", ["batch", "adabn"])
def test_a_last_batch_that_is_too_small_is_said_first(name):
  told = []
  adapter = adapt.make(name, Net())
  said = r"a batch of 1 examples: .*one value.* drop_remainder leaves"
  with pytest.raises(errors.UserError, match=said):
    loop.run(adapter, domains(8, 9), Protocol(batch_size=8), told.append)
  assert not told
  how = Protocol(batch_size=8, drop_remainder=True)
  totals, _ = loop.run(adapter, domains(8, 9), how)
  assert totals.num_examples == 16


def test_nan_is_no_answer():
  """Its argmax is 0: class 0 would be known to a model that knows nothing."""
  given = domains(8)
  given["d0"].inputs[:] = np.nan
  totals, _ = loop.run(adapt.make("source", Net()), given, Protocol())
  assert totals.means()["accuracy"] == 0
  assert np.isnan(totals.means()["loss"])


def test_targets_that_are_no_classes():
  given = {"d": Examples(np.ones((4, 2), np.float32), np.ones(4, np.float32))}
  with pytest.raises(errors.UserError, match="targets of float32.*a class per"):
    loop.run(adapt.make("source", Net()), given, Protocol())

  class Texts:
    name = "texts"

    def evaluation_batches(self, size, most):
      del size, most
      yield dict.fromkeys(("inputs", "targets", "weight"), np.ones((2, 3)))

  with pytest.raises(errors.UserError, match=r"'texts' has targets of shape"):
    protocol.gather(Texts())


def test_bad_domains():
  how = Protocol()
  with pytest.raises(errors.UserError, match="no domains"):
    list(how.segments({}))
  with pytest.raises(errors.UserError, match="'d0' has no examples"):
    list(how.segments(domains(0)))
  adapter = adapt.make("source", Net())
  with pytest.raises(errors.UserError, match="classes 0 to 5; the model has"):
    loop.run(adapter, domains(6, classes=6), how)
