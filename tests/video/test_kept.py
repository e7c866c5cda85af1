"""Which of the earlier states of a run are kept."""

import gc
import tracemalloc
from dataclasses import replace
from pathlib import Path

from longtake.video.files import state_folder
from longtake.video.kept import Kept, KeptStates, read_kept, thinned
from longtake.video.record import begun_record


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


def test_a_longer_run_holds_no_more_of_its_states_in_memory(tmp_path: Path) -> None:
    path, record = tmp_path / "a.mkv", replace(begun_record({}, {}), tensors="state-a.safetensors", tensors_sha256="0")
    state_folder(path).mkdir()
    (state_folder(path) / "state-a.safetensors").touch()
    kept, held = KeptStates(path, 1000, None), []
    tracemalloc.start()
    try:
        for segment in range(1, 151):
            sha256, mark = f"{segment:064}", {"bytes": 1000 * segment, "crc32": 2**31 + segment}
            kept.keep(replace(record, next_frame=32 * segment, stored=32 * segment, mark=mark, tensors_sha256=sha256))
            if segment in (50, 150):
                gc.collect()
                held.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert [state.next_frame for state in read_kept(path)] == [32 * segment for segment in range(1, 151)]
    # A state took 560 bytes.
    assert held[1] - held[0] < 100 * 100
