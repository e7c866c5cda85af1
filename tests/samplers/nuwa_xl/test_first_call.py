"""The first call of a story whose prompts change, by models that learned one prompt a clip, or frames far apart."""

import pytest
import torch

from longtake.models.toy import Toy, colour
from longtake.samplers.nuwa_xl.ladder import Node

from .test_change import as_text, learned_apart, told
from .test_nuwa_xl import toy, video


class Majority(Toy):
    """A network that learned one prompt a clip: it draws every frame as most frames of the window are told."""

    def __init__(self) -> None:
        super().__init__()
        self.spec, self.asked = toy().spec, []

    def denoise(self, x, level, schedule, condition, prompt_index):
        self.asked.append(prompt_index)
        most = torch.mode(prompt_index, dim=1, keepdim=True).values
        return super().denoise(x, level, schedule, condition, most.expand_as(prompt_index))


def shown(frame, texts):
    """Which of some texts a frame shows."""
    mean = torch.from_numpy(frame / 255).mean(dim=(0, 1))
    return min(texts, key=lambda text: float((mean - (0.5 + colour(text) / 4)).norm()))


@pytest.mark.parametrize("texts", [{0: "a", 12: "c"}, {0: "a", 20: "b", 40: "c"}, {0: "c", 20: "b", 40: "c", 60: "a"}])
def test_frames_far_apart_show_their_own_prompts(texts):
    plan = told(texts)
    frames, _ = video(plan, model=Majority())
    for frame in plan.ladder.window(Node(1, 0)):
        assert shown(frames[frame], set(texts.values())) == plan.texts(range(frame, frame + 1))[0]


def test_prompts_of_the_clips_and_what_they_cost():
    model, plan = Majority(), told({0: "a", 20: "b", 40: "a"})
    video(plan, model=model)
    assert plan.clips(Node(1, 0)) == [[0, 1, 3, 4], [2]] and plan.tasks and plan.forwards == plan.tasks + 1
    assert [set(rows.flatten().tolist()) for rows in model.asked[:2]] == [{1}, {1}]
    assert sum(map(len, model.asked)) == plan.forwards


def test_a_model_that_learned_frames_far_apart_makes_them_in_one_clip():
    plan = learned_apart(told({0: "a", 20: "b", 40: "c"}))
    assert plan.clips(Node(1, 0)) == [[0, 1, 2, 3, 4]] and plan.forwards == plan.tasks
    near = told({0: "a", 2: "b"}, frames=5)
    assert near.clips(Node(1, 0)) == [[0, 1, 2, 3, 4]] and near.forwards == 1


@pytest.mark.parametrize("texts", [{0: "a", 20: "b", 70: "c"}, {0: "a"}])
def test_a_row_of_trees_is_counted(texts):
    plan, model = told(texts, frames=90, depth=2), Majority()
    frames, executor = video(plan, model=model)
    assert sum(map(len, model.asked)) == plan.forwards
    first = [node for node in executor.done if node.level == 1]
    assert plan.tasks and plan.forwards == plan.tasks + sum(len(plan.clips(node)) - 1 for node in first)
    for frame in range(0, 89, 4):
        assert shown(frames[frame], set(texts.values())) == plan.texts(range(frame, frame + 1))[0]


def test_of_what_stays_a_clip_is_shown_that_of_its_own_prompt(monkeypatch):
    model, seen = toy(), []
    between = model.denoise_between
    monkeypatch.setattr(model, "denoise_between", lambda *args: seen.append(args[-1]) or between(*args))
    plan = told({0: "a", 28: "c"}, as_text({0: "a", 20: "b", 40: "c"}))
    video(plan, model=model)
    told_last = [known for known in seen if list(known.places) == [3, 4]]
    assert plan.clips(Node(1, 0)) == [[2]] and len(told_last) == 1
