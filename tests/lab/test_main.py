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


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("score bars --report nodir/x.md", "cannot write --report nodir/x.md: the folder nodir does not exist"),
        ("score bars --report .", "it is a folder; name a file"),
        ("score bars --clips 0", "--clips 0 is too small"),
        ("score bars --stories -1", "--stories -1 is too small"),
        ("score bars --parts", "--parts names nothing"),
        ("score bars --parts colour", "--parts cannot be 'colour'; known: "),
        ("score bars --clip 3", "--clip"),
        ("score bars --clips many", "--clips 'many' is no whole number; 'python -m lab score bars --help' shows"),
        ("score bars --model spritez", "did you mean 'sprites'?"),
        ("score bars --preset realtim", "did you mean 'realtime'?"),
        ("score bars --preset loop", "--preset loop is one of context-windows"),
        ("score bars --folder file", "--folder file is a file, but a folder is meant"),
        ("score sprites --videos 0", "--videos 0 is too small"),
        ("score autoencoder folder --sheet nodir/x.png", "the folder nodir does not exist"),
        ("score pvdm-planes nodir/x.png", "the folder nodir does not exist"),
        ("score judge --clips 0", "--clips 0 is too small"),
        ("measure fifo --report nodir/x.json", "the folder nodir does not exist"),
        ("measure gpu --minutes 0", "--minutes 0 is too small"),
        ("ablate fifo --seeds 0", "--seeds 0 is too small"),
    ],
)
def test_what_cannot_be_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: str, problem: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("mine")
    _, settings = lab.script(" ".join(words.split()[:2]))

    def work(chosen: object) -> None:
        raise AssertionError("it begins")

    monkeypatch.setattr(lab, "script", lambda name: (work, settings))
    assert lab.main(words.split()) == 2
    message = capsys.readouterr().err
    assert problem in message and message.count("\n") == 1
    assert [path.name for path in Path().iterdir()] == ["file"]


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
