"""The most memory that was in use."""

import resource
import sys


def peak() -> dict[str, int]:
  """The peak since this process began, by whose it is.

  Returns:
    `peak_device_bytes`, of the device that had most, where devices count it;
    else `peak_rss_bytes`, what of the process was resident. Both include what
    earlier runs of the same process took.
  """
  import jax  # Late: a report needs no jax.

  found = [device.memory_stats() or {} for device in jax.local_devices()]
  peaks = [stats.get("peak_bytes_in_use") for stats in found]
  if known := [each for each in peaks if each is not None]:
    return {"peak_device_bytes": max(known)}
  resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  # Linux counts kibibytes, macOS bytes.
  return {
    "peak_rss_bytes": resident * (1 if sys.platform == "darwin" else 1024)
  }
