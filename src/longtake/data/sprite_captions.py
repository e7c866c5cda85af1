"""What sprite worlds show: names, shots, which triples are never trained on; and captions, written and read."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

from longtake.errors import unknown_name

OBJECTS = (
    "rocket", "car", "sailboat", "fish", "duck", "balloon", "butterfly", "cat",
    "penguin", "frog", "octopus", "robot", "panda", "whale", "pumpkin", "helicopter",
)  # fmt: skip
SCENES = (
    "night sky", "sea", "underwater", "desert", "meadow",
    "city", "snowy mountains", "forest", "beach", "space",
)  # fmt: skip
MOTIONS = (
    "drives right", "sails left", "flies up", "dives down", "circles",
    "bounces", "swings", "spins", "pulses", "rests",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Shot:
    """What a stretch of video shows: one object, in one scene, in one motion. InputError for unknown names."""

    object: str
    """Name from OBJECTS."""
    scene: str
    """Name from SCENES."""
    motion: str
    """Name from MOTIONS."""

    def __post_init__(self) -> None:
        for kind, name, known in (
            ("object", self.object, OBJECTS),
            ("scene", self.scene, SCENES),
            ("motion", self.motion, MOTIONS),
        ):
            if name not in known:
                raise unknown_name(kind, name, known)


def all_shots() -> Iterator[Shot]:
    """Every (object, scene, motion) triple."""
    for name, scene, motion in product(OBJECTS, SCENES, MOTIONS):
        yield Shot(object=name, scene=scene, motion=motion)


@lru_cache
def _held_out_motion(name: str) -> tuple[int, ...]:
    """A permutation of the motions per object: scene number -> the one motion that is held out there."""
    return tuple(
        sorted(range(len(MOTIONS)), key=lambda motion: hashlib.sha256(f"held out {name} {motion}".encode()).digest())
    )


def is_held_out(shot: Shot) -> bool:
    """Whether this triple is never trained on: a fixed tenth, one motion for every pair of object and scene.

    The motions of one object are a pseudo-random permutation over the scenes, so that every object, scene and
    motion is held out equally rarely (16 or 10 times of 160 or 100).
    """
    return MOTIONS.index(shot.motion) == _held_out_motion(shot.object)[SCENES.index(shot.scene)]


@lru_cache
def training_shots() -> tuple[Shot, ...]:
    """The nine tenths of all triples that may be trained on."""
    return tuple(shot for shot in all_shots() if not is_held_out(shot))


@lru_cache
def held_out_shots() -> tuple[Shot, ...]:
    """The tenth of all triples that is kept for evaluation."""
    return tuple(shot for shot in all_shots() if is_held_out(shot))


# The first word of every list is the canonical one.
_OBJECTS: dict[str, tuple[str, ...]] = {
    "rocket": ("rocket", "spaceship", "space rocket"),
    "car": ("car", "red car", "automobile"),
    "sailboat": ("sailboat", "sailing boat", "yacht"),
    "fish": ("fish", "yellow fish", "striped fish"),
    "duck": ("duck", "mallard"),
    "balloon": ("balloon", "red balloon"),
    "butterfly": ("butterfly", "orange butterfly"),
    "cat": ("cat", "kitten", "kitty"),
    "penguin": ("penguin", "little penguin"),
    "frog": ("frog", "green frog"),
    "octopus": ("octopus", "pink octopus"),
    "robot": ("robot", "android"),
    "panda": ("panda", "panda bear"),
    "whale": ("whale", "blue whale"),
    "pumpkin": ("pumpkin", "orange pumpkin"),
    "helicopter": ("helicopter", "chopper", "yellow helicopter"),
}
# scene -> (phrases for travelling, phrases for staying)
_SCENES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "night sky": (
        ("through the night sky", "across the starry night sky", "under the moon"),
        ("in the night sky", "before the starry night sky", "under the moon"),
    ),
    "sea": (("across the sea", "over the sea", "over the ocean"), ("at sea", "over the sea", "over the ocean")),
    "underwater": (
        ("under water", "through the underwater world", "below the waves"),
        ("under water", "in the underwater world", "below the waves"),
    ),
    "desert": (
        ("through the desert", "across the desert", "over the dunes"),
        ("in the desert", "before the dunes", "in the hot desert"),
    ),
    "meadow": (
        ("across the meadow", "over the green meadow", "through a field of flowers"),
        ("in the meadow", "on the green meadow", "in a field of flowers"),
    ),
    "city": (
        ("through the city", "across the town", "past the skyscrapers"),
        ("in the city", "in the town", "before the skyscrapers"),
    ),
    "snowy mountains": (
        ("through the snowy mountains", "across the snow", "past the snowy peaks"),
        ("in the snowy mountains", "in the snow", "before the snowy peaks"),
    ),
    "forest": (
        ("through the forest", "through the woods", "past the trees"),
        ("in the forest", "in the woods", "between the trees"),
    ),
    "beach": (
        ("along the beach", "across the beach", "past the palm trees"),
        ("at the beach", "on the beach", "under the palm trees"),
    ),
    "space": (
        ("through space", "through outer space", "past the planets"),
        ("in space", "in outer space", "among the planets"),
    ),
}
_MOTIONS: dict[str, tuple[str, ...]] = {
    "drives right": ("drives right", "moves right", "travels to the right", "glides to the right"),
    "sails left": ("sails left", "moves left", "travels to the left", "glides to the left"),
    "flies up": ("flies up", "rises", "climbs up", "soars upwards"),
    "dives down": ("dives down", "sinks", "falls down", "descends"),
    "circles": ("circles", "flies in circles", "goes round and round"),
    "bounces": ("bounces", "hops", "jumps up and down"),
    "swings": ("swings", "sways to and fro", "rocks from side to side"),
    "spins": ("spins", "rotates", "turns like a wheel"),
    "pulses": ("pulses", "grows and shrinks", "throbs"),
    "rests": ("rests", "stays still", "does not move"),
}
_TRAVELS = MOTIONS[:4]
_FRAMES = ("{a} {o} {m} {s}", "{s} {a} {o} {m}", "the {o} {m} {s}", "{a} {o} that {m} {s}", "{s}, {a} {o} {m}")


def caption(shot: Shot, variant: int = 0) -> str:
    """A caption of the shot in lower case; variant 0 is the canonical one, every other number picks a paraphrase.

    The same variant always gives the same words ("a rocket flies up through the night sky").
    """
    assert variant >= 0, variant
    choice = [0] * 4 if variant == 0 else list(hashlib.sha256(f"{variant}".encode()).digest()[:4])
    noun = _pick(_OBJECTS[shot.object], choice[0])
    motion = _pick(_MOTIONS[shot.motion], choice[1])
    place = _pick(_SCENES[shot.scene][shot.motion not in _TRAVELS], choice[2])
    article = "an" if noun[0] in "aeiou" else "a"
    return _FRAMES[0 if choice[3] < 128 else choice[3] % len(_FRAMES)].format(a=article, o=noun, m=motion, s=place)


def phrases() -> dict[str, list[str]]:
    """What a canonical caption is made of, part by part: the things, what they do and the places, each once.

    A place is there as it is travelled through and as one stays in it.
    """
    shots = [Shot(object=name, scene=SCENES[0], motion="rests") for name in OBJECTS]
    places = [stayed[0] for both in _SCENES.values() for stayed in both]
    return {
        "a thing": [caption(shot).partition(" rests ")[0] for shot in shots],
        "does something": list(MOTIONS),
        "somewhere": list(dict.fromkeys(places)),
    }


def _pick(options: tuple[str, ...], number: int) -> str:
    return options[number % len(options)]


def grammar_corpus() -> Iterator[str]:
    """Captions of every triple, the canonical one and three paraphrases each (for a tokenizer)."""
    for number, shot in enumerate(all_shots()):
        yield caption(shot)
        yield from (caption(shot, 4 * number + turn) for turn in (1, 2, 3))


def _vocabulary() -> tuple[str, ...]:
    phrases = [*_FRAMES, "an", "a"]
    for group in (_OBJECTS, _MOTIONS):
        phrases += [phrase for options in group.values() for phrase in options]
    phrases += [phrase for pair in _SCENES.values() for options in pair for phrase in options]
    words = re.findall(r"[a-z]+", re.sub(r"\{.\}", " ", " ".join(phrases)))
    return tuple(sorted(set(words)))


VOCABULARY = _vocabulary()
"""Every word that a caption can contain, sorted."""

# Words of free prompts beyond the grammar, tried in this order after the phrases of the grammar.
_MORE_OBJECTS = (
    ("sailboat", "ship boat"), ("panda", "bear"), ("duck", "bird"), ("frog", "toad"), ("octopus", "squid"),
    ("balloon", "airship"),
)  # fmt: skip
_MORE_SCENES = (
    ("underwater", "underwater undersea"), ("night sky", "night stars starry moon"), ("sea", "ocean sea waves"),
    ("desert", "dunes sand"), ("meadow", "field grass flowers"), ("city", "town street skyscrapers"),
    ("snowy mountains", "snow snowy mountains"), ("forest", "woods"), ("beach", "palm"), ("forest", "trees"),
    ("beach", "shore"), ("space", "planets galaxy"),
)  # fmt: skip
_MORE_MOTIONS = (
    ("drives right", "right"), ("sails left", "left"), ("bounces", "jumps jumping"), ("circles", "round"),
    ("swings", "sways rocks"), ("spins", "turns"), ("pulses", "grows shrinks"), ("rests", "still"),
    ("flies up", "rising"), ("dives down", "falling"), ("flies up", "up upwards"), ("dives down", "down"),
)  # fmt: skip


def _phrases(
    names: tuple[str, ...], grammar: dict[str, tuple[str, ...]], more: tuple[tuple[str, str], ...]
) -> dict[str, str]:
    """Phrase -> name, longest phrases first, the looser words last."""
    exact = {name: name for name in names} | {word: name for name, words in grammar.items() for word in words}
    exact |= {_stem(word): name for word, name in exact.items() if " " not in word}
    ordered = dict(sorted(exact.items(), key=lambda item: -len(item[0])))
    return ordered | {word: name for name, words in more for word in words.split() if word not in ordered}


def _stem(word: str) -> str:
    return word[:-1] if word.endswith("s") else word


@lru_cache
def _readers() -> tuple[dict[str, str], ...]:
    places = {name: travel + still for name, (travel, still) in _SCENES.items()}
    return (
        _phrases(OBJECTS, _OBJECTS, _MORE_OBJECTS),
        _phrases(SCENES, places, _MORE_SCENES),
        _phrases(MOTIONS, _MOTIONS, _MORE_MOTIONS),
    )


def parse_caption(text: str) -> Shot | None:
    """The shot that a prompt asks for, or None where object, scene or motion cannot be told (keywords, best effort)."""
    words = " ".join(re.findall(r"[a-z]+", text.lower()))
    found = []
    for reader in _readers():
        match = next((name for phrase, name in reader.items() if re.search(rf"\b{phrase}(ing|s|es)?\b", words)), None)
        if match is None:
            return None
        found.append(match)
    return Shot(object=found[0], scene=found[1], motion=found[2])
