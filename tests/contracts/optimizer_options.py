"""Values of options that the contract tries: bad ones, and others that act."""

import jax.numpy as jnp

# What is refused, and how. Every option is a flag, or here, or, if but one
# optimizer has it, in its case's `bad`, or in UNCHECKED.
BAD = {
  "learning_rate": (
    (-0.1, ValueError),
    (float("nan"), ValueError),
    ("fast", TypeError),
    (jnp.ones(2), TypeError),
  ),
  "b1": ((1.0, ValueError),),
  "b2": ((-0.1, ValueError),),
  "beta": ((1.5, ValueError),),
  "eps": ((-1e-8, ValueError),),
  "weight_decay": (
    (-0.1, ValueError),
    (float("inf"), ValueError),
    (True, TypeError),
  ),
  "mask": (("some", ValueError), ({"other": True}, ValueError)),
  "dims": (({"other": None}, ValueError),),
  "fallback_learning_rate": ((-1.0, ValueError),),
  "fallback_b1": ((1.0, ValueError),),
  "fallback_b2": ((1.0, ValueError),),
  "fallback_eps": ((-1.0, ValueError),),
  "fallback_weight_decay": ((-1.0, ValueError),),
  "matrix_scale": ((-1.0, ValueError),),
  "num_iters": ((0, ValueError),),
  "ns_steps": ((2.5, TypeError),),
  "ns_coeffs": (((1.0, 2.0), ValueError),),
  "scaling": (("none", ValueError),),
  "momentum": ((1.0, ValueError),),
  "delta": ((-1.0, ValueError),),
  "wd_ratio": ((-1.0, ValueError),),
  "per": (("row", ValueError),),
  "update_proj_gap": ((0, ValueError),),
  "scale": ((-1.0, ValueError),),
  "rank": ((0, ValueError), (2.5, TypeError)),
  "seed": ((0.5, TypeError),),
  "block_size": ((0, ValueError), (2.5, TypeError)),
  "min_size": ((-1, ValueError), (2.5, TypeError)),
  "block_layout": (("columns", ValueError),),
  "keep": (("(", ValueError),),
  **dict.fromkeys(
    ("mu_dtype", "nu_dtype", "ns_dtype"),
    (("bfloat", ValueError), (jnp.int8, TypeError)),
  ),
  "fallback": (("adamw", ValueError), (0.1, TypeError)),
}

# What Python takes for true is no flag.
_FLAG = (("no", ValueError), (1, TypeError))

# Options without a bad value, and why.
UNCHECKED: dict[str, str] = {}

# What None of an option of the fallback stands for: this option's value.
_STANDS_FOR = {
  "fallback_learning_rate": "learning_rate",
  "fallback_b1": "b1",
  "fallback_b2": "b2",
  "fallback_eps": "eps",
  "fallback_weight_decay": "weight_decay",
}


def bad(case):
  """Option to (value, error) that it refuses, for those that it is known of."""
  flags = [
    k for k, p in case.parameters.items() if p.annotation in (bool, bool | None)
  ]
  return {**BAD, **dict.fromkeys(flags, _FLAG), **case.bad}


def scalars(case):
  """The value of every option that is a number and may be traced.

  None of the fallback's is written out.
  """
  values = {"learning_rate": 0.01} | case.scalars()
  for option, other in _STANDS_FOR.items():
    if option in case.parameters and option not in values:
      values[option] = values[other]
  return values


def another(value):
  """A value that differs enough to be seen after two steps in float32."""
  return value / 2 if value >= 0.005 else 10.0
