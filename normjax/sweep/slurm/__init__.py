"""The executor of a SLURM cluster: slots are jobs, submitted by submitit.

The launcher stays where it was started, as on a login node. It and its jobs
speak by files, in one folder for each job:

    <out>/slurm/<launcher>/launcher.json             who has these jobs
    <out>/slurm/<launcher>/<slot>-<n>/word.json      what the job is to do next
    <out>/slurm/<launcher>/<slot>-<n>/answers.jsonl  what has happened there
    <out>/slurm/<launcher>/<slot>-<n>/logs           of its worker
    <out>/slurm/<launcher>/<slot>-<n>/*_log.err      of the job itself

A job holds a worker of its own (`local.LocalPool`), so that a signal is heard
however deep in a compilation the worker is, and a worker that has died, or has
run out of memory, costs no new wait in the queue.

USR2 comes from SLURM before the time is up, or at a preemption: the runs write
a last checkpoint, and submitit requeues the job. TERM comes with `scontrol
requeue`, with `scancel`, or at a preemption: the runs do the same, and SLURM
says whether the job is requeued.

A job that is given no run for ten minutes ends by itself, so that none stays
behind, and none keeps a GPU from others while the last run of a stage is under
way.

A run that was sent back with its job has lost nothing, and no attempt of it is
counted, unless it gets no further time after time.

`options` says what a job may ask for, `cluster` calls SLURM, `spool` is the
folder, `job` what runs on the cluster, `seat` a job as the launcher sees it,
`launchers` whose jobs they are, `pool` the executor.
"""
