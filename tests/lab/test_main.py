"""Every script of the laboratory can be called by its name."""

import json
from dataclasses import fields
from pathlib import Path

import pytest

from lab import __main__ as lab
from lab.score import video_infinity_scenes


@pytest.mark.parametrize("name", lab.SCRIPTS)
def test_a_script_says_what_it_does_and_takes(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        lab.main([*name.split(), "--help"])
    help_text = capsys.readouterr().out
    assert leaving.value.code == 0 and "--report" in help_text
    _, settings = lab.script(name)
    options = [f"--{field.name.replace('_', '-')}" for field in fields(settings) if "Positional" not in str(field.type)]
    assert all(option in help_text for option in options)
    assert " ".join(lab.about(name).split()[:5]) in " ".join(help_text.replace("\u2502", " ").split())


def test_names_are_listed_and_mistakes_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert lab.main([]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in lab.SCRIPTS) and lab.main(["score", "sprite"]) == 2
    message = capsys.readouterr().err
    assert "did you mean 'score sprites'?" in message and message.count("\n") == 1


def test_options_reach_the_script_and_its_report_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def score(chosen: video_infinity_scenes.Settings) -> dict[str, object]:
        return {"span": chosen.span, "blend": chosen.blend}

    monkeypatch.setattr(video_infinity_scenes, "score", score)
    arguments = ["score", "scenes", "--span", "32", "--blend", "4", "8", "--report", str(tmp_path / "out.json")]
    assert lab.main(arguments) == 0
    assert json.loads(capsys.readouterr().out) == {"span": 32, "blend": [4, 8]}
    assert json.loads((tmp_path / "out.json").read_text()) == {"span": 32, "blend": [4, 8]}
