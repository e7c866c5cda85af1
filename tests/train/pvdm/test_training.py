"""PVDM's training: phases, caches and interruptions leave the result as it should be."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from longtake.errors import CheckpointError, InputError, MissingExtraError
from longtake.models.pvdm.config import Grid
from longtake.models.pvdm.losses import VGG_CHANNELS, VGG_LAYER, Lpips, PatchDiscriminator, load_lpips
from longtake.train.fit.checkpoint import load_checkpoint
from longtake.train.fit.job import begin_record, memory_advice
from longtake.train.fit.loop import fit, step_generator
from longtake.train.fit.settings import FitSettings
from longtake.train.pvdm.autoencoder import reconstruction_loss, to_video
from longtake.train.pvdm.cache import LatentClips, clip_places, encode_footage
from longtake.train.pvdm.perceptual import EfficientNetDistance, load_perceptual
from longtake.train.pvdm.settings import LossWeights, PerceptualChoice
from longtake.train.pvdm.stages import frozen_autoencoder, num_levels

from .cases import (
    FRAMES,
    PHASE_1,
    SETTINGS,
    autoencoder_task,
    cached,
    diffusion_task,
    footage,
    judges,
    parts_of,
    trained_on_a_rank,
    weights,
)


def equal(some: dict[str, Tensor], others: dict[str, Tensor]) -> bool:
    return some.keys() == others.keys() and all(torch.equal(some[name], others[name]) for name in some)


def count_calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    calls: list[int] = []
    forward = PatchDiscriminator.forward
    monkeypatch.setattr(PatchDiscriminator, "forward", lambda self, x: (calls.append(len(x)), forward(self, x))[1])
    return calls


def test_the_first_phase_runs_no_discriminator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task, calls = autoencoder_task(), count_calls(monkeypatch)
    rival = judges(task)
    before = weights(rival.module)
    fit(task, replace(SETTINGS, num_steps=PHASE_1), tmp_path, discriminators=rival)
    assert calls == []
    fit(task, SETTINGS, tmp_path, discriminators=rival)
    # Two steps of each: two judges look at real and at reconstructed clips.
    assert len(calls) == 4 * 2 * 2
    assert not equal(before, weights(rival.module))


def test_each_side_learns_in_its_turn_only(tmp_path: Path) -> None:
    task = autoencoder_task()
    rival, seen = judges(task), []

    def look(step: int) -> bool:
        seen.append((weights(task.autoencoder), weights(nn.ModuleList(rival.module.children()))))
        return False

    fit(task, SETTINGS, tmp_path, stop=look, discriminators=rival)
    learned = [
        (not equal(mine, mine_then), any(not torch.equal(theirs[n], then[n]) for n in theirs if n.endswith("weight")))
        for (mine, theirs), (mine_then, then) in zip(seen, seen[1:], strict=False)
    ]
    assert learned == [(True, False)] * 3 + [(False, True), (True, False)]


@pytest.mark.parametrize("stop_at", [1, PHASE_1, 3, 5])
def test_an_interrupted_autoencoder_is_bit_identical(tmp_path: Path, stop_at: int) -> None:
    def run(folder: str, stop: Callable[[int], bool] = lambda step: False) -> tuple[dict, dict]:
        task = autoencoder_task()
        rival = judges(task)
        fit(task, parts_of(SETTINGS, 2), tmp_path / folder, stop, rival)
        return weights(task.autoencoder), weights(rival.module)

    whole = run("whole")
    run("parts", lambda step: step == stop_at)
    ours, theirs = run("parts")
    assert equal(whole[0], ours) and equal(whole[1], theirs)


def test_the_second_phase_goes_on_from_a_finished_first(tmp_path: Path) -> None:
    whole, first, second = autoencoder_task(), autoencoder_task(), autoencoder_task()
    fit(whole, SETTINGS, tmp_path / "whole", discriminators=judges(whole))
    assert fit(first, replace(SETTINGS, num_steps=PHASE_1), tmp_path / "parts")
    found = load_checkpoint(tmp_path / "parts")
    assert found is not None and "rival" not in found.tensors
    assert fit(second, SETTINGS, tmp_path / "parts", discriminators=judges(second))
    assert equal(weights(whole.autoencoder), weights(second.autoencoder))
    assert "rival" in (load_checkpoint(tmp_path / "parts") or found).tensors


def test_an_interrupted_diffusion_model_is_bit_identical(tmp_path: Path) -> None:
    clips = cached(tmp_path / "latents")
    whole, first, second = (diffusion_task(clips) for _ in range(3))
    fit(whole, SETTINGS, tmp_path / "whole")
    fit(first, SETTINGS, tmp_path / "parts", stop=lambda step: step == 3)
    fit(second, SETTINGS, tmp_path / "parts")
    assert equal(weights(whole.unet), weights(second.unet))


def test_cached_latents_give_the_loss_of_encoding_on_the_fly(tmp_path: Path) -> None:
    data, task = footage(), diffusion_task(cached(tmp_path))
    generator = torch.Generator().manual_seed(5)
    batch = task.clips.draw(8, 0.6, generator)
    rows = [
        int(row) for row in (task.clips.latents.float() == batch.latents[:, None]).flatten(2).all(2).int().argmax(1)
    ]
    clips, before = [], []
    for row, previous in zip(rows, batch.previous, strict=True):
        recording, start = task.clips.places[row].tolist()
        follows = bool(previous.any())
        frames = torch.from_numpy(data.clip(recording, start - FRAMES * follows, start + FRAMES))
        both = task.autoencoder.encode(to_video(torch.stack(list(frames.split(FRAMES)))))
        clips.append(both[-1].detach())
        before.append(both[0].detach() if follows else torch.zeros_like(both[-1]))
    assert 0 < sum(bool(one.any()) for one in before) < 8
    timestep, noise = torch.arange(8) * 120, torch.randn(batch.latents.shape, generator=generator)
    ours = task.error(batch.latents, batch.previous, None, timestep, noise)
    fresh = task.error(torch.stack(clips), torch.stack(before), None, timestep, noise)
    assert ours.item() == pytest.approx(fresh.item(), rel=2e-3)
    assert ours.item() != fresh.item()


def test_a_cache_holds_every_start_or_the_stated_ones(tmp_path: Path) -> None:
    assert len(cached(tmp_path / "all").latents) == len(clip_places(footage(), FRAMES, 1)) == 9 + 6
    fewer = cached(tmp_path / "fewer", every=2)
    assert [start for _, start in fewer.places.tolist()] == [0, 2, 4, 6, 8, 0, 2, 4]
    every = LatentClips(tmp_path / "all", FRAMES)
    same = [row for row, (_, start) in enumerate(every.places.tolist()) if start % 2 == 0]
    # Batches of other sizes round differently.
    assert torch.allclose(every.latents[same].float(), fewer.latents.float(), atol=2e-3)
    with pytest.raises(InputError, match="use a divisor"):
        encode_footage(autoencoder_task().autoencoder, footage(), 3, tmp_path / "none")


def test_parts_of_a_step_are_averaged(tmp_path: Path) -> None:
    """The gradient of two parts is that of the mean of their losses, which a plain step shows by its direction."""
    task, settings = autoencoder_task(), replace(parts_of(SETTINGS, 2), num_steps=1, max_gradient=None)
    losses = [task.loss(step_generator(settings.seed, 0, part))[0] for part in range(2)]
    wanted = torch.autograd.grad(torch.stack(losses).mean(), list(task.autoencoder.parameters()))
    fit(task, settings, tmp_path)
    found = load_checkpoint(tmp_path)
    assert found is not None
    # After one step AdamW's memory of gradients is a fixed share of them.
    states = found.optimizers["optimizer"]["state"]
    for number, gradient in enumerate(wanted):
        assert torch.allclose(states[number]["exp_avg"], 0.1 * gradient, rtol=1e-4, atol=1e-7)


def test_two_processes_do_what_one_does(tmp_path: Path, ranks: Any, one_thread: None) -> None:
    first, second = ranks.run(2, trained_on_a_rank, str(tmp_path / "two"))
    task = autoencoder_task()
    fit(task, replace(parts_of(SETTINGS, 2), num_steps=4), tmp_path / "one", discriminators=judges(task))
    alone = weights(task.autoencoder)
    assert equal(first, second)
    for name, value in alone.items():
        assert torch.allclose(value, first[name], rtol=1e-4, atol=1e-6), name
    assert (tmp_path / "two/final/autoencoder/config.json").is_file()
    assert (tmp_path / "two/log.txt").read_text().count("finished") == 1


def test_processes_must_share_a_step_evenly() -> None:
    with pytest.raises(InputError, match="--parts 2"):
        SETTINGS.check_processes(2)


def test_half_precision_needs_a_gpu(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="fp16 needs a GPU"):
        fit(autoencoder_task(), replace(SETTINGS, precision="fp16"), tmp_path)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (torch.OutOfMemoryError("Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 8.00 GiB of which"),
         "out of memory (2.00 GiB more were needed, the GPU has 8.00 GiB); lower it"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 67108864 bytes. Error"),
         "out of memory (0.067 GB more were needed, this process has had 2.5 GB); lower it"),
        (MemoryError("Unable to allocate 3.5 GiB for an array with shape (1,)"),
         "out of memory (3.5 GiB more were needed, this process has had 2.5 GB); lower it"),
    ],
)  # fmt: skip
def test_out_of_memory_says_what_to_change(error: Exception, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("longtake.train.fit.job.peak_memory", lambda: 2_500_000_000)
    with pytest.raises(InputError) as raised, memory_advice("lower it"):
        raise error
    assert str(raised.value) == said


def test_other_errors_stay_as_they_are() -> None:
    with pytest.raises(RuntimeError, match="other"), memory_advice("lower it"):
        raise RuntimeError("other")


def test_recomputing_activations_changes_nothing(tmp_path: Path) -> None:
    plain, again = autoencoder_task(), autoencoder_task()
    again.autoencoder.recompute = True
    losses = [task.loss(step_generator(0, 0))[0] for task in (plain, again)]
    for loss in losses:
        loss.backward()
    for one, other in zip(plain.autoencoder.parameters(), again.autoencoder.parameters(), strict=True):
        assert one.grad is not None and other.grad is not None
        assert torch.allclose(one.grad, other.grad, rtol=1e-4, atol=1e-7)


def test_squares_and_looks_add_to_the_loss() -> None:
    clip, chosen = torch.zeros(2, 3, 4, 8, 8), torch.tensor([0, 3])
    weights = LossWeights(pixels=1.0, squares=2.0, perceptual=3.0)
    loss = reconstruction_loss(clip, clip + 0.5, chosen, lambda x, y: (y - x).amax(dim=(1, 2, 3)), weights)
    assert loss == 0.5 + 2 * 0.25 + 3 * 0.5


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_a_weight_that_no_loss_can_have_is_refused(value: float) -> None:
    with pytest.raises(InputError, match=f"the weight edges cannot be {value:g}; use 0 or more"):
        LossWeights(edges=value)


@pytest.mark.parametrize("name", ["weight_decay", "learning_rate", "max_gradient"])
@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_a_setting_that_no_step_can_have_is_refused(name: str, value: float) -> None:
    with pytest.raises(InputError, match=f"{name}.*(use 0 or more|must be above 0)"):
        FitSettings(**{"num_steps": 1, "learning_rate": 1e-3, name: value})


def test_a_step_that_is_none_counts_where_edges_do() -> None:
    clip, chosen = torch.zeros(1, 3, 4, 8, 8), torch.tensor([0])
    again = clip.clone()
    again[..., 4:] = 1.0  # a step of 1 at one of 7 borders across, at none of those up and down
    weights = LossWeights(pixels=1.0, edges=0.7)
    torch.testing.assert_close(reconstruction_loss(clip, again, chosen, None, weights), torch.tensor(0.5 + 0.7 / 7))


def test_a_decoder_alone_learns_and_leaves_the_latents() -> None:
    task = autoencoder_task()
    task.settings = replace(task.settings, decoder_only=True, latent_noise=0.1)
    task.loss(step_generator(0, 0))[0].backward()
    learns = {name for name, parameter in task.autoencoder.named_parameters() if parameter.grad is not None}
    decoder = {id(parameter) for parameter in task.module().parameters()}
    assert learns == {name for name, each in task.autoencoder.named_parameters() if id(each) in decoder}
    assert {name.split(".")[0] for name in learns} == {"from_planes", "decoder", "to_pixels"}


def test_lpips_is_read_from_the_two_files_that_people_have(tmp_path: Path) -> None:
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in Lpips().state_dict().items()}
    # Files of single numbers, each spread over a whole tensor.
    vgg = {
        f"features.{theirs}.{kind}": torch.tensor(float(theirs)).expand(shapes[f"stages.{ours}.{kind}"])
        for theirs, ours in VGG_LAYER.items()
        for kind in ("weight", "bias")
    }
    linear = {f"lin{n}.model.1.weight": torch.full((1, width, 1, 1), 0.5 + n) for n, width in enumerate(VGG_CHANNELS)}
    torch.save(vgg | {"classifier.0.weight": torch.zeros(2)}, tmp_path / "vgg16.pth")
    torch.save(linear, tmp_path / "vgg.pth")
    found = load_lpips([tmp_path / "vgg16.pth", tmp_path / "vgg.pth"])
    assert found.weights[2].unique().tolist() == [2.5]
    assert [found.stages[4][layer].weight.unique().item() for layer in (0, 2, 4)] == [24.0, 26.0, 28.0]
    with pytest.raises(CheckpointError, match="not the whole of LPIPS"):
        load_lpips([tmp_path / "vgg.pth"])


def test_a_perceptual_network_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("longtake.train.pvdm.perceptual.PACKAGE", "no_such_package_here")
    with pytest.raises(MissingExtraError, match=r"longtake\[perceptual\]"):
        load_perceptual("efficientnet", (), torch.device("cpu"))
    assert load_perceptual("none", (), torch.device("cpu")) is None
    with pytest.raises(InputError, match="give them by --vgg"):
        PerceptualChoice().check()


def their_name(name: str) -> str:
    """What the package with EfficientNet's weights calls a tensor of ours."""
    for place, number in (("expand", 0), ("depthwise", 1), ("project", 2)):
        name = name.replace(f".{place}.conv.", f"._{place}_conv.").replace(f".{place}.norm.", f"._bn{number}.")
    return name.replace("blocks.", "_blocks.").replace("stem.conv.", "_conv_stem.").replace("stem.norm.", "_bn0.")


def test_efficientnet_is_read_from_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = EfficientNetDistance().eval()
    theirs = {their_name(name): tensor for name, tensor in network.state_dict().items()}
    theirs |= {"_fc.weight": torch.zeros(2), "_bn1.weight": torch.zeros(2), "_blocks.15._bn2.bias": torch.zeros(2)}
    torch.save(theirs, tmp_path / "lite0.pth")
    monkeypatch.setattr("longtake.train.pvdm.perceptual.weights_file", lambda: tmp_path / "lite0.pth")
    distance = load_perceptual("efficientnet", (), torch.device("cpu"))
    assert distance is not None and not any(one.requires_grad for one in distance.parameters())
    picture = torch.rand(2, 3, 32, 32) * 2 - 1
    near, far = (picture + size * torch.randn_like(picture) for size in (0.1, 0.4))
    assert torch.equal(distance(picture, near), network(picture, near))
    assert distance(picture, picture).tolist() == [0, 0]
    assert (distance(picture, near) < distance(picture, far)).all()
    (tmp_path / "lite0.pth").write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match="install"):
        load_perceptual("efficientnet", (), torch.device("cpu"))


def test_a_damaged_autoencoder_is_named(tmp_path: Path) -> None:
    task = autoencoder_task()
    task.save(tmp_path)
    found = frozen_autoencoder(tmp_path / "autoencoder", torch.device("cpu"))
    assert equal(weights(found), weights(task.autoencoder))
    next((tmp_path / "autoencoder").glob("*.safetensors")).write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match="is not a whole safetensors file"):
        frozen_autoencoder(tmp_path / "autoencoder", torch.device("cpu"))


def test_the_levels_that_a_clip_allows() -> None:
    sizes = [(16, 32, 32), (16, 9, 9), (8, 4, 4), (12, 8, 8)]
    assert [num_levels(Grid(frames=t, rows=h, columns=w)) for t, h, w in sizes] == [5, 1, 3, 3]


def test_a_run_goes_on_with_other_steps_but_not_as_another_run(tmp_path: Path) -> None:
    def begin(stage: str = "one", **changes: object) -> list[str]:
        settings = {"run": {"fit": {"num_steps": 2, "seed": 0}, "judges": {"steps": 0}, "batch_size": 8} | changes}
        return begin_record(tmp_path, stage, settings, {"data": "abc"})

    begin()
    assert begin(batch_size=4) == []
    (tmp_path / "checkpoint").mkdir()
    assert begin(batch_size=2) == ["batch size 2 in place of 4"]
    assert begin(batch_size=2, fit={"num_steps": 9, "seed": 0}, judges={"steps": 5}) == []
    with pytest.raises(InputError, match="begun with seed 0, not 1"):
        begin(batch_size=2, fit={"num_steps": 9, "seed": 1})
    with pytest.raises(InputError, match="is a run of one"):
        begin("two")
    (tmp_path / "checkpoint" / "rival.safetensors").touch()
    with pytest.raises(InputError, match="begun with steps 9, not 10"):
        begin(batch_size=2, fit={"num_steps": 10, "seed": 0}, judges={"steps": 5})
