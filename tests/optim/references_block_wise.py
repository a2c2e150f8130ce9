"""Cases of block-wise optimizers; `test_block_wise` has their references."""

from tests.optim.cases import Case

_BAD = {
  "switch_every": ((0, ValueError), (2.5, TypeError)),
  "order": (("sideways", ValueError),),
  "blocks": (("layers", TypeError), (("mlp",), ValueError)),
  "stacked": (("layers", TypeError), (("mlp",), ValueError)),
  "others": (("sometimes", ValueError),),
  "num_active": ((0, ValueError), (2.5, TypeError), (9, ValueError)),
}

CASES = (
  Case(
    "badam",
    convergence={"learning_rate": 0.02, "switch_every": 2},
    bad=_BAD,
  ),
  Case(
    "lisa",
    like="badam",
    # A tree of one layer has no two.
    variants=({"num_active": 1},),
    convergence={"learning_rate": 0.02, "switch_every": 2},
    bad=_BAD,
  ),
  Case("bcd", like="badam", convergence={"learning_rate": 0.1}, bad=_BAD),
)
