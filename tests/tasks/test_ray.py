"""Ray's workers, one of which dies; and what happens where there is no Ray."""

import importlib.util
import sys
from types import ModuleType

import numpy as np
import pytest

from longtake.errors import InputError, MissingExtraError
from longtake.tasks.ray_workers import RayWorkers

from .tree_cases import START, chunks, whole


def test_without_ray_the_way_to_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"longtake\[ray\]"):
        RayWorkers(START, 2, None)


def test_ray_that_would_listen_to_all_networks_is_not_started(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", ModuleType("ray"))
    monkeypatch.delenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", raising=False)
    with pytest.raises(InputError, match=r"127\.0\.0\.1 alone"):
        RayWorkers(START, 2, None)


@pytest.mark.slow
def test_two_workers_of_which_one_is_killed_change_nothing():
    if importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not installed")
    psutil = pytest.importorskip("psutil")

    with RayWorkers(START, 2, None) as executor:
        below = psutil.Process().children(recursive=True)
        sockets = [socket for process in below for socket in process.net_connections("inet")]
        heard = {socket.laddr.ip for socket in sockets if socket.status == "LISTEN"}
        assert heard <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}
        frames = []
        for place, chunk in enumerate(chunks(executor)):
            frames.append(chunk.frames)
            if place == 2:
                actors = psutil.Process().children(recursive=True)
                next(process for process in actors if "_Actor" in " ".join(process.cmdline())).kill()
    assert np.array_equal(np.concatenate(frames), whole())
    import ray  # pyright: ignore[reportMissingImports]

    assert not ray.is_initialized()


@pytest.mark.slow
@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "nonsense"])
def test_a_cluster_that_is_not_there_is_named(address):
    pytest.importorskip("ray")
    with pytest.raises(InputError, match=f"no Ray cluster at {address}"):
        RayWorkers(START, 2, address)
