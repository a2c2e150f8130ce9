"""How many steps does normalized logistic regression need to separate a set?

Claim: on the paper's worst case of 1,000 examples, exactly 2, 2, 16 and 157
steps at the rates 100, 10, 1 and 0.1; 308 of plain gradient descent at 100
(arXiv:2412.08424, Table 1).
Command: normjax reproduce normalized_lr_gd --scale=proxy
Time: about 5 s on two cores, compilation included.

The proxy is the row of the worst case as the paper has it: one example
(0.5, -1) of class 1 against 999 copies of (-0.5, -1) of class -1, weights that
start at 0, no bias, full batches. Its rows of FashionMNIST are not there.
Nothing is drawn, so that there is one value per cell. What is counted are
updates before the first weights that have every example on its side, in
float32; float64 gives the same.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from normjax import papers

SCALES = ("proxy",)
NUM_EXAMPLES = 1000
MOST_STEPS = 10_000
# The rate, and the paper's count.
NORMALIZED = {100.0: 2, 10.0: 2, 1.0: 16, 0.1: 157}
PLAIN_RATE, PLAIN_COUNT = 100.0, 308
PLAIN = f"gradient descent, rate {PLAIN_RATE:g}"


def _normalized(rate: float) -> str:
  return f"normalized, rate {rate:g}"


def table(scale: str) -> papers.Table:
  """The row of the worst case, a line per method and rate."""
  del scale
  case, source = "worst case n=1000", "Table 1"
  cells = [
    papers.Cell(
      _normalized(rate),
      part=papers.MEASURE,
      paper=(case, f"normalized step {rate:g}"),
    )
    for rate in NORMALIZED
  ]
  cells.append(
    papers.Cell(
      PLAIN, part=papers.MEASURE, paper=(case, "LR+GD (step in note)")
    )
  )
  return papers.Table(
    title="Steps of normalized logistic regression to training accuracy 1",
    paper="normalized_lr_gd",
    target="Table 1",
    cells=cells,
    expected=[
      *(
        papers.exactly(_normalized(rate), count, source=source)
        for rate, count in NORMALIZED.items()
      ),
      papers.exactly(PLAIN, PLAIN_COUNT, source=source),
    ],
    hardware="two CPU cores",
    differs=(
      "Nothing in the row of the worst case; those of FashionMNIST are left"
      " out."
    ),
    time="5 s",
    parts=(papers.MEASURE,),
    units="steps",
  )


def measure(scale: str) -> Mapping[str, Sequence[float]]:
  """The counts, each of one run: nothing is drawn."""
  del scale
  import optax

  from normjax import optim

  counts = {
    _normalized(rate): [num_steps(optim.normalized_logistic_gd(rate))]
    for rate in NORMALIZED
  }
  plain = optax.with_extra_args_support(optax.sgd(PLAIN_RATE))
  return counts | {PLAIN: [num_steps(plain)]}


def num_steps(tx: Any) -> float:
  """Updates, from 0, until every example is on its side; in jax's precision."""
  import jax
  import jax.numpy as jnp
  import optax

  from normjax import optim

  x_nd = jnp.tile(jnp.array([-0.5, -1.0]), (NUM_EXAMPLES, 1))
  x_nd = x_nd.at[0, 0].set(0.5)
  y_n = -jnp.ones(NUM_EXAMPLES).at[0].set(-1.0)

  def loss(w_d):
    return jnp.mean(jax.nn.softplus(-y_n * (x_nd @ w_d)))

  def update(carry):
    count, w_d, state = carry
    updates, state = tx.update(
      jax.grad(loss)(w_d),
      state,
      w_d,
      mean_residual=optim.mean_residual(x_nd @ w_d, y_n),
    )
    return count + 1, optax.apply_updates(w_d, updates), state

  def goes_on(carry):
    count, w_d, _ = carry
    return (count < MOST_STEPS) & ~jnp.all(y_n * (x_nd @ w_d) > 0)

  w_d = jnp.zeros(2)
  count, _, _ = jax.lax.while_loop(goes_on, update, (0, w_d, tx.init(w_d)))
  return float(count)
