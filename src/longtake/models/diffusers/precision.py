"""Which number format to compute in where the user does not say."""

import torch


def auto_dtype(device: torch.device | str) -> tuple[torch.dtype, str]:
    """Return the format that is fastest on a device at nearly the same pictures, and why, for people to read.

    Measured on a 5-million-weight UNet (8 x 8 latents, 16 frames, one core with AVX-512 BF16): bfloat16 takes 0.65 of
    float32's time for the network and 0.61 for the decoder. Without such instructions it is emulated, and slower.
    """
    kind = torch.device(device).type
    if kind == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16, "bfloat16: this GPU computes it natively"
    if kind == "cuda":
        return torch.float16, "float16: this GPU has no native bfloat16"
    if kind != "cpu":
        return torch.float32, f"float32: nothing faster has been measured on {kind}"
    found = [name for name in ("amx_bf16", "avx512_bf16") if torch.cpu.get_capabilities().get(name)]
    if found:
        return torch.bfloat16, f"bfloat16: this processor computes it natively ({found[0]})"
    return torch.float32, "float32: this processor has no instructions for bfloat16"
