"""How often a sweep's verdicts are wrong: the whole protocol on made-up sweeps.

A comparison tunes every method, trains the final seeds and corrects its tests.
Each step has its luck, and a bound on the last one's error says nothing of the
others. So the steps are drawn together, many times, for methods of which it is
known that they are equal (or which is better), and wrong verdicts are counted:

    from normjax import simulate

    print(simulate.error_of(methods=14, seeds=5))

`python -m normjax.simulate` prints the tables of `docs/guides/trust.md`. What a
run's loss looks like is `Surface`, how a sweep proceeds is `Protocol`. Below
`sweep` and `report`, since both tell what comes out; imports no jax.
"""

from normjax.simulate.outcome import Outcome
from normjax.simulate.protocol import Protocol
from normjax.simulate.surface import Surface
from normjax.simulate.sweeps import error_of, of_sweep, run, sentence

__all__ = [
  "Outcome",
  "Protocol",
  "Surface",
  "error_of",
  "of_sweep",
  "run",
  "sentence",
]
