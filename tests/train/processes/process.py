"""The command line of a process that does something to itself.

    python -m tests.train.processes.process EVENTS train CONFIG --distributed …

where EVENTS is JSON: [process, event, step, signal's name], as
[1, "step", 5, "SIGTERM"]. ENOSPC stands for a disk that is full.
"""

import errno
import json
import os
import signal
import sys

from normjax import cli
from normjax.train import lane
from normjax.train.processes import distributed


def observed(events):
  """`Lane`, whose observer sees to the events."""
  begin = lane.Lane.__init__

  def init(self, config, directory, recorder, program, observe, *more):
    def see(event: str, step: int) -> None:
      observe(event, step)
      for process, when, at, name in events:
        is_here = distributed.is_first() == (process == 0)
        if is_here and (when, at) == (event, step):
          do(name)

    begin(self, config, directory, recorder, program, see, *more)

  return init


def do(name: str) -> None:
  """What happens to this process."""
  if name == "ENOSPC":
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "the disk")
  os.kill(os.getpid(), getattr(signal, name))


if __name__ == "__main__":
  lane.Lane.__init__ = observed(json.loads(sys.argv.pop(1)))
  sys.exit(cli.main())
