"""Training: a pure step, a loop around it, checkpoints.

result = train.run(config, directory)
"""

from normjax.train.cost import estimate
from normjax.train.entry import run

__all__ = ["estimate", "run"]
