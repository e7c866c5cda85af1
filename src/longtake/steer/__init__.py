"""Steers a video that is there, finished or not: makes it longer, makes it otherwise from a frame on, or changes the
prompts of what has not begun.

Its run goes on from a kept state, with a request that has grown or takes a turn (`Request.turns`). What comes out is
what that request alone describes, so the report repeats it; and the run that leads there is as any other: a kill does
not disturb it.
"""
