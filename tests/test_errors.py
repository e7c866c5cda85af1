"""Errors say what happened, why, and what to do."""

import pytest

from longtake import errors


@pytest.mark.parametrize(
    "kind",
    [
        errors.InputError,
        errors.CapabilityError,
        errors.OutputError,
        errors.CheckpointError,
        errors.MissingExtraError,
        errors.NonFiniteError,
    ],
)
def test_one_except_clause_catches_them_all(kind: type[Exception]) -> None:
    assert issubclass(kind, errors.LongtakeError)


def test_a_missing_package_names_the_pip_command() -> None:
    message = str(errors.MissingExtraError("tensorboard", "train"))
    assert message.startswith("tensorboard is not installed")
    assert message.endswith("pip install 'longtake[train]', or pip install '.[train]' where the sources are")


def test_an_unknown_name_suggests_the_nearest() -> None:
    error = errors.unknown_name("sampler", "fifi", ["nuwa_xl", "fifo"])
    assert isinstance(error, errors.InputError)
    assert str(error) == "there is no sampler 'fifi'; did you mean 'fifo'? known: fifo, nuwa_xl"


def test_a_name_like_no_other_gets_no_suggestion() -> None:
    error = errors.unknown_name("model", "zzz", ["toy", "sprites"])
    assert str(error) == "there is no model 'zzz'; known: sprites, toy"


def test_the_dashes_of_options_make_none_of_them_near() -> None:
    assert "did you mean" not in str(errors.unknown_name("option", "--dry-run", ["--range", "--frames"]))
    assert "did you mean '--frames'" in str(errors.unknown_name("option", "--frame", ["--range", "--frames"]))


def test_messages_are_one_line() -> None:
    assert "\n" not in str(errors.unknown_name("model", "a\nb", ["toy"]))
