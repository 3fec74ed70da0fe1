"""The three networks of the face detector against a slow computation from its own definition."""

import numpy as np
import pytest
import torch

from freestyle_core.files.bundle import load_header
from freestyle_core.files.networks import detector_file, load_detector


@pytest.fixture(scope="module")
def net():
    return load_detector()


def picture(side, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (side, side, 3))


def kernel(layer):
    """Return weights as [kh,kw,in,out] and biases, in double precision."""
    return layer.weight.detach().double().permute(2, 3, 1, 0).numpy(), bias(layer)


def bias(layer):
    return layer.bias.detach().double().numpy()


def convolved(x, layer):  # [H,W,C], no padding
    w, b = kernel(layer)
    kh, kw = w.shape[:2]
    rows, columns = x.shape[0] - kh + 1, x.shape[1] - kw + 1
    return np.stack(
        [
            [np.tensordot(x[i : i + kh, j : j + kw], w, 3) + b for j in range(columns)]
            for i in range(rows)
        ]
    )


def sloped(x, layer):
    return np.where(x > 0, x, x * layer.weight.detach().double().numpy())


def pooled(x, side, stride, *, padded):
    """Return maxima; with padding as TensorFlow's "same", all of it at the end here."""
    count = -(-x.shape[0] // stride) if padded else (x.shape[0] - side) // stride + 1
    starts = [i * stride for i in range(count)]
    return np.stack([[x[i : i + side, j : j + side].max((0, 1)) for j in starts] for i in starts])


def full(x, layer):
    return layer.weight.detach().double().numpy() @ x + bias(layer)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def columns_first(x):  # [H,W,C]: Keras' Permute((2, 1, 3)), then Flatten
    return x.transpose(1, 0, 2).ravel()


def given(x):
    return torch.from_numpy(x).permute(2, 0, 1)[None].float()


def close(ours, slow):
    np.testing.assert_allclose(ours[0].detach().numpy(), slow, atol=2e-5)


def test_p_is_a_small_network_slid_over_the_picture(net):
    p, x = net.propose, picture(17)
    face, box = p(given(x))
    y = pooled(sloped(convolved(x, p.conv1), p.prelu1), 2, 2, padded=True)
    y = sloped(convolved(sloped(convolved(y, p.conv2), p.prelu2), p.conv3), p.prelu3)
    close(face, softmax(convolved(y, p.face))[..., 1])
    close(box, convolved(y, p.box).transpose(2, 0, 1))


def test_r_reads_its_maps_column_by_column(net):
    r, x = net.refine, picture(24, 1)
    face, box = r(given(x))
    y = pooled(sloped(convolved(x, r.conv1), r.prelu1), 3, 2, padded=True)
    y = pooled(sloped(convolved(y, r.conv2), r.prelu2), 3, 2, padded=False)
    y = sloped(convolved(y, r.conv3), r.prelu3)
    y = sloped(full(columns_first(y), r.full), r.prelu4)
    close(face, softmax(full(y, r.face))[1])
    close(box, full(y, r.box))


def test_o_adds_ten_numbers_for_five_points(net):
    o, x = net.output, picture(48, 2)
    face, box, points = o(given(x))
    y = pooled(sloped(convolved(x, o.conv1), o.prelu1), 3, 2, padded=True)
    y = pooled(sloped(convolved(y, o.conv2), o.prelu2), 3, 2, padded=False)
    y = pooled(sloped(convolved(y, o.conv3), o.prelu3), 2, 2, padded=True)
    y = sloped(convolved(y, o.conv4), o.prelu4)
    y = sloped(full(columns_first(y), o.full), o.prelu5)
    close(face, softmax(full(y, o.face))[1])
    close(box, full(y, o.box))
    close(points, full(y, o.points))


def test_the_file_names_its_licence_and_what_it_learnt_from():
    config = load_header(detector_file(), "mtcnn").config
    assert config["licence"].startswith("MIT") and "WIDER FACE" in config["training_data"]
    assert detector_file().stat().st_size < 2_100_000
