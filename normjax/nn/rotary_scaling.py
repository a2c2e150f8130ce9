"""How rotary frequencies change for sequences longer than those trained on."""

import dataclasses
import math
from collections.abc import Callable, Mapping

import numpy as np

from normjax import validate
from normjax.registry import Table


@dataclasses.dataclass(frozen=True)
class RotaryScaling:
  """A rule with its options bound: equal where both are.

  Attributes:
    name: as in a config.
    rule: (frequencies, **options) to frequencies, float64, radians per token.
    options: every option with its value.
    formula: what becomes of a frequency f, for the reference.
    source: the paper, or where it was read.
  """

  name: str
  rule: Callable[..., np.ndarray]
  options: Mapping[str, float] = dataclasses.field(
    default_factory=dict, hash=False
  )
  formula: str = dataclasses.field(default="", compare=False)
  source: str = dataclasses.field(default="", compare=False)

  def __call__(self, frequency: np.ndarray) -> np.ndarray:
    """The frequencies that rotate."""
    return self.rule(frequency, **self.options)


def _unchanged(frequency: np.ndarray) -> np.ndarray:
  return frequency


def _linear(frequency: np.ndarray, *, factor: float) -> np.ndarray:
  return frequency / factor


def _llama3(
  frequency: np.ndarray,
  *,
  factor: float,
  low_frequency_factor: float,
  high_frequency_factor: float,
  original_length: float,
) -> np.ndarray:
  turns = original_length * frequency / (2 * math.pi)
  band = high_frequency_factor - low_frequency_factor
  kept = np.clip((turns - low_frequency_factor) / band, 0.0, 1.0)
  return kept * frequency + (1 - kept) * frequency / factor


def linear(factor: float = 2.0) -> RotaryScaling:
  """Position interpolation: f / factor.

  Chen et al. 2023, arXiv:2306.15595, equation 4: positions are divided, which
  is the same.

  Args:
    factor: new length over old, >= 1.
  """
  validate.number("rope_scaling linear", "factor", factor, least=1.0)
  return RotaryScaling(
    "linear",
    _linear,
    {"factor": float(factor)},
    formula="f / factor",
    source="Chen et al. 2023, arXiv:2306.15595",
  )


def llama3(
  factor: float = 8.0,
  low_frequency_factor: float = 1.0,
  high_frequency_factor: float = 4.0,
  original_length: int = 8192,
) -> RotaryScaling:
  """That of LLaMA 3.1 to 3.3: slow frequencies are divided, fast ones stay.

      n = original_length f / (2 pi)           turns within the old length
      s = clip((n - low) / (high - low), 0, 1)
      f <- s f + (1 - s) f / factor

  The rule is in no paper; it was read in transformers (Apache-2.0,
  modeling_rope_utils.py), where it stands in wavelengths.

  Args:
    factor: what slow frequencies are divided by, >= 1; LLaMA 3.2 has 32.
    low_frequency_factor: turns up to which a frequency is slow.
    high_frequency_factor: turns from which it is fast.
    original_length: tokens of the sequences that were trained on first.
  """
  where = "rope_scaling llama3"
  validate.number(where, "factor", factor, least=1.0)
  validate.number(where, "low_frequency_factor", low_frequency_factor, above=0)
  validate.number(
    where,
    "high_frequency_factor",
    high_frequency_factor,
    above=low_frequency_factor,
  )
  validate.counts(where, original_length=original_length)
  options = {
    "factor": float(factor),
    "low_frequency_factor": float(low_frequency_factor),
    "high_frequency_factor": float(high_frequency_factor),
    "original_length": original_length,
  }
  return RotaryScaling(
    "llama3",
    _llama3,
    options,
    formula="f / factor where slow, f where fast, between them in between",
    source="LLaMA 3.1, as in transformers",
  )


TABLE: Table[RotaryScaling] = Table(
  "rope_scaling",
  (RotaryScaling("none", _unchanged, formula="f"), linear(), llama3()),
  {"linear": linear, "llama3": llama3},
)
resolve = TABLE.resolve
