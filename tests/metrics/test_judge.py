import json
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from lab.score.judge import check_judge
from longtake.data.sprites import MOTIONS, Shot, SpriteWorld
from longtake.errors import CheckpointError
from longtake.metrics.judge import Judge

ASSETS = Path(str(files("longtake.metrics").joinpath("assets")))


def test_it_names_what_a_clip_shows():
    judge = Judge.load()
    for motion in MOTIONS:
        shot = Shot(object="robot", scene="meadow", motion=motion)
        reading = judge.read(SpriteWorld(11, {0: shot}).frames(30, 46))
        assert (reading.object, reading.scene, reading.motion) == ("robot", "meadow", motion)
        assert reading.probabilities["motion"].shape == (11,)
        assert reading.probabilities["motion"].sum() == pytest.approx(1, abs=1e-5)


def test_noise_is_nothing():
    noise = np.random.default_rng(0).integers(0, 256, (16, 64, 64, 3), dtype=np.uint8)
    reading = Judge.load().read(noise)
    assert reading.object is None and reading.scene is None


def test_the_shipped_judge_is_small():
    assert (ASSETS / "judge.safetensors").stat().st_size < 1_500_000


def test_damaged_or_foreign_weights_are_refused(tmp_path: Path):
    (tmp_path / "a.safetensors").write_bytes((ASSETS / "judge.safetensors").read_bytes()[:5000])
    config = json.loads((ASSETS / "judge.json").read_text())
    (tmp_path / "a.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="cannot be read"):
        Judge.load(tmp_path / "a.safetensors")
    (tmp_path / "b.safetensors").write_bytes((ASSETS / "judge.safetensors").read_bytes())
    (tmp_path / "b.json").write_text(json.dumps(config | {"object": ["horse"]}))
    for number, content in enumerate(("[]", "3", "[" * 100_000, '{"object": 3}')):
        (tmp_path / f"{number}.safetensors").write_bytes((ASSETS / "judge.safetensors").read_bytes())
        (tmp_path / f"{number}.json").write_text(content)
        with pytest.raises(CheckpointError, match="cannot be read|other names"):
            Judge.load(tmp_path / f"{number}.safetensors")
    with pytest.raises(CheckpointError, match="other names"):
        Judge.load(tmp_path / "b.safetensors")


@pytest.mark.slow
def test_accuracy_on_unseen_worlds_and_controls():
    table = check_judge(Judge.load(), num_clips=300)
    assert table["real"]["object"] >= 0.96 and table["real"]["scene"] >= 0.98 and table["real"]["motion"] >= 0.96
    for control in ("frozen", "looped", "shuffled"):
        assert table[control]["motion"] <= 0.1
    assert table["blurred"]["object"] <= 0.02
    assert max(table["wrong prompt"].values()) <= 0.02
