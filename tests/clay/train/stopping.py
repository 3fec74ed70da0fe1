"""A training that is stopped and goes on, beside one that is not."""

import pytest
import torch


class Stop(Exception):
    """What stops it."""


def check_that_it_goes_on(train, pool, draw, out, *, at=3):
    """Check that a training stopped at its n-th batch ends, when called again, with equal weights.

    `train(path)` returns the network; `draw` names the method of `pool` that makes a batch.
    """
    whole = train(out / "whole")
    make, calls = getattr(pool, draw), []

    def stop(self, count, generator):
        calls.append(count)
        if len(calls) == at:
            raise Stop
        return make(self, count, generator)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stop):
        patch.setattr(pool, draw, stop)
        train(out / "parts")
    again = train(out / "parts")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
