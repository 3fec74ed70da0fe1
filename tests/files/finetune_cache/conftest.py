"""A small fine-tuning whose result is kept, and a store to keep it in."""

import pytest

from freestyle_core.files.finetune_cache import (
    Store,
)
from freestyle_core.method.finetune import (
    finetune_portraits,
)
from tests.files.finetune_cache.small import SETTINGS
from tests.tiny import tiny_eg3d, tiny_i2t, tiny_portrait, tiny_set


@pytest.fixture(scope="module")
def trained():
    eg3d = tiny_eg3d()
    portraits = [tiny_portrait(eg3d, 0), tiny_portrait(eg3d, 1)]
    sets = [tiny_set(eg3d), tiny_set(eg3d, seed=1, prompt="an elf")]
    result = finetune_portraits(
        tiny_i2t(), "parent", portraits, sets, lambda a, b: a.new_zeros(len(a)), settings=SETTINGS
    )
    return portraits, sets, result


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path, 10**9)
