"""Every option of every optimizer, given what it is not."""

import inspect

import jax
import jax.numpy as jnp
import pytest

from normjax import errors, optim

WRONG = ("text", (1.0, 2.0), {}, object(), float("nan"), -2, jnp.ones(2))
PARAMS = {
  "mlp": {
    "kernel": jax.ShapeDtypeStruct((6, 4), jnp.float32),
    "bias": jax.ShapeDtypeStruct((4,), jnp.float32),
  }
}


@pytest.mark.parametrize("name", optim.names())
def test_wrong_values(name):
  """An error that names the option, or a value that it does take."""
  for option in inspect.signature(optim.REGISTRY.get(name)).parameters:
    messages = []
    for value in WRONG:
      try:
        tx = optim.make(name, **{"learning_rate": 0.1, option: value})
        state = jax.eval_shape(tx.init, PARAMS)
      except (errors.UserError, TypeError) as error:
        messages.append(str(error))
        continue
      updates, _ = jax.eval_shape(tx.update, PARAMS, state, PARAMS)
      assert updates == PARAMS, (option, value)
    assert len(messages) >= 3, option
    assert all(option in message for message in messages), messages


@pytest.mark.parametrize(
  ("option", "value", "error", "message"),
  [
    ("ns_coeffs", (1.0, 2.0), errors.UserError, r"\(1.0, 2.0\).* 3 numbers"),
    ("ns_coeffs", 1.0, TypeError, "3 numbers"),
    ("nesterov", "no", errors.UserError, "'no'; allowed: True, False"),
    ("ns_dtype", "bfloat", errors.UserError, "'bfloat'; allowed: a floating"),
    ("mu_dtype", jnp.int8, TypeError, "allowed: a floating-point dtype or No"),
    ("fallback", "adamw", errors.UserError, "'adamw'; allowed: an optax"),
    ("scaling", jnp.ones(2), errors.UserError, "allowed: 'spectral'"),
  ],
)
def test_messages(option, value, error, message):
  with pytest.raises(error, match=f"{option}=.*{message}"):
    optim.make("muon", learning_rate=0.1, **{option: value})


@pytest.mark.parametrize(
  ("factory", "options"),
  [
    (optim.normalize_and_project, {"inner": 0.1}),
    (optim.sign_constrained, {"inner": "sgd"}),
    (optim.quantize_state, {"inner": None}),
    (optim.adaptive_grad_clip, {"exempt": "("}),
    (optim.adaptive_grad_clip, {"exempt": 3}),
    (optim.scale_by_multi_norm, {"norms": ()}),
    (optim.scale_by_multi_norm, {"norms": "row_l2"}),
    (optim.scale_by_muon, {"nesterov": 1}),
    (optim.scale_by_adam, {"mu_dtype": "int8"}),
  ],
)
def test_wrappers_and_transforms(factory, options):
  (option,) = options
  with pytest.raises(
    (errors.UserError, TypeError), match=f"{option}=.*allowed"
  ):
    factory(**options)
