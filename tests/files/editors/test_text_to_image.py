"""Loading of text-to-image models, and of editors that stand in for them."""

import json
import math
import shutil

import pytest
import torch

from freestyle_core.errors import DownloadError, FileFormatError, InputError, MismatchError
from freestyle_core.files.editors import text_to_image as room
from freestyle_core.files.editors.load import load_editor, save_editor
from freestyle_core.files.editors.text_to_image import load_text_to_image
from freestyle_core.models.text_to_image import Suits, TextToImage
from tests.tiny_editor import save_tiny_editor
from tests.tiny_text_to_image import save_tiny_text_to_image


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_text_to_image(tmp_path_factory.mktemp("sd"))


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def rewrite(folder, **changes):
    path = folder / "model_index.json"
    index = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in index.items() if v is not None}))


def test_a_stable_diffusion_folder_loads_with_the_published_numbers(folder):
    model = load_text_to_image(folder)
    assert model.suits == Suits() and model.suits.guidance == 100
    assert (model.image_size, model.factor, model.latent_channels) == (16, 2, 4)
    assert not model.is_editor and not model.unet.training
    assert not any(p.requires_grad for p in model.unet.parameters())
    text = model.encode_text(["a zombie"])
    assert model.noise(torch.zeros(1, 4, 8, 8), 500, text).shape == (1, 4, 8, 8)


def test_the_number_format_is_the_one_asked_for(folder):
    model = load_text_to_image(folder, dtype=torch.float64)
    assert model.dtype == torch.float64
    assert model.noise(torch.zeros(1, 4, 8, 8), 5, model.encode_text(["x"])).dtype == torch.float32


def test_a_folder_says_what_it_can_be_asked_for(copy):
    rewrite(copy, _text_to_image={"guidance": 7.5, "views": [40, 30], "white": True})
    assert load_text_to_image(copy).suits == Suits(guidance=7.5, views=(40, 30), white=True)


@pytest.mark.parametrize(
    "said",
    [[1], {"colour": 1}, {"guidance": "high"}, {"views": [40]}, {"views": 3}, {"template": "x"}],
)
def test_what_it_says_is_checked(copy, said):
    rewrite(copy, _text_to_image=said)
    with pytest.raises(FileFormatError, match="_text_to_image"):
        load_text_to_image(copy)


def test_an_editor_keeps_what_suits_it_without_an_image(tmp_path):
    folder = save_tiny_editor(tmp_path / "editor")
    assert TextToImage.from_editor(load_editor(folder)).suits == Suits()
    rewrite(folder, _text_to_image={"guidance": 3.5, "views": [40, 30]})
    editor = load_editor(folder)
    assert TextToImage.from_editor(editor).suits == Suits(guidance=3.5, views=(40, 30))
    again = save_editor(tmp_path / "again", editor, tokenizer_files=folder / "tokenizer")
    assert load_text_to_image(again).suits == Suits(guidance=3.5, views=(40, 30))
    rewrite(folder, _text_to_image={"guidance": -math.inf})
    with pytest.raises(FileFormatError):
        load_editor(folder)


def test_other_folders_are_refused(copy, tmp_path):
    with pytest.raises(FileFormatError, match="no text-to-image folder"):
        load_text_to_image(tmp_path / "nothing")
    rewrite(copy, _class_name="StableDiffusionXLPipeline")
    with pytest.raises(FileFormatError, match="StableDiffusionXLPipeline"):
        load_text_to_image(copy)
    rewrite(copy, _class_name="StableDiffusionPipeline")
    (copy / "vae" / "config.json").unlink()
    with pytest.raises(FileFormatError, match=r"vae/config\.json missing"):
        load_text_to_image(copy)


def test_weights_that_could_run_code_are_not_read(copy):
    weights = next((copy / "unet").glob("*.safetensors"))
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(FileFormatError, match="safetensors"):
        load_text_to_image(copy)


def test_an_editor_does_not_load_it_and_the_other_way_round_it_serves(folder, tmp_path):
    with pytest.raises(FileFormatError, match="InstructPix2Pix"):
        load_editor(folder)
    model = load_text_to_image(save_tiny_editor(tmp_path / "editor"))
    assert model.is_editor


def test_an_editor_is_given_zeros_for_its_image(tmp_path):
    editor = load_editor(save_tiny_editor(tmp_path / "editor"))
    model = TextToImage.from_editor(editor, Suits())
    noisy, text = torch.randn(2, 4, 8, 8), editor.encode_text(["a zombie", ""])
    predictor = editor.predictor(torch.zeros(2, 4, 8, 8), text, torch.tensor([321]))
    expected = editor.unet(
        torch.cat([noisy, torch.zeros_like(noisy)], dim=1), 321, encoder_hidden_states=text
    ).sample
    assert torch.allclose(model.noise(noisy, 321, text), expected, atol=1e-6)
    assert torch.allclose(predictor(noisy, 0, branches=1)[0][0], expected[0], atol=1e-5)


def test_the_noise_of_a_model_that_predicts_v(folder):
    model = load_text_to_image(folder)
    text, noisy = model.encode_text(["a zombie"]), torch.randn(1, 4, 8, 8)
    plain = model.noise(noisy, 400, text)
    model.scheduler.register_to_config(prediction_type="v_prediction")
    share = float(model.scheduler.alphas_cumprod[400])
    # v = sqrt(a) e - sqrt(1-a) x and x_t = sqrt(a) x + sqrt(1-a) e: e = sqrt(a) v + sqrt(1-a) x_t
    expected = share**0.5 * plain + (1 - share) ** 0.5 * noisy
    assert torch.allclose(model.noise(noisy, 400, text), expected, atol=1e-6)
    model.scheduler.register_to_config(prediction_type="sample")
    with pytest.raises(MismatchError, match="sample"):
        model.noise(noisy, 400, text)


def test_noise_is_added_as_the_scheduler_does(folder):
    model = load_text_to_image(folder)
    latents, noise = torch.randn(2, 1, 4, 8, 8)
    expected = model.scheduler.add_noise(latents, noise, torch.tensor([700]))
    assert torch.allclose(model.noised(latents, noise, 700), expected, atol=1e-6)


def test_a_unet_of_other_channels_is_refused(folder):
    parts = load_text_to_image(folder)
    parts.unet.register_to_config(in_channels=5)
    with pytest.raises(MismatchError, match="got 5"):
        TextToImage(parts.vae, parts.unet, parts.text_encoder, parts.tokenizer, parts.scheduler)


def test_the_embedded_editor_makes_a_picture_of_words_alone():
    model = load_text_to_image("clay")
    assert model.is_editor and model.image_size == 128
    assert model.suits.white and model.suits.views == (42.0, 34.0)
    prompt = model.suits.prompt("the Hulk")
    # nothing but noise at the first step: the picture guessed from it is green in the middle
    noise = torch.randn(1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    step = 900
    guess = model.noise(noise, step, model.encode_text([prompt]))
    share = float(model.signal[step])
    picture = model.decode((noise - (1 - share) ** 0.5 * guess) / share**0.5)[0]
    red, green, blue = picture[:, 40:100, 40:88].mean(dim=(1, 2)).tolist()
    assert green > 1.3 * red and green > 1.3 * blue
    assert picture[:, :16, :16].mean() > 0.9


def test_a_download_is_asked_of_the_hub_by_its_own_name(tmp_path, monkeypatch):
    asked = []

    def fetched(folder, *, repository, progress):
        asked.append(repository)
        raise DownloadError("no hub here")

    monkeypatch.setattr(room, "download_editor", fetched)
    for name in ("SD 2.1 base", "someone/model"):
        with pytest.raises(DownloadError):
            load_text_to_image(tmp_path / "sd", download=name)
    assert asked == ["stabilityai/stable-diffusion-2-1-base", "someone/model"]
    with pytest.raises(InputError, match="SD 1.5"):
        load_text_to_image(tmp_path / "sd", download="SD 3")


def test_the_words_stand_in_the_template():
    assert Suits(template="a {style} head").prompt("  clay ") == "a clay head"
    with pytest.raises(InputError, match="empty"):
        Suits().prompt("  ")
