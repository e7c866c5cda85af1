"""The ablations of NUWA-XL in miniature: python -m lab ablate nuwa-xl conditions|autoencoder [--seeds 2].

After the paper's Table 2 (arXiv 2303.12346), on the sprite worlds, some hundred steps each, with seeds. `conditions`:
the network is told of the known frames at the finest scale on the way up alone, at every scale on the way up (MI), or
at every scale both ways (MI + SI). `autoencoder`: frames by themselves (KLVAE), or with layers over time that start at
random (T-KLVAE-R) or as the identity (T-KLVAE). All of a kind start from the same image network, see the same batches
and are measured on worlds that none was trained on, with the same noise. Needs the stages up to
`stretches` of longtake train embedded. What is measured is kept as it comes: the same call again goes on where it
stopped.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn
from tyro.conf import Positional

from lab.ablation.nuwa_xl_figures import Figures, autoencoder_figures, condition_figures
from lab.common import slug
from longtake.models.nuwa_xl.load import from_video_unet, load_temporal_autoencoder, load_unet
from longtake.models.nuwa_xl.spec import MtdConfig
from longtake.models.nuwa_xl.t_klvae import TemporalAutoencoder
from longtake.train.fit.limit import Limit
from longtake.train.fit.loop import fit
from longtake.train.fit.runs import Runs
from longtake.train.fit.settings import FitSettings
from longtake.train.nuwa_xl.data import SpriteStretches
from longtake.train.nuwa_xl.settings import MtdSettings
from longtake.train.nuwa_xl.unet import MtdTask
from longtake.train.nuwa_xl.vae import TemporalVaeTask
from longtake.train.sprites.build import AutoencoderKL, build_scheduler
from longtake.train.sprites.stages import trained_vae

Results = dict[str, dict[str, Figures]]
"""Variant -> seed -> name -> figure."""

STRIDES = MtdConfig().strides
CONDITIONS = {
    "neither": MtdConfig(multi_scale=False, symmetric=False),
    "MI": MtdConfig(symmetric=False),
    "MI + SI": MtdConfig(),
}
AUTOENCODERS = ("KLVAE", "T-KLVAE-R", "T-KLVAE")
UNTRAINED = "untrained"
"""What all variants start from, as far as they start from the same."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Which of the two, and how long."""

    part: Positional[Literal["conditions", "autoencoder"]]
    runs: Path = Path("runs")  # the folder of longtake train embedded, up to its stage stretches
    seeds: int = 2
    steps: int | None = None  # of every run; 600 for conditions, 150 for autoencoder if not given
    minutes: float | None = None  # save and stop after this time


def condition_settings(steps: int, seed: int) -> tuple[MtdSettings, FitSettings]:
    """Return how mask temporal diffusion is trained: with the paper's masks alone, so that the ends are learnt soon."""
    task = MtdSettings(
        batch_size=4, level_shares=(1.0, 2.0, 2.0), drop_known=0.0, continued=0.0, known_noise=0.0, sample_steps=2
    )
    return task, _fit(steps, seed, learning_rate=1e-3, warmup_steps=100)


def _fit(steps: int, seed: int, learning_rate: float, warmup_steps: int) -> FitSettings:
    """The average of the weights looks back over some 30 steps, as there are few."""
    rates = FitSettings(num_steps=steps, learning_rate=learning_rate, warmup_steps=warmup_steps, seed=seed)
    return replace(rates, decay_steps=steps // 3, ema_decay=0.97, sample_minutes=1e9, save_minutes=2.0)


def split(stretches: Path, folder: Path) -> tuple[Path, Path]:
    """Return two folders of links to the files of encoded worlds: all but the last to train on, the last held out."""
    files = sorted(stretches.glob("stretches_*.safetensors"))
    places = folder / "train", folder / "held"
    for place, part in zip(places, (files[:-1], files[-1:]), strict=True):
        place.mkdir(parents=True, exist_ok=True)
        for file in part:
            (place / file.name).unlink(missing_ok=True)
            (place / file.name).symlink_to(file.resolve())
    return places


def autoencoder(kind: str, vae: AutoencoderKL, num_frames: int) -> TemporalAutoencoder:
    """Return a network to train; KLVAE is one whose layers over time stay the identity."""
    network = TemporalAutoencoder(vae, num_frames)
    for layers in (network.over_time.convolutions, network.over_time.attentions):
        layers.requires_grad_(kind != "KLVAE")
        for layer in layers.modules() if kind == "T-KLVAE-R" else ():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                layer.reset_parameters()
    return network


def spread(results: Results) -> dict[str, dict[str, list[float]]]:
    """Return mean, least and most over the seeds of every figure of every variant."""
    table: dict[str, dict[str, list[float]]] = {}
    for name, seeds in results.items():
        rows = list(seeds.values())
        columns = {key: [row[key] for row in rows] for key in rows[0]}
        table[name] = {key: [float(np.mean(found)), min(found), max(found)] for key, found in columns.items()}
    return table


def collect(path: Path, jobs: Mapping[tuple[str, int], Callable[[], Figures | None]]) -> Results:
    """Run the jobs (by variant and seed) that `path` has no figures of, and keep each one's there as it ends.

    A job that returns None was stopped; those after it wait for another call.
    """
    results: Results = json.loads(path.read_text()) if path.exists() else {}
    for (name, seed), job in jobs.items():
        if str(seed) in results.get(name, {}):
            continue
        figures = job()
        if figures is None:
            break
        results.setdefault(name, {})[str(seed)] = figures
        path.with_suffix(".new").write_text(json.dumps(results, indent=2) + "\n")
        path.with_suffix(".new").rename(path)
    return results


def conditions_part(runs: Runs, steps: int, seeds: int) -> Results:
    """Train and measure every way of telling the network of the known frames."""
    folder = runs.folder / "ablation"
    train, held = (SpriteStretches(one, runs.captions, STRIDES) for one in split(runs.folder / "stretches", folder))
    alphas_cumprod, vae = build_scheduler().alphas_cumprod.double(), trained_vae(runs)
    measured = partial(condition_figures, alphas_cumprod=alphas_cumprod, vae=vae, source=held)

    def job(name: str, seed: int) -> Figures | None:
        torch.manual_seed(seed)
        network = from_video_unet(runs.final("images"), CONDITIONS.get(name, MtdConfig())).requires_grad_(True)
        if name == UNTRAINED:
            return measured(network.eval())
        settings, loop = condition_settings(steps, seed)
        place = folder / f"{slug(name)}-{seed}"
        task = MtdTask(network, alphas_cumprod, vae, train, settings)
        return measured(load_unet(place / "final")) if fit(task, loop, place, runs.limit) else None

    return collect(folder / "conditions.json", _jobs(job, tuple(CONDITIONS), seeds))


def autoencoder_part(runs: Runs, steps: int, seeds: int) -> Results:
    """Train and measure autoencoders with and without layers over time."""
    folder, frames = runs.folder / "ablation", MtdConfig().frames

    def job(name: str, seed: int) -> Figures | None:
        torch.manual_seed(seed)
        network = autoencoder(name, trained_vae(runs), frames)
        if name == UNTRAINED:
            return autoencoder_figures(network.eval())
        loop = _fit(steps, seed, learning_rate=1e-4, warmup_steps=75)
        place = folder / f"{name.lower()}-{seed}"
        done = fit(TemporalVaeTask(network, num_worlds=100), loop, place, runs.limit)
        return autoencoder_figures(load_temporal_autoencoder(place / "final")) if done else None

    return collect(folder / "autoencoder.json", _jobs(job, AUTOENCODERS, seeds))


def _jobs(
    job: Callable[[str, int], Figures | None], names: Sequence[str], seeds: int
) -> dict[tuple[str, int], Callable[[], Figures | None]]:
    """Seed by seed, so that what is broken off is complete for some seeds."""
    trained = [(name, seed) for seed in range(seeds) for name in names]
    return {(name, seed): partial(job, name, seed) for name, seed in [(UNTRAINED, 0), *trained]}


PARTS = {"conditions": (conditions_part, 600), "autoencoder": (autoencoder_part, 150)}
"""Each with its steps."""


def ablation(chosen: Settings) -> dict[str, object]:
    """Return a table: mean, least and most over the seeds."""
    function, steps = PARTS[chosen.part]
    steps = chosen.steps or steps
    results = function(Runs(folder=chosen.runs, limit=Limit(chosen.minutes)), steps, chosen.seeds)
    return {"steps": steps, "mean, least, most": spread(results)}
