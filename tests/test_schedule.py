import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, FlowMatchEulerDiscreteScheduler

from longtake.errors import InputError
from longtake.models.schedules import discrete_schedule, flow_schedule
from longtake.schedule import Level, step, to_x0


def betas(steps=1000):
    return torch.linspace(0.00085**0.5, 0.012**0.5, steps, dtype=torch.float64) ** 2


def bars():
    return torch.cumprod(1 - betas(), 0)


def zero_snr_scheduler(**options):
    return DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
        **options,
    )


def draws(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_step_is_ddim_with_zero_terminal_snr(eta):
    library = zero_snr_scheduler(prediction_type="v_prediction")
    library.set_timesteps(8)
    ours = discrete_schedule(library.alphas_cumprod.double(), 8, "trailing", "v_prediction")
    assert ours.timestep[1:].flip(0).tolist() == library.timesteps.tolist()
    x, v, z = draws(3, 2, 4, 5, 5)
    for level, timestep in zip(range(8, 0, -1), library.timesteps, strict=True):
        now, next = ours.now(torch.tensor(level)), ours.next(torch.tensor(level))
        x0 = to_x0(v, x, now, "v_prediction")
        mine = step(x, x0, now, next, eta, z)
        theirs = library.step(v, timestep, x, eta=eta, variance_noise=z if eta else None).prev_sample
        torch.testing.assert_close(mine, theirs, atol=3e-6, rtol=1e-5)
        x = theirs


def test_step_is_ddpm_with_clipping():
    library = DDPMScheduler(clip_sample=True)
    library.set_timesteps(10)
    ours = discrete_schedule(library.alphas_cumprod.double(), 10, "leading", "epsilon")
    assert ours.timestep[1:].flip(0).tolist() == library.timesteps.tolist()
    x, eps = draws(2, 2, 4, 5, 5)
    for level in range(10, 0, -1):
        at = torch.tensor(level)
        x0 = to_x0(eps, x, ours.now(at), "epsilon")
        mean = step(x, x0, ours.now(at), ours.next(at), 1.0, torch.zeros_like(x), clip="x0_and_eps")
        generator = torch.Generator().manual_seed(level)
        theirs = library.step(eps, int(ours.timestep[level]), x, generator=generator).prev_sample
        z = torch.randn(x.shape, generator=torch.Generator().manual_seed(level))
        mine = step(x, x0, ours.now(at), ours.next(at), 1.0, z, clip="x0_and_eps")
        assert not torch.equal(mean, theirs) or level == 1
        torch.testing.assert_close(mine, theirs, atol=2e-5, rtol=1e-4)
        x = theirs


def test_step_is_the_flow_euler_step():
    library = FlowMatchEulerDiscreteScheduler(shift=3.0)
    library.set_timesteps(sigmas=flow_schedule(6).sigma.flip(0)[:-1].numpy())
    ours = flow_schedule(6, shift=3.0)
    torch.testing.assert_close(ours.sigma.flip(0).float(), library.sigmas, atol=1e-6, rtol=0)
    x, v = draws(2, 2, 4, 5, 5)
    for level, timestep in zip(range(6, 0, -1), library.timesteps, strict=True):
        at = torch.tensor(level)
        mine = step(x, to_x0(v, x, ours.now(at), "flow"), ours.now(at), ours.next(at))
        theirs = library.step(v, timestep, x).prev_sample
        torch.testing.assert_close(mine, theirs, atol=2e-6, rtol=1e-5)
        x = theirs


def test_flow_with_eta_one_renoises_from_pure_noise():
    ours = flow_schedule(4)
    x, x0, z = draws(3, 2, 4, 5, 5)
    now, next = ours.now(torch.tensor(4)), ours.next(torch.tensor(4))
    mine = step(x, x0, now, next, 1.0, z)
    torch.testing.assert_close(mine, next.mix(x0, z), atol=1e-6, rtol=1e-6)


def test_a_level_per_frame_is_each_frame_on_its_own():
    ours = discrete_schedule(bars(), 12, "trailing", "epsilon")
    x, x0, z = draws(3, 4, 5, 6, 6)
    levels = torch.tensor([1, 3, 3, 7, 12])
    together = step(x, x0, ours.now(levels[:, None, None]), ours.next(levels[:, None, None]), 0.7, z)
    for frame, level in enumerate(levels):
        alone = step(x[:, frame], x0[:, frame], ours.now(level), ours.next(level), 0.7, z[:, frame])
        assert torch.equal(together[:, frame], alone)


def test_trailing_lands_on_clean_and_linspace_does_not():
    trailing = discrete_schedule(bars(), 64, "trailing", "epsilon")
    linspace = discrete_schedule(bars(), 64, "linspace", "epsilon")
    assert trailing.sigma_next[1] == 0 and trailing.timestep[-1] == 999
    assert linspace.sigma_next[1] == linspace.sigma[1] > 0
    x, x0 = draws(2, 3, 4, 4)
    one = torch.tensor(1)
    torch.testing.assert_close(step(x, x0, linspace.now(one), linspace.next(one)), x, atol=1e-6, rtol=1e-6)
    assert torch.equal(step(x, x0, trailing.now(one), trailing.next(one)), x0)


def test_x0_alone_clipped_keeps_the_old_epsilon():
    now, next = (
        Level(alpha=torch.tensor(0.6), sigma=torch.tensor(0.8)),
        Level(alpha=torch.tensor(0.8), sigma=torch.tensor(0.6)),
    )
    x, x0 = torch.tensor([2.0]), torch.tensor([3.0])
    eps = (2.0 - 0.6 * 3.0) / 0.8
    assert step(x, x0, now, next, clip="x0").item() == pytest.approx(0.8 * 1 + 0.6 * eps)
    assert step(x, x0, now, next, clip="x0_and_eps").item() == pytest.approx(0.8 + 0.6 * (2 - 0.6) / 0.8)


def test_impossible_schedules_are_refused():
    with pytest.raises(InputError, match="1000"):
        discrete_schedule(bars(), 1001, "trailing", "epsilon")
    ending_in_noise = bars().clone()
    ending_in_noise[-1] = 0
    with pytest.raises(InputError, match="v_prediction"):
        discrete_schedule(ending_in_noise, 10, "trailing", "epsilon")
