import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from normjax import errors
from normjax.nn import mixing
from tests.contracts import mixing_contract
from tests.nn import references_mixing as references


@dataclasses.dataclass(frozen=True)
class Case:
  mixing: mixing.Mixing
  reference: Callable[..., Any]
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  kv_heads: int = 4
  # An exponential or a power of at most 16 turns an error of its argument
  # into 16 times that of its value.
  amplification: float = 16.0

  def __str__(self):
    return self.mixing.name


CASES = [
  Case(mixing.make("softmax"), references.softmax),
  Case(
    mixing.make("softmax"),
    references.softmax,
    {"logit_cap": 1.5, "scale": 2.0},
    kv_heads=2,
  ),
  Case(mixing.make("softmax_off_by_one"), references.softmax_off_by_one),
  Case(mixing.make("softmax_sink"), references.softmax, kv_heads=2),
  # Rotated numerators cancel, unlike the denominator they are divided by.
  Case(
    mixing.make("nalaformer", chunk=3), references.nalaformer, amplification=64
  ),
  Case(
    mixing.make("nalaformer_paper"),
    references.nalaformer_paper,
    kv_heads=2,
    amplification=64,
  ),
  # The inverse multiplies errors by the condition of K2, below 100 here.
  Case(
    mixing.make("soft", num_iterations=30), references.soft, amplification=1e3
  ),
  Case(
    mixing.make("soft", normalize=False, landmarks="mean"),
    references.soft,
    amplification=1e3,
  ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
class TestMixing(mixing_contract.MixingContract):
  pass


def test_every_method_is_tested():
  assert {case.mixing.name for case in CASES} == set(mixing.names())


def test_specs():
  soft = mixing.resolve({"name": "soft", "ratio": 4})
  assert soft.options["ratio"] == 4
  assert mixing.resolve(soft) is soft


@pytest.mark.parametrize(
  ("spec", "message"),
  [
    ("sofmax", "unknown mixing 'sofmax'. Did you mean 'softmax'"),
    ({"ratio": 2}, "lacks 'name'"),
    ({"name": "softmax", "eps": 1}, "mixing 'softmax' has no option 'eps'"),
    ({"name": "nalaformer", "power": 0}, "nalaformer: power=.*; allowed"),
    ({"name": "nalaformer", "chunk": 0}, "nalaformer: chunk=0; allowed"),
    ({"name": "nalaformer_paper", "angle": -1}, "angle=.*; allowed"),
    ({"name": "soft", "ratio": 1}, "soft: ratio=1; allowed: an int >= 2"),
    ({"name": "soft", "landmarks": "max"}, "landmarks='max'; allowed: 'conv'"),
    ({"name": "soft", "ridge": -1.0}, "soft: ridge=.*; allowed"),
    ({"name": "soft", "grid": (4, 6), "ratio": 4}, "must divide both sides"),
    ({"name": "soft", "grid": (4,)}, r"must be \(height, width\)"),
  ],
)
def test_bad_specs_are_named(spec, message):
  with pytest.raises(errors.UserError, match=message):
    mixing.resolve(spec)


def test_another_type_is_named():
  with pytest.raises(TypeError, match="given as a name or as a mapping"):
    mixing.resolve(3)
