"""Where the stream of a model lies on the devices, for those who know it.

Inside a loop over blocks the compiler sees no batch whose cut it could follow,
and gathers the whole of it on every device. A layout says once how the stream
is cut (`placed_by`), and stacks of blocks hold it to that (`held`). Where
nothing is said, nothing happens.
"""

from normjax.nn.placing import Placing

held = Placing("stream")
placed_by = held.by
