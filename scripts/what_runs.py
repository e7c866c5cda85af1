"""Print the table "What runs on what" of the README: python scripts/what_runs.py."""

from longtake.apps.catalog import what_runs

if __name__ == "__main__":
    print(what_runs())
