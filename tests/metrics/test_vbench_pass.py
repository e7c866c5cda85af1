"""VBench's dimensions against their formulas in numpy, on tiny networks whose answers are known."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import CLIPModel, CLIPTokenizer

from longtake.metrics.of_video import Frames
from longtake.metrics.vbench import VBench
from longtake.metrics.vbench_networks import warping_error
from longtake.metrics.vbench_pass import Clips, along, largest_motion, middles, moves
from longtake.video.encoding import Encoding
from longtake.video.formats.mkv import open_mkv

from .tiny_vbench import NOISE, Between, Pooled, Ramp, Reds, Still, Widest, saved, written

CLIPS = (slice(0, 16), slice(9, 25))
"""Clips of two seconds of NOISE."""


def measured(folder: Path, frames: Frames, **options: Any) -> dict[str, Any]:
    """Return the figures of frames as a folder of PNG files."""
    return VBench(path=written(folder / "v", frames), **options).measure()


def resized(picture: np.ndarray, height: int, width: int, kernel: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Resize (height, width, 3) by a kernel, without smoothing before; edges are repeated."""

    def matrix(old: int, new: int) -> np.ndarray:
        places = (np.arange(new) + 0.5) * old / new - 0.5
        found = np.zeros((new, old))
        for tap in range(-1, 3):
            near = np.floor(places).astype(int) + tap
            np.add.at(found, (np.arange(new), near.clip(0, old - 1)), kernel(np.abs(places - near)))
        return found

    rows, columns = matrix(picture.shape[0], height), matrix(picture.shape[1], width)
    return np.einsum("ah,hwc,bw->abc", rows, picture.astype(np.float64), columns)


def linear(x: np.ndarray) -> np.ndarray:
    return np.maximum(1 - x, 0)


def cubic(x: np.ndarray) -> np.ndarray:
    """Keys' kernel with a = -0.75."""
    near, far = 1.25 * x**3 - 2.25 * x**2 + 1, -0.75 * (x**3 - 5 * x**2 + 8 * x - 4)
    return np.where(x <= 1, near, np.where(x < 2, far, 0))


def normalised(picture: np.ndarray, mean: list[float], deviation: list[float]) -> np.ndarray:
    return ((picture / 255 - mean) / deviation).transpose(2, 0, 1).astype(np.float32)


def consistency(rows: np.ndarray) -> float:
    """VBench's sum, frame by frame."""
    total = 0.0
    for now in range(1, len(rows)):
        for other in (rows[now - 1], rows[0]):
            cosine = other @ rows[now] / np.linalg.norm(other) / np.linalg.norm(rows[now])
            total += max(0.0, float(cosine)) / 2
    return total / (len(rows) - 1)


def flickering(frames: np.ndarray) -> float:
    steps = [np.abs(a.astype(float) - b.astype(float)).mean() for a, b in zip(frames, frames[1:], strict=False)]
    return (255 - float(np.mean(steps))) / 255


def test_subject_and_background_consistency_are_those_of_the_formula(tmp_path: Path, clip_folder: Path):
    found = measured(tmp_path, NOISE, dino=saved(Pooled(), tmp_path / "dino.pt"), clip=clip_folder)
    dino = np.stack([Pooled()(torch.from_numpy(normalised(resized(frame, 224, 373, linear),
                     [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))[None])[0].numpy() for frame in NOISE])  # fmt: skip
    model = CLIPModel.from_pretrained(clip_folder)
    seen = np.stack([normalised(resized(frame, 32, 53, cubic)[:, 10:42], [0.48145466, 0.4578275, 0.40821073],
                                [0.26862954, 0.26130258, 0.27577711]) for frame in NOISE])  # fmt: skip
    with torch.inference_mode():
        clip = model.get_image_features(pixel_values=torch.from_numpy(seen)).pooler_output.numpy()
    for name, rows in (("subject_consistency", dino), ("background_consistency", clip)):
        assert 0 < found[name] < 1 and found[name] == pytest.approx(consistency(rows), abs=1e-5)
        assert found["slow"][name] == pytest.approx(np.mean([consistency(rows[part]) for part in CLIPS]), abs=1e-5)
        assert found["fast"][name] == pytest.approx(consistency(rows[[0, 9]]), abs=1e-5)
    unit = clip / np.linalg.norm(clip, axis=1, keepdims=True)
    assert found["clip_frame_consistency"] == pytest.approx((unit[1:] * unit[:-1]).sum(1).mean(), abs=1e-5)
    assert "clip_score" not in found and "there are no prompts" in found["warnings"][0]
    assert found["clips"] == 2 and len(found["curves"]["subject consistency"]) == 24
    assert found["networks"]["dino"].startswith("dino.pt, SHA-256 ")
    assert "DINO ViT-B/16" in found["labels"]["subject_consistency"]


def test_a_cosine_below_nothing_counts_as_nothing():
    rows = np.array([[1, 0], [-1, 0], [0, 1]], np.float32)
    # The second frame is opposite to the first, the third across both, the fourth halfway to both of its own.
    rows = np.concatenate([rows, np.array([[0.6, 0.8]], np.float32)])
    assert along(list(rows)) == pytest.approx([0, 0, (0.8 + 0.6) / 2])


def test_the_clip_score_is_of_the_prompt_that_holds(tmp_path: Path, clip_folder: Path):
    found = measured(tmp_path, NOISE, clip=clip_folder, prompts="[0s: a fish] [2s: cat and dog and horse]")
    model, words = CLIPModel.from_pretrained(clip_folder), CLIPTokenizer.from_pretrained(clip_folder)
    seen = np.stack([normalised(resized(frame, 32, 53, cubic)[:, 10:42], [0.48145466, 0.4578275, 0.40821073],
                                [0.26862954, 0.26130258, 0.27577711]) for frame in NOISE])  # fmt: skip
    scores = []
    with torch.inference_mode():
        rows = model.get_image_features(pixel_values=torch.from_numpy(seen)).pooler_output
        for number, row in enumerate(rows):
            text = "a fish" if number < 16 else "cat and dog and horse"
            given = words(text, truncation=True, max_length=12, return_tensors="pt")
            said = model.get_text_features(**given).pooler_output[0]
            scores.append(100 * max(0.0, float(nn.functional.cosine_similarity(row, said, dim=0))))
    assert found["clip_score"] == pytest.approx(np.mean(scores), abs=1e-3)
    assert not found["warnings"]


def test_flickering_needs_no_network(tmp_path: Path):
    found = measured(tmp_path, NOISE)
    assert found["temporal_flickering"] == pytest.approx(flickering(NOISE))
    assert found["slow"] == {"temporal_flickering": pytest.approx(np.mean([flickering(NOISE[part]) for part in CLIPS]))}
    assert found["fast"] is None and list(found["curves"]) == ["temporal flickering"]
    assert not {"subject_consistency", "dynamic_degree", "imaging_quality"} & found.keys()


def test_a_frozen_video_is_perfectly_smooth_and_does_not_move(tmp_path: Path):
    given = {"amt": saved(Between(), tmp_path / "amt.pt"), "raft": saved(Still(0, 0), tmp_path / "raft.pt"),
             "dino": saved(Pooled(), tmp_path / "dino.pt")}  # fmt: skip
    black = np.zeros_like(NOISE)
    found = measured(tmp_path, black, **given)
    names = ("temporal_flickering", "motion_smoothness", "subject_consistency")
    assert [found[name] for name in names] == pytest.approx([1, 1, 1], abs=1e-6)
    assert [found["slow"][name] for name in names] == pytest.approx([1, 1, 1], abs=1e-6)
    assert found["dynamic_degree"] == found["slow"]["dynamic_degree"] == found["warping_error"] == 0


def test_motion_smoothness_rebuilds_every_odd_frame(tmp_path: Path):
    found = measured(tmp_path, NOISE, amt=saved(Between(), tmp_path / "amt.pt"))

    def score(frames: np.ndarray, first: int) -> float:
        off = []
        for odd in range(first, len(frames) - 1, 2):
            pair = (frames[odd - 1].astype(np.float32) / 255 + frames[odd + 1].astype(np.float32) / 255) / 2
            made = (pair * 255).clip(0, 255).astype(np.uint8)
            off.append(np.abs(made.astype(float) - frames[odd]).mean())
        return (255 - float(np.mean(off))) / 255

    assert found["motion_smoothness"] == pytest.approx(score(NOISE, 1), abs=1e-6)
    # The last clip begins with frame 9: the odd frames of the whole are its second, fourth and so on, but for the ends.
    clips = [score(NOISE[:16], 1), score(NOISE[9:], 2)]
    assert found["slow"]["motion_smoothness"] == pytest.approx(np.mean(clips), abs=1e-6)


@pytest.mark.parametrize(("step", "degree"), [((0.3, 0.4), 0), ((3, 4), 1)])
def test_a_known_shift_gives_its_length_and_moves_or_not(tmp_path: Path, step: tuple[float, float], degree: int):
    raft = saved(Still(*step), tmp_path / "raft.pt")
    found = measured(tmp_path, NOISE, raft=raft)
    # The short side has 24 pixels: more than 0.5625 is motion.
    assert found["curves"]["optical flow, the largest 5 %, pixels"] == pytest.approx([np.hypot(*step)] * 24)
    assert found["dynamic_degree"] == found["slow"]["dynamic_degree"] == degree


def test_the_largest_motions_are_those_of_the_padded_picture(tmp_path: Path):
    frames = NOISE[:3, :, :37]
    found = measured(tmp_path, frames, raft=saved(Ramp(), tmp_path / "raft.pt"))
    lengths = np.sort(np.tile(np.arange(40), 24))[::-1][:48]
    assert found["curves"]["optical flow, the largest 5 %, pixels"] == pytest.approx([lengths.mean()] * 2)


def test_enough_large_motions_make_a_video_dynamic():
    small, large = 5.9, 6.1
    assert moves([large] * 4 + [small] * 11, 256) == 1 and moves([large] * 3 + [small] * 12, 256) == 0
    # Twice the size, twice the motion; twice the frames, twice the count.
    assert moves([large] * 15, 512) == 0 and moves([2 * large] * 4 + [small] * 11, 512) == 1
    assert moves([large] * 7 + [small] * 24, 256) == 0 and moves([large] * 8 + [small] * 23, 256) == 1
    assert largest_motion(np.array([[[3, 0]] * 20, [[4, 0]] * 20], np.float32)) == 5


def test_motion_is_measured_eight_times_a_second(tmp_path: Path):
    frames = np.stack([np.full((24, 24, 3), 10 * number, np.uint8) for number in range(13)])
    path = tmp_path / "fast.mkv"
    encoding = Encoding(rate=Fraction(24), height=24, width=24, scale=1, crf=18, segment=13, comment="")
    writer = open_mkv(path, encoding)
    writer.append(writer.start(), 0, frames)
    writer.close_at(13)
    writer.close()
    found = VBench(path=path, raft=saved(Still(1, 0), tmp_path / "raft.pt")).measure()
    # 24 frames a second: frames 0, 3, 6, 9, 12.
    assert len(found["curves"]["optical flow, the largest 5 %, pixels"]) == 4
    assert VBench(path=path).timeline(None, "[0s: a] [0.25s: b]").starts == (0, 6)
    assert len(found["curves"]["temporal flickering"]) == 12 and found["clips"] == 1 and found["slow"] is None


def test_frames_that_follow_their_flow_have_no_warping_error():
    frames = [np.roll(NOISE[:1], (down, 2 * down), (1, 2)) for down in (0, 1)]
    flow = np.stack([np.full((24, 40), 2.0), np.full((24, 40), 1.0)]).astype(np.float32)
    assert warping_error(frames[0], frames[1], flow) == pytest.approx(0, abs=1e-9)
    still = warping_error(frames[0], frames[1], 0 * flow)
    difference = (frames[0].astype(float) - frames[1]) / 255
    assert still == pytest.approx((difference**2).mean(), rel=1e-5)
    assert warping_error(frames[0], frames[1], flow + 99) is None


def test_aesthetic_and_imaging_quality_are_means_over_the_frames(tmp_path: Path, clip_folder: Path):
    head = {"weight": torch.linspace(-1, 1, 8)[None], "bias": torch.tensor([5.0])}
    torch.save(head, tmp_path / "head.pth")
    wide = NOISE[:2].repeat(26, axis=2)
    found = measured(
        tmp_path,
        wide,
        aesthetic_clip=clip_folder,
        aesthetic_head=tmp_path / "head.pth",
        musiq=saved(Widest(), tmp_path / "musiq.pt"),
    )
    seen = np.stack([normalised(resized(frame, 32, 1386, cubic)[:, 677:709], [0.48145466, 0.4578275, 0.40821073],
                                [0.26862954, 0.26130258, 0.27577711]) for frame in wide])  # fmt: skip
    with torch.inference_mode():
        model = CLIPModel.from_pretrained(clip_folder)
        rows = model.get_image_features(pixel_values=torch.from_numpy(seen)).pooler_output.numpy()
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    assert found["aesthetic_quality"] == pytest.approx((rows @ np.linspace(-1, 1, 8) + 5).mean() / 10, abs=1e-5)
    # 1,040 pixels become 512.
    assert found["imaging_quality"] == pytest.approx(5.12)


def test_overall_consistency_asks_for_the_prompt_of_every_ten_seconds(tmp_path: Path, clip_folder: Path):
    grey = np.arange(100, dtype=np.uint8)[:, None, None, None] * np.ones((1, 16, 16, 3), np.uint8)
    given: dict[str, Any] = {
        "clip": clip_folder,
        "viclip": saved(Reds(), tmp_path / "viclip.pt"),
        "prompts": "[0s: cat] [7s: dog]",
    }
    found = measured(tmp_path, grey, **given)

    def cosine(places: list[int], letters: str) -> float:
        red = (np.array(places) / 255 - 0.48145466) / 0.26862954
        ids = [52, *(ord(one) - 97 for one in letters[:-1]), ord(letters[-1]) - 97 + 26, 53]
        said = np.array(ids + [0] * (8 - len(ids)))
        return float(red @ said / np.linalg.norm(red) / np.linalg.norm(said))

    # Frames 0 to 79, of which 40 hears of the cat, and 20 to 99, of which 60 hears of the dog.
    expected = [cosine(list(range(4, 80, 10)), "cat"), cosine(list(range(24, 100, 10)), "dog")]
    assert found["slow"]["overall_consistency"] == pytest.approx(np.mean(expected), abs=1e-4)
    assert "overall_consistency" not in found
    short = VBench(path=written(tmp_path / "s", grey[:40]), **given).measure()
    assert short["overall_consistency"] == pytest.approx(cosine(list(range(2, 40, 5)), "cat"), abs=1e-4)


@pytest.mark.parametrize(
    ("frames", "starts"), [(5, [0]), (16, [0]), (17, [0, 1]), (40, [0, 16, 24]), (48, [0, 16, 32])]
)
def test_the_last_clip_ends_with_the_video(frames: int, starts: list[int]):
    clips = Clips(16, lambda items, start: float(len(items) if items[0] == start else -1))
    for number in range(frames):
        clips.add(number)
    clips.finish()
    assert clips.firsts == starts and clips.scores == [min(16, frames)] * len(starts)


def test_the_middles_of_a_clip():
    assert middles(80, 8) == [4, 14, 24, 34, 44, 54, 64, 74]
    assert middles(5, 8) == [0, 1, 2, 3, 4, 4, 4, 4] and middles(20, 8) == [0, 3, 5, 8, 10, 13, 15, 18]


def test_a_single_frame_has_no_change(tmp_path: Path):
    found = measured(tmp_path, NOISE[:1], dino=saved(Pooled(), tmp_path / "dino.pt"))
    assert found["temporal_flickering"] is found["subject_consistency"] is None and found["num_frames"] == 1
