"""Rules on paths: masks, rates, partitions, the decay of scale vectors."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from normjax import errors, models, optim
from normjax.nn import variables
from normjax.optim import groups


def tree():
  ones = jnp.ones
  return {
    "embed": {"embedding": ones((5, 3))},
    "layers": {
      # Scanned: (layers, d); experts: (layers, experts, inputs, outputs).
      "attention_input_norm": {"scale": ones((2, 3)), "bias": ones((2, 3))},
      "attention_output_norm": {"scale": ones((2, 3))},
      "experts": {"kernel": ones((2, 4, 3, 3))},
    },
    "final_norm": {"scale": ones(3)},
  }


def by_leaf(values):
  return dict(groups.leaves(values))


def test_selective_decay_of_scanned_layers():
  assert by_leaf(optim.selective_decay()(tree())) == {
    "embed/embedding": True,
    "layers/attention_input_norm/bias": False,
    "layers/attention_input_norm/scale": True,
    "layers/attention_output_norm/scale": False,
    "layers/experts/kernel": True,
    "final_norm/scale": False,
  }


@pytest.mark.parametrize(("placement", "decays"), [("pre", 1), ("post", 0)])
def test_selective_decay_of_the_decoder(placement, decays):
  model = models.make(
    "llama", num_layers=1, model_dim=16, num_heads=2, placement=placement
  )
  mask = by_leaf(optim.selective_decay()(variables.split(model)[1]["params"]))
  norms = {path: flag for path, flag in mask.items() if "norm" in path}
  assert sum(norms.values()) == 2 * decays
  assert all("input_norm" in path for path, flag in norms.items() if flag)
  assert all(flag for path, flag in mask.items() if "norm" not in path)


def test_selective_decay_moves_only_those_scales():
  params = tree()
  zero = jax.tree.map(jnp.zeros_like, params)
  mask = optim.selective_decay()
  tx = optim.adamw(0.5, weight_decay=0.1, mask=mask)
  updates, _ = tx.update(zero, tx.init(params), params)
  expected = jax.tree.map(lambda flag: -0.05 * flag, mask(params))
  jax.tree.map(np.testing.assert_allclose, updates, expected)


def test_rules_are_the_same_for_nnx_and_dicts():
  state = nnx.state({"mlp": nnx.Linear(2, 3, rngs=nnx.Rngs(0))}, nnx.Param)
  policy = optim.by_path([(".*/kernel", "matrix"), (".*", "rest")])
  expected = {"mlp/kernel": "matrix", "mlp/bias": "rest"}
  assert by_leaf(policy(state)) == expected
  assert by_leaf(policy(nnx.to_pure_dict(state))) == expected


def test_scale_by_path_multiplies_rate_and_decay():
  params = tree()
  gradients = jax.tree.map(jnp.ones_like, params)
  rules = [("embed/.*", 0.25), (".*norm/.*", 0.0), (".*", 1.0)]
  inner = optim.adamw(0.1, weight_decay=0.5)
  tx = optax.chain(inner, optim.scale_by_path(rules))
  plain, _ = inner.update(gradients, inner.init(params), params)
  scaled, _ = jax.jit(tx.update)(gradients, tx.init(params), params)
  for (path, u), (_, s) in zip(
    groups.leaves(plain), groups.leaves(scaled), strict=True
  ):
    factor = groups.match(rules, path)
    np.testing.assert_allclose(s, factor * u, rtol=1e-6)


def test_factors_may_be_traced():
  params = {"a": jnp.ones(2), "b": jnp.ones(2)}
  traces = []

  @jax.jit
  def update(factor):
    traces.append(1)
    tx = optim.scale_by_path([("a", factor), ("b", 1.0)])
    return tx.update(params, tx.init(params))[0]

  assert update(0.5)["a"][0] == 0.5
  assert update(0.25)["a"][0] == 0.25
  assert len(traces) == 1


def test_partition_by_path():
  params = tree()
  gradients = jax.tree.map(jnp.ones_like, params)
  tx = optim.partition_by_path(
    [(".*embedding", optim.adamw(0.1)), (".*", optax.sgd(0.5))]
  )
  updates, _ = jax.jit(tx.update)(gradients, tx.init(params), params)
  adam = optim.adamw(0.1)
  alone = {"embed": params["embed"]}
  expected, _ = adam.update(
    jax.tree.map(jnp.ones_like, alone), adam.init(alone), alone
  )
  np.testing.assert_allclose(
    updates["embed"]["embedding"], expected["embed"]["embedding"], rtol=1e-6
  )
  np.testing.assert_array_equal(updates["final_norm"]["scale"], -0.5)


@pytest.mark.parametrize(
  "use",
  [
    lambda rules: optim.by_path(rules)(tree()),
    lambda rules: optim.scale_by_path(rules).init(tree()),
    lambda rules: optim.partition_by_path(
      [(pattern, optax.sgd(1.0)) for pattern, _ in rules]
    ).init(tree()),
  ],
)
def test_a_leaf_without_a_rule_is_named(use):
  with pytest.raises(ValueError, match="'final_norm/scale'.*'embed.*End the"):
    use([("embed.*", 1.0), ("layers.*", 1.0)])


def test_bad_factor():
  with pytest.raises(ValueError, match=r"rules\['head'\]=-1.*>= 0"):
    optim.scale_by_path([("head", -1.0)])


@pytest.mark.parametrize(
  "make", [optim.by_path, optim.scale_by_path, optim.partition_by_path]
)
@pytest.mark.parametrize(
  ("rules", "error", "message"),
  [
    ([("(", 1.0)], errors.UserError, r"rules\[0\]\[0\]='\('; allowed: a reg"),
    ([(3, 1.0)], errors.UserError, r"rules\[0\]\[0\]=3; allowed: a reg"),
    ({".*": 1.0}, TypeError, "rules={'.*': 1.0}; allowed: a list of pairs"),
    ([".*"], TypeError, "rules=.*; allowed: a list of pairs"),
    (".*", TypeError, "rules=.*; allowed: a list of pairs"),
  ],
)
def test_wrong_rules(make, rules, error, message):
  with pytest.raises(error, match=f"{make.__name__}: {message}"):
    make(rules)


def test_wrong_policies():
  with pytest.raises(TypeError, match="rules.*='muon'; allowed: an optax"):
    optim.partition_by_path([(".*", "muon")])
  with pytest.raises(errors.UserError, match="input_norms='\\['; allowed"):
    optim.selective_decay("[")


@pytest.mark.parametrize(
  ("path", "owner"),
  [
    ("0/mu/mlp/kernel", "mlp/kernel"),
    ("0/mlp/kernel/codes", "mlp/kernel"),  # A state per parameter.
    ("mu/1/mlp/kernel", "1/mlp/kernel"),  # The longest.
    ("mu/mlp/kernels", ""),
    ("count", ""),
    ("", ""),
  ],
)
def test_owner_of_a_leaf_of_a_state(path, owner):
  assert groups.owner(path, {"mlp/kernel", "1/mlp/kernel", "kernel"}) == owner
