"""Learning rates that fall by layer, as in BEiT's optim_factory.py."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from normjax import build, configure, errors, fields, models, optim
from normjax.nn import model_roles
from normjax.optim import groups
from normjax.train import check, layer_decay
from tests import support

LAYERS = ["embedding/.*", "layers/0/.*", "layers/1/.*"]
PARAMS = {
  "embedding": {"embedding": np.full((3, 2), 0.5, np.float32)},
  "layers": {
    "0": {"kernel": np.full((2, 2), 1.0, np.float32)},
    "1": {"kernel": np.full((2, 2), 2.0, np.float32)},
  },
  "head": {"kernel": np.full((2, 3), -1.0, np.float32)},
}
WANT = {"embedding": 0.5**3, "layers/0": 0.5**2, "layers/1": 0.5, "head": 1.0}


def _gradients(seed):
  generator = np.random.default_rng(seed)
  return jax.tree.map(
    lambda w: generator.normal(size=w.shape).astype("float32"), PARAMS
  )


def _scale_of(path):
  return next(s for start, s in WANT.items() if path.startswith(start))


def test_rate_and_decay_are_those_of_a_scaled_adamw():
  """AdamW in float64, of whose rate each leaf has lr_scale times: timm's."""
  rate, wd, b1, b2 = 0.1, 0.3, 0.9, 0.95
  tx = optim.decay_by_layer(
    optim.adamw(rate, b1, b2, weight_decay=wd, mask=None), 0.5, LAYERS
  )
  params, state = PARAMS, tx.init(PARAMS)
  want = {path: w.astype(np.float64) for path, w in groups.leaves(PARAMS)}
  mu, nu = (dict.fromkeys(want, 0.0) for _ in range(2))
  for t in range(1, 4):
    gradients = _gradients(t)
    updates, state = tx.update(gradients, state, params)
    params = optax.apply_updates(params, updates)
    for path, g in groups.leaves(gradients):
      g, lr = g.astype(np.float64), rate * _scale_of(path)
      mu[path] = b1 * mu[path] + (1 - b1) * g
      nu[path] = b2 * nu[path] + (1 - b2) * g**2
      direction = mu[path] / (1 - b1**t)
      direction /= np.sqrt(nu[path] / (1 - b2**t)) + 1e-8
      want[path] = want[path] * (1 - lr * wd) - lr * direction
  for path, got in groups.leaves(params):
    np.testing.assert_allclose(got, want[path], rtol=1e-5, err_msg=path)


@pytest.mark.parametrize("name", ["sgd", "muon", "adam_8bit"])
def test_it_multiplies_the_updates_of_any_optimizer(name):
  plain = optim.make(name, learning_rate=0.1)
  scaled = optim.decay_by_layer(plain, jnp.float32(0.5), LAYERS)
  state = plain.init(PARAMS)
  assert jax.tree.structure(scaled.init(PARAMS)) == jax.tree.structure(state)
  (want, after), (got, same) = (
    tx.update(_gradients(1), state, PARAMS) for tx in (plain, scaled)
  )
  jax.tree.map(np.testing.assert_array_equal, same, after)
  for (path, u), (_, v) in zip(
    groups.leaves(got), groups.leaves(want), strict=True
  ):
    np.testing.assert_allclose(u, v * _scale_of(path), rtol=1e-6)


def _layer_of_beit(path, num_layers):
  """As `get_num_layer_for_vit`, with the names that a ViT has here."""
  if path.startswith(("class_token", "position_embedding", "patch_conv")):
    return 0
  if found := re.match(r"layers/(\d+)/", path):
    return int(found[1]) + 1
  return num_layers - 1


def _rules(name, **options):
  model = nnx.eval_shape(lambda: models.make(name, **options))
  roles = model_roles.of(model)
  rules = optim.layer_factors(0.75, roles.layers("train.layer_decay"))
  return {path: groups.match(rules, path) for path, _ in roles.params()}


def test_the_layers_of_a_vit_are_beits():
  depth = 11
  # Eleven, so that layers/1 is not layers/10.
  for path, factor in _rules("vit", num_layers=depth).items():
    layer = _layer_of_beit(path, depth + 2)
    assert factor == 0.75 ** (depth + 1 - layer), path


@pytest.mark.parametrize(
  ("name", "options", "first", "last"),
  [
    (
      "gpt2",
      {"placement": "peri", "scaled_embeddings": True},
      {"embedding", "position_embedding", "embedding_norm", "embedding_scale"},
      {"final_norm"},
    ),
    ("llama", {}, {"embedding"}, {"final_norm", "head"}),
    ("cifar_resnet", {"depth": 8, "version": "v2"}, {"stem"}, {"norm", "head"}),
    (
      "nfnet",
      {"widths": (256,), "blocks_per_stage": (1,)},
      {"stem"},
      {"conv_final", "head"},
    ),
    (
      "fixup_cifar_resnet",
      {"depth": 8},
      {"stem", "stem_bias"},
      {"head", "head_bias"},
    ),
    # Its first layer is a block, and the norms are beside the layers.
    ("mlp", {}, set(), {"head"}),
  ],
)
def test_what_is_before_and_after_the_blocks(name, options, first, last):
  factors = _rules(name, **options)
  tops = {}
  for path, factor in factors.items():
    tops.setdefault(factor, set()).add(path.partition("/")[0])
  assert tops.pop(1.0) == last
  if first:
    assert tops.pop(min(tops)) == first
  assert all(names <= {"layers", "norms"} for names in tops.values())


def _config(**changes):
  return support.tiny({"train.layer_decay": 0.5} | changes)


def test_a_config_asks_for_it():
  config = _config()
  assert build.program_key(config) == build.program_key(
    _config(**{"train.layer_decay": 0.9})
  )
  plain = support.tiny()
  assert configure.run_id(_config(**{"train.layer_decay": 1.0})) == (
    configure.run_id(plain)
  )

  def updates(config):
    dataset = build.dataset(config)
    model = build.model(
      config, dataset.reads, dataset.model_options, nnx.Rngs(params=0)
    )
    params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    params = jax.tree.map(jnp.ones_like, params)
    make = layer_decay.make_optimizer(config, model_roles.of(model))
    tx = make(build.hyper(config), 0.1)
    return dict(groups.leaves(tx.update(params, tx.init(params), params)[0]))

  got, want = updates(config), updates(plain)
  factors = {"embedding": 0.25, "layers": 0.5, "final_norm": 1.0, "head": 1.0}
  for path, update in got.items():
    factor = factors[path.partition("/")[0]]
    np.testing.assert_allclose(update, factor * want[path], rtol=1e-6)


def test_show_says_it():
  config = _config()
  params = {"layers": {"0": {"kernel": jnp.ones((2, 2))}}}
  roles = model_roles.of(nnx.eval_shape(lambda: models.make("llama")))
  found = layer_decay.describe_updates(config, params, roles)
  assert found == {"layers/0/kernel": "adamw x 0.25"}


class _Unnumbered(nnx.Module):
  def __init__(self):
    self.dense = nnx.Linear(2, 2, rngs=nnx.Rngs(0))


@pytest.mark.parametrize("name", ["nap_adamw", "ngpt_adam"])
def test_what_puts_weights_back_is_refused(name):
  config = _config(**{"optimizer.name": name})
  with pytest.raises(
    errors.UserError, match=f"train.layer_decay=0.5: optimizer '{name}' puts"
  ):
    check.check(config)


def test_bad_values():
  with pytest.raises(errors.UserError, match=r"above 0 and at most 1"):
    fields.check(_config(**{"train.layer_decay": 0.0}))
  tx = optim.decay_by_layer(optax.contrib.schedule_free_sgd(0.1), 0.5, LAYERS)
  with pytest.raises(errors.UserError, match="layer_decay: the optimizer"):
    tx.init(PARAMS)
  roles = model_roles.of(_Unnumbered())
  with pytest.raises(errors.UserError, match="_Unnumbered has no layers call"):
    roles.layers("train.layer_decay=0.5")
