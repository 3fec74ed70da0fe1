import math
from fractions import Fraction

import av
import pytest
import torch

from freestyle_core.errors import FileFormatError, InputError, ShapeError, WriteError
from freestyle_core.files.media import video
from freestyle_core.files.media.video import load_video, save_video


def make_ramp(frames, height=32, width=48):
    # frame f is one grey, brighter with f; left half is tinted
    images = torch.linspace(0.1, 0.9, frames)[:, None, None, None].repeat(1, 3, height, width)
    images[:, 0, :, : width // 2] = 0.8
    images[:, 2, :, : width // 2] = 0.2
    return images


@pytest.mark.parametrize("frames", [1, 2, 25])
def test_frame_count_size_and_rate_are_exact(tmp_path, frames):
    save_video(tmp_path / "v.mp4", make_ramp(frames), fps=24)
    with av.open(str(tmp_path / "v.mp4")) as container:
        stream = container.streams.video[0]
        decoded = [frame.pts * frame.time_base for frame in container.decode(stream)]
        assert (stream.width, stream.height) == (48, 32)
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert stream.average_rate == 24
    assert decoded == [Fraction(f, 24) for f in range(frames)]


def test_colours_are_bt709_in_limited_range(tmp_path):
    # R'G'B' = 0.8, 0.4, 0.2: Y' = 0.2126 * 0.8 + 0.7152 * 0.4 + 0.0722 * 0.2 = 0.4706
    # Y = 16 + 219 Y' = 119, Cb = 128 + 224 (0.2 - Y') / 1.8556 = 95, Cr = ... / 1.5748 = 175
    images = torch.tensor([0.8, 0.4, 0.2])[None, :, None, None].expand(3, 3, 32, 32)
    save_video(tmp_path / "v.mp4", images)
    with av.open(str(tmp_path / "v.mp4")) as container:
        context = container.streams.video[0].codec_context
        tags = (context.colorspace, context.color_primaries, context.color_trc)
        frames = [frame.to_ndarray() for frame in container.decode(video=0)]  # planes Y, U, V
        assert (tags, context.color_range) == ((1, 1, 1), 1)
    for frame in frames:
        luma, chroma = frame[:32], frame[32:].reshape(2, -1)
        assert abs(luma.astype(int) - 119).max() <= 1
        assert abs(chroma[0].astype(int) - 95).max() <= 1
        assert abs(chroma[1].astype(int) - 175).max() <= 1


def test_frames_keep_their_order_and_brightness(tmp_path):
    save_video(tmp_path / "v.mp4", make_ramp(10), fps=12)
    again, rate = load_video(tmp_path / "v.mp4")
    assert rate == 12.0
    grey = again[:, :, :, 30:].mean((1, 2, 3))  # the right half, away from the tinted left
    torch.testing.assert_close(grey, torch.linspace(0.1, 0.9, 10), atol=0.01, rtol=0)


def test_odd_sizes_grow_to_even(tmp_path):
    save_video(tmp_path / "v.mp4", torch.full((3, 3, 33, 47), 0.5))
    assert load_video(tmp_path / "v.mp4")[0].shape == (3, 3, 34, 48)


def test_scale_enlarges(tmp_path):
    save_video(tmp_path / "v.mp4", make_ramp(2, 16, 16), scale=4)
    assert load_video(tmp_path / "v.mp4")[0].shape == (2, 3, 64, 64)


def test_index_comes_before_the_pictures(tmp_path):
    save_video(tmp_path / "v.mp4", make_ramp(3))
    data = (tmp_path / "v.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def test_fallback_encoder_writes_the_same_frames(tmp_path, monkeypatch):
    missing = (("no_such_encoder", {}), ("mpeg4", {"qscale": "3", "b": "8000000"}))
    monkeypatch.setattr(video, "ENCODERS", missing)
    assert save_video(tmp_path / "v.mp4", make_ramp(7)) == "mpeg4"
    assert load_video(tmp_path / "v.mp4")[0].shape == (7, 3, 32, 48)


def test_no_encoder_at_all_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(video, "ENCODERS", (("no_such_encoder", {}),))
    with pytest.raises(WriteError, match="pip install -U av"):
        save_video(tmp_path / "v.mp4", make_ramp(2))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fps", [0, -1, 0.0004, 0.0099, 1000.1, 5000, math.nan, math.inf])
def test_bad_rate_is_refused(tmp_path, fps):
    with pytest.raises(InputError, match="fps"):
        save_video(tmp_path / "v.mp4", make_ramp(2), fps=fps)


@pytest.mark.parametrize("encoder", ["libx264", "mpeg4"])
@pytest.mark.parametrize(
    "fps, kept",
    [(0.01, (1, 100)), (30000 / 1001, (30000, 1001)), (723.4567, (58600, 81)), (1000, (1000, 1))],
)
def test_the_ends_of_the_range_and_odd_rates_are_kept(encoder, fps, kept, tmp_path, monkeypatch):
    """MPEG-4 takes terms up to 65535, so of 723.4567 the denominator is at most 90."""
    chosen = [entry for entry in video.ENCODERS if entry[0] == encoder]
    monkeypatch.setattr(video, "ENCODERS", tuple(chosen))
    assert video.frame_rate(fps) == Fraction(*kept)
    save_video(tmp_path / "v.mp4", make_ramp(3), fps=fps)
    frames, rate = load_video(tmp_path / "v.mp4")
    assert len(frames) == 3 and rate == pytest.approx(fps, rel=1e-4)


def test_no_frames_is_refused(tmp_path):
    with pytest.raises(ShapeError, match="at least one frame"):
        save_video(tmp_path / "v.mp4", torch.zeros(0, 3, 8, 8))


def test_full_disk_leaves_nothing(tmp_path):
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, hard))
    noise = torch.rand(20, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    try:
        with pytest.raises(WriteError, match="cannot write"):
            save_video(tmp_path / "v.mp4", noise)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_foreign_and_missing_videos_are_refused(tmp_path):
    (tmp_path / "v.mp4").write_bytes(b"not a video")
    for name in ("v.mp4", "none.mp4"):
        with pytest.raises(FileFormatError, match="not a readable video"):
            load_video(tmp_path / name)
