"""I2T Pretrain on the real server: stopped, queued again, finished, and listed in Load I2T."""

import json

TIME_LIMIT = 900  # seconds; about 20 on a free core


def node(class_type, **inputs):
    return {"class_type": class_type, "inputs": inputs}


def graph(**inputs):
    values = {"name": "made here", "steps": 40, "batch_size": 1, "precision": "float32", "seed": 0}
    return {
        "eg3d": node("FreeStyleLoadEG3D", model="tiny.safetensors"),
        "train": node("FreeStyleI2TPretrain", eg3d=["eg3d", 0], **{**values, **inputs}),
    }


def steps(run):
    return [e.data["value"] for e in run.of("progress") if e.data["node"] == "train"]


def test_a_stopped_run_goes_on_when_queued_again_and_its_network_is_offered(server):
    folder = server.base / "models" / "i2t"
    log = folder / "made here.jsonl"
    stop = {}

    def interrupt(server, run, event):
        here = event.kind == "progress" and event.data["node"] == "train"
        if here and event.data["value"] >= 12 and not stop:
            stop.update(at=event.data["value"])
            server.post("/interrupt", {"prompt_id": run.prompt_id})

    optional = {"preview_every": 10, "validate_every": 20}
    run = server.run(graph(**optional), TIME_LIMIT, interrupt)
    assert run.end.kind == "execution_interrupted", run.end.data
    assert run.of("preview")
    assert not (folder / "made here.safetensors").exists()
    listed = server.get("/object_info")["FreeStyleLoadI2T"]["input"]["required"]["model"]
    assert not any("made here" in name for name in listed[1]["options"])

    run = server.run(graph(**optional), TIME_LIMIT)
    assert run.end.kind == "execution_success", run.end.data
    assert steps(run)[0] >= stop["at"] and steps(run)[-1] == 40
    events = [json.loads(line) for line in log.read_text().splitlines()]
    assert [x["event"] for x in events].count("resume") == 1
    assert events[-1]["step"] == 40 and events[-1]["psnr"] > 0
    listed = server.get("/object_info")["FreeStyleLoadI2T"]["input"]["required"]["model"]
    assert "made here.safetensors" in listed[1]["options"]
    loaded = {
        "eg3d": node("FreeStyleLoadEG3D", model="tiny.safetensors"),
        "i2t": node("FreeStyleLoadI2T", model="made here.safetensors", eg3d=["eg3d", 0]),
        "show": node("PreviewAny", source=["i2t", 0]),
    }
    assert server.run(loaded, TIME_LIMIT).end.kind == "execution_success"

    run = server.run(graph(steps=50), TIME_LIMIT)
    assert run.end.kind == "execution_error"
    assert "was made by a run with other settings" in run.end.data["exception_message"]
