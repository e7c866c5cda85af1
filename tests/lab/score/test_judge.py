from lab.score.judge import wrong_prompt
from longtake.data.sprites import Shot

SHOT = Shot(object="fish", scene="sea", motion="circles")


def test_a_wrong_prompt_is_wrong_in_everything():
    for seed in range(50):
        wrong = wrong_prompt(SHOT, seed)
        assert wrong.object != SHOT.object and wrong.scene != SHOT.scene and wrong.motion != SHOT.motion
