"""Refining the clay editor on its own edits, from a few made-up pairs."""

import shutil
from dataclasses import replace

import pytest
import torch

from freestyle_core.clay.data import editor_edits
from freestyle_core.clay.data.editor_edits import (
    EDIT_GUIDANCE,
    EditSettings,
    ManyTexts,
    Targets,
    edit_pairs,
    make_edits,
    prompts_of,
)
from freestyle_core.clay.data.editor_pairs import LatentEncoder, load_pairs
from freestyle_core.clay.data.shards import SHARD
from freestyle_core.clay.train import editor_last_step as train_refine
from freestyle_core.clay.train.editor import token_ids
from freestyle_core.clay.train.editor_last_step import LastStep, drawing_losses, refine_editor
from freestyle_core.files.editors.load import load_editor
from freestyle_core.files.networks import embedded, load_perceptual
from freestyle_core.method.stylize import Denoising, StylizeSettings
from freestyle_core.models.perceptual import PerceptualDistance
from freestyle_core.seeds import step_generator
from freestyle_core.training.loop import TrainSettings

PAIRS = 3  # per shard, of two
FEW = EditSettings(count=4, held_out=1, steps=(1,))


@pytest.fixture
def folder(tmp_path):
    """Pairs of smooth random pictures; a target is its source with a darker half."""
    generator = torch.Generator().manual_seed(0)
    for index in range(2):
        small = torch.rand(PAIRS, 3, 4, 4, generator=generator)
        source = torch.nn.functional.interpolate(small, size=(128, 128), mode="bilinear")
        target = source.clone()
        target[..., 64:] *= 0.3
        pairs = {
            "source": (source * 255).byte(),
            "target": (target * 255).byte(),
            "style": torch.tensor([0, 3, -1]),
            "attributes": torch.tensor([[-1, -1], [2, -1], [0, 1]]),
            "identity": torch.arange(PAIRS) + index * SHARD,
            "view_index": torch.zeros(PAIRS, dtype=torch.long),
        }
        torch.save(pairs, tmp_path / f"pairs_{index:04d}.pt")
    return tmp_path


@pytest.fixture(scope="module")
def editor():
    return load_editor(embedded("editor"))


def latent_pairs(folder, editor):
    return load_pairs(folder, LatentEncoder(editor.vae, folder / "latents", "cpu"))


def test_every_picture_of_a_batch_follows_its_own_text(editor):
    settings = StylizeSettings(steps=2)
    generator = torch.Generator().manual_seed(1)
    source, noise = torch.randn(2, 2, 16, 16, 16, generator=generator)
    prompts = [settings.prompt("an elf"), settings.prompt("a bronze statue")]

    def latents(editor, rows, texts):
        text = editor.encode_text([*texts, settings.negative])
        denoising = Denoising(editor, source[rows], text, noise[rows], settings)
        while not denoising.finished:
            denoising.step()
        return denoising.latents

    with torch.no_grad():
        together = latents(ManyTexts(**vars(editor)), slice(0, 2), prompts)
        alone = [latents(editor, slice(i, i + 1), prompts[i : i + 1]) for i in range(2)]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-4, rtol=1e-4)
    assert (together[0] - latents(editor, slice(0, 1), prompts[1:])[0]).abs().mean() > 0.1


def test_edits_are_made_once_and_held_out_rows_come_last(folder, editor, monkeypatch):
    settings = EditSettings(count=6, held_out=5, in_shard=4, steps=(1,))
    pairs = latent_pairs(folder, editor)
    edits = make_edits(editor, pairs, folder / "work", settings, seed=0)
    assert edits.latents.shape == (11, 16, 16, 16) and edits.rows.shape == (11,)
    assert edits.rows[:6].max() < PAIRS <= edits.rows[6:].min()
    monkeypatch.setattr(editor_edits, "edit_pairs", None)  # nothing is made a second time
    again = make_edits(editor, pairs, folder / "work", settings, seed=0)
    assert torch.equal(again.latents, edits.latents) and torch.equal(again.rows, edits.rows)


def test_an_edit_starts_from_the_render_where_there_is_one(folder, editor):
    pairs = latent_pairs(folder, editor)
    rows = torch.tensor([0])

    def made(pairs):
        return edit_pairs(editor, pairs, rows, 1, step_generator(0, 0))

    plain = made(pairs)
    rendered = replace(pairs, render=pairs.source.flip(0), render_share=1.0)
    assert not torch.equal(made(rendered), plain)
    without = made(replace(rendered, render_share=0.0))
    assert torch.equal(made(replace(rendered, render=pairs.source)), without)


def test_an_edit_is_denoised_to_its_end(folder, editor):
    pairs, rows = latent_pairs(folder, editor), torch.tensor([0, 1])
    scales = {"image_guidance": EDIT_GUIDANCE, "text_guidance": EDIT_GUIDANCE}
    settings = StylizeSettings(steps=2, **scales)
    generator = step_generator(0, 0)
    source = pairs.sources(rows, generator)
    text = editor.encode_text([*prompts_of(pairs, rows, generator), settings.negative])
    noise = torch.randn(source.shape, generator=generator)
    many = ManyTexts(**vars(editor))
    with torch.no_grad():
        denoising = Denoising(many, source, text, noise, settings)
        while not denoising.finished:
            denoising.step()
    got = edit_pairs(many, pairs, rows, 2, step_generator(0, 0))
    torch.testing.assert_close(got.float(), denoising.latents, atol=2e-3, rtol=2e-3)


def test_targets_are_the_restyled_heads_of_their_rows(folder):
    rows = torch.tensor([4, 0, 2])
    shards = [torch.load(folder / f"pairs_{i:04d}.pt")["target"] for i in range(2)]
    expected = torch.stack([shards[1][1], shards[0][0], shards[0][2]]).float() / 255
    assert torch.equal(Targets(folder)[rows], expected)


def test_losses_of_known_errors():
    seen = []

    def perceptual(drawn, target):
        seen.append(len(drawn))
        return torch.tensor([0.1, 0.3])

    target = torch.zeros(3, 3, 8, 8)
    drawn = target.clone()
    drawn[..., :4], drawn[..., 4:] = -0.2, 0.4
    losses = drawing_losses(drawn, target, 2, perceptual)
    assert losses["l1"].item() == pytest.approx(3 * 0.3)
    assert losses["color"].item() == pytest.approx(3 * 0.1)  # of the block's mean
    assert losses["edge"].item() == pytest.approx(0.5 * 0.6 / 7)  # one step in each row of 7
    assert losses["perceptual"].item() == pytest.approx(0.6 * 0.2)
    assert seen == [2]  # the edits alone


@pytest.mark.parametrize("steps", [20, 10])
def test_the_last_step_is_that_of_the_sampler(folder, editor, monkeypatch, steps):
    """From the sampler's own latents before its last step, the guess is where it ends."""
    pairs = latent_pairs(folder, editor)
    scales = {"image_guidance": EDIT_GUIDANCE, "text_guidance": EDIT_GUIDANCE}
    rows, settings = torch.tensor([1]), StylizeSettings(steps=steps, **scales)
    prompts = prompts_of(pairs, rows, step_generator(0, 0))
    text = editor.encode_text([*prompts, settings.negative])
    source = pairs.source[rows].float()
    noise = torch.randn(source.shape, generator=step_generator(0, 1))
    with torch.no_grad():
        denoising = Denoising(editor, source, text, noise, settings)
        while not denoising.finished:
            before = denoising.latents
            denoising.step()
        alphas = editor.scheduler.alphas_cumprod.clone()
        t = 1000 // steps - 1
        networks = {"unet": editor.unet, "text_encoder": editor.text_encoder}
        step = LastStep(networks, token_ids(editor.tokenizer), alphas, (steps,))
        # the noise that turns zero latents into those before the last step
        fixed = before / (1 - alphas[t]).sqrt()
        monkeypatch.setattr(torch, "randn", lambda *a, **k: fixed)
        guess = step(torch.zeros_like(source), source, prompts, step_generator(0, 2))
    torch.testing.assert_close(guess, denoising.latents, atol=2e-4, rtol=1e-4)


def test_interrupted_training_ends_where_an_uninterrupted_one_does(folder, editor, monkeypatch):
    settings = TrainSettings(steps=2, batch_size=2, warmup_steps=1, checkpoint_seconds=0.0)
    edited = []

    def train(name):
        out = folder / name
        shutil.copytree(embedded("editor"), out / "editor", dirs_exist_ok=True)
        return load_editor(
            refine_editor(
                folder, out, embedded("perceptual"), edits=replace(FEW, count=2), settings=settings
            )
        )

    whole = train("whole")

    def stop(*args):
        edited.append(args)
        raise KeyboardInterrupt

    monkeypatch.setattr(train_refine, "save_image", stop)  # after the first checkpoint
    with pytest.raises(KeyboardInterrupt):
        train("parts")
    monkeypatch.setattr(train_refine, "save_image", lambda *args: None)
    parts = train("parts")
    assert len(edited) == 1
    for name in ("unet", "text_encoder", "vae"):
        expected, got = (getattr(e, name).state_dict() for e in (whole, parts))
        assert all(torch.equal(expected[key], got[key]) for key in expected), name
    for name in ("unet", "text_encoder"):
        expected, got = (getattr(e, name).state_dict() for e in (editor, parts))
        assert any(not torch.equal(expected[key], got[key]) for key in expected), name
    expected, got = (e.vae.state_dict() for e in (editor, parts))
    moved = {key.split(".")[0] for key in expected if not torch.equal(expected[key], got[key])}
    assert moved == {"decoder", "post_quant_conv"}  # the latents of the encoder stay true
    assert parts.guidance == editor.guidance


def test_training_draws_its_edits_better(folder, editor, monkeypatch):
    out = folder / "out"
    shutil.copytree(embedded("editor"), out / "editor")
    settings = TrainSettings(steps=6, batch_size=4, learning_rate=2e-3, warmup_steps=1)
    after = load_editor(
        refine_editor(folder, out, embedded("perceptual"), edits=FEW, settings=settings)
    )
    shard = torch.load(next(out.glob("refine_*")) / "edits_0000.pt")
    pairs, target = latent_pairs(folder, editor), Targets(folder)[shard["rows"]]
    perceptual = PerceptualDistance(load_perceptual(embedded("perceptual")))

    def loss(editor):
        networks = {"unet": editor.unet, "text_encoder": editor.text_encoder}
        alphas = editor.scheduler.alphas_cumprod
        step = LastStep(networks, token_ids(editor.tokenizer), alphas, FEW.steps)
        generator = step_generator(5, 5)
        source = pairs.sources(shard["rows"], generator)
        prompts = prompts_of(pairs, shard["rows"], generator)
        with torch.no_grad():
            guess = step(shard["latents"].float(), source, prompts, generator)
            drawn = editor.vae.decode(guess / editor.latent_scale).sample / 2 + 0.5
            return float(sum(drawing_losses(drawn, target, 4, perceptual).values()))

    assert loss(after) < 0.9 * loss(editor)
