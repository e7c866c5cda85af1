"""Which of the earlier states of a run are kept."""

from longtake.video.kept import Kept, thinned


def test_states_thin_out_toward_the_start() -> None:
    def state(frame: int) -> Kept:
        return Kept(next_frame=frame, stored=frame, mark={}, sha256="", bytes=10)

    states: list[Kept] = []
    for frame in range(32, 32 * 1000, 32):
        states = thinned([*states, state(frame)], budget=120)
    frames = [state.next_frame for state in states]
    assert len(frames) == 12 and frames[-3:] == [31904, 31936, 31968] and frames[0] == 16384
    assert thinned([state(32), state(64), state(96)], budget=15, free=70) == [state(64)]
    assert thinned([state(32)], budget=5) == []
