"""A small CLIP tokenizer: byte-pair merges learnt from the training captions and a word list.

Frequent words become one token; any other text, in any script, falls back to pieces and in the end
to single bytes, so free wording never fails. The files are the classical CLIP ones (vocab.json,
merges.txt, tokenizer_config.json), which every version of transformers reads.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

VOCABULARY = 2048
MAX_TOKENS = 48  # with the start and the end token
START, END = "<|startoftext|>", "<|endoftext|>"
WORD_END = "</w>"
_WORD = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[a-z]+|[0-9]|[^\sa-z0-9]+")

# Wording that people use around a style, so that it does not fall into letters.
COMMON_WORDS = """
a an the of in on with and or as from by to into for like at is it this that very more less no not
make turn give put change render draw paint sculpt carve cast look looks looking style styled
head face portrait person man woman boy girl child old young elderly baby figure character creature
eyes eye nose mouth lips ears ear hair beard skin teeth brow cheeks chin neck shoulders hat crown
mask makeup scar tattoo glasses helmet armor armour horns wings fangs tears smile smiling angry sad
happy scary cute funny beautiful ugly bad good big small tall long short thin thick round pointed
red orange yellow green blue purple violet pink brown black white grey gray silver golden gold teal
cyan turquoise dark light bright pale deep warm cold neon glowing shiny matte rough smooth soft hard
wood wooden stone marble bronze copper iron steel metal metallic glass crystal ice icy snow sand
sandy clay plaster concrete brick paper cardboard wax candy sugar chocolate cheese bread jelly slime
water fire flame lava smoke cloud lightning gas earth mud moss leaf leaves tree forest flower fur
feather scale wool felt fabric leather plush plastic rubber toy doll puppet lego block pixel voxel
robot android cyborg alien monster zombie vampire ghost skeleton skull demon devil angel witch
wizard
elf dwarf orc goblin troll giant hulk fairy mermaid dragon dog cat lion tiger wolf fox bear panda
monkey ape rabbit mouse bird owl frog lizard snake fish king queen prince princess knight warrior
pirate ninja samurai soldier astronaut clown joker jester hero superhero villain avatar navi film
movie comic manga anime cartoon disney pixar game fantasy gothic medieval ancient greek roman
egyptian futuristic steampunk cyberpunk vintage modern abstract cubist surreal impressionist
painting painted sketch pencil charcoal ink pen watercolor watercolour oil acrylic pastel chalk
crayon drawing drawn engraving woodcut mosaic stained fresco sculpture statue bust carving figurine
origami knitted embroidery graffiti poster photo photograph photorealistic realistic realism real
hyperrealistic detail detailed details high highly quality resolution 3d 4k 8k hd sharp focus studio
lighting cinematic dramatic epic masterpiece art artwork artistic concept illustration render
unclear facial features non objects object blurry deformed distorted low worst wrong extra missing
""".split()


def byte_alphabet() -> dict[int, str]:
    """Return the printable character that stands for each byte in CLIP's vocabulary."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = {byte: chr(byte) for byte in printable}
    return alphabet | {byte: chr(256 + i) for i, byte in enumerate(others)}


def word_counts(captions: Iterable[str]) -> Counter[str]:
    """Return how often each lower-case word occurs, the common words at least a few times."""
    counts: Counter[str] = Counter(COMMON_WORDS)
    for word in COMMON_WORDS:
        counts[word] += 2
    for caption in captions:
        counts.update(_WORD.findall(caption.lower()))
    return counts


def learn_merges(counts: Counter[str], limit: int) -> list[tuple[str, str]]:
    """Return at most `limit` byte-pair merges, the most frequent pair first."""
    alphabet = byte_alphabet()
    words = []
    for word, count in sorted(counts.items()):
        symbols = [alphabet[byte] for byte in word.encode()]
        symbols[-1] += WORD_END
        words.append((symbols, count))
    merges: list[tuple[str, str]] = []
    while len(merges) < limit:
        pairs: Counter[tuple[str, str]] = Counter()
        for symbols, count in words:
            for pair in zip(symbols, symbols[1:], strict=False):
                pairs[pair] += count
        if not pairs:
            break
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        for symbols, _ in words:
            _merge(symbols, best)
    return merges


def _merge(symbols: list[str], pair: tuple[str, str]) -> None:
    i = 0
    while i < len(symbols) - 1:
        if (symbols[i], symbols[i + 1]) == pair:
            symbols[i : i + 2] = [symbols[i] + symbols[i + 1]]
        i += 1


def build_tokenizer(folder: Path, captions: Iterable[str]) -> Path:
    """Write a tokenizer learnt from `captions` into `folder` and return the folder."""
    letters = list(byte_alphabet().values())
    base = letters + [letter + WORD_END for letter in letters]
    merges = learn_merges(word_counts(captions), VOCABULARY - len(base) - 2)
    tokens = base + [a + b for a, b in merges] + [START, END]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": MAX_TOKENS, **special}
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["#version: 0.2", *(f"{a} {b}" for a, b in merges), ""]
    (folder / "merges.txt").write_text("\n".join(lines), encoding="utf-8")
    for name, content in (
        ("vocab.json", vocabulary),
        ("tokenizer_config.json", config),
        ("special_tokens_map.json", special),
    ):
        text = json.dumps(content, ensure_ascii=False, indent=0)
        (folder / name).write_text(text, encoding="utf-8")
    return folder
