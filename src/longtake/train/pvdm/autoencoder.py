"""Training PVDM's autoencoder (Yu et al., CVPR 2023, arXiv 2302.07685, sec. 3.1; weights of their code).

A clip is (batch, 3, frames, height, width) in [-1, 1] where the losses see it.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Generator, Tensor, nn
from torch.nn.functional import l1_loss, relu

from longtake.models.pvdm.autoencoder import PvdmAutoencoder
from longtake.models.pvdm.load import save_network
from longtake.train.fit.task import AdversarialPhase, Scalars, Task, above, cpu_attention, sheet
from longtake.train.pvdm.settings import AutoencoderLoss, LossWeights

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
    if weights.edges:
        loss = loss + weights.edges * (error.diff(dim=3).abs().mean() + error.diff(dim=4).abs().mean())
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


Clips = UInt8[Tensor, "clips frames height width 3"]
Draw = Callable[[int, Generator], Clips]
"""Number of clips, randomness -> so many random clips."""


def decoder_of(autoencoder: PvdmAutoencoder) -> nn.Module:
    """Return the layers that make clips of latents."""
    names = ("from_planes", "decoder", "to_pixels")
    return nn.ModuleDict({name: autoencoder.get_submodule(name) for name in names})


class AutoencoderTask(Task):
    """Reconstruct clips."""

    def __init__(
        self,
        autoencoder: PvdmAutoencoder,
        draw: Draw,
        shown: Clips,
        settings: AutoencoderLoss,
        distance: Distance | None = None,
    ) -> None:
        """`autoencoder` is trained in place; `shown` are clips for pictures on the way; `distance` of pictures."""
        self.autoencoder, self.draw, self.settings, self.distance = autoencoder, draw, settings, distance
        self.device = next(autoencoder.parameters()).device
        self.shown = to_video(shown.to(self.device))

    def module(self) -> nn.Module:
        """The autoencoder, or its decoder."""
        return decoder_of(self.autoencoder) if self.settings.decoder_only else self.autoencoder

    def loss(self, generator: Generator) -> tuple[Tensor, Scalars]:
        """Reconstruction alone: pixels, and how one frame of each clip looks."""
        return self._reconstruction(*self._drawn(generator))

    def with_discriminators(self, discriminators: Discriminators, start: int, learning_rate: float) -> AdversarialPhase:
        """Return what discriminators do from step `start` on; they are trained in place."""

        def fooling(generator: Generator) -> tuple[Tensor, Scalars]:
            video, again, chosen = self._drawn(generator)
            loss, scalars = self._reconstruction(video, again, chosen)
            fooled = adversarial_loss(discriminators, video, again, chosen, self.settings.weights)
            return loss + fooled, scalars | {"adversarial": float(fooled.detach())}

        def judging(generator: Generator) -> tuple[Tensor, Scalars]:
            with torch.no_grad():
                drawn = self._drawn(generator)
            loss = discriminator_loss(discriminators, *drawn)
            return loss, {"discriminators": float(loss.detach())}

        return AdversarialPhase(
            module=discriminators, loss=judging, task_loss=fooling, start=start, learning_rate=learning_rate
        )

    def sample(self) -> Float[Tensor, "3 height width"]:
        """Every fourth frame of held-out clips, and below it the reconstruction."""
        again = self._shown_again()
        return sheet(above(*(clips[:, :, ::4].transpose(1, 2) / 2 + 0.5 for clips in (self.shown, again))))

    def held_out(self, network: str) -> Scalars:
        """PSNR of the clips that are shown, and how different a frame of each looks, by the name of what says so."""
        again, middle = self._shown_again(), self.shown.shape[2] // 2
        figures = {"psnr": _psnr((again - self.shown).square().mean())}
        if self.distance is not None:
            looks = self.distance(self.shown[:, :, middle], again[:, :, middle])
            figures[network] = float(looks.mean())
        return figures

    def _shown_again(self) -> Tensor:
        return torch.cat([self.autoencoder(clip).float() for clip in self.shown.split(2)]).clamp(-1, 1)

    def save(self, folder: Path) -> None:
        """Write `autoencoder/`."""
        folder.mkdir(parents=True, exist_ok=True)
        save_network(folder, self.autoencoder.config, self.autoencoder.state_dict())

    def _drawn(self, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Return random clips, their reconstructions, and a random frame of each."""
        video = to_video(self.draw(self.settings.batch_size, generator).to(self.device))
        chosen = torch.randint(video.shape[2], (len(video),), generator=generator).to(self.device)
        with cpu_attention(self.device, self.autoencoder.recompute):
            with torch.set_grad_enabled(torch.is_grad_enabled() and not self.settings.decoder_only):
                latents = self.autoencoder.encode(video)
            if self.settings.latent_noise:
                noise = torch.randn(latents.shape, generator=generator).to(latents)
                latents = latents + self.settings.latent_noise * noise
            return video, self.autoencoder.decode(latents).float(), chosen

    def _reconstruction(self, video: Tensor, again: Tensor, chosen: Tensor) -> tuple[Tensor, Scalars]:
        loss = reconstruction_loss(video, again, chosen, self.distance, self.settings.weights)
        square = (again.detach() - video).square().mean()
        return loss, {"psnr": _psnr(square)}


def _psnr(square: Tensor) -> float:
    """Return it of a mean square of differences in [-2, 2]."""
    return float(-10 * torch.log10(square / 4))


def to_video(clips: Clips) -> Float[Tensor, "clips 3 frames height width"]:
    """Bytes to what the network reads, in [-1, 1]."""
    return clips.permute(0, 4, 1, 2, 3).float() / 127.5 - 1
