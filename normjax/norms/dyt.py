"""Dynamic tanh: Zhu, Chen, He, LeCun, Liu 2025, arXiv:2503.10622."""

from normjax.norms import base, pointwise


def dyt(
  alpha_init: float = 0.5,
  use_bias: bool = True,
  use_scale: bool = True,
  function: str = "tanh",
  shift_init: float | None = None,
) -> base.Norm:
  """Dynamic tanh, an elementwise stand-in for layer normalization.

      y = scale * tanh(alpha * x) + bias

  arXiv:2503.10622, equation 2. No statistic and no eps; computed in float32
  (float64 for float64). The paper's LLaMA has no bias, and smaller `alpha_init`
  the wider the model (its tables 10 and 11).

  `function` puts another map of u in tanh's place. From the same paper's table
  7: "hardtanh", "sigmoid". From the code of arXiv:2512.10938, where each has a
  learned shift: "erf" (that is `derf`), "isru" u / sqrt(1 + u^2), "smoothsign"
  u / (1 + |u|), "arctan" 2/pi arctan(u), "satursin" sin(clip(u, -pi/2, pi/2)).
  With "isru" it is DyISRU, arXiv:2503.21708: its sqrt(d) x / sqrt(beta + x^2)
  has alpha = 1 / sqrt(beta) and, for a scale, sqrt(d).

  Args:
    alpha_init: where `alpha`, one scalar of shape (1,), starts.
    use_bias: whether there is a `bias`, shape (d,), starting at 0.
    use_scale: whether there is a `scale`, shape (d,), starting at 1.
    function: the map; see above.
    shift_init: where `shift` of shape (1,), added to alpha * x, starts; None
      for no shift.

  Raises:
    UserError: an unknown function, or a start that is not a finite number.
  """
  return pointwise.make(
    "dyt", function, alpha_init, shift_init, use_bias, use_scale
  )
