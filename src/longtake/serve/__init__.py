"""Serves videos: a queue that outlives every process, and workers whose jobs are ordinary runs.

What a request says becomes the same order that a command line does, so that a killed server, worker or machine costs
nothing but time, and the file is that of `longtake generate`, `extend` or `redo`.
"""
