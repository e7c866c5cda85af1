from pathlib import Path

import pytest

from .tiny_vbench import tiny_clip


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIPModel in the hub's layout."""
    return tiny_clip(tmp_path_factory.mktemp("models") / "clip")
