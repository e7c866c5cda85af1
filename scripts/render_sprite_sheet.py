"""Render the committed sprite sheet from the Noto Color Emoji font (Debian: fonts-noto-color-emoji).

    python scripts/render_sprite_sheet.py src/longtake/data/assets/sprites.png

One 64x64 cell per object of longtake.data.sprite_captions.OBJECTS, in that order, four rows of four.
Every object faces right (the rocket points straight up) and carries a white outline like a sticker, so that it
stands out before any scenery.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from longtake.data.sprite_captions import OBJECTS

FONT = "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"
FONT_SIZE = 109
CELL, OVERSAMPLE, OUTLINE = 64, 4, 2.2

# object -> (emoji, mirrored, degrees counter-clockwise)
GLYPHS = {
    "rocket": ("\U0001f680", False, 45),
    "car": ("\U0001f697", True, 0),
    "sailboat": ("\u26f5", False, 0),
    "fish": ("\U0001f420", True, 0),
    "duck": ("\U0001f986", True, 0),
    "balloon": ("\U0001f388", False, 0),
    "butterfly": ("\U0001f98b", False, 0),
    "cat": ("\U0001f431", False, 0),
    "penguin": ("\U0001f427", True, 0),
    "frog": ("\U0001f438", False, 0),
    "octopus": ("\U0001f419", False, 0),
    "robot": ("\U0001f916", False, 0),
    "panda": ("\U0001f43c", False, 0),
    "whale": ("\U0001f433", True, 0),
    "pumpkin": ("\U0001f383", False, 0),
    "helicopter": ("\U0001f681", False, 0),
}


def _glyph(emoji: str, mirrored: bool, degrees: float, font: ImageFont.FreeTypeFont) -> Image.Image:
    canvas = Image.new("RGBA", (220, 220))
    ImageDraw.Draw(canvas).text((40, 40), emoji, font=font, embedded_color=True)
    if mirrored:
        canvas = canvas.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    canvas = _largest_part(canvas) if emoji == GLYPHS["rocket"][0] else canvas
    canvas = canvas.rotate(degrees, Image.Resampling.BICUBIC)
    return canvas.crop(_solid(canvas, 255).getbbox())


def _solid(glyph: Image.Image, value: int) -> Image.Image:
    return Image.fromarray(np.where(np.asarray(glyph.getchannel("A")) > 40, value, 0).astype(np.uint8))


def _largest_part(glyph: Image.Image) -> Image.Image:
    """Drop the stars around the rocket: they would become clutter at 32 pixels."""
    mask = _solid(glyph, 128).copy()
    ImageDraw.floodfill(mask, (glyph.width // 2, glyph.height // 2), 255)
    kept = np.asarray(glyph).copy()
    kept[np.asarray(mask) != 255] = 0
    return Image.fromarray(kept)


def _outlined(glyph: Image.Image) -> Image.Image:
    size = CELL * OVERSAMPLE
    room = size - 2 * int(OVERSAMPLE * (OUTLINE + 1))
    factor = room / max(glyph.size)
    glyph = glyph.resize((round(glyph.width * factor), round(glyph.height * factor)), Image.Resampling.BICUBIC)
    cell = Image.new("RGBA", (size, size))
    cell.paste(glyph, ((size - glyph.width) // 2, (size - glyph.height) // 2))
    solid = np.asarray(cell.getchannel("A")) > 100
    grown = solid.copy()
    reach = OVERSAMPLE * OUTLINE
    for angle in np.linspace(0, 2 * np.pi, 32, endpoint=False):
        shift = (round(reach * np.sin(angle)), round(reach * np.cos(angle)))
        grown |= np.roll(solid, shift, (0, 1))
    halo = Image.fromarray((grown * 255).astype(np.uint8))
    outlined = Image.merge("RGBA", [Image.new("L", (size, size), 255)] * 3 + [halo])
    outlined.alpha_composite(cell)
    return outlined.resize((CELL, CELL), Image.Resampling.BOX)


def main(path: str) -> None:
    """Write the sheet to `path`."""
    font = ImageFont.truetype(FONT, FONT_SIZE)
    sheet = Image.new("RGBA", (4 * CELL, 4 * CELL))
    for index, name in enumerate(OBJECTS):
        cell = _outlined(_glyph(*GLYPHS[name], font))
        sheet.paste(cell, (index % 4 * CELL, index // 4 * CELL))
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, optimize=True)


if __name__ == "__main__":
    main(sys.argv[1])
