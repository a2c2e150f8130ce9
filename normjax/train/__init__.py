"""Training: a pure step, a loop around it, checkpoints.

result = train.run(config, directory)
"""

from normjax.train.entry import run
from normjax.train.program import estimate

__all__ = ["estimate", "run"]
