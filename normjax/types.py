"""Aliases, and the legend of the shape letters used in variable names.

A name such as `x_btd` has one axis a letter, in this order:

    b  batch              t  time (query) position    s  key position
    d  model features     h  heads                    k  features of one head
    f  hidden features    v  vocabulary               l  layers
    y  image height       x  image width              c  channels
    i  inputs (reduced)   o  outputs                  g  groups

An array that is broadcast along an axis keeps the letter with size 1.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import jax

Array = jax.Array
PyTree = Any
Schedule = Callable[[Array | int], Array | float]
ScalarOrSchedule = float | Array | Schedule
# An option's number that shapes the program, and is no array in it.
StaticFloat = Annotated[float, "static"]
# The scalars of a run, as arrays: they enter the compiled step as arguments,
# so that two runs that differ only here are one program.
Hyper = Mapping[str, Array]
