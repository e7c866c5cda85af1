"""Make a picture that moves of a video: python scripts/moving_picture.py VIDEO PICTURE.webp [--scale 4].

Below it stand the prompts of the report beside the video, each while it is meant.
"""

import argparse
import textwrap
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from longtake.report import read_order, report_path
from longtake.video.read import open_video, read_frames

COLUMNS = 34
"""Letters in a line below."""


def pages(video: Path, every: int, scale: int, times: int) -> list[Image.Image]:
    """Return every `every`-th frame of a video above its prompt; `scale` undoes an enlargement, `times` makes one."""
    order = read_order(str(report_path(video)))
    frames = [frame for chunk in read_frames(video, scale=scale) for frame in chunk][::every]
    told = [order.prompts.texts[order.prompts.at(number * every)] for number in range(len(frames))]
    return [_page(Image.fromarray(frame), text, times) for frame, text in zip(frames, told, strict=True)]


def _page(frame: Image.Image, text: str, times: int) -> Image.Image:
    large = frame.resize((frame.width * times, frame.height * times), Image.Resampling.NEAREST)
    font = ImageFont.load_default(size=large.width / 18)
    line = round(large.width / 14)
    page = Image.new("RGB", (large.width, large.height + 3 * line), "white")
    page.paste(large)
    place = large.width / 2, large.height + line / 2
    below = "\n".join(textwrap.wrap(text, COLUMNS)[:2])
    ImageDraw.Draw(page).multiline_text(place, below, "black", font, "ma", align="center")
    return page


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--every", type=int, default=2)
    parser.add_argument("--scale", type=int, default=1)
    parser.add_argument("--times", type=int, default=4)
    parser.add_argument("--quality", type=int, default=70)
    given = parser.parse_args()
    first, *others = pages(given.video, given.every, given.scale, given.times)
    lasts = round(1000 * given.every / (open_video(given.video).fps or 8))
    first.save(given.picture, save_all=True, append_images=others, duration=lasts, loop=0, quality=given.quality)
