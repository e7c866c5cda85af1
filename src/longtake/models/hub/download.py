"""Repositories of the hub into its local cache: nothing comes unasked, or before it was said what and how large."""

import shutil
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from longtake.errors import InputError
from longtake.models.hub.find import INDEX, snapshot

TOLD = ("longtake.json", INDEX)
READ = (".json", ".txt", ".model", ".safetensors")
PATIENCE = 10.0
"""Seconds for the hub to answer."""


def fetch(name: str, revision: str | None, variant: str | None, *, download: bool, offline: bool) -> None:
    """Bring what longtake reads of a repository into the hub's cache, if `download` says so; else ask the hub how large
    it is where it is not there, and raise InputError that says so. `offline`, as HF_HUB_OFFLINE, asks nobody.

    Raises InputError, too, for a repository that there is not, that is gated, or that the disk has no room for.
    """
    from huggingface_hub import constants, snapshot_download

    place, is_off = snapshot(name, revision), offline or constants.HF_HUB_OFFLINE
    if is_off and download:
        raise InputError("--download has no effect beside --offline or HF_HUB_OFFLINE, which ask nobody; leave one out")
    if is_off or (place is not None and not download):
        return
    sizes = wanted(_listed(name, revision), variant)
    lacking = {file: size for file, size in sizes.items() if place is None or not (place / file).exists()}
    total, cache = sum(lacking.values()), Path(constants.HF_HUB_CACHE)
    large = f"{len(lacking)} files, {total / 1e9:.2f} GB"
    if not download and lacking:
        raise InputError(f"{name} is not in the hub's cache ({cache}); --download fetches it: {large}")
    if not lacking:
        return
    free = shutil.disk_usage(next(folder for folder in (cache, *cache.parents) if folder.exists())).free
    if total > free:
        raise InputError(
            f"{name} takes {large}, and {free / 1e9:.2f} GB are free at {cache}; make room, or set HF_HOME"
        )
    print(f"download {name}: {large} to {cache}", file=sys.stderr, flush=True)
    snapshot_download(name, revision=revision, allow_patterns=list(sizes))


def wanted(sizes: Mapping[str, int], variant: str | None) -> dict[str, int]:
    """Return those of the files of a repository that longtake reads: configs, and of the weights of a part the variant,
    else the plain ones, else those of 16 bits."""
    parts: dict[str, dict[str, int]] = defaultdict(dict)
    for file, size in sizes.items():
        path = PurePosixPath(file)
        if file in TOLD or (len(path.parts) == 2 and path.suffix in READ):
            parts[str(path.parent)][file] = size
    return {file: size for files in parts.values() for file, size in _of_part(files, variant).items()}


def _of_part(files: Mapping[str, int], variant: str | None) -> dict[str, int]:
    weights = {file: _word(file) for file in files if ".safetensors" in file}
    kept = next((word for word in (variant, None, "fp16") if word in weights.values()), None)
    return {file: size for file, size in files.items() if file not in weights or weights[file] == kept}


def _word(file: str) -> str | None:
    """Return the variant in a name: model.fp16.safetensors, model.fp16-00001-of-00002.safetensors,
    model.safetensors.index.fp16.json."""
    words = PurePosixPath(file).name.split(".")
    others = [word.split("-0")[0] for word in words[1:] if word not in ("safetensors", "index", "json")]
    return others[0] if others else None


def _listed(name: str, revision: str | None) -> dict[str, int]:
    """Return the files of a repository on the hub, and their bytes; none where the hub does not answer."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        info = HfApi().model_info(name, revision=revision, files_metadata=True, timeout=PATIENCE)
    except GatedRepoError:
        raise InputError(
            f"{name} is gated: accept its terms at https://huggingface.co/{name}, then log in by 'hf auth login'"
        ) from None
    except RepositoryNotFoundError:
        raise InputError(
            f"{name} is no folder here, and the hub has none of the name, or it is private; check the name, or log in "
            "by 'hf auth login'"
        ) from None
    except RevisionNotFoundError:
        raise InputError(f"{name} has no revision {revision!r} on the hub; check its branches and tags") from None
    except Exception as error:
        # The library by which the hub is asked, httpx by one name or another, has errors of its own.
        if not isinstance(error, (HfHubHTTPError, OSError)) and not type(error).__module__.startswith("httpx"):
            raise
        reason = " ".join(str(error).split())[:120]
        raise InputError(
            f"{name} is not in the hub's cache, and the hub does not answer ({reason}); give its folder, or, when "
            "the hub can be reached, --download, which fetches it; --offline asks nobody"
        ) from None
    return {file.rfilename: file.size or 0 for file in info.siblings or ()}
