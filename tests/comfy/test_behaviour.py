"""How the nodes behave in a real server: what runs again, what is kept, and what is shown."""

import copy
import hashlib
import re

import pytest
from PIL import Image

from tests.comfy.graphs import EDITED, FULL, HEAD, changed, node

LIMIT = 300  # seconds for one prompt; most take about one


def succeed(server, prompt, on_event=None):
    run = server.run(prompt, LIMIT, on_event)
    assert run.end.kind == "execution_success", run.end.data
    return run


def texts(events):
    return [e.data.decode(errors="replace") for e in events if e.kind == "text"]


def pictures(server, run, shown="show"):
    """Return the hash of every picture that a node showed: of its pixels, not of its prompt."""
    files = server.outputs(run)[shown]["images"]
    opened = [Image.open(server.file(item)) for item in files]
    return [hashlib.sha256(picture.tobytes()).hexdigest() for picture in opened]


def kept(server):
    """Return the names of the fine-tunings on disk."""
    names = {path.name for path in store(server).glob("*") if path.name != "limit.json"}
    return sorted(name for name in names if not name.startswith("view-"))


def store(server):
    return server.base / "user" / "__freestyle3d" / "finetuned"


# What runs again ----------------------------------------------------------------------------------


def test_only_what_a_change_touches_runs_again(server):
    succeed(server, FULL)
    turned = succeed(server, changed(FULL, turn={"frames": 5}))
    assert turned.ran() == {"turn", "frames", "show"}
    restyled = succeed(server, changed(FULL, edit={"style": "a zombie"}))
    assert restyled.ran() == {"edit", "train", "turn", "frames", "show"}
    assert "training, step 12/12" in " ".join(texts(restyled.during("train")))


def test_the_cache_node_limits_and_clears_what_is_kept(server):
    succeed(server, changed(FULL, train={"seed": 22}))
    assert kept(server)
    cache = {"cache": node("FreeStyleFinetuneCache", limit_gb=4.0, clear=True)}
    run = succeed(server, cache)
    assert re.search(r"\d+ deleted, 0 kept, 0.00 of 4 GB", " ".join(texts(run.events)))
    assert kept(server) == []
    # something was kept since, so that the same node runs again
    succeed(server, changed(FULL, train={"seed": 23}))
    assert len(kept(server)) == 1
    succeed(server, changed(cache, cache={"limit_gb": 0.0, "clear": False}))
    assert kept(server) == []
    succeed(server, changed(cache, cache={"clear": False}))  # back to the default


# What is shown ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def long_run(server):
    """A run of the whole pipeline whose stages take long enough to say how far they are."""
    prompt = changed(
        FULL, head={"seed": 31}, edit={"steps": 60, "batch_size": 3}, train={"iterations": 100}
    )
    return succeed(server, prompt)


def test_every_stage_shows_its_name_step_loss_and_time_left(long_run):
    run = long_run
    shown = " ".join(texts(run.during("edit")))
    for phase in ("encoding, view", "decoding, view"):  # the VAE has names of its own
        assert phase in shown
    for stage, words in {
        "views": r"normals, view 5/5, took 0:\d\d",
        "edit": r"restyling, step \d+/108, 0:\d\d left",
        "train": r"training, step \d+/100, loss [\d.]+, 0:\d\d left",
        "frames": r"normals, view 4/4, took 0:\d\d",
    }.items():
        assert any(re.search(words, line) for line in texts(run.during(stage))), stage
        values = [e.data["value"] for e in run.during(stage) if e.kind == "progress"]
        assert values == sorted(values) and len(values) > 1, stage


def test_pictures_come_while_it_works(long_run):
    for stage, least in {"edit": 2, "train": 2}.items():
        shown = [e.data for e in long_run.during(stage) if e.kind == "preview"]
        assert len(set(shown)) >= least, stage  # they differ from one another


# Stopping -----------------------------------------------------------------------------------------

HEAVY = {
    "views": changed(
        {**HEAD, "show": node("PreviewImage", images=["views", 0])},
        head={"seed": 41},
        cameras={"views_per_side": 16},
        views={"samples_per_ray": 256, "memory_mb": 64},
    ),
    "edit": changed(
        {**EDITED, "show": node("PreviewImage", images=["edit", 0])},
        head={"seed": 42},
        edit={"steps": 100, "batch_size": 1},
    ),
    "train": changed(FULL, head={"seed": 43}, train={"iterations": 20000}),
    "mesh": {
        "eg3d": HEAD["eg3d"],
        "head": HEAD["head"],
        "mesh": node(
            "FreeStylePortraitMesh",
            portrait=["head", 0],
            resolution=512,
            filename_prefix="mesh/stopped",
            density_level=0.3,
        ),
    },
}


@pytest.mark.parametrize("stage", HEAVY)
def test_stopping_is_quick_and_the_next_run_is_clean(server, stage):
    before = kept(server)
    seen, stop = [], {}

    def interrupt(server, run, event):
        if event.kind == "progress" and event.data["node"] == stage:
            seen.append(event)
            if len(seen) == 3:
                stop["at"] = server.work()
                server.post("/interrupt", {"prompt_id": run.prompt_id})

    run = server.run(HEAVY[stage], LIMIT, interrupt)
    assert run.end.kind == "execution_interrupted", run.end.data
    unfinished = set(kept(server)) - set(before)
    assert len(unfinished) == (stage == "train")  # only a training is kept as far as it came
    assert server.work() - stop["at"] < 1.0  # a step of every stage is shorter here
    assert re.search(r"stopped at \S+, \w+ \d+/\d+$", texts(run.during(stage))[-1])
    assert not list((server.base / "output").rglob("*stopped*"))
    assert not list(server.base.rglob("*.tmp"))
    succeed(server, changed(FULL, head={"seed": 44}, train={"iterations": 2}))


def test_a_stopped_training_goes_on_where_it_was_and_leaves_nothing_behind(server):
    prompt = changed(FULL, head={"seed": 45}, train={"iterations": 40})
    straight = succeed(server, changed(prompt, train={"iterations": 40}))
    wanted = pictures(server, straight)
    for path in store(server).glob("[!v]*.safetensors"):  # only the edited views stay
        path.unlink()
    server.post("/free", {"unload_models": True, "free_memory": True})
    seen = []

    def interrupt(server, run, event):
        if event.kind == "progress" and event.data["node"] == "train":
            seen.append(event.data["value"])
            if len(seen) == 2:
                server.post("/interrupt", {"prompt_id": run.prompt_id})

    stopped = server.run(changed(prompt, turn={"frames": 5}), LIMIT, interrupt)
    assert stopped.end.kind == "execution_interrupted"
    assert [name.split(".")[1] for name in kept(server)] == ["unfinished"]
    again = succeed(server, prompt)
    first = next(e.data["value"] for e in again.during("train") if e.kind == "progress")
    assert first > 0
    assert [name.split(".")[1] for name in kept(server)] == ["safetensors"]
    assert pictures(server, again) == wanted


def test_earlier_words_bring_their_pictures_back_and_one_new_view_is_edited_alone(server):
    prompt = {**EDITED, "show": node("PreviewImage", images=["edit", 0])}
    prompt = changed(prompt, head={"seed": 46})
    first = pictures(server, succeed(server, prompt))
    succeed(server, changed(prompt, edit={"style": "a zombie"}))
    server.post("/free", {"unload_models": True, "free_memory": True})
    back = succeed(server, changed(prompt, edit={"batch_size": 2}))  # decides nothing
    assert "5 of 5 pictures taken from disk" in " ".join(texts(back.during("edit")))
    assert pictures(server, back) == first
    # the last view is another head's
    other = {
        "two": node("FreeStyleEG3DSampler", eg3d=["eg3d", 0], seed=47, truncation=0.7),
        "theirs": node("FreeStyleTriplaneRender", portrait=["two", 0]),
        "four": node("ImageFromBatch", image=["views", 0], batch_index=0, length=4),
        "mixed": node("ImageBatch", image1=["four", 0], image2=["theirs", 0]),
    }
    run = succeed(server, changed({**prompt, **other}, edit={"images": ["mixed", 0]}))
    said = texts(run.during("edit"))
    assert "4 of 5 pictures taken from disk" in said[-1]  # it stays when the node is done
    assert any("encoding, view 0/1" in line for line in said)
    now = pictures(server, run)
    assert now[:4] == first[:4] and now[4] != first[4]
    # a picture that was damaged on disk is edited again
    for path in store(server).glob("view-*"):
        path.write_bytes(path.read_bytes()[:-9])
    server.post("/free", {"unload_models": True, "free_memory": True})
    assert pictures(server, succeed(server, changed(prompt, edit={"seed": 0}))) == first


# Inputs -------------------------------------------------------------------------------------------


def refusal(server, prompt):
    with pytest.raises(RuntimeError) as error:
        server.post("/prompt", {"prompt": prompt})
    return str(error.value)


def test_bad_values_are_refused_before_anything_runs(server):
    two = {"images_2": ["edit", 0]}
    for says, nodes in {
        "style is empty: say in a few words": {"edit": {"style": " "}},
        "template has no {style}": {"edit": {"template": "turn the head into an elf"}},
        "samples_per_ray is 3: set 0 for the model's own number, or 4 to 256": {
            "views": {"samples_per_ray": 3}
        },
        "samples_per_ray is 999": {"views": {"samples_per_ray": 999}},
        "style is empty: write it": {"train": {"style": ""}},
        "style_2 is empty": {"train": two},
        "style_2 has no pictures": {"train": {"style_2": "an elf"}},
        "portrait_2 has no pictures": {"train": {"portrait_2": ["head", 0]}},
    }.items():
        assert says in refusal(server, changed(FULL, **nodes)).replace('\\"', '"')


def test_parts_that_do_not_fit_give_one_readable_line(server):
    few = node(
        "FreeStyleTurntableCameras",
        portrait=["head", 0],
        frames=3,
        path="sweep",
        yaw_range_deg=20.0,
        pitch_range_deg=10.0,
    )
    prompt = changed({**FULL, "few": few}, train={"cameras": ["few", 0]})
    run = server.run(prompt, LIMIT)
    assert run.end.kind == "execution_error" and run.end.data["node_id"] == "train"
    message = run.end.data["exception_message"].strip()
    assert message == ("got 5 images for 3 cameras; edit every rendered view, and keep their order")
    assert run.end.data["exception_type"] == "FreeStyle3D"  # no module before the sentence
    assert texts(run.during("train"))[-1].endswith(message)  # it stands in the node, too
    assert "freestyle_core" not in server.log().split("!!! Exception")[-1]


def test_what_is_taken_all_the_same_is_said_and_stays(server):
    prompt = changed(FULL, head={"seed": 52}, train={"iterations": 2})
    prompt["wide"] = node(
        "ImageScale",
        image=["edit", 0],
        upscale_method="bilinear",
        width=64,
        height=64,
        crop="disabled",
    )
    prompt["again"] = copy.deepcopy(prompt["train"])
    prompt = changed(
        prompt,
        again={"portrait": ["train", 0], "images": ["wide", 0]},
        turn={"portrait": ["again", 0]},
        frames={"portrait": ["again", 0]},
    )
    last = texts(succeed(server, prompt).during("again"))[-1]
    for words in ("training, step 2/2", "64 pixels wide: resized to", "already restyled"):
        assert words in last and (words in server.log() or "step" in words)


def test_a_head_mixes_with_its_restyled_self_by_planes_alone(server):
    prompt = changed(FULL, head={"seed": 53}, train={"iterations": 2})
    prompt["mix"] = node("FreeStyleStyleMix", portrait_a=["head", 0], portrait_b=["train", 0])
    prompt["mix"]["inputs"]["amount"] = 0.0  # the head itself
    prompt["sweep"] = node(
        "FreeStyleStyleSweep",
        portrait_a=["mix", 0],
        portrait_b=["train", 0],
        cameras=["cameras", 0],
        there_and_back=False,
        space="planes",
    )
    prompt["show"]["inputs"]["images"] = ["sweep", 0]
    prompt["views shown"] = node("PreviewImage", images=["views", 0])
    run = succeed(server, prompt)
    swept, views = pictures(server, run), pictures(server, run, "views shown")
    assert swept[0] == views[0] and swept[-1] != views[-1]
    run = server.run(changed(prompt, mix={"space": "codes"}), LIMIT)
    assert run.end.kind == "execution_error" and run.end.data["node_id"] == "mix"
    message = run.end.data["exception_message"].strip()
    assert message.startswith("the first portrait has no style code")
    assert message.endswith("or mix their planes (space planes or auto)")


def test_a_mesh_of_which_hardly_anything_is_left_says_so(server):
    prompt = {name: HEAD[name] for name in ("eg3d", "head")}
    prompt["mesh"] = node(
        "FreeStylePortraitMesh", portrait=["head", 0], resolution=32, filename_prefix="mesh/some"
    )
    prompt = changed(prompt, eg3d={"model": "clay (embedded)"})
    whole = texts(succeed(server, prompt).during("mesh"))[-1]
    assert re.fullmatch(r".* triangles in mesh/some\S+", whole)
    last = texts(succeed(server, changed(prompt, mesh={"cut_back": 0.9})).during("mesh"))[-1]
    assert re.search(r"triangles in mesh/some\S+\nonly a piece of the head is left, \d+%", last)


def test_a_new_node_keeps_its_seed(server):
    for name in ("EG3DSampler", "Ip2pSDEditStylize", "I2TFinetune", "I2TPretrain"):
        info = server.get(f"/object_info/FreeStyle{name}")[f"FreeStyle{name}"]
        control = info["input"]["required"]["seed"][1]["control_after_generate"]
        assert control == ("fixed" if server.version() >= (0, 33) else True)


def test_no_node_changes_what_it_receives(server):
    prompt = changed(FULL, head={"seed": 51}, train={"iterations": 3})
    prompt["mix"] = node(
        "FreeStyleStyleMix", portrait_a=["train", 0], portrait_b=["train", 1], amount=0.5
    )
    prompt["mesh"] = node(
        "FreeStylePortraitMesh",
        portrait=["mix", 0],
        resolution=32,
        filename_prefix="mesh/x",
        density_level=0.3,
    )
    prompt["save"] = node("FreeStyleSavePortrait", portrait=["mix", 0], filename_prefix="x")
    last = "mix"
    sources = {
        "eg3d": 0,
        "head": 0,
        "cameras": 0,
        "views": 0,
        "editor": 0,
        "edit": 0,
        "i2t": 0,
        "train": 0,
        "turn": 0,
    }
    # everything is hashed as it leaves its node, and once more when all of its readers are done
    for name, slot in sources.items():
        for reader in prompt.values():
            for key, value in reader["inputs"].items():
                if value == [name, slot]:
                    reader["inputs"][key] = [f"{name} before", 0]
    for name, slot in sources.items():
        prompt[f"{name} before"] = node("ProbeHash", value=[name, slot])
        prompt[f"{name} after"] = node("ProbeHash", value=[f"{name} before", 0], after=[last, 0])
    prompt["mesh"]["inputs"]["portrait"] = prompt["save"]["inputs"]["portrait"] = ["mix", 0]
    shown = server.outputs(succeed(server, prompt))
    for name in sources:
        assert shown[f"{name} before"]["hash"] == shown[f"{name} after"]["hash"], name
