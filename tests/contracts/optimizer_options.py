"""Values of options that the contract tries: bad ones, and others that act."""

import jax.numpy as jnp

# What is refused, and how; every option is here or in UNCHECKED.
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
  "non_negative": (("some", ValueError),),
  "fallback_learning_rate": ((-1.0, ValueError),),
  "fallback_b1": ((1.0, ValueError),),
  "fallback_b2": ((1.0, ValueError),),
  "fallback_eps": ((-1.0, ValueError),),
  "fallback_weight_decay": ((-1.0, ValueError),),
  "matrix_scale": ((-1.0, ValueError),),
  "num_iters": ((0, ValueError),),
  "first": (("rows", ValueError),),
  "ns_steps": ((2.5, TypeError),),
  "ns_coeffs": (((1.0, 2.0), ValueError),),
  "scaling": (("none", ValueError),),
  "momentum": ((1.0, ValueError),),
  "dampening": ((-0.5, ValueError),),
  "delta": ((-1.0, ValueError),),
  "preset": (("paper", ValueError),),
  "ns_beta": ((1.0, ValueError),),
  "prenorm": (("none", ValueError),),
  "side": (("rows", ValueError),),
  "wd_ratio": ((-1.0, ValueError),),
  "per": (("row", ValueError),),
  "every": ((0, ValueError),),
  "vectors": (("some", ValueError),),
  "vector_decay": ((1.0, ValueError),),
  "precondition_frequency": ((0, ValueError),),
  "max_precond_dim": ((-1, ValueError),),
  "decay_rate": ((-1.0, ValueError),),
  "clipping_threshold": ((-1.0, ValueError),),
  "min_dim_size_to_factor": ((0, ValueError),),
  "min_parameter_scale": ((-1.0, ValueError),),
  "update_proj_gap": ((0, ValueError),),
  "scale": ((-1.0, ValueError),),
  "scale_type": (("row", ValueError),),
  "rank": ((0, ValueError), (2.5, TypeError)),
  "rank_percent": ((0, ValueError), (101, ValueError)),
  "residual": (("none", ValueError),),
  "gamma": ((-1.0, ValueError),),
  "seed": ((0.5, TypeError),),
  "block_size": ((0, ValueError), (2.5, TypeError)),
  "min_size": ((-1, ValueError), (2.5, TypeError)),
  "block_layout": (("columns", ValueError),),
  "keep": (("(", ValueError),),
  "exempt": (("(", ValueError),),
  "clipping": ((-1.0, ValueError),),
  **dict.fromkeys(
    ("mu_dtype", "nu_dtype", "ns_dtype"),
    (("bfloat", ValueError), (jnp.int8, TypeError)),
  ),
  "fallback": (("adamw", ValueError), (0.1, TypeError)),
  # What Python takes for true is no flag.
  **dict.fromkeys(
    (
      "center",
      "decoupled",
      "diagonal",
      "factored",
      "limit_growth",
      "multiply_by_parameter_scale",
      "nesterov",
      "official_aliasing",
      "rerotate_second_moment",
      "scale_front",
      "sign_repair",
    ),
    (("no", ValueError), (1, TypeError)),
  ),
}

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


_TANGENT = "acts where a gradient is tangent, as in the reference's test"
# Numbers without an effect on the small tree, and why.
_SILENT = {
  ("adamp", "delta"): _TANGENT,
  ("adamp", "wd_ratio"): _TANGENT,
  ("sgdp", "delta"): _TANGENT,
  ("sgdp", "wd_ratio"): _TANGENT,
  ("nap_adamw", "vector_decay"): 'acts where vectors="decay"',
}


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


def silent(case):
  """The scalars that change nothing in two steps of the small tree."""
  return {key for key in scalars(case) if (case.name, key) in _SILENT}
