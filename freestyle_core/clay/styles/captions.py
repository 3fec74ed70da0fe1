"""What people call the styles: wordings to train on, wordings kept back, sentences around them.

A caption is a wording ("a bronze statue") inside a template ("turn the head into {x}"). The first
wording of a style is its canonical one. `HELD_OUT` wordings never reach training, so that they can
measure whether free wording works.
"""

from collections.abc import Sequence

import torch

from ...errors import InputError
from .attributes import ATTRIBUTES

FULL_TEMPLATE = "turn the head into {x}, realistic, detail, 8k, photorealistic"

# template -> how often it is drawn; the first is the one the nodes send by default
TEMPLATES: dict[str, float] = {
    FULL_TEMPLATE: 0.50,
    "turn the head into {x}": 0.14,
    "{x}": 0.08,
    "turn him into {x}": 0.03,
    "turn her into {x}": 0.03,
    "turn the face into {x}": 0.03,
    "make it {x}": 0.03,
    "make the head {x}": 0.02,
    "make him look like {x}": 0.03,
    "make her look like {x}": 0.02,
    "as {x}": 0.02,
    "a portrait of {x}": 0.02,
    "a head in the style of {x}": 0.02,
    "{x}, detailed": 0.02,
    "what would it look like as {x}?": 0.01,
}

WORDINGS: dict[str, tuple[str, ...]] = {
    "zombie": (
        "a zombie", "zombie", "a rotting zombie", "an undead zombie", "a walking dead zombie",
        "the walking dead", "a green undead corpse", "an undead", "a zombie from a horror movie",
        "a scary zombie face",
    ),
    "bronze statue": (
        "a bronze statue", "bronze statue", "an old bronze bust", "a statue made of bronze",
        "a metal sculpture in bronze", "bronze sculpture style", "a bronze sculpture", "bronze",
        "a bronze head with green patina", "a weathered bronze bust",
    ),
    "marble statue": (
        "a marble statue", "marble statue", "a white marble bust", "a statue made of marble",
        "a greek marble sculpture", "a roman marble bust", "marble", "a marble sculpture",
        "white marble with dark veins", "a classical marble head",
    ),
    "Na'vi": (
        "a Na'vi", "Na'vi", "a Na'vi from Avatar", "an Avatar character", "a blue Avatar alien",
        "a blue Na'vi with yellow eyes", "a navi", "avatar", "a Na'vi from Pandora",
        "a blue skinned Na'vi warrior",
    ),
    "elf": (
        "an elf", "elf", "an elf with pointed ears", "a Tolkien elf", "a blonde elf",
        "a forest elf", "an elven princess", "a fantasy elf", "an elf from the lord of the rings",
        "an elven archer",
    ),
    "clown": (
        "a clown", "clown", "a circus clown", "a clown with a red nose", "a funny clown",
        "a clown with orange hair", "a clown in make-up", "a birthday party clown",
        "a clown with a painted face", "clown make-up",
    ),
    "vampire": (
        "a vampire", "vampire", "Dracula", "count Dracula", "a pale vampire with fangs",
        "a vampire with red eyes", "a bloodsucking vampire", "a vampire with sharp teeth",
        "a gothic vampire", "a creature of the night, a vampire",
    ),
    "gold": (
        "a gold statue", "gold", "a golden statue", "a statue made of gold", "solid gold",
        "a shiny golden bust", "a golden head", "pure gold", "a gold sculpture",
        "polished gold",
    ),
    "ice": (
        "an ice sculpture", "ice", "a statue made of ice", "a frozen head", "carved ice",
        "a sculpture of blue ice", "frozen ice", "an icy statue", "a head made of ice",
        "a cracked block of ice",
    ),
    "wooden": (
        "a wooden statue", "wooden", "wood", "a wood carving", "a statue made of wood",
        "a carved wooden head", "a wooden sculpture", "carved from wood", "a wooden bust",
        "a wooden puppet",
    ),
    "sand": (
        "a sand sculpture", "sand", "a sculpture made of sand", "a sand castle head",
        "a head made of sand", "beach sand", "a statue of sand", "a sandy sculpture",
        "sculpted in sand", "desert sand",
    ),
    "pixel art": (
        "pixel art", "pixel art style", "an 8-bit game character", "a pixel art portrait",
        "a retro video game sprite", "8-bit pixels", "a pixelated portrait", "big pixels",
        "16-bit pixel art", "a pixel sprite",
    ),
    "pencil sketch": (
        "a pencil sketch", "pencil sketch", "a pencil drawing", "a sketch in pencil",
        "a black and white sketch", "a graphite drawing", "a hand drawn sketch",
        "pencil drawing style", "a drawing on paper", "a sketch",
    ),
    "robot": (
        "a robot", "robot", "a metal robot", "an android", "a steel robot with glowing eyes",
        "a cyborg", "a humanoid robot", "a machine", "a robot with an antenna",
        "a science fiction robot",
    ),
    "plush": (
        "a plush toy", "plush", "a teddy bear", "a plush bear", "a stuffed animal",
        "a soft teddy", "a cuddly teddy bear", "a stuffed bear", "a fluffy plush toy",
        "a fuzzy toy bear",
    ),
    "Hulk": (
        "the Hulk", "Hulk", "the Incredible Hulk", "a green Hulk", "an angry Hulk",
        "the green giant Hulk", "Hulk from the Avengers", "a muscular green giant",
        "the Marvel hero Hulk", "a hulk with green skin",
    ),
    "old person": (
        "an old person", "old person", "an old man", "an old woman", "a grandmother",
        "a grandfather", "an elderly person", "old and wrinkled", "older",
        "a senior with white hair",
    ),
    "child": (
        "a child", "child", "a kid", "a little child", "a little boy", "a little girl",
        "a young child", "a toddler", "younger", "a baby face",
    ),
    "cyberpunk neon": (
        "cyberpunk neon", "cyberpunk", "a cyberpunk character", "neon lights",
        "a cyberpunk in neon",
        "cyberpunk style", "in neon light", "a neon cyberpunk portrait", "a glowing neon face",
        "pink and cyan neon",
    ),
    "stone": (
        "a stone statue", "stone", "a statue made of stone", "a rock", "a rough stone sculpture",
        "carved from rock", "a stone head", "a mossy stone statue", "an ancient stone bust",
        "a cracked rock sculpture",
    ),
    "chocolate": (
        "a chocolate figure", "chocolate", "a statue made of chocolate", "a chocolate sculpture",
        "dark chocolate", "made of chocolate", "a chocolate head", "melted chocolate",
        "chocolate with white drizzle", "a chocolate bunny style head",
    ),
    "glass": (
        "a glass statue", "glass", "a statue made of glass", "a glass sculpture", "green glass",
        "bottle glass", "a head of green glass", "a transparent glass head", "blown glass",
        "made of glass",
    ),
    "watercolor": (
        "a watercolor painting", "watercolor", "a watercolour painting", "watercolour",
        "a watercolor portrait", "painted in watercolor", "a soft watercolor", "watercolor style",
        "an aquarelle", "a watercolor on paper",
    ),
    "toy brick": (
        "a toy brick figure", "toy brick", "a lego figure", "lego", "a lego minifigure",
        "a yellow toy figure", "a toy brick minifigure", "a plastic brick figure", "a lego man",
        "a building brick toy",
    ),
    "devil": (
        "a devil", "devil", "a red devil", "the devil with horns", "a demon", "satan",
        "a red demon with horns", "a horned devil", "a devil from hell", "a demon with red skin",
    ),
    "skull": (
        "a skull", "skull", "a skeleton", "a human skull", "a skull made of bone",
        "a skeleton face", "a white skull", "a scary skeleton", "bones", "a skeleton head",
    ),
    "alien": (
        "an alien", "alien", "a grey alien", "an alien with big black eyes", "an extraterrestrial",
        "a visitor from outer space", "a space alien", "a purple alien", "an alien from a ufo",
        "a being from another planet",
    ),
    "mummy": (
        "a mummy", "mummy", "an egyptian mummy", "a mummy in bandages", "a pharaoh's mummy",
        "an ancient mummy", "wrapped in bandages", "a bandaged mummy", "a mummy from a tomb",
        "an undead mummy",
    ),
    "Santa Claus": (
        "Santa Claus", "Santa", "father christmas", "Santa Claus with a red hat",
        "santa with a white beard", "saint nicholas", "a christmas santa", "a jolly Santa Claus",
        "a man with a santa hat", "Santa from the north pole",
    ),
    "Frankenstein's monster": (
        "Frankenstein's monster", "Frankenstein", "the monster of Frankenstein",
        "Frankenstein with bolts in the neck", "a frankenstein monster",
        "the Frankenstein creature",
        "a stitched monster with bolts", "doctor Frankenstein's creature",
        "Frankenstein with a scar", "a monster with a flat head",
    ),
    "porcelain doll": (
        "a porcelain doll", "porcelain doll", "a doll", "porcelain", "a china doll",
        "an antique doll", "a doll made of porcelain", "a glossy porcelain doll", "a pretty doll",
        "a doll with rosy cheeks",
    ),
    "cat": (
        "a cat", "cat", "a ginger cat", "an orange tabby cat", "a cat with whiskers", "a kitty",
        "a kitten", "a cat face", "a striped cat", "a cat person with cat ears",
    ),
    "pirate": (
        "a pirate", "pirate", "a pirate with an eye patch", "a pirate captain",
        "a pirate of the caribbean", "a bearded pirate", "a pirate with a red bandana",
        "a buccaneer", "a sea pirate", "a pirate with a patch over one eye",
    ),
    "lava": (
        "a lava monster", "lava", "a statue made of lava", "molten lava", "a head of glowing lava",
        "a volcano creature", "burning rock", "glowing magma", "cracked lava rock",
        "a lava golem",
    ),
}  # fmt: skip

# of the plain head, which only attributes change
PLAIN_WORDINGS = (
    "a person", "a man", "a woman", "somebody", "a head", "a portrait", "a human", "a face",
)  # fmt: skip

HELD_OUT: dict[str, tuple[str, str, str]] = {
    "zombie": ("a zombie corpse", "a green zombie", "an undead face"),
    "bronze statue": ("a bust of bronze", "an antique bronze head", "a sculpture cast in bronze"),
    "marble statue": (
        "a bust of white marble", "a head carved in marble", "an antique marble bust",
    ),
    "Na'vi": ("a Na'vi with blue skin", "a blue alien from Avatar", "a Pandora Na'vi"),
    "elf": ("a pointed ear elf", "a blonde forest elf", "an elven warrior"),
    "clown": ("a clown with a painted red nose", "a clown from the circus", "a party clown"),
    "vampire": ("a vampire with fangs", "Dracula the vampire", "a pale vampire"),
    "gold": ("a shiny gold statue", "a bust made of gold", "a golden sculpture"),
    "ice": ("a frozen ice statue", "a sculpture made of ice", "a blue ice head"),
    "wooden": ("a statue carved from wood", "a head made of wood", "a wood sculpture"),
    "sand": ("a statue made of sand", "a sand head", "a sculpture of beach sand"),
    "pixel art": ("a pixel art character", "8-bit pixel art", "a retro pixel portrait"),
    "pencil sketch": ("a drawing in pencil", "a graphite sketch", "a hand drawn pencil portrait"),
    "robot": ("a steel android", "a robot made of metal", "a humanoid machine"),
    "plush": ("a fluffy teddy bear", "a stuffed toy", "a soft plush bear"),
    "Hulk": ("an angry green giant", "the Marvel Hulk", "the green Hulk"),
    "old person": ("an elderly man", "a wrinkled old woman", "an old face with white hair"),
    "child": ("a young kid", "a little kid", "a young boy"),
    "cyberpunk neon": ("a cyberpunk face", "a portrait in neon lights", "a neon character"),
    "stone": ("a rock statue", "a bust made of stone", "a head carved from stone"),
    "chocolate": ("a chocolate statue", "a bust made of chocolate", "a dark chocolate head"),
    "glass": ("a green glass statue", "a bust made of glass", "a glass head"),
    "watercolor": ("a portrait in watercolor", "a watercolor drawing", "watercolour style"),
    "toy brick": ("a lego toy", "a yellow lego figure", "a plastic toy brick man"),
    "devil": ("a demon with horns", "a horned red devil", "a devil face"),
    "skull": ("a human skeleton", "a skull of bones", "a scary skull"),
    "alien": ("an alien from outer space", "an alien with black eyes", "a grey extraterrestrial"),
    "mummy": ("a mummy from egypt", "an ancient egyptian mummy", "a mummy wrapped in bandages"),
    "Santa Claus": ("a santa claus with a beard", "a jolly santa", "Santa with a hat"),
    "Frankenstein's monster": (
        "a Frankenstein with bolts", "the Frankenstein monster", "a stitched Frankenstein creature",
    ),
    "porcelain doll": ("an antique porcelain doll", "a china porcelain doll", "a doll face"),
    "cat": ("an orange cat", "a tabby kitten", "a ginger kitty"),
    "pirate": ("a pirate with a beard", "a captain of pirates", "a pirate with a bandana"),
    "lava": ("a head made of lava", "a glowing lava statue", "a monster of molten lava"),
}  # fmt: skip


def wordings(style_name: str) -> tuple[str, ...]:
    """Return the training wordings of a style, the canonical one first."""
    if style_name not in WORDINGS:
        raise InputError(f"no captions for style {style_name!r}; known: {', '.join(WORDINGS)}")
    return WORDINGS[style_name]


def canonical(style_name: str) -> str:
    """Return the wording a user would most likely type, such as "a bronze statue"."""
    return wordings(style_name)[0]


def sample_caption(
    style_name: str | None,  # None: the plain head
    generator: torch.Generator,
    attributes: Sequence[str] = (),
) -> str:
    """Return a random training caption: a wording, in a template, with some use of capitals."""
    choices = PLAIN_WORDINGS if style_name is None else wordings(style_name)
    first, *others = torch.rand(4, generator=generator, dtype=torch.float64).tolist()
    # three in ten captions use the canonical words, so that they are learned best
    wording = choices[0] if first < 0.3 else choices[int(others[0] * len(choices))]
    wording = describe(wording, attributes, generator)
    return _capitals(_template(others[1]).format(x=wording), others[2])


def describe(wording: str, attributes: Sequence[str], generator: torch.Generator) -> str:
    """Return a wording with attributes, before the noun or after it: "an old zombie with horns"."""
    before: list[str] = []
    after: list[str] = []
    for name in attributes:
        words = [(w, before) for w in ATTRIBUTES[name].before]
        words += [(w, after) for w in ATTRIBUTES[name].after]
        word, place = words[int(torch.randint(len(words), (), generator=generator))]
        place.append(word)
    tail = " and ".join(after).replace(" and with ", " and ")
    return f"{adjectives_before(wording, before)} {tail}".strip()


def adjectives_before(wording: str, adjectives: Sequence[str]) -> str:
    """Return "an old smiling elf" for "an elf" and ["old", "smiling"]."""
    if not adjectives:
        return wording
    article, _, noun = wording.partition(" ")
    if article not in ("a", "an", "the"):
        return " ".join([*adjectives, wording])
    if article != "the":
        article = "an" if adjectives[0][0] in "aeiou" else "a"
    return " ".join([article, *adjectives, noun])


def _template(u: float) -> str:
    total = sum(TEMPLATES.values())
    for template, weight in TEMPLATES.items():
        u -= weight / total
        if u < 0:
            return template
    return FULL_TEMPLATE


def _capitals(text: str, u: float) -> str:
    if u < 0.70:
        return text
    if u < 0.85:
        return text.lower()
    if u < 0.96:
        return text[0].upper() + text[1:]
    return text.upper()
