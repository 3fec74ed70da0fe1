"""The small CLIP tokenizer: known words, unknown words, any script."""

from collections import Counter

import pytest
from transformers import CLIPTokenizer

from freestyle_core.clay.data.tokenizer import (
    COMMON_WORDS,
    MAX_TOKENS,
    VOCABULARY,
    build_tokenizer,
    byte_alphabet,
    learn_merges,
)

CAPTIONS = ["turn the head into a bronze statue, realistic, detail, 8k, photorealistic"] * 3


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return CLIPTokenizer.from_pretrained(build_tokenizer(tmp_path_factory.mktemp("t"), CAPTIONS))


def test_most_frequent_pair_is_merged_first():
    # "ab" 5 times, "abc" 3 times: a+b</w> 5, a+b 3, then ab+c</w> 3
    merges = learn_merges(Counter({"ab": 5, "abc": 3}), limit=10)
    assert merges[0] == ("a", "b</w>")
    assert len(merges) == 3
    assert learn_merges(Counter({"ab": 5, "abc": 3}), limit=1) == merges[:1]


def test_byte_alphabet_gives_every_byte_a_printable_character_of_its_own():
    alphabet = byte_alphabet()
    assert sorted(alphabet) == list(range(256))
    assert len(set(alphabet.values())) == 256
    assert alphabet[ord("a")] == "a"
    assert alphabet[ord(" ")] == "\u0120"  # CLIP's own choice for a space


def test_known_words_are_one_token_in_any_case(tokenizer):
    assert tokenizer.tokenize("Turn THE head into a bronze statue") == [
        f"{word}</w>" for word in "turn the head into a bronze statue".split()
    ]
    for word in COMMON_WORDS:
        if word.isalpha():
            assert len(tokenizer.tokenize(word)) == 1, word


@pytest.mark.parametrize("text", ["qwxzy", "na\u00efve th\u00e9\u00e2tre", "\u96ea", "x" * 30])
def test_any_text_falls_back_to_pieces(tokenizer, text):
    ids = tokenizer(text).input_ids
    assert ids[0] == tokenizer.bos_token_id
    assert ids[-1] == tokenizer.eos_token_id
    assert tokenizer.eos_token_id not in ids[1:-1]  # which would also mean "unknown"
    assert tokenizer.decode(ids, skip_special_tokens=True).replace(" ", "") == text.replace(" ", "")


def test_padding_and_size(tokenizer):
    assert tokenizer.model_max_length == MAX_TOKENS
    ids = tokenizer("elf", padding="max_length").input_ids
    assert len(ids) == MAX_TOKENS
    assert set(ids[2:]) == {tokenizer.eos_token_id}
    assert 600 < len(tokenizer) <= VOCABULARY


def test_same_captions_give_the_same_files(tmp_path):
    first, second = (build_tokenizer(tmp_path / name, CAPTIONS) for name in ("a", "b"))
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes()
