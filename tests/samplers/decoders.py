"""Toys that are like other video models in one thing: decoders that do not give a frame for every latent at once, as
causal and other ones; a prompt for a whole window, as with joint attention."""

from dataclasses import replace

import torch

from longtake.model import Timing
from longtake.models.toy import Toy
from longtake.models.toy_spec import TOY

REACH = 3


class HeldBack(Toy):
    """A frame is the mean of its latent and those up to `REACH` before and after it: the last ones have to wait."""

    def __init__(self):
        super().__init__()
        self.spec = replace(TOY, decoder_history=2 * REACH, decoder_held=REACH)

    def decode(self, latents, state, last):
        """Remember the last 2 REACH latents, of which the second half (at the start: the last REACH) still waits."""
        remembered = latents[:, :0] if state is None else state
        known = torch.cat([remembered, latents], dim=1)
        places = range(max(0, remembered.shape[1] - REACH), known.shape[1] - (0 if last else REACH))
        means = [known[:, max(0, place - REACH) : place + REACH + 1].mean(1, keepdim=True) for place in places]
        frames, _ = super().decode(torch.cat([known[:, :0], *means], dim=1), None, last)
        return frames, known[:, -2 * REACH :]


class Repeating(Toy):
    """Every latent is several frames of the video, the first one a single one."""

    def __init__(self, stride):
        super().__init__()
        self.spec = replace(TOY, timing=Timing(stride=stride), decoder_history=1)

    def decode(self, latents, state, last):
        frames, _ = super().decode(latents, None, last)
        repeated = frames.repeat_interleave(self.spec.timing.stride, 0)
        return repeated[0 if state else self.spec.timing.stride - 1 :], "begun"


class Paired(Toy):
    """Every latent is four frames of the video, the first one a single one; the decoder takes three latents and then
    two at a time, and those that are over wait."""

    def __init__(self):
        super().__init__()
        self.spec = replace(TOY, timing=Timing(stride=4), decoder_history=3, decoder_piece=2)

    def decode(self, latents, state, last):
        known, begun = (latents, False) if state is None else (torch.cat([state[0], latents], dim=1), state[1])
        taken = [0, *range(2 if begun else 3, known.shape[1] + 1, 2)][-1]
        taken = known.shape[1] if last else taken
        frames, _ = super().decode(known[:, :taken], None, last)
        repeated = frames.repeat_interleave(4, 0)
        return repeated[0 if begun or not taken else 3 :], (known[:, taken:], begun or taken > 0)


class OnePrompt(Toy):
    """Takes one prompt a window, and notes the colours of those that it was given."""

    def __init__(self):
        super().__init__()
        self.spec = replace(TOY, prompts="window")
        self.given = set()

    def denoise(self, x, level, schedule, condition, prompt_index):
        assert (prompt_index == prompt_index[:, :1]).all()
        self.given |= set(map(tuple, condition.rows["mu"][prompt_index[:, 0]].tolist()))
        return super().denoise(x, level, schedule, condition, prompt_index)
