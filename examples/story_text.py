"""Endless short stories from a small grammar, to train a language model on: text of our own.

Every story keeps to its facts: the animal that is introduced is the one that finds something, what
it finds is what its friend gets in the end. A model that has learned more than spelling keeps to
them too.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

NAMES = [
    "Ada",
    "Bo",
    "Clara",
    "Dan",
    "Edda",
    "Finn",
    "Greta",
    "Hugo",
    "Ida",
    "Jon",
    "Kaja",
    "Leo",
    "Mina",
    "Nils",
    "Olga",
    "Per",
]
ANIMALS = [
    "fox",
    "hare",
    "owl",
    "badger",
    "otter",
    "mouse",
    "heron",
    "toad",
    "beaver",
    "hedgehog",
    "squirrel",
    "crow",
]
TRAITS = [
    "small",
    "old",
    "brave",
    "shy",
    "clever",
    "hungry",
    "sleepy",
    "curious",
    "kind",
    "patient",
]
PLACES = {
    "the forest": "under a tall pine",
    "the river": "between two wet stones",
    "the hill": "beside the old wall",
    "the garden": "behind the bean rows",
    "the harbour": "on the wooden pier",
    "the meadow": "in the long grass",
}
THINGS = {
    "a silver key": "opens every door",
    "a red apple": "smells of summer",
    "a wool scarf": "keeps out the wind",
    "a round pebble": "shines like the moon",
    "a tin whistle": "sings one clear note",
    "a warm loaf": "is still fresh inside",
    "a paper boat": "floats on the smallest puddle",
    "a brass lamp": "burns all night",
}
WEATHER = [
    "The sun was rising.",
    "Rain fell softly.",
    "Snow lay on everything.",
    "The wind was loud.",
]
DAYS = [
    "One morning",
    "One evening",
    "In the spring",
    "Late in the autumn",
    "On the first day of winter",
]


def story(draw: random.Random) -> str:
    """One story of six to eight sentences."""
    name, friend = draw.sample(NAMES, 2)
    animal, other = draw.sample(ANIMALS, 2)
    trait = draw.choice(TRAITS)
    place, spot = draw.choice(list(PLACES.items()))
    thing, use = draw.choice(list(THINGS.items()))
    found = thing.split(" ", 1)[1]
    lines = [
        f"{draw.choice(DAYS)} {name} the {animal} went to {place}.",
        draw.choice(WEATHER),
        f"{name} was a {trait} {animal} and walked slowly.",
        f"There, {spot}, lay {thing}.",
        f'"Look," said {name}, "the {found} {use}."',
    ]
    if draw.random() < 0.5:
        lines.append(f"Nobody else was at {place} to see it.")
    lines.append(f"Then {friend} the {other} came by and was sad.")
    if draw.random() < 0.5:
        lines.append(f'"Why are you sad?" asked {name}. "I have lost my way," said {friend}.')
    lines.append(f"So {name} gave the {found} to {friend}, and they walked home together.")
    return " ".join(lines)


def stories(count: int, seed: int) -> Sequence[str]:
    """So many stories; another seed gives others."""
    draw = random.Random(seed)
    return [story(draw) for _ in range(count)]
