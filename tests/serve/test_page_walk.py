"""Somebody makes a film in the browser: types, watches, sees the server die and come back, redoes, extends."""

import faulthandler
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
SECONDS = 300
STORY = "[0s: a car drives right through the city] [50s: a whale dives down below the waves]"

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")]


class Server:
    """`longtake serve` in a process of its own, which can be killed and started again at the same place."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.port = folder, 0

    def start(self) -> None:
        command = [sys.executable, "-m", "longtake", "serve", str(self._folder), "--port", str(self.port)]
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if found := re.search(r"http://127\.0\.0\.1:(\d+)", line):
                self.port = int(found[1])
                return
        raise AssertionError("the server did not start")

    def kill(self) -> None:
        """End the server and its workers, as a power cut would."""
        family = [*psutil.Process(self._process.pid).children(recursive=True), psutil.Process(self._process.pid)]
        for process in family:
            process.send_signal(signal.SIGKILL)
        psutil.wait_procs(family, timeout=30)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(SECONDS)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "films")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def page(server: Server) -> Iterator["Page"]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(SECONDS * 1000)
        yield page
        browser.close()


def until(is_so: Callable[[], bool], page: "Page", news: Callable[[], object] = lambda: None) -> None:
    """Wait for something that the page cannot be asked to wait for, since its policy lets no text become a script; for
    as long again whenever there is other `news`."""
    before, end = news(), time.monotonic() + SECONDS
    while not is_so():
        if (now := news()) != before:
            before, end = now, time.monotonic() + SECONDS
        assert time.monotonic() < end, f"nothing new since {now}"
        page.wait_for_timeout(200)


def finished(page: "Page") -> None:
    """Wait until the film that is shown is complete, as long as its bar moves: how long that takes is the machine's."""
    page.locator(".progress").wait_for()
    told = page.get_by_text("Finished", exact=True)
    until(told.is_visible, page, lambda: page.get_by_role("progressbar").get_attribute("aria-valuenow"))


def buffered(page: "Page") -> float:
    """Return up to which second the film can be played."""
    return page.locator("video").evaluate("v => v.buffered.length ? v.buffered.end(v.buffered.length - 1) : 0")


def test_a_film_is_made_watched_killed_taken_up_redone_and_extended(server: Server, page: "Page"):
    # All waits have an end, and together they may take longer than a test is given on a machine with much else to do.
    faulthandler.cancel_dump_traceback_later()
    blocked: list[str] = []
    page.on("console", lambda said: blocked.append(said.text) if "Content Security Policy" in said.text else None)
    page.on("pageerror", lambda error: blocked.append(str(error)))

    page.goto(f"http://127.0.0.1:{server.port}/")
    page.get_by_label("Model").select_option("toy")
    page.get_by_label("Method").select_option("chunked")
    page.get_by_label("Length").fill("100")
    page.get_by_label("Length").press("Tab")
    # So that there is time to watch it: in its own few steps a film of the toy model is there within a second.
    page.get_by_text("More settings").click()
    page.get_by_label("Steps", exact=True).fill("1000")
    page.get_by_label("Steps", exact=True).press("Tab")
    page.get_by_label("The same as text").fill("[0s: a car")
    page.get_by_role("alert").wait_for()
    assert page.get_by_role("button", name="Make this film").is_disabled()
    page.get_by_label("The same as text").fill(STORY)
    scenes = page.locator(".scenes textarea")
    until(lambda: scenes.count() == 2, page)
    assert scenes.nth(1).input_value() == "a whale dives down below the waves"
    page.get_by_role("button", name="Make this film").click()

    page.locator("video").wait_for()
    until(lambda: buffered(page) > 0, page)
    first = buffered(page)
    until(lambda: buffered(page) > first, page)
    assert buffered(page) < 100

    server.kill()
    page.get_by_text("The server does not answer").wait_for()
    # What has come plays on.
    until(lambda: page.locator("video").evaluate("v => v.currentTime") > 0, page)
    server.start()
    page.get_by_text("The server is back").wait_for()
    page.reload()
    finished(page)
    until(lambda: buffered(page) == pytest.approx(100), page)

    redone_and_extended(page)
    with page.expect_download() as download:
        page.get_by_role("link", name="Film mp4").click()
    assert download.value.suggested_filename.endswith(".mp4")
    page.get_by_role("link", name="Films", exact=True).click()
    until(lambda: page.locator(".gallery img").count() == 3, page)
    assert not blocked


def test_a_film_that_was_stopped_plays_what_is_there_and_goes_on(server: Server, page: "Page"):
    page.goto(f"http://127.0.0.1:{server.port}/")
    page.get_by_label("Model").select_option("toy")
    page.get_by_label("Method").select_option("chunked")
    page.get_by_text("More settings").click()
    page.get_by_label("Steps", exact=True).fill("1000")
    page.get_by_label("Steps", exact=True).press("Tab")
    page.get_by_role("button", name="Make this film").click()
    page.locator("video").wait_for()
    until(lambda: buffered(page) > 0, page)

    page.get_by_role("button", name="Stop here").click()
    page.get_by_role("button", name="Stop here: sure?").click()
    page.get_by_text("Stopped", exact=True).wait_for()
    made = buffered(page)
    assert 0 < made < 32
    # Whoever stopped it is not told so as of a failure.
    assert page.locator(".refusal").count() == 0
    page.get_by_role("button", name="Go on", exact=True).click()
    finished(page)
    until(lambda: buffered(page) == pytest.approx(32), page)


@pytest.mark.parametrize(
    ("field", "typed", "left"),
    [("Length", "0.2", 2), ("The same as text", "a cat | a dog", 2), ("The same as text", "a cat", 1)],
)
def test_a_scene_that_is_chosen_may_go(server: Server, page: "Page", field: str, typed: str, left: int) -> None:
    page.goto(f"http://127.0.0.1:{server.port}/")
    page.get_by_label("Scene 4", exact=True).click()
    page.get_by_label(field).fill(typed)
    page.get_by_label(field).press("Tab")
    until(lambda: page.locator(".scenes textarea").count() == left, page)
    assert page.locator(".scenes [data-chosen=true] textarea").get_attribute("aria-label") == f"Scene {left}"


def test_what_a_model_knows_is_offered_and_what_it_does_not_take_is_said_beside_its_field(
    server: Server, page: "Page"
) -> None:
    page.goto(f"http://127.0.0.1:{server.port}/")
    last = page.get_by_label("Scene 4", exact=True)
    last.fill("")
    page.get_by_text("What sprites-fast can show").click()
    for phrase in ("in space", "spins", "a duck", "a cat"):
        page.locator(".phrases").get_by_role("button", name=phrase, exact=True).click()
    assert last.input_value() == "a cat spins in space"
    for told, phrase, shown in RETOLD:
        last.fill(told)
        page.locator(".phrases").get_by_role("button", name=phrase, exact=True).click()
        assert last.input_value() == shown
    last.fill("a zeppelin rests at sea")
    page.locator(".warning").wait_for()
    said = "the model sprites-fast does not know 'zeppelin'; open \u201cWhat sprites-fast can show\u201d"
    assert page.locator(".warning").all_inner_texts() == [said]

    page.get_by_label("Keep away from").fill("a panda")
    refusal = page.locator(".field .refusal")
    refusal.wait_for()
    assert refusal.inner_text().startswith("Keep away from has no effect on sprites-fast")
    page.get_by_label("Keep away from").fill("")
    page.get_by_label("Guidance").fill("2")
    page.get_by_text("leave Guidance out, or choose the model sprites").first.wait_for()
    page.get_by_label("Model").select_option("sprites")
    until(lambda: refusal.count() == 0, page)

    page.get_by_text("More settings").click()
    disk = page.get_by_label("Disk for going back")
    assert disk.input_value() == "1 GB"
    for typed, shown in (("500mb", "500 MB"), ("1500000000", "1.5 GB"), ("much", "much")):
        disk.fill(typed)
        disk.press("Tab")
        until(lambda shown=shown: disk.input_value() == shown, page)
    refusal.wait_for()
    page.set_viewport_size({"width": 390, "height": 800})
    ends = "spans => spans.filter(s => s.lastChild.offsetTop < 20 && s.lastChild.scrollWidth > s.clientWidth).length"
    assert page.locator(".ruler span").evaluate_all(ends) == 0
    assert page.locator(".ruler span").last.locator("b").evaluate("b => b.offsetTop") >= 20


RETOLD = (
    ("a zeppelin flies up through the night sky", "a rocket", "a rocket flies up through the night sky"),
    ("a cat levitates in space", "spins", "a cat spins in space"),
    ("a cat spins on the moon", "in space", "a cat spins in space"),
    ("a zeppelin hovers", "in space", "a zeppelin hovers in space"),
    ("a zeppelin hovers in space", "spins", "a zeppelin hovers spins in space"),
    ("in space a cat", "spins", "spins in space a cat"),
)
"""The words of a scene, a phrase that is pressed, and what they become: what cannot be shown makes room where it is
clear which words that are."""


def redone_and_extended(page: "Page") -> None:
    """Make another take from the middle of the film that is shown, and that longer."""
    middle = page.locator(".over").bounding_box()
    assert middle is not None
    page.locator(".over").click(position={"x": middle["width"] / 2, "y": 30})
    page.get_by_role("button", name="Redo from 0:50").click()
    page.get_by_label("Prompt", exact=True).fill("a boat sails right across the sea")
    page.get_by_role("button", name="Make this take").click()
    page.get_by_text("Take 2").wait_for()
    # What comes before the moment is there before anything is made.
    until(lambda: buffered(page) >= 49, page)
    finished(page)
    assert page.locator(".scene").all_inner_texts() == [
        "a car drives right through the city",
        "a boat sails right across the sea",
    ]

    page.get_by_role("button", name="Make it longer").click()
    page.get_by_role("spinbutton").fill("5")
    page.get_by_role("button", name="Go on").click()
    page.get_by_text("Take 3").wait_for()
    finished(page)
    until(lambda: buffered(page) == pytest.approx(105), page)
