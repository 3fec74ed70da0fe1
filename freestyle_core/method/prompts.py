"""What a person should know about the words of a style: what the editor will not understand."""

from __future__ import annotations

import re
from typing import Any

# (bronze:1.3), as other programs weight words
_WEIGHT = re.compile(r"(?<!\\)\([^:]*:\s*[+-]?\d*\.?\d+\s*\)")
_END_OF_WORD = "</w>"


def prompt_notes(
    style: str,
    editor: Any,  # an `ImageEditor`; one without `pieces` is not asked about words
) -> list[str]:
    """Return a sentence for each thing in a style that does nothing: weights, unknown words."""
    notes = []
    weight = _WEIGHT.search(style)
    if weight is not None:
        notes.append(
            f"weights are not supported: {weight[0][:40]} is read as plain words; write the words "
            "alone, and raise text_guidance to follow all of them more"
        )
    pieces = getattr(editor, "pieces", None)
    if pieces is not None and _has_words(style) and not any(map(_is_known, pieces(style))):
        notes.append(
            f"the text encoder knows no word of {style[:40]!r}, so the edit will not follow it; "
            "write the style in English"
        )
    return notes


def _has_words(style: str) -> bool:
    return sum(character.isalpha() for character in style) > 1


def _is_known(piece: str) -> bool:
    """Return whether a piece of text is more than one of the letters that unknown words end in."""
    letters = piece.removesuffix(_END_OF_WORD)
    return len(letters) > 1 and letters.isascii() and letters.isalnum()
