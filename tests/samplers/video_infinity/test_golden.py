"""Video-Infinity against the numbers of the authors' own code: the network, and three steps with guidance."""

import importlib.util
from pathlib import Path

import pytest
import torch

from longtake.ranks.world import ALONE

# By path, since worker processes load this file by its path as well.
CASES_FILE = Path(__file__).with_name("cases.py")
spec = importlib.util.spec_from_file_location("cases", CASES_FILE)
assert spec and spec.loader
cases = importlib.util.module_from_spec(spec)
spec.loader.exec_module(cases)

CASES = cases.all_cases()


def one_rank(world, path, name):
    return cases.run_case(world, path, name)


def compare(answers: dict, name: str) -> None:
    _, recorded = cases.load_case(str(CASES[name]), name)
    for key, answer in answers.items():
        error = float((answer - recorded[key]).abs().max() / recorded[key].std())
        assert error <= (5e-5 if key == "ddim" else 2e-5), (key, error)


def test_cases_are_there():
    assert {"w1_single", "w2_default", "w2_local", "w2_exact", "w4_default"} <= set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_one_process_computes_what_the_authors_ranks_did(name):
    compare(cases.run_case(ALONE, str(CASES[name]), name), name)


@pytest.mark.parametrize("name", CASES)
def test_as_many_processes_as_recorded_do(name, ranks):
    meta, _ = cases.load_case(str(CASES[name]), name)
    if meta["world"] > 4:
        pytest.skip("the pool has four processes; one computes the same")
    parts = ranks.run(meta["world"], one_rank, str(CASES[name]), name)
    compare({key: torch.cat([part[key] for part in parts], dim=2) for key in parts[0]}, name)
