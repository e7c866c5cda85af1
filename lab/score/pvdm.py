"""The score of `pvdm-sprites`: python -m lab score pvdm [--parts reconstruction clips chains continuation].

Reconstruction: PSNR of clips of worlds that were never trained on, scene by scene, and what is read in them. Clips:
what the sprite judge reads in a first clip and in the one that follows it, half of the captions about (object, scene,
motion) triples that were never trained on. Chains: what it reads in each of twelve clips that follow one another.
Continuation: the clip that follows a real one, beside one that was made to follow another world's clip, against what
truly comes next. Distance: how far first clips are from real ones and what is read in them, for the model and for each
of the UNets of `--snapshots` (files of weights), beside decoded noise. All on sprite worlds; the network behind the
distance is a stand-in.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from lab.common import Frames, chosen_shots, measured_model, pixels, share_right
from lab.score.sprites import real_accuracy
from longtake.data.sprites import SCENES, Shot, SpriteWorld, caption, training_shots
from longtake.decoding import decode_clip
from longtake.metrics.judge import Judge
from longtake.metrics.scores import frechet_distance, gaussian, psnr
from longtake.metrics.video_networks import stand_in_features
from longtake.model import Known
from longtake.models.pvdm.model import PvdmModel
from longtake.noise import seeded_noise
from longtake.request import PromptTimeline, Request
from longtake.samplers.autoregressive.loop import Setting, prepare, sample, sample_together
from longtake.samplers.autoregressive.plan import Autoregressive

FIRST_SEED = 5_800_000
"""Worlds from here on were never trained on."""
_START = 40
_CHAINED = 12
_TOGETHER = 16
"""Clips in a call of the network, for which each takes half as long as alone."""
Part = Literal["reconstruction", "clips", "chains", "continuation", "distance"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is scored."""

    model: str = "pvdm-sprites"
    parts: tuple[Part, ...] = ("reconstruction", "clips", "continuation")
    steps: int = 30
    guidance: float | None = None
    per_scene: int = 16
    clips: int = 200
    chains: int = 24
    continuations: int = 32
    distances: int = 128
    snapshots: tuple[Path, ...] = ()


def prepared(model: PvdmModel, prompt: str, chosen: Settings, seed: int) -> Setting:
    """Return what `sample` needs to make clips of a prompt."""
    prompts = PromptTimeline.constant(prompt)
    request = Request(prompts=prompts, frames=None, seed=seed, steps=chosen.steps, guidance=chosen.guidance)
    plan = Autoregressive().plan(request, model.spec)
    return prepare(model, plan, seeded_noise(seed))


def shown(model: PvdmModel, latents: Tensor) -> Frames:
    """Return the frames of a clip."""
    return decode_clip(model, latents)


def reconstruction_part(model: PvdmModel, chosen: Settings) -> dict[str, object]:
    """Return the mean PSNR of every scene in dB, and the share of reconstructed clips that the judge reads right."""
    judge = Judge.load()
    apart: dict[str, list[float]] = {scene: [] for scene in SCENES}
    read = []
    for shot, frames in _real_clips(model, chosen.per_scene):
        again = shown(model, model.encode_frames(pixels(frames)))
        apart[shot.scene].append(psnr(frames, again))
        read.append((judge.read(again), shot))
    return {"dB": {scene: float(np.mean(values)) for scene, values in apart.items()}, "read right": share_right(read)}


def _real_clips(model: PvdmModel, per_scene: int) -> Iterator[tuple[Shot, Frames]]:
    for scene in SCENES:
        shots = [shot for shot in training_shots() if shot.scene == scene]
        for index in range(per_scene):
            shot = shots[index * 37 % len(shots)]
            yield shot, SpriteWorld(FIRST_SEED + index, {0: shot}).frames(_START, _START + model.spec.num_frames)


def clips_part(model: PvdmModel, chosen: Settings) -> dict[str, object]:
    """Return the share of clips that show what was asked for: first ones and those that follow them."""
    judge = Judge.load()
    trained, unseen = chosen_shots(chosen.clips, seed=11)
    sets = {"trained": (trained, 1000), "unseen": (unseen, 2000)}
    report: dict[str, object] = {"count": chosen.clips, "steps": chosen.steps, "real": real_accuracy(judge, 100, 12)}
    return report | {name: _accuracy(model, shots, judge, chosen, seed) for name, (shots, seed) in sets.items()}


def _accuracy(
    model: PvdmModel, shots: Sequence[Shot], judge: Judge, chosen: Settings, seed: int
) -> dict[str, dict[str, float]]:
    read: dict[str, list] = {"first": [], "second": []}
    for index, shot in enumerate(shots):
        setting, latents = prepared(model, caption(shot, index), chosen, seed + index), None
        for clip, place in enumerate(read):
            latents = sample(setting, clip, None if latents is None else Known(latents=latents[None]))
            read[place].append((judge.read(shown(model, latents)), shot))
    return {place: share_right(pairs) for place, pairs in read.items()}


def chains_part(model: PvdmModel, chosen: Settings) -> dict[str, object]:
    """Return the share of clips that show what was asked for, of the first ones, the second ones and so on."""
    judge, known, read = Judge.load(), None, []
    shots = [shot for some in chosen_shots(chosen.chains, seed=78) for shot in some]
    settings = [prepared(model, caption(shot, i), chosen, 40_000 + i) for i, shot in enumerate(shots)]
    for clip in range(_CHAINED):
        latents = sample_together(settings, clip, known)
        known = Known(latents=latents)
        read.append([(judge.read(shown(model, one)), shot) for one, shot in zip(latents, shots, strict=True)])
    return {"count": len(shots), "clip by clip": list(map(share_right, read)), "all": share_right(sum(read, []))}


def continuation_part(model: PvdmModel, chosen: Settings) -> dict[str, float]:
    """Return the PSNR of the first 4 and of all frames after a real clip, and after an unrelated one."""
    size = model.spec.num_frames
    rows = []
    for index, shot in enumerate(chosen_shots(2 * chosen.continuations, seed=14)[0]):
        worlds = [SpriteWorld(FIRST_SEED + place, {0: shot}) for place in (index, index + 10_000)]
        before = [model.encode_frames(pixels(world.frames(_START, _START + size))) for world in worlds]
        truth = worlds[0].frames(_START + size, _START + 2 * size)
        setting = prepared(model, caption(shot), chosen, 4000 + index)
        made = [shown(model, sample(setting, 1, Known(latents=latents[None]))) for latents in before]
        rows.append([psnr(truth[:stop], frames[:stop]) for frames in made for stop in (4, size)])
    related, related_all, unrelated, unrelated_all = np.mean(rows, axis=0).tolist()
    return {
        "count": len(rows),
        "after the real clip, first 4 frames": related,
        "after the real clip, all": related_all,
        "after another world's clip, first 4 frames": unrelated,
        "after another world's clip, all": unrelated_all,
    }


def distance_part(model: PvdmModel, chosen: Settings) -> dict[str, object]:
    """Return the Frechet distance to real clips of noise, of the model's clips and each snapshot's, with what the judge
    reads in these, and of other real clips."""
    network = stand_in_features()
    shots = chosen_shots(2 * chosen.distances, seed=15)[0]
    real, other = (
        np.stack([SpriteWorld(FIRST_SEED + first + i, {0: s}).frames(_START, _START + 16) for i, s in enumerate(shots)])
        for first in (20_000, 30_000)
    )
    target = gaussian(network.read(real))
    noise = (torch.randn(len(shots), *model.spec.latent_shape, generator=torch.Generator().manual_seed(0))).clamp(-1, 1)

    def distance(clips: Frames) -> float:
        return frechet_distance(target, gaussian(network.read(clips)))

    def made() -> dict[str, object]:
        settings = [prepared(model, caption(shot), chosen, 5000 + i) for i, shot in enumerate(shots)]
        batches = [settings[at : at + _TOGETHER] for at in range(0, len(settings), _TOGETHER)]
        latents = torch.cat([sample_together(batch, 0, None) for batch in batches])
        clips, judge = _all_shown(model, latents), Judge.load()
        read = share_right([(judge.read(clip), shot) for clip, shot in zip(clips, shots, strict=True)])
        return {"distance": distance(clips), **read}

    report: dict[str, object] = {"count": len(shots), "steps": chosen.steps}
    report |= {"decoded noise": distance(_all_shown(model, noise)), "model": made()}
    own = {name: tensor.clone() for name, tensor in model.pipeline.unet.state_dict().items()}
    for path in chosen.snapshots:
        model.pipeline.unet.load_state_dict(load_file(path))
        report[str(path)] = made()
    model.pipeline.unet.load_state_dict(own)
    return report | {"real clips": distance(other)}


def _all_shown(model: PvdmModel, latents: Iterable[Tensor]) -> Frames:
    return np.stack([shown(model, one) for one in latents])


PARTS = {
    "reconstruction": reconstruction_part,
    "clips": clips_part,
    "chains": chains_part,
    "continuation": continuation_part,
    "distance": distance_part,
}


def score(chosen: Settings) -> dict[str, object]:
    """Return the score."""
    model, head = measured_model(chosen.model, PvdmModel)
    return head | {part: PARTS[part](model, chosen) for part in chosen.parts}
