"""The stock pipeline of diffusers on the levels that longtake takes."""

import numpy as np
from diffusers import FlowMatchEulerDiscreteScheduler


class EvenLevels(FlowMatchEulerDiscreteScheduler):
    """The stock scheduler on levels that are evenly spaced before the shift, as `flow_schedule` has them."""

    def set_timesteps(self, num_inference_steps, device=None) -> None:
        super().set_timesteps(sigmas=np.linspace(1, 1 / num_inference_steps, num_inference_steps), device=device)
