"""A model that stays loaded from one video to the next."""

from typing import Any

from longtake.model import VideoModel
from longtake.models import load_model
from longtake.models.hub.loading import Loading
from longtake.models.hub.precision import Hardware


class KeptModel:
    """The model that was loaded last, for whoever wants the same one again."""

    def __init__(self) -> None:
        self._loaded: tuple[Any, VideoModel] | None = None

    def get(self, name: str, hardware: Hardware, loading: Loading) -> VideoModel:
        """Return a model: the one that is kept, where it is that, else loaded in its place; raises as `load_model`."""
        wanted = (name, hardware.device, hardware.dtype_name, loading.told)
        if self._loaded is None or self._loaded[0] != wanted:
            # Two at once may not fit.
            self.drop()
            self._loaded = wanted, load_model(name, hardware.device, hardware.dtype, **loading.told)
        return self._loaded[1]

    def drop(self) -> None:
        """Let go of it."""
        self._loaded = None
