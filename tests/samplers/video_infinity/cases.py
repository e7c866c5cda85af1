"""The recorded cases of Video-Infinity, and what a process computes of one."""

import json
import os
from pathlib import Path

import numpy as np
import torch
from diffusers import UNet3DConditionModel
from safetensors.torch import load_file

from longtake.models.modelscope import model as modelscope
from longtake.models.modelscope.model import frame_mixing
from longtake.ranks.world import World
from longtake.samplers.clips import held_frames, released_global_frames
from longtake.samplers.video_infinity.dual_scope import Scope
from longtake.samplers.video_infinity.loop import ClipMixer
from longtake.schedule import Level, step, to_x0

DATA = Path(__file__).parents[2] / "golden" / "data" / "video_infinity"
FOLDERS = [DATA] + [Path(os.environ[name]) / "video_infinity" for name in ("LONGTAKE_GOLDEN",) if name in os.environ]

TIMESTEPS, GUIDANCE = (901, 601, 301), 6.0


def all_cases() -> dict[str, Path]:
    """Every recorded case and the file that holds it."""
    found = {}
    for path in sorted(path for folder in FOLDERS for path in folder.glob("*.npz")):
        with np.load(path) as file:
            found |= dict.fromkeys(json.loads(str(file["cases_json"])), path)
    return found


def load_case(path: str, name: str) -> tuple[dict, dict]:
    """The settings of a case, and its arrays."""
    with np.load(path) as file:
        meta = json.loads(str(file["cases_json"]))[name]
        return meta, {k.split("/")[1]: torch.from_numpy(file[k]) for k in file.files if k.startswith(f"{name}/")}


def load_unet() -> UNet3DConditionModel:
    """The network of the recordings."""
    unet = UNet3DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
        block_out_channels=(32, 64),
        layers_per_block=1,
        cross_attention_dim=16,
        attention_head_dim=4,
        norm_num_groups=8,
    )
    weights = load_file(DATA / "unet_fp16.safetensors")
    unet.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    return unet.eval().requires_grad_(False)


def released_mixer(meta: dict, world: World) -> ClipMixer:
    """The mixer that does what the recorded settings did."""
    clips = [range(i * meta["F"], (i + 1) * meta["F"]) for i in range(meta["world"])]
    attn = meta["cfg"]["attn"]
    scope = Scope(
        total=clips[-1].stop,
        padding=attn["padding"],
        global_frames=released_global_frames(clips, attn["top_k"]),
        zeros=True,
        repeats=True,
        attn_scale=float(attn.get("attn_scale", 1.0)),
        token_num_scale=attn.get("token_num_scale", False),
    )
    mixer = ClipMixer(clips, world.clip, scope, joint_norms=meta["gn"], windowed_blocks=meta["conv"] == "conv_layer")
    return mixer


def phase_weights(attn: dict, timestep: int) -> tuple[float, float]:
    """What is added to local and global logits at a timestep."""
    local, distant = 0.0, 0.0
    if attn.get("dynamic_scale"):
        for phase, applies in (
            ("local_phase", timestep < attn["local_phase"]["t"]),
            ("global_phase", timestep >= attn["global_phase"]["t"]),
        ):
            if applies:
                local += attn[phase]["local_biase"]
                distant += attn[phase]["global_biase"]
    return local, distant


@torch.inference_mode()
def run_case(world: World, path: str, name: str) -> dict[str, torch.Tensor]:
    """This process's frames of everything that was recorded."""
    torch.set_num_threads(1)
    meta, arrays = load_case(path, name)
    unet, mixer = load_unet(), released_mixer(meta, world)
    modelscope.REACH = meta["cfg"]["conv_layer"].get("padding", 4) if "conv_layer" in meta["cfg"] else 4
    mine = held_frames([range(i * meta["F"], (i + 1) * meta["F"]) for i in range(meta["world"])], world.clip.size)
    frames = mine[world.clip.rank]
    x = arrays["x"][:, :, frames.start : frames.stop]

    def both(x, timestep):
        mixer.weights = phase_weights(meta["cfg"]["attn"], timestep)
        return unet(x.repeat(2, 1, 1, 1, 1), timestep, arrays["ctx"]).sample

    with frame_mixing(unet, mixer):
        answers = {key: both(x, int(key.removeprefix("unet_t"))) for key in arrays if key.startswith("unet_t")}
        answers["ddim"] = x
        for timestep in TIMESTEPS:
            empty, text = both(answers["ddim"], timestep).chunk(2)
            answers["ddim"] = _ddim(answers["ddim"], empty + GUIDANCE * (text - empty), timestep)
    return answers


def _ddim(x: torch.Tensor, eps: torch.Tensor, timestep: int) -> torch.Tensor:
    """diffusers' step, 333 timesteps down whatever the next one is; clean is the first of the training schedule."""
    bar = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2, 0)
    now, then = (
        Level(alpha=bar[max(t, 0)].sqrt(), sigma=(1 - bar[max(t, 0)]).sqrt()) for t in (timestep, timestep - 333)
    )
    return step(x, to_x0(eps, x, now, "epsilon"), now, then)
