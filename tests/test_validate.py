"""One wording for every bad option, and which values are none."""

import jax.numpy as jnp
import numpy as np
import pytest

from normjax import build, configure, errors, validate
from tests import support


@pytest.mark.parametrize(
  ("check", "message"),
  [
    (
      lambda: validate.number("norm", "eps", -1.0, above=0),
      "norm: eps=-1.0; allowed: a finite number > 0.",
    ),
    (
      lambda: validate.rates("", rate=1),
      "rate=1; allowed: a finite number >= 0 and < 1.",
    ),
    (
      lambda: validate.betas("adamw", b1=10**400),
      "adamw: b1=inf; allowed: finite and [0, 1).",
    ),
    (
      lambda: validate.counts("mlp", width=2.5),
      "mlp: width=2.5; allowed: an int >= 1.",
    ),
    (
      lambda: validate.traced_count("badam", "switch_every", 2**31),
      "badam: switch_every=2147483648; allowed: an int >= 1 and <= 2147483647.",
    ),
    (
      lambda: validate.seed("badam", 2**63),
      "badam: seed=9223372036854775808; allowed: an int >= 0 and <= "
      "9223372036854775807.",
    ),
    (
      lambda: validate.choice("mlp", "init", "zero", ("zeros", "ones")),
      "mlp: init='zero'; allowed: 'zeros', 'ones'. Did you mean 'zeros'?",
    ),
    (
      lambda: validate.flags("norm", use_bias="no"),
      "norm: use_bias='no'; allowed: True, False.",
    ),
    (
      lambda: validate.betas("adamw", b1=1.0),
      "adamw: b1=1; allowed: finite and [0, 1).",
    ),
    (
      lambda: validate.pattern("sgd", "keep", "("),
      "sgd: keep='('; allowed: a regular expression (missing ),"
      " unterminated subpattern at position 0).",
    ),
    (
      lambda: validate.implementations("norm", -1, ("xla",)),
      "norm: impl=-1; allowed: 'xla'.",
    ),
  ],
)
def test_wording(check, message):
  with pytest.raises(errors.UserError) as error:
    check()
  assert str(error.value) == message


@pytest.mark.parametrize(
  ("check", "value"),
  [
    (validate.scalars, "fast"),
    (validate.scalars, jnp.ones(2)),
    (validate.scalars, True),
    (validate.counts, jnp.int32(2)),
    (validate.counts, True),
  ],
)
def test_another_type_is_a_user_s_error_and_a_type_error(check, value):
  with pytest.raises(errors.UserError, match="option=.*; allowed") as error:
    check("owner", option=value)
  assert isinstance(error.value, TypeError)


def test_what_is_allowed_passes():
  validate.scalars("owner", a=0, b=np.float32(1), c=jnp.float32(2))
  validate.counts("owner", a=1, b=np.int64(2))
  validate.choice("owner", "gate", None, (None, "headwise"))
  assert validate.count("owner", "rank", None, default=8) == 8
  assert validate.implementations("owner", "xla", ("xla",)) == ("xla",)
  assert validate.implementations("owner", None, ("xla",)) is None


def test_the_key_named_is_the_one_to_change():
  """The width of the model is derived, and the config has none."""
  config = support.tiny({"model.num_heads": 7})
  assert configure.to_dict(config)["model"]["num_heads"] == 7
  with pytest.raises(errors.UserError) as error:
    build.model(config, "tokens", {"vocab_size": 8}, rngs=None)
  message = str(error.value)
  assert message.startswith("model.num_heads=7: ")
  assert "model_dim=16" in message
