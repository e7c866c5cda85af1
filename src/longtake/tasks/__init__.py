"""Work in tasks, and who does them: this process, others on this machine, the ranks of a job, a Ray cluster."""
