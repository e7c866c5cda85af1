"""What the owner of a server decides: what it takes, who may ask, and who computes."""

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

from longtake.errors import InputError, unknown_name
from longtake.models import MODELS
from longtake.models.hub.loading import Loading
from longtake.models.hub.precision import DeviceSettings, DtypeChoice
from longtake.typed import Setting, Typed
from longtake.video.output import read_bytes

LOCAL = ("127.0.0.1", "::1", "localhost")
MOST_WORKERS = 1024
"""Processes that a server starts at most: each has a model of its own."""


@dataclass(frozen=True, kw_only=True)
class Quota(Typed):
    """What a server takes, and where it says no."""

    max_frames: Annotated[int, Setting(metavar="FRAMES")] = 100_000
    """The longest video."""
    max_queue: Annotated[int, Setting(metavar="JOBS")] = 100
    """Jobs that wait at once."""
    keep_free: Annotated[int, Setting(metavar="BYTES", read=partial(read_bytes, option="--keep-free"))] = 1_000_000_000
    """Disk that stays free: below, nothing is taken, and what runs waits until there is space again."""
    max_deaths: Annotated[int, Setting(metavar="N")] = 5
    """A job during which so many workers die one after the other, without a new frame, has failed."""

    def __post_init__(self) -> None:
        """Raise InputError for what would take nothing."""
        super().__post_init__()
        for name in ("max_frames", "max_queue", "max_deaths"):
            if getattr(self, name) < 1:
                option = name.replace("_", "-")
                raise InputError(f"--{option} {getattr(self, name)} takes nothing; give 1 or more")


@dataclass(frozen=True, kw_only=True)
class Access(Typed):
    """Who may ask, and for how much at once."""

    host: str = "127.0.0.1"
    """Where to listen; any other than this machine needs a token."""
    port: int = 8400
    """And at which port."""
    token: Annotated[str | None, Setting(metavar="TEXT", unset="LONGTAKE_TOKEN, else none")] = None
    """What every request has to bring, as OpenAI's clients do (Authorization: Bearer)."""
    max_upload: Annotated[int, Setting(metavar="BYTES", read=partial(read_bytes, option="--max-upload"))] = 100_000_000
    """The largest body of a request."""

    def __post_init__(self) -> None:
        """Raise InputError for a port that is none, for a server without a token that others could reach, and for a
        token that no header can hold."""
        super().__post_init__()
        if not 0 <= self.port < 1 << 16:
            raise InputError(f"--port {self.port} is none; give 1 to 65535, or 0 for any that is free")
        if self.host not in LOCAL and not self.secret:
            raise InputError(
                f"anybody who reaches {self.host} could make videos here; give --token, or LONGTAKE_TOKEN, or listen "
                "at 127.0.0.1"
            )
        if self.secret and not (self.secret.isprintable() and self.secret == self.secret.strip()):
            raise InputError(
                "no request could bring the token: it begins or ends with a space, or has a line break or another sign "
                "that cannot be printed; leave that out of --token, or of LONGTAKE_TOKEN"
            )

    @property
    def secret(self) -> str | None:
        """Return the token that holds; None where everybody is let in."""
        return self.token or os.environ.get("LONGTAKE_TOKEN") or None


@dataclass(frozen=True, kw_only=True)
class Computing(DeviceSettings):
    """Who computes, and how models are loaded for all jobs; none of it travels in a request."""

    models: Annotated[
        tuple[str, ...], Setting(name="model", metavar="FOLDER|ID", unset="those of the package", repeated=True)
    ] = ()
    """Folders and hub ids that requests may name beside the embedded models, a folder by the last part of its path."""
    dtype: DtypeChoice = "auto"
    """Number format; auto is what the device computes fastest."""
    loading: Annotated[Loading, Setting(boxed=True)] = Loading()
    workers: Annotated[int | None, Setting(metavar="N", unset="one for every GPU, or one")] = None
    """Processes that make videos, each with a model of its own."""

    def __post_init__(self) -> None:
        """Raise InputError for a server that would make nothing, or fill the machine with processes, and for two models
        that a request would call the same."""
        super().__post_init__()
        if len(self.offered) < len(MODELS) + len(self.models):
            names = [*MODELS, *(Path(model).name for model in self.models)]
            twice = next(name for name in names if names.count(name) > 1)
            raise InputError(f"two models would be called {twice}; give one of them another folder, or leave it out")
        if self.workers is not None and self.workers < 1:
            raise InputError(f"{self.workers} workers cannot do anything; give 1 or more")
        if self.workers is not None and self.workers > MOST_WORKERS:
            raise InputError(f"{self.workers} workers are more than a machine has room for; give 1 to {MOST_WORKERS}")

    @property
    def offered(self) -> dict[str, str]:
        """Return all models that a request may name, and where each is."""
        return {name: name for name in MODELS} | {Path(name).name: name for name in self.models}

    def model(self, name: str) -> str:
        """Return where a model is that a request names. Raises InputError for one that is not offered."""
        if name not in self.offered:
            raise unknown_name("model", name, self.offered)
        return self.offered[name]
