"""Named points between the durable steps of a write, so that a test can stop a process exactly there."""


def reach(point: str) -> None:
    """Do nothing; a test replaces this function to kill the process when it comes to `point`."""
