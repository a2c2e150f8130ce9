"""Dynamic erf: arXiv:2512.10938."""

from normjax.norms import base, pointwise


def derf(
  alpha_init: float = 0.5,
  use_bias: bool = True,
  use_scale: bool = True,
  shift_init: float | None = 0.0,
) -> base.Norm:
  """Dynamic erf, an elementwise stand-in for layer normalization.

      y = scale * erf(alpha * x + shift) + bias

  arXiv:2512.10938. No statistic and no eps; computed in float32 (float64 for
  float64). The authors' GPT-2 starts alpha at 1 and scales the embeddings by
  a learned number that starts at sqrt(d).

  Args:
    alpha_init: where `alpha`, one scalar of shape (1,), starts.
    use_bias: whether there is a `bias`, shape (d,), starting at 0.
    use_scale: whether there is a `scale`, shape (d,), starting at 1.
    shift_init: where `shift`, one scalar of shape (1,), starts; None for no
      shift.

  Raises:
    UserError: a start that is not a finite number.
  """
  return pointwise.make(
    "derf", "erf", alpha_init, shift_init, use_bias, use_scale
  )
