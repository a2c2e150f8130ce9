"""Where the factors of a matrix lie on the devices when they make it.

A product of split factors is split, and to add entries to it XLA gathers the
whole matrix: more bytes than its factors have, and twice per step. A layout
says once (`gathered_by`) that factors are whole on every device instead, and
layers ask for them so (`gathered`). Where nothing is said, nothing happens.
"""

from normjax.nn.placing import Placing

gathered = Placing("factors")
gathered_by = gathered.by
