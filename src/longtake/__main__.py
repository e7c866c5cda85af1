"""`python -m longtake` and `torchrun ... -m longtake`: the command `longtake`."""

from longtake.apps.cli import main

if __name__ == "__main__":
    main()
