"""Training the clay VAE and editor on a tiny made-up data set."""

import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image
from transformers import CLIPTokenizer

from freestyle_core.clay.data import editor_pairs
from freestyle_core.clay.data.editor_pairs import LatentEncoder, LatentPairs, draw_batch, load_pairs
from freestyle_core.clay.data.shards import SHARD
from freestyle_core.clay.styles.attributes import ATTRIBUTES
from freestyle_core.clay.styles.catalogue import STYLES
from freestyle_core.clay.train import editor as editing
from freestyle_core.clay.train import vae as training
from freestyle_core.clay.train.editor import add_noise, edit_losses, noise_scheduler, train_editor
from freestyle_core.clay.train.vae import (
    ImagePool,
    build_vae,
    calibrate_colors,
    normalise_latents,
    train_vae,
    vae_losses,
)
from freestyle_core.errors import FileFormatError
from freestyle_core.files.editors.load import load_editor
from freestyle_core.models.editor import Editor
from freestyle_core.seeds import step_generator
from freestyle_core.training.loop import TrainSettings

IDENTITY, VIEW = [0, 3, 49], [1, 0, 3]


def flat(brightness):
    """Images [...,3,128,128] of one brightness each."""
    levels = torch.tensor(brightness, dtype=torch.uint8)
    return levels[..., None, None, None].expand(*levels.shape, 3, 128, 128).clone()


@pytest.fixture
def folder(tmp_path):
    """Two shards of three pairs; sources are brightness 200, targets 40, 50, 60."""
    for index in range(2):
        pairs = {
            "source": flat([200, 200, 200]),
            "target": flat([40, 50, 60]),
            "style": torch.tensor([0, 1, 2]),
            "attributes": torch.full((3, 2), -1),
            "identity": torch.tensor(IDENTITY) + index * SHARD,
            "view_index": torch.tensor(VIEW),
        }
        torch.save(pairs, tmp_path / f"pairs_{index:04d}.pt")
    return tmp_path


def small_vae(seed=0):
    """As the clay VAE in latent size and shape, with one or two channels inside."""
    torch.manual_seed(seed)
    return AutoencoderKL(
        block_out_channels=(4, 4, 4, 4),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=16,
        norm_num_groups=1,
        mid_block_add_attention=False,
        sample_size=128,
        scaling_factor=1.0,
    )


class MeanColor:
    """Stands for the VAE: the latent is the brightness of each 8x8 block, in every channel."""

    def encode(self, images):
        code = torch.nn.functional.avg_pool2d(images[:, :1], 8).expand(-1, 16, -1, -1)
        distribution = type("D", (), {"mode": lambda self: code})()
        return type("E", (), {"latent_dist": distribution})()

    def to(self, device):
        return self

    def eval(self):
        return self

    def state_dict(self):
        return {"weight": torch.ones(1)}


# --- VAE


def test_new_vae_passes_colours_through():
    torch.manual_seed(0)
    vae = build_vae()
    colors = torch.tensor([[0.9, -0.8, 0.1], [-0.5, 0.6, 0.7], [0.0, 0.3, -0.9], [1.0, 1.0, 1.0]])
    images = torch.ones(4, 3, 32, 32)
    images[:, :, 8:24, 8:24] = colors[:, :, None, None]
    with torch.no_grad():
        calibrate_colors(vae, images)
        posterior = vae.encode(images).latent_dist
        restored = vae.decode(posterior.mode()).sample
    assert posterior.std.max() < 0.1
    inside = restored[:, :, 14:18, 14:18].mean((2, 3))
    assert (inside - colors).abs().mean() < 0.25
    assert inside[0, 0] > inside[0, 1] + 0.8  # red stays red


def test_normalising_latents_changes_their_statistics_only():
    vae = small_vae()
    images = torch.rand(6, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.no_grad():
        before = vae.encode(images).latent_dist
        expected = vae.decode(before.mean).sample
        normalise_latents(vae, images)
        after = vae.encode(images).latent_dist
        latents = after.mean.transpose(0, 1).flatten(1)
        torch.testing.assert_close(latents.mean(1), torch.zeros(16), atol=1e-4, rtol=0)
        expected_std = torch.tensor([3.0] * 3 + [1.0] * 13)  # local colour, then the rest
        torch.testing.assert_close(latents.std(1), expected_std, atol=3e-3, rtol=0)
        torch.testing.assert_close(vae.decode(after.mean).sample, expected, atol=1e-4, rtol=0)
        # the noise shrinks with its channel
        scale = before.mean.transpose(0, 1).flatten(1).std(1) / expected_std
        scale = scale[None, :, None, None]
        torch.testing.assert_close(after.std * scale, before.std, atol=1e-4, rtol=1e-3)


def test_vae_losses_of_known_errors():
    class Ramp:
        def encode(self, images):
            zero, one = torch.zeros(1, 16, 1, 1), torch.ones(1, 16, 1, 1)
            # mean 2, variance 1: KL = 2^2 / 2 = 2 per number
            posterior = type("P", (), {"mean": 2 * one, "std": one, "var": one, "logvar": zero})
            return type("E", (), {"latent_dist": posterior})

        def decode(self, latents):
            # 0.1 x along the rows: mean |error| = 0.15 over 4 columns, edge 0.1 in one direction
            return type("D", (), {"sample": (torch.arange(4.0) * 0.1).expand(1, 3, 4, 4)})

    losses = vae_losses(Ramp(), torch.zeros(1, 3, 4, 4), torch.Generator())
    assert losses["l1"].item() == pytest.approx(0.15)
    assert losses["edge"].item() == pytest.approx(0.5 * 0.1)
    assert losses["kl"].item() == pytest.approx(3e-5 * 2)


def test_a_trained_vae_is_normal_on_its_pictures_and_its_checkpoint_is_all_of_it(folder, tmp_path):
    settings = TrainSettings(steps=1, batch_size=1, warmup_steps=1, checkpoint_seconds=0.0)
    options = {"settings": settings, "statistics": 4}
    whole = AutoencoderKL.from_pretrained(train_vae(folder, tmp_path / "out", **options))
    with Image.open(tmp_path / "out" / "vae.png") as sheet:
        assert sheet.size == (12 * 128, 4 * 128)  # twelve held-out pictures and theirs, twice
    again = AutoencoderKL.from_pretrained(train_vae(folder, tmp_path / "out", **options))
    expected = whole.state_dict()
    assert all(torch.equal(expected[name], value) for name, value in again.state_dict().items())
    # its latents of the pictures that it was made normal for
    images = ImagePool(folder).draw(4, step_generator(settings.seed, -1))
    with torch.no_grad():
        latents = whole.encode(images).latent_dist.mean.transpose(0, 1).flatten(1)
    torch.testing.assert_close(latents.mean(1), torch.zeros(16), atol=0.02, rtol=0)


def test_the_last_eighth_of_a_vae_training_sees_whole_pictures(folder, tmp_path, monkeypatch):
    sizes = []

    def losses(vae, images, generator):
        sizes.append(images.shape[-2:])
        return {"none": 0 * vae.quant_conv.bias.sum()}

    monkeypatch.setattr(training, "vae_losses", losses)
    settings = TrainSettings(steps=25, batch_size=1, checkpoint_seconds=1e9)
    train_vae(folder, tmp_path / "out", settings=settings, statistics=2)
    assert sizes == [(96, 96)] * 22 + [(128, 128)] * 3  # 0.12 of 25


def test_image_pool_draws_every_kind_in_range(folder):
    renders = {"image": flat([[0] * 5] * 4)}
    torch.save(renders, folder / "renders_0000.pt")
    images = ImagePool(folder).draw(200, torch.Generator().manual_seed(0))
    levels = ((images[:, 0, 0, 0] + 1) * 127.5).round().int()
    counts = {level: int((levels == level).sum()) for level in (200, 40, 50, 60, 0)}
    assert sum(counts.values()) == 200
    # a third are sources: two of three shards of them plain, one rendered
    assert 25 < counts[200] < 65
    assert 8 < counts[0] < 40
    assert min(counts[40], counts[50], counts[60]) > 25


def test_no_data_is_said(tmp_path):
    with pytest.raises(FileFormatError, match="make the training data first"):
        ImagePool(tmp_path)
    with pytest.raises(FileFormatError, match="fewer than two pairs_"):
        load_pairs(tmp_path, LatentEncoder(MeanColor(), tmp_path / "latents", "cpu"))


# --- editor


def brightness(latents):
    return ((latents[:, 0, 0, 0].float() + 1) * 127.5).round().int().tolist()


def test_pairs_meet_the_render_of_their_head_and_view(folder):
    # brightness of head h, view v in shard 1: h + 100 (v == 3) ...
    levels = [[head + 50 * view for view in range(5)] for head in range(SHARD)]
    torch.save({"image": flat(levels)}, folder / "renders_0001.pt")
    pairs = load_pairs(folder, LatentEncoder(MeanColor(), folder / "latents", "cpu"))
    assert pairs.train == 3
    assert brightness(pairs.source) == [200] * 6
    assert brightness(pairs.target) == [40, 50, 60] * 2
    # shard 0 has no renders and keeps its sources
    expected = [head + 50 * view for head, view in zip(IDENTITY, VIEW, strict=True)]
    assert brightness(pairs.render) == [200] * 3 + expected


def test_latents_are_encoded_once(folder):
    encoder = LatentEncoder(MeanColor(), folder / "latents", "cpu")
    path = folder / "pairs_0000.pt"
    first = encoder.shard(path, ("source", "target"))
    encoder.encode = None  # would fail
    second = encoder.shard(path, ("source", "target"))
    assert all(torch.equal(first[name], second[name]) for name in ("source", "target"))
    assert first["target"].dtype == torch.float16


def test_batches_are_of_training_pairs_with_captions_of_their_style():
    count = 400
    latents = torch.arange(4.0)[:, None, None, None].expand(4, 16, 2, 2)
    style = torch.tensor([0, 3, 5, 7])
    plain = torch.full((4, 2), -1)
    pairs = LatentPairs(latents, latents + 10, latents + 20, style, plain, train=3)
    batch = draw_batch(pairs, count, 2.0, step_generator(0, 1))
    row = batch.source[:, 0, 0, 0] % 10
    assert set(row.tolist()) == {0.0, 1.0, 2.0}  # row 3 is held out
    rendered = (batch.source[:, 0, 0, 0] >= 20).float().mean()
    assert rendered == pytest.approx(editor_pairs.RENDER_SHARE, abs=0.1)
    nothing = torch.tensor([caption in editing.NOTHING_CAPTIONS for caption in batch.captions])
    assert 4 <= nothing.sum() <= 32  # 16 expected
    # scaled targets: 2 (row + 10), or the source itself, 2 row
    expected = torch.where(nothing, 2 * row, 2 * (row + 10))
    assert torch.equal(batch.target[:, 0, 0, 0], expected)
    assert {"", editing.StylizeSettings().negative} < set(batch.negatives)
    names = list(STYLES)
    zombie = [
        c.lower() for c, r, n in zip(batch.captions, row, nothing, strict=True) if r == 0 and not n
    ]
    assert names[0] == "zombie"
    assert all("zombie" in c or "undead" in c or "walking dead" in c for c in zombie)


def test_attributes_of_a_pair_are_in_its_caption():
    latents = torch.zeros(2, 16, 2, 2)
    order = list(ATTRIBUTES)
    attributes = torch.tensor([[order.index("red beard"), -1], [order.index("bald"), -1]])
    pairs = LatentPairs(latents, latents, None, torch.tensor([0, -1]), attributes, train=2)
    assert pairs.edit(0) == ("zombie", ["red beard"])
    assert pairs.edit(1) == (None, ["bald"])
    captions = [c.lower() for c in draw_batch(pairs, 60, 1.0, step_generator(0, 1)).captions]
    assert any("red beard" in c for c in captions)
    assert all(
        "bald" in c or "without hair" in c or "red beard" in c or c in editing.NOTHING_CAPTIONS
        for c in captions
    )


def test_noise_and_v_give_back_the_latents():
    alphas = noise_scheduler().alphas_cumprod
    target = torch.randn(8, 16, 4, 4, generator=step_generator(0, 0))
    noisy, t, v = add_noise(target, alphas, step_generator(0, 1))
    assert sorted((t // 125).tolist()) == list(range(8))  # one in every eighth
    signal, spoil = (x[t].sqrt()[:, None, None, None] for x in (alphas, 1 - alphas))
    # x = sqrt(a) x_t - sqrt(1-a) v
    torch.testing.assert_close(signal * noisy - spoil * v, target, atol=1e-5, rtol=0)


def test_schedule_ends_in_noise_and_starts_there():
    scheduler = noise_scheduler()
    scheduler.set_timesteps(20)
    assert scheduler.timesteps[0] == 999
    assert scheduler.alphas_cumprod[999] == 0.0
    # sqrt(alpha) falls linearly from 0.5
    for t in (0, 99, 499, 899):
        signal = scheduler.alphas_cumprod[t].sqrt().item()
        assert signal == pytest.approx(0.5 * (1 - (t + 1) / 1000), rel=1e-4)
    assert scheduler.timesteps[2] == 899  # where tau 0.9 begins: nearest to 900


def test_text_and_image_are_left_out_of_some_pairs():
    seen = {}

    class Text(torch.nn.Module):
        def forward(self, ids):
            return (ids,)

    class Unet(torch.nn.Module):
        def forward(self, x, t, encoder_hidden_states):
            seen["image"] = (x[:, 16:] != 0).any((1, 2, 3))
            seen["text"] = encoder_hidden_states[:, 0] == 1
            return type("O", (), {"sample": torch.zeros_like(x[:, :16])})

    count = 4000
    batch = editor_pairs.Batch(
        torch.ones(count, 16, 1, 1), torch.zeros(count, 16, 1, 1), ["t"] * count, ["n"] * count
    )
    networks = torch.nn.ModuleDict({"text_encoder": Text(), "unet": Unet()})
    edit_losses(
        networks,
        lambda texts: torch.tensor([[float(text == "t")] for text in texts]),
        batch,
        noise_scheduler().alphas_cumprod,
        step_generator(0, 0),
        "cpu",
    )
    image, text = seen["image"], seen["text"]
    # 6 percent each: no text, no image, neither
    for rows in (image & ~text, ~image & text, ~image & ~text):
        assert rows.float().mean() == pytest.approx(editing.DROPPED, abs=0.012)


def test_interrupted_editor_training_ends_where_an_uninterrupted_one_does(
    folder, tmp_path, monkeypatch
):
    vae_dir = tmp_path / "vae"
    small_vae().save_pretrained(vae_dir)
    settings = TrainSettings(steps=2, batch_size=2, warmup_steps=1, checkpoint_seconds=0.0)
    options = {"vae_dir": vae_dir, "settings": settings, "captions": 2, "preview_heads": 1}
    whole = load_editor(train_editor(folder, tmp_path / "whole", **options))

    def stop(preview, networks):
        raise KeyboardInterrupt

    monkeypatch.setattr(editing.Preview, "write", stop)  # after the first checkpoint
    with pytest.raises(KeyboardInterrupt):
        train_editor(folder, tmp_path / "parts", **options)
    monkeypatch.setattr(editing.Preview, "write", lambda preview, networks: None)
    parts = load_editor(train_editor(folder, tmp_path / "parts", **options))
    assert isinstance(parts, Editor)
    assert parts.guidance == editing.GUIDANCE
    for name in ("unet", "text_encoder", "vae"):
        expected, got = (getattr(editor, name).state_dict() for editor in (whole, parts))
        assert all(torch.equal(expected[key], got[key]) for key in expected), name
    assert (tmp_path / "whole" / "editor.png").exists()
    tokenizer = CLIPTokenizer.from_pretrained(tmp_path / "whole" / "editor" / "tokenizer")
    assert len(tokenizer) == parts.text_encoder.config.vocab_size
