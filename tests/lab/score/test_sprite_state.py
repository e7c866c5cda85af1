from lab.score.sprite_state import Settings, score


def test_errors_and_controls_are_tables():
    rows = score(Settings(worlds=1, controls=0, frames=0)).splitlines()
    assert rows[0].startswith("| 1 worlds | real | reconstructed |")
    assert "| object | 1.000 | 1.000 |" in rows and all(row.count("|") == 4 for row in rows)
