"""What PVDM's autoencoder is trained on (Yu et al., CVPR 2023, arXiv 2302.07685, sec. 3.1; weights of their code).

A clip is (batch, 3, frames, height, width) in [-1, 1].
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import l1_loss, relu

from longtake.train.pvdm.settings import LossWeights

Distance = Callable[[Tensor, Tensor], Tensor]
"""Pictures (batch, 3, height, width) in [-1, 1], twice -> how different each pair looks, (batch,)."""


class Discriminators(nn.Module):
    """One judge of single frames and one of clips. Both return scores and the features of their stages."""

    def __init__(self, frames: nn.Module, clips: nn.Module) -> None:
        super().__init__()
        self.frames, self.clips = frames, clips

    def forward(self, clip: Tensor, chosen: Tensor) -> list[tuple[Tensor, list[Tensor]]]:
        """Return what each judge says of clips, and of one frame of each."""
        return [self.frames(frames_at(clip, chosen)), self.clips(clip)]


def frames_at(clip: Tensor, chosen: Tensor) -> Tensor:
    """Return one frame of each clip: (batch, 3, height, width)."""
    return clip[torch.arange(len(clip), device=clip.device), :, chosen]


def reconstruction_loss(
    clip: Tensor, again: Tensor, chosen: Tensor, distance: Distance | None, weights: LossWeights
) -> Tensor:
    """Return the loss of the first phase: pixels, and what the frames `chosen` look like. Needs no discriminator."""
    error = again - clip
    loss = weights.pixels * error.abs().mean()
    if weights.squares:
        loss = loss + weights.squares * error.square().mean()
    if distance is None:
        return loss
    return loss + weights.perceptual * distance(frames_at(clip, chosen), frames_at(again, chosen)).mean()


def adversarial_loss(
    judges: Discriminators, clip: Tensor, again: Tensor, chosen: Tensor, weights: LossWeights
) -> Tensor:
    """Return what the second phase adds for the autoencoder: fooled judges, and features like the clip's own."""
    with torch.no_grad():
        real = judges(clip, chosen)
    loss = again.new_zeros(())
    for (score, seen), (_, wanted) in zip(judges(again, chosen), real, strict=True):
        apart = [l1_loss(feature, target) for feature, target in zip(seen, wanted, strict=True)]
        loss = loss - weights.adversarial * score.mean() + weights.features * torch.stack(apart).sum()
    return loss


def discriminator_loss(judges: Discriminators, clip: Tensor, again: Tensor, chosen: Tensor) -> Tensor:
    """Return the judges' own loss: the hinge of their scores, which should be above 1 for real and below -1 for
    reconstructed."""
    pairs = zip(judges(clip, chosen), judges(again.detach(), chosen), strict=True)
    hinges = [(relu(1 - real).mean() + relu(1 + fake).mean()) / 2 for (real, _), (fake, _) in pairs]
    return torch.stack(hinges).sum()
