"""The states of a run: the only place that spells them."""

import enum


class RunState(enum.StrEnum):
  """Where a run is. The files hold these words.

  The first line that fits is the answer:

  | what the files say                                       | state       |
  |----------------------------------------------------------|-------------|
  | a whole `result.json` of this run                        | done, or    |
  |                                                          | diverged    |
  | the newest word is "failed"                              | failed      |
  | the newest word is "running", and the process that holds | running     |
  | the run's lock is not known to be gone                   |             |
  | run.json, status.json, rows or a checkpoint are there: a | interrupted |
  | signal ended it, it was killed, or its result is damaged |             |
  | nothing                                                  | pending     |

  The newest word is that of status.json or of the last line that
  attempts.jsonl has about the run, whichever is later.
  """

  PENDING = "pending"
  RUNNING = "running"
  INTERRUPTED = "interrupted"
  FAILED = "failed"
  DONE = "done"
  DIVERGED = "diverged"

  @property
  def over(self) -> bool:
    """Whether there is a result, which is never computed again."""
    return self in (RunState.DONE, RunState.DIVERGED)

  @property
  def begun(self) -> bool:
    """Whether there is something to go on from, but no result."""
    return self in (RunState.RUNNING, RunState.INTERRUPTED)
