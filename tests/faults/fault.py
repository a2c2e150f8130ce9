"""What a planted fault is."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Fault:
  """What is broken, how, and what must notice.

  Attributes:
    name: of the kind.
    path: the file, from the checkout's root.
    old: a piece of its text.
    new: what takes its place.
    test: node id of the test that must fail.
  """

  name: str
  path: str
  old: str
  new: str
  test: str

  def __str__(self) -> str:
    return self.name
