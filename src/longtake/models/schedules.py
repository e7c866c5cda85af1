"""The noise levels of a run, chosen from those that a network was trained at."""

from collections.abc import Sequence

import torch

from longtake.errors import InputError
from longtake.schedule import Prediction, Schedule, Spacing, Table, chained


def discrete_schedule(
    alphas_cumprod: Table, num_levels: int, spacing: Spacing, prediction: Prediction, x0_scale: Table | None = None
) -> Schedule:
    """Choose `num_levels` timesteps of a training schedule (`alphas_cumprod`, cleanest first).

    trailing: t = round(level N / T) - 1, landing on clean (the choice to make). linspace: round(linspace(0, N - 1, T)),
    whose last step stays where it is (FIFO-Diffusion's code on VideoCrafter2). leading: (level - 1) (N // T), landing
    on clean (DDPM in diffusers). `x0_scale` is what training multiplied x0 by at every timestep, 1 at timestep 0.
    Raises InputError where a level count does not fit, or where epsilon would be divided by alpha = 0.
    """
    num_train = len(alphas_cumprod)
    if not 1 <= num_levels <= num_train:
        raise InputError(f"{num_levels} noise levels are not possible: the model was trained with {num_train}")
    level = torch.arange(1, num_levels + 1, dtype=torch.float64)
    if spacing == "trailing":
        timestep = torch.round(level * num_train / num_levels).long() - 1
    elif spacing == "linspace":
        timestep = torch.round(torch.linspace(0, num_train - 1, num_levels, dtype=torch.float64)).long()
    else:
        timestep = (level.long() - 1) * (num_train // num_levels)
    alpha_bar = alphas_cumprod.double()[timestep]
    if prediction == "epsilon" and alpha_bar[-1] == 0:
        raise InputError("epsilon-prediction says nothing at zero terminal SNR; use a model with v_prediction")
    landing = alpha_bar[:1] if spacing == "linspace" else torch.ones(1, dtype=torch.float64)
    alpha_bar = torch.cat([landing, alpha_bar])
    timestep = torch.cat([torch.zeros(1).long(), timestep])
    alpha = alpha_bar.sqrt() if x0_scale is None else alpha_bar.sqrt() * x0_scale[timestep]
    return chained(alpha, (1 - alpha_bar).sqrt(), timestep)


def flow_at(shares: Table) -> Schedule:
    """Return the flow-matching levels  x = (1 - s) x0 + s eps  at these shares s of noise, rising from 0.

    The timestep is 1000 s, as Wan, LTX and SkyReels-V2 are told.
    """
    return chained(1 - shares, shares, shares * 1000)


def flow_schedule(num_levels: int, shift: float = 1.0) -> Schedule:
    """Return the levels of a flow, their shares of noise rising to 1 with the model's shift."""
    s = torch.arange(num_levels + 1, dtype=torch.float64) / num_levels
    return flow_at(shift * s / (1 + (shift - 1) * s))


def given_levels(shares: Sequence[float], num_levels: int) -> Schedule:
    """Return flow-matching levels at these shares of noise, rising to 1, of a network that was distilled to them.

    More or fewer levels lie evenly along the broken line through them, which the network has not learned.
    """
    known = torch.tensor([0.0, *shares], dtype=torch.float64)
    place = torch.linspace(0, len(shares), num_levels + 1, dtype=torch.float64)
    below = place.floor().long().clamp(max=len(shares) - 1)
    return flow_at(torch.lerp(known[below], known[below + 1], place - below))


def check_flow_spacing(name: str, spacing: Spacing) -> None:
    """Raise InputError for a spacing other than trailing, which the levels of a flow do not have."""
    if spacing != "trailing":
        raise InputError(f"{name} has no spacing {spacing!r}, its levels are a flow's; use trailing")
