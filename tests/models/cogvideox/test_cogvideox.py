"""The adapter for CogVideoX against diffusers itself, on tiny real components saved as the hub has them."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import CogVideoXDPMScheduler, CogVideoXPipeline
from torch import Tensor
from torch.utils._pytree import tree_leaves

from longtake import from_pipe, stream
from longtake.decoding import Decoder, decode_clip, decode_pixels, pack_decoder, unpack_decoder
from longtake.errors import CapabilityError, InputError, LongtakeError
from longtake.model import WholeClips
from longtake.models import load_model, model_spec
from longtake.models.cogvideox.decoder import decode
from longtake.models.cogvideox.model import CogVideoXModel
from longtake.models.cogvideox.spec import Autoencoder, decoder_history, remembered_numbers
from longtake.models.hub.loading import Offload
from longtake.models.hub.offload import HOST, Turns, come_in_blocks, take_turns
from longtake.request import PromptTimeline, Request
from longtake.samplers.chunked.plan import Chunked
from longtake.samplers.fifo.plan import Fifo
from longtake.samplers.planning import checked_plan, plan_warnings

from .cogvideox_fixture import CHANNELS, FRAMES, HEIGHT, WIDTH, latents, rows_of, tiny_cogvideox, tiny_vae

PROMPTS = ["", "a red car", "a blue boat"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    return {rotary: tiny_cogvideox(tmp_path_factory.mktemp("models"), rotary) for rotary in (False, True)}


@pytest.fixture(scope="module", params=[False, True], ids=["2b", "5b"])
def model(request: pytest.FixtureRequest, folders: dict[bool, Path]) -> CogVideoXModel:
    found = load_model(str(folders[request.param]))
    assert isinstance(found, CogVideoXModel)
    return found


def test_the_levels_are_the_scheduler_s_own(model: CogVideoXModel) -> None:
    """With its shift of signal to noise, down to none of the signal, at the timesteps at which it steps."""
    scheduler, schedule = model.pipeline.scheduler, model.schedule(8)
    scheduler.set_timesteps(8)
    assert schedule.timestep.flip(0)[:-1].tolist() == scheduler.timesteps.tolist()
    assert torch.equal(schedule.alpha[1:], scheduler.alphas_cumprod[schedule.timestep[1:]].double().sqrt())
    assert schedule.alpha[-1] == 0 and schedule.alpha[0] == 1
    later: Any = CogVideoXDPMScheduler.from_config(scheduler.config)
    assert torch.equal(later.alphas_cumprod, scheduler.alphas_cumprod)


def test_a_native_clip_is_the_stock_pipeline_s(model: CogVideoXModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """By `chunked`, from the noise with which it began: levels, positions, texts, guidance and steps."""
    noise, made, network, own = [], [], model.pipeline.transformer, CogVideoXModel.decode
    handle = network.register_forward_pre_hook(
        lambda module, args, kwargs: noise.append(kwargs["hidden_states"]), with_kwargs=True
    )

    def decode(model: CogVideoXModel, latents: Tensor, state: Any, last: bool) -> Any:
        made.append(latents)
        return own(model, latents, state, last)

    monkeypatch.setattr(CogVideoXModel, "decode", decode)
    request = Request(prompts=PromptTimeline.constant(PROMPTS[1]), frames=4 * FRAMES - 3, steps=5)
    (pixels,) = stream(model, request, Chunked())
    handle.remove()
    assert len(noise) == 2 * 5 and len(pixels) == 4 * FRAMES - 3
    model.pipeline.set_progress_bar_config(disable=True)
    given: dict[str, Any] = {"negative_prompt": "", "guidance_scale": 6.0, "num_inference_steps": 5}
    expected = model.pipeline(prompt=PROMPTS[1], latents=noise[0], output_type="latent", **given).frames
    assert expected.shape[1] == FRAMES
    torch.testing.assert_close(torch.cat(made, dim=1), expected[0].transpose(0, 1), atol=1e-4, rtol=0)
    frames = model.pipeline(prompt=PROMPTS[1], latents=noise[0], output_type="np", **given).frames[0]
    assert np.abs(np.rint(frames * 255) - pixels).max() <= 1


def test_the_text_has_the_mean_of_the_timesteps(model: CogVideoXModel) -> None:
    seen: list[Tensor] = []
    network = model.pipeline.transformer
    handle = network.time_proj.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    schedule, x = model.schedule(10), latents(2)
    levels = torch.stack([torch.arange(1, FRAMES + 1), torch.full((FRAMES,), 9)])
    model.denoise(x, levels, schedule, model.encode(PROMPTS), rows_of([1, 2]))
    handle.remove()
    (given,) = seen
    timesteps = schedule.timestep[levels].float()
    assert torch.equal(given, torch.cat([timesteps.flatten(), timesteps.mean(dim=1)]))
    assert given[-1] == schedule.timestep[9]


def test_a_level_belongs_to_its_frame(model: CogVideoXModel) -> None:
    """With attention silenced, a frame is as in a window that has its level throughout."""
    x, schedule, condition = latents(1), model.schedule(10), model.encode(PROMPTS)
    levels = torch.tensor([[2, 9, 4, 6, 7]])
    blocks = model.pipeline.transformer.transformer_blocks
    idle = [tensor for block in blocks for tensor in block.attn1.to_out[0].parameters()]
    saved = [tensor.clone() for tensor in idle]
    try:
        for tensor in idle:
            tensor.data.zero_()
        mixed = model.denoise(x, levels, schedule, condition, rows_of([1]))
        for frame, level in enumerate(levels[0]):
            alike = model.denoise(x, level[None], schedule, condition, rows_of([1]))
            torch.testing.assert_close(mixed[:, :, frame], alike[:, :, frame], atol=1e-6, rtol=1e-5)
            assert frame == 0 or (mixed - alike)[:, :, 0].abs().max() > 1e-2
    finally:
        for tensor, values in zip(idle, saved, strict=True):
            tensor.data.copy_(values)


def streamed(vae: Any, z: Tensor, sizes: Sequence[int]) -> Tensor:
    parts, stream = [], None
    for number, piece in enumerate(z.split_with_sizes(list(sizes), dim=2), start=1):
        pixels, stream = decode(vae, piece, stream, number == len(sizes))
        parts.append(pixels)
    return torch.cat(parts, dim=2)


@pytest.mark.parametrize("number", [1, 3, 5, 13])
def test_a_stream_decodes_as_the_library_decodes_all_at_once(number: int) -> None:
    vae: Any = tiny_vae()
    z = latents(1, number)
    with torch.inference_mode():
        expected = vae.decode(z).sample
        by_one = streamed(vae, z, [1] * number)
        torch.testing.assert_close(by_one, expected, atol=1e-5, rtol=0)
        assert expected.shape[2] == 1 + 4 * (number - 1)
        assert torch.equal(streamed(vae, z, [number]), by_one)
        if number == 13:
            assert torch.equal(streamed(vae, z, [2, 2, 4, 1, 4]), by_one)
            assert torch.equal(streamed(vae, z, [6, 0, 7]), by_one)


@pytest.mark.parametrize("number", [2, 4, 6])
def test_a_latent_that_is_left_is_decoded_beside_copies_of_itself(number: int) -> None:
    """So that there are as many frames as the timing says, and all before are those of the stream."""
    vae: Any = tiny_vae()
    z = latents(1, number)
    with torch.inference_mode():
        made = streamed(vae, z, [1] * number)
        expected = vae.decode(torch.cat([z, z[:, :, -1:]], dim=2)).sample
    assert made.shape[2] == 1 + 4 * (number - 1)
    torch.testing.assert_close(made, expected[:, :, :-4], atol=1e-5, rtol=0)


@pytest.mark.parametrize("more", [2, 3])
def test_a_stream_is_taken_up_again_bit_for_bit_from_the_last_latents(model: CogVideoXModel, more: int) -> None:
    """Wherever it is left: with a full piece, or with a latent that waits for the rest of its own."""
    history = model.spec.decoder_history
    z = latents(1, history + more + 4)[0]
    whole, (before, after) = decode_clip(model, z), (z[:, : history + more], z[:, history + more :])
    made, decoder = decode_pixels(model, before, Decoder(), last=False)
    saved = pack_decoder(decoder)
    assert set(saved) == {"decoder.frames", "decoder.latents"}
    assert history <= saved["decoder.latents"].shape[1] <= history + 1
    for kept in (decoder, unpack_decoder(model, saved)):
        rest, _ = decode_pixels(model, after, kept, last=True)
        assert np.array_equal(np.concatenate([made, rest]), whole)


def test_the_memory_hangs_on_as_many_latents_as_the_spec_says() -> None:
    """No number at all in the first piece: what hangs on it is none either, and the rest is what it would be."""
    vae: Any = tiny_vae()
    history = decoder_history(Autoencoder(block_out_channels=(8, 8, 16, 16), layers_per_block=1))
    z = latents(1, 3 + history - 1)
    z[:, :, :3] = torch.nan
    with torch.inference_mode():
        _, before = decode(vae, z[:, :, :-2], None, last=False)
        _, after = decode(vae, z[:, :, -2:], before, last=False)
    assert not all(held.isfinite().all() for held in tree_leaves(before))
    assert all(held.isfinite().all() for held in tree_leaves(after))


def test_what_is_remembered_is_what_the_plan_says() -> None:
    vae: Any = tiny_vae()
    read = Autoencoder(**{name: vae.config[name] for name in Autoencoder.__dataclass_fields__})
    with torch.inference_mode():
        _, stream = decode(vae, latents(1, 4), None, last=False)
    assert sum(held.numel() for held in tree_leaves(stream)) == remembered_numbers(read, HEIGHT * WIDTH)
    assert decoder_history(Autoencoder()) == 77


def test_pixels_become_latents_and_odd_numbers_of_them_are_refused(model: CogVideoXModel) -> None:
    frames = torch.rand(9, 3, 8 * HEIGHT, 8 * WIDTH)
    encoded = model.encode_frames(frames)
    vae = model.pipeline.vae
    with torch.inference_mode():
        expected = vae.encode((frames * 2 - 1).transpose(0, 1)[None]).latent_dist.mode()[0]
    torch.testing.assert_close(encoded, expected * vae.config.scaling_factor, atol=1e-6, rtol=0)
    assert encoded.shape == (CHANNELS, 3, HEIGHT, WIDTH)
    with pytest.raises(InputError, match="encodes 1 frame and 4 for each further latent, not 8"):
        model.encode_frames(frames[:8])


def test_what_is_native_is_read_of_the_configs(folders: dict[bool, Path]) -> None:
    first, second = (model_spec(str(folders[rotary])) for rotary in (False, True))
    for spec in (first, second):
        assert (spec.num_frames, spec.height, spec.width) == (FRAMES, 32, 48)
        assert (spec.fps, spec.guidance, spec.prompts, spec.prompt_tokens) == (8.0, 6.0, "window", 226)
    assert (first.released, second.released) == ("float16", "bfloat16")


def test_positions_that_are_added_end_with_the_window_and_others_do_not(folders: dict[bool, Path]) -> None:
    assert model_spec(str(folders[False]), window=3).num_frames == 3
    with pytest.raises(InputError, match=f"--window 6 is no window .* 1 to {FRAMES} latent frames; the next is 5"):
        model_spec(str(folders[False]), window=6)
    longer = load_model(str(folders[True]), window=6, size="64x48")
    x = torch.randn(1, *longer.spec.latent_shape)
    made = longer.denoise(x, torch.tensor([6]), longer.schedule(10), longer.encode(PROMPTS), rows_of([1], 6))
    assert made.shape == (1, CHANNELS, 6, 6, 8) and made.isfinite().all()


def changed(folder: Path, place: Path, part: str, **settings: Any) -> str:
    copy = Path(shutil.copytree(folder, place / "changed"))
    (config,) = (copy / part).glob("*config.json")
    config.write_text(json.dumps(json.loads(config.read_text()) | settings))
    return str(copy)


REFUSED = {
    "another scheduler": (
        "scheduler",
        {"_class_name": "DDIMScheduler"},
        "CogVideoX runs with a CogVideoXDDIMScheduler",
    ),
    "known frames as channels": ("transformer", {"in_channels": 8}, "in_channels 8 .* do not fit the 4 channels"),
    "a size": ("transformer", {"sample_height": 5}, "40 x 48 does not fit; both must be multiples of 16"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_one_line(name: str, folders: dict[bool, Path], tmp_path: Path) -> None:
    part, settings, said = REFUSED[name]
    with pytest.raises(LongtakeError, match=said) as caught:
        model_spec(changed(folders[False], tmp_path, part, **settings))
    assert "\n" not in str(caught.value)


def test_two_latents_in_a_token_have_no_level_a_frame(folders: dict[bool, Path], tmp_path: Path) -> None:
    """CogVideoX 1.5: its pipeline is run as a whole, as any other, and what needs levels is told why not."""
    spec = model_spec(changed(folders[True], tmp_path, "transformer", patch_size_t=2))
    assert spec.capabilities == {WholeClips}
    request = Request(prompts=PromptTimeline.constant("a car"), frames=40)
    with pytest.raises(CapabilityError, match="2 latents are one token of its network, with one noise level.*chunked"):
        checked_plan(spec, request, Fifo())
    checked_plan(spec, request, Chunked())


def test_the_plan_says_that_a_window_has_one_prompt(model: CogVideoXModel) -> None:
    request = Request(prompts=PromptTimeline((0, 20), ("a car", "a boat")), frames=60)
    for sampler in (Fifo(), Chunked()):
        said = " ".join(plan_warnings(checked_plan(model.spec, request, sampler)))
        assert "takes one prompt for all frames of a window" in said


@pytest.mark.parametrize("offload", ["model", "group"])
def test_parts_that_come_in_for_their_calls_change_nothing(folders: dict[bool, Path], offload: Offload) -> None:
    plain, model = (load_model(str(folders[True])) for _ in range(2))
    assert isinstance(model, CogVideoXModel)
    if offload == "group":
        come_in_blocks(model.pipeline.transformer, HOST)
    else:
        take_turns(model.pipeline, ("transformer", "vae", "text_encoder"), offload, Turns(HOST))
        model.takes_turns = True
    request = Request(prompts=PromptTimeline.constant("a car"), frames=13)
    made = [list(stream(each, request, Fifo(partitions=1))) for each in (plain, model)]
    assert all(np.array_equal(one, other) for one, other in zip(*made, strict=True))


def test_a_prepared_pipeline_is_the_same_model(model: CogVideoXModel) -> None:
    live = from_pipe(model.pipeline)
    assert live.spec.latent_shape == model.spec.latent_shape and live.spec.capabilities == model.spec.capabilities
    assert isinstance(model.pipeline, CogVideoXPipeline)
    given = latents(1), torch.tensor([4]), model.schedule(10), model.encode(PROMPTS), rows_of([1])
    assert torch.equal(live.denoise(*given), model.denoise(*given))
