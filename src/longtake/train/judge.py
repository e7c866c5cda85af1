"""Train the judge of sprite videos on ground truth: real clips, and real clips spoilt on purpose."""

import json
import math
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from longtake.data.sprite_render import draw_scene
from longtake.data.sprites import MOTIONS, OBJECTS, SCENES, Shot, SpriteWorld, light, random_world
from longtake.metrics.controls import CONTROLS, blur
from longtake.metrics.judge import CLIP_FRAMES, HEADS, JudgeNetwork
from longtake.train.fit.writing import writing

_IGNORED = -100
_SEED_OFFSET = 1_000_000_000
"""Training worlds have seeds from here on; evaluation uses small ones."""
_LATEST_START = 20_000


SETTINGS = {"steps": 700, "batch_size": 24, "learning_rate": 2e-3, "spoilt": 0.35}
"""Batches, about 8 minutes on one core; clips in each, rendered once and never again; peak of AdamW's rate, which rises
and then falls by a cosine; share of clips that are spoilt so that a head has to reject them."""


Batch = tuple[Tensor, dict[str, Tensor]]
"""Clips, uint8 or float in 0 to 255 (clips, 16, 64, 64, 3), and for each head the numbers of their classes."""


def train_judge(out: Path, seed: int = 0) -> None:
    """Train a judge and write judge.safetensors (float16) and judge.json into the folder `out`."""
    torch.manual_seed(seed)
    rng, steps = np.random.default_rng([seed, 30]), int(SETTINGS["steps"])
    network, began = JudgeNetwork(), time.time()
    batches = (_batch(rng) for _ in range(steps))
    for step, (loss, right) in enumerate(taught(network, batches, steps, SETTINGS["learning_rate"])):
        if step % 25 == 0:
            print(f"step {step} loss {loss:.3f} {right} {time.time() - began:.0f} s", flush=True)
        if step % 100 == 99:
            _save(network, out, seed)
    _save(network, out, seed)


def taught(
    network: JudgeNetwork, batches: Iterable[Batch], steps: int, learning_rate: float
) -> Iterator[tuple[float, dict[str, float]]]:
    """Train a network in place, a step for each of `steps` batches; yield the loss of each and what is read right."""
    network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    optimiser = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=1e-2)
    for step, (clips, labels) in enumerate(batches):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate * _pace(step, steps)
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(clips)
        losses = [F.cross_entropy(logits[head].float(), labels[head], label_smoothing=0.02) for head in HEADS]
        loss = torch.stack(losses).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        yield loss.item(), {head: _accuracy(logits[head], labels[head]) for head in HEADS}


def labels_of(shot: Shot) -> dict[str, int]:
    """Return the number of the class of what a clip shows, for each head."""
    return {
        "object": OBJECTS.index(shot.object),
        "scene": SCENES.index(shot.scene),
        "motion": MOTIONS.index(shot.motion),
    }


def _pace(step: int, steps: int) -> float:
    return min((step + 1) / 30, 0.5 + 0.5 * math.cos(math.pi * step / steps))


def _accuracy(logits: Tensor, labels: Tensor) -> float:
    known = labels != _IGNORED
    return round(float((logits.argmax(-1) == labels)[known].float().mean()), 2)


def _save(network: JudgeNetwork, out: Path, seed: int) -> None:
    out.mkdir(parents=True, exist_ok=True)
    weights = {
        name: value.half().contiguous() for name, value in network.state_dict().items() if value.is_floating_point()
    }
    config = {head: list(names) for head, names in HEADS.items()} | {"training": {"seed": seed} | SETTINGS}
    with writing("the judge", out):
        save_file(weights, out / "judge.safetensors")
        (out / "judge.json").write_text(json.dumps(config, indent=1) + "\n")


def _batch(rng: np.random.Generator) -> tuple[Tensor, dict[str, Tensor]]:
    clips, labels = [], []
    for _ in range(int(SETTINGS["batch_size"])):
        clip, label = _example(rng, SETTINGS["spoilt"])
        clips.append(clip)
        labels.append(label)
    batch = torch.from_numpy(np.stack(clips))
    targets = {head: torch.tensor([label[head] for label in labels]) for head in HEADS}
    return augmented(batch, rng), targets


def _example(rng: np.random.Generator, spoilt: float) -> tuple[NDArray[np.uint8], dict[str, int]]:
    world = random_world(_SEED_OFFSET + int(rng.integers(2**31)), training_only=False)
    start = int(rng.integers(_LATEST_START))
    clip = world.frames(start, start + CLIP_FRAMES)
    label = labels_of(world.shot(0))
    visible = np.mean([world.state(frame).visible for frame in range(start, start + CLIP_FRAMES)])
    if visible < 0.5:
        label["object"] = _IGNORED
    return _spoil(clip, label, world, start, rng) if rng.random() < spoilt else (clip, label)


def _spoil(
    clip: NDArray[np.uint8], label: dict[str, int], world: SpriteWorld, start: int, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], dict[str, int]]:
    """Spoil the clip in one way and change the labels to what is still true of it."""
    seed = int(rng.integers(2**31))
    match str(rng.choice(["frozen", "looped", "looped", "shuffled", "blurred", "empty", "smeared", "noise"])):
        case "blurred":
            return blur(clip, rng.uniform(4.5, 9)), label | {
                "object": len(OBJECTS), "scene": _IGNORED, "motion": _IGNORED,
            }  # fmt: skip
        case "empty":
            return _scenery(world, start), label | {"object": len(OBJECTS), "motion": _IGNORED}
        case "smeared":
            scenery = _scenery(world, start).astype(np.float32)
            smear = torch.from_numpy(clip - scenery).permute(0, 3, 1, 2)
            smear = _gaussian(smear, float(rng.uniform(4.5, 7))).permute(0, 2, 3, 1).numpy()
            return (scenery + smear).clip(0, 255).astype(np.uint8), label | {
                "object": len(OBJECTS), "motion": _IGNORED,
            }  # fmt: skip
        case "noise":
            return _nothing(clip, rng), {"object": len(OBJECTS), "scene": len(SCENES), "motion": _IGNORED}
        case name:
            return CONTROLS[name](clip, seed), label | {"motion": len(MOTIONS)}


def _scenery(world: SpriteWorld, start: int) -> NDArray[np.uint8]:
    """The clip without its object."""
    frames = []
    for frame in range(start, start + CLIP_FRAMES):
        state = world.state(frame)
        camera = (state.map_x, state.map_y)
        picture = draw_scene(state.shot.scene, frame, camera, state.horizon, light(state.time_of_day))
        frames.append(picture.clip(0, 255).astype(np.uint8))
    return np.stack(frames)


def _nothing(clip: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """No scene: plain noise, one flat colour, or a clip with its pixels in disorder (blocks of 8)."""
    kind = rng.integers(3)
    if kind == 0:
        return rng.integers(0, 256, clip.shape, dtype=np.uint8)
    if kind == 1:
        return np.broadcast_to(rng.integers(0, 256, 3, dtype=np.uint8), clip.shape).copy()
    blocks = clip.reshape(CLIP_FRAMES, 8, 8, 8, 8, 3).transpose(0, 1, 3, 2, 4, 5).reshape(CLIP_FRAMES, 64, 8, 8, 3)
    blocks = blocks[:, rng.permutation(64)].reshape(CLIP_FRAMES, 8, 8, 8, 8, 3).transpose(0, 1, 3, 2, 4, 5)
    mixed = blocks.reshape(clip.shape)
    return mixed[..., rng.permutation(3)]


def _gaussian(images: Tensor, sigma: float) -> Tensor:
    """Blur (batch, channels, height, width) with this standard deviation in pixels."""
    reach = max(1, math.ceil(2.5 * sigma))
    line = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    line = (line / line.sum()).expand(images.shape[1], 1, -1)
    padded = F.pad(images, (reach, reach, reach, reach), mode="replicate")
    across = F.conv2d(padded, line[:, :, None, :], groups=images.shape[1])
    return F.conv2d(across, line[:, :, :, None], groups=images.shape[1])


def augmented(clips: Tensor, rng: np.random.Generator) -> Tensor:
    """Return clips, float in 0 to 255, with mild damage that leaves all classes readable: blur, coarse detail, block
    quantisation, colour, noise, shift."""
    spoilt = []
    for clip in clips:
        x = clip.float().permute(0, 3, 1, 2)
        if rng.random() < 0.5:
            x = _gaussian(x, float(rng.uniform(0.4, 1.8)))
        if rng.random() < 0.5:
            x = torch.lerp(x, _gaussian(x, float(rng.uniform(1.5, 3))), _soft_mask(len(x), rng))
        if rng.random() < 0.3:
            x = torch.lerp(x, _coarse(x, int(rng.choice([2, 4]))), float(rng.uniform(0.2, 0.8)))
        if rng.random() < 0.4:
            x = _quantised(x, float(rng.uniform(6, 70)))
        gain = torch.tensor(rng.uniform(0.9, 1.1, (1, 3, 1, 1)), dtype=torch.float32)
        x = x * gain + float(rng.uniform(-10, 10))
        if rng.random() < 0.6:
            x = x + _soft_noise(x, rng)
        shift = rng.integers(-3, 4, 2)
        x = F.pad(x, (3, 3, 3, 3), mode="replicate").roll((int(shift[0]), int(shift[1])), (2, 3))[:, :, 3:-3, 3:-3]
        spoilt.append(x.clamp(0, 255).permute(0, 2, 3, 1))
    return torch.stack(spoilt)


def _soft_noise(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Noise of its own in every frame, fine or in soft blobs such as a decoder leaves."""
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    size = int(rng.choice([64, 32, 16]))
    noise = torch.randn((len(x), 3, size, size), generator=generator) * float(rng.uniform(0, 7))
    return noise if size == 64 else F.interpolate(noise, size=(64, 64), mode="bilinear")


def _soft_mask(num_frames: int, rng: np.random.Generator) -> Tensor:
    """Places that are smudged in this clip, 0 to 1: a decoder loses detail here and there, not everywhere."""
    places = torch.from_numpy(rng.uniform(-1, 1.5, (1, 1, 8, 8)) + 0.3 * rng.normal(size=(num_frames, 1, 8, 8)))
    return F.interpolate(places.float().clamp(0, 1), size=(64, 64), mode="bilinear")


def _coarse(x: Tensor, factor: int) -> Tensor:
    return F.interpolate(F.avg_pool2d(x, factor), size=x.shape[-2:], mode="bilinear")


def _quantised(x: Tensor, step: float) -> Tensor:
    """Round the cosine coefficients of 8x8 blocks, as video coders do."""
    rows = torch.arange(8)
    dct = torch.cos(math.pi * (rows[None, :] + 0.5) * rows[:, None] / 8) * 0.5
    dct[0] *= math.sqrt(0.5)
    blocks = x.reshape(*x.shape[:2], 8, 8, 8, 8).transpose(3, 4)
    steps = step * (0.5 + (rows[:, None] + rows[None, :]) / 7)
    rounded = torch.round(dct @ blocks @ dct.T / steps) * steps
    return (dct.T @ rounded @ dct).transpose(3, 4).reshape(x.shape)
