import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from normjax import build, configure, errors, objectives
from normjax.nn.output import Output
from normjax.objectives import cross_entropy
from normjax.train import mixup
from tests import products


def _data():
  generator = np.random.default_rng(0)
  logits = generator.normal(size=(6, 5)) * 3
  targets = generator.integers(0, 5, size=6)
  weight = np.array([1, 1, 0, 1, 0.5, 1])
  return logits, targets, weight


def test_equals_a_float64_transcription():
  logits, targets, weight = _data()
  log_normalizer = np.log(np.exp(logits).sum(-1))
  log_probability = logits - log_normalizer[:, None]
  nll = -log_probability[np.arange(6), targets]
  smoothed = 0.9 * nll - 0.1 * log_probability.mean(-1)
  want = {
    "objective": (weight * (smoothed + 1e-2 * log_normalizer**2)).sum(),
    "loss": (weight * nll).sum(),
    "accuracy": (weight * (logits.argmax(-1) == targets)).sum(),
  }
  got = cross_entropy.weighted_sums(
    jnp.asarray(logits, jnp.float32),
    jnp.asarray(targets),
    jnp.asarray(weight, jnp.float32),
    label_smoothing=0.1,
    z_loss=1e-2,
  )
  for name, value in want.items():
    # Five float32 terms of size ~10, each good to a few 2**-24.
    np.testing.assert_allclose(got[name], value, rtol=1e-6, err_msg=name)


def test_plain_loss_equals_optax():
  logits, targets, weight = _data()
  logits, targets = jnp.asarray(logits, jnp.float32), jnp.asarray(targets)
  theirs = optax.losses.softmax_cross_entropy_with_integer_labels(
    logits, targets
  )
  got = cross_entropy.weighted_sums(logits, targets, jnp.asarray(weight))
  np.testing.assert_allclose(got["loss"], (theirs * weight).sum(), rtol=1e-6)
  np.testing.assert_array_equal(got["objective"], got["loss"])


def test_padding_counts_for_nothing():
  logits, targets, weight = _data()
  spoiled = logits.copy()
  spoiled[2] = 1e4
  for name, value in cross_entropy.weighted_sums(
    jnp.asarray(spoiled), jnp.asarray(targets), jnp.asarray(weight)
  ).items():
    want = cross_entropy.weighted_sums(
      jnp.asarray(logits), jnp.asarray(targets), jnp.asarray(weight)
    )[name]
    np.testing.assert_array_equal(value, want)


def _minimized(logits, batch, **options):
  sums = mixup.sums(
    objectives.make("cross_entropy", **options), Output(logits), batch
  )
  return sums["objective"], sums


@pytest.mark.parametrize("is_mixed", [False, True])
@pytest.mark.parametrize("form", ["summed", "gathered_summed_back"])
def test_every_form_has_the_sums_and_the_gradient_of_a_gather(
  monkeypatch, form, is_mixed
):
  keys = jax.random.split(jax.random.key(0), 3)
  logits = 3 * jax.random.normal(keys[0], (2, 4, 50))
  batch = {
    "targets": jax.random.randint(keys[1], (2, 4), 0, 50).at[0].set(49),
    "weight": jnp.ones((2, 4)).at[1, 2].set(0).at[0, 3].set(0.5),
  }
  if is_mixed:
    share = jax.random.uniform(keys[2], (2, 4))
    batch |= {mixup.SHARE: share, mixup.OTHER: jnp.flip(batch["targets"])}

  def measured(label_smoothing, z_loss):
    return jax.value_and_grad(_minimized, has_aux=True)(
      logits, batch, label_smoothing=label_smoothing, z_loss=z_loss
    )

  # Not compiled, where a product and a sum may be rounded once. As lanes of a
  # population too: each has scalars of its own.
  lanes = jnp.array([0.1, 0.0]), jnp.array([1e-3, 1e-2])
  want = measured(0.1, 1e-3), jax.vmap(measured)(*lanes)
  monkeypatch.setitem(cross_entropy._FORMS, "cpu", getattr(cross_entropy, form))
  got = measured(0.1, 1e-3), jax.vmap(measured)(*lanes)
  jax.tree.map(np.testing.assert_array_equal, got, want)


def test_a_form_by_platform():
  """No scatter of the size of the logits but on CPUs, no gather on TPUs."""
  batch = {"targets": jnp.arange(4), "weight": jnp.ones(4)}

  def kinds(platform):
    with products.compiled_for(platform):
      function = jax.grad(_minimized, has_aux=True)
      operations = str(jax.make_jaxpr(function)(jnp.zeros((4, 7)), batch))
    return {kind for kind in ("gather[", "scatter") if kind in operations}

  found = {platform: kinds(platform) for platform in ("cpu", "gpu", "tpu")}
  assert found == {
    "cpu": {"gather[", "scatter"},
    "gpu": {"gather["},
    "tpu": set(),
  }


def test_a_sum_leaves_out_what_is_not_finite_elsewhere():
  logits = jnp.array([[jnp.inf, 1.0], [jnp.nan, -2.0]])
  got = cross_entropy.summed(logits, jnp.array([1, 1]))
  np.testing.assert_array_equal(got, [1.0, -2.0])


def test_logits_of_bfloat16_are_rounded_once_and_so_is_their_gradient():
  logits, targets, weight = _data()
  logits = jnp.asarray(logits, jnp.float32)
  batch = {"targets": jnp.asarray(targets), "weight": jnp.asarray(weight)}
  differentiated = jax.value_and_grad(_minimized, has_aux=True)
  options = {"label_smoothing": 0.1, "z_loss": 1e-2}
  rounded = logits.astype(jnp.bfloat16).astype(jnp.float32)
  (_, sums), gradient = differentiated(
    logits, batch, logits_dtype="bfloat16", **options
  )
  (_, want_sums), want = differentiated(rounded, batch, **options)
  jax.tree.map(np.testing.assert_array_equal, sums, want_sums)
  np.testing.assert_array_equal(gradient, want.astype(jnp.bfloat16))
  assert np.any(gradient != want)


def test_the_dtype_of_logits_is_a_key_that_older_runs_lack():
  config = configure.load("configs/default.py")
  named = configure.override(config, {"objective.name": "cross_entropy"})
  assert configure.to_dict(named)["objective"] == {"name": "cross_entropy"}
  halved = configure.override(named, {"objective.logits_dtype": "bfloat16"})
  assert build.program_key(halved) != build.program_key(named)
  back = configure.override(halved, {"objective.logits_dtype": "float32"})
  assert configure.run_id(back) == configure.run_id(named)
  wrong = configure.override(named, {"objective.logits_dtype": "float16"})
  message = "logits_dtype='float16'.*'float32', 'bfloat16'"
  with pytest.raises(errors.UserError, match=message):
    build.objective(wrong)


@pytest.mark.parametrize("form", ["summed", "gathered_summed_back"])
def test_every_form_counts_classes_as_a_gather_does(form):
  """In 8 bits classes would count from 0 again; a wrong target is NaN."""
  values = jnp.arange(1.0, 301.0).reshape(1, 300) * jnp.ones((3, 1))
  function = getattr(cross_entropy, form)
  for targets in (
    jnp.array([0, 43, 255], jnp.uint8),
    jnp.array([299, -1, 300]),
  ):
    got, back = jax.vjp(lambda v, y=targets: function(v, y), values)
    want, gathered_back = jax.vjp(
      lambda v, y=targets: cross_entropy.gathered(v, y), values
    )
    np.testing.assert_array_equal(got, want)
    ones = jnp.ones(3)
    np.testing.assert_array_equal(back(ones)[0], gathered_back(ones)[0])
