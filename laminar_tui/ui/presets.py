"""Prompts to begin with: ordinary text, code, and words that repeat, on which heads behave differently."""

import random
from collections.abc import Callable

from laminar_tui.run import bundled_prompt

ENCYCLOPEDIA = (
    "A lighthouse is a tower that carries a bright lamp to guide ships at night. It is built on a headland, a "
    "reef or an island, where the coast is dangerous or a harbour is hard to find. In antiquity fires were lit on "
    "hills; the tower of Alexandria, finished in the third century BC, was more than a hundred metres high. Until "
    "the eighteenth century lighthouses burned wood, coal or tallow. In 1822 Augustin Fresnel built a lens of "
    "glass rings that bends the light of a single lamp into a narrow beam, which can be seen from thirty "
    "kilometres away. Each lighthouse has its own rhythm of flashes, so that a sailor can tell one lighthouse "
    "from another. Today most lighthouses are automatic, and no keeper lives in the tower."
)

CODE = '''\
def count_words(path):
    """Count how often each word of a text file occurs."""
    counts = {}
    with open(path, encoding="utf-8") as file:
        for line in file:
            for word in line.lower().split():
                word = word.strip(".,;:!?")
                if word:
                    counts[word] = counts.get(word, 0) + 1
    return counts


def most_common(counts, n=10):
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ranked[:n]


if __name__ == "__main__":
    for word, count in most_common(count_words("notes.txt")):
        print(f"{count:6d}  {word}")
'''

_WORDS = """
river table seven green window paper morning north garden simple carry yellow market doctor silver winter second letter
bridge forest copper handle island number orange pencil quiet rather summer travel under velvet wonder answer bottle
circle dinner engine finger ground hammer insect jacket kitchen lemon mirror needle office pocket rabbit school ticket
useful village water yesterday anchor butter candle danger eleven figure
"""
N_REPEATED = 40
SEED = 0


def repeated_words() -> str:
    """Random words, and the same once more: what came after a word the first time can be looked up the second time."""
    words = random.Random(SEED).sample(_WORDS.split(), N_REPEATED)
    return " ".join([*words, *words])


PRESETS: dict[str, Callable[[], str]] = {
    "encyclopedia paragraph": lambda: ENCYCLOPEDIA,
    "the bundled paragraph": bundled_prompt,
    "code": lambda: CODE,
    "random words, twice": repeated_words,
}
"""Prompts by name, in the order in which they are offered."""
