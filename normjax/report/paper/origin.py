"""How a table was made, as its readers are told."""

import dataclasses
from typing import Any

from normjax.papers.kept import Made


@dataclasses.dataclass(frozen=True)
class Origin:
  """What makes a table, and what made it.

  Attributes:
    command: as a shell takes it.
    made: by what, on what and when.
  """

  command: str
  made: Made

  def lines(self) -> list[str]:
    """Sentences for people."""
    found = [f"Command: {self.command}", making(self.made)]
    if self.made.commit:
      found.append(f"Commit: {self.made.commit}.")
    return found

  def told(self) -> dict[str, Any]:
    """The same for programs."""
    return {"command": self.command, **dataclasses.asdict(self.made)}


def making(made: Made) -> str:
  """By what and when results were made, in one sentence."""
  versions = ", ".join(f"{key} {value}" for key, value in made.versions.items())
  spent = "" if made.cpu_s is None else f", {made.cpu_s:.0f} s of CPU"
  runs = f"{made.runs} runs" if made.runs else "Computed"
  return f"{runs}{spent}, {made.device}, {made.date}; {versions}."
