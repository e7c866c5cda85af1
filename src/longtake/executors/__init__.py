"""Who does the tasks of `longtake.tasks`: this process, others on this machine, the ranks of a job, a Ray cluster."""
