"""On Mosaic GPU: the pass of all such steps, by this rule."""

import functools

from kernels_pallas.adam_8bit_update.rule import RULE
from kernels_pallas.step_8bit import gpu

adam_8bit_update = functools.partial(gpu.step, RULE)
