"""The other systems by the commands: a table with a network that has a part, and wrong labels found."""

import csv
import importlib.util
import json

import cv2
import jax
import jax.export
import numpy as np
import pytest
from tiny_run import TinyMap, TinyStages

from cdml_jax.cli import main
from cdml_jax.inference.trained_run import load
from cdml_jax.models import NETWORKS, Variant

FAMILIES = {"finch": ("siskin", "serin"), "tit": ("blue", "great")}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Photographs of four classes in two families, 14 of each; a classes' name is in its family's folder."""
    root = tmp_path_factory.mktemp("other")
    rng = np.random.default_rng(0)
    for family, names in FAMILIES.items():
        for name in names:
            folder = root / "birds" / family / name
            folder.mkdir(parents=True)
            colour = rng.integers(40, 216, 3)
            for number in range(14):
                image = np.clip(colour + rng.normal(0, 25, (16, 16, 3)), 0, 255).astype(np.uint8)
                (folder / f"{number}.png").write_bytes(cv2.imencode(".png", image)[1].tobytes())
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(NETWORKS, "tiny_map", Variant(TinyMap))
        patch.setitem(NETWORKS, "tiny_stages", Variant(TinyStages))
        patch.setenv("CDML_DATA_DIR", str(root / "cache"))
        yield root


def command(root, command, name, **keys):
    keys = {
        "source": f"folder:{root / 'birds'}",
        "model.name": "tiny_map",
        "model.embedding_size": 8,
        "image.image_size": 16,
        "image.resize": 16,
        "image.crop": "random",
        "epochs": 2,
        "warmup_epochs": 1,
        "batch_size": 16,
        "data.num_threads": 0,
        "data.validation_fraction": 0.2,
        "data.test_fraction": 0.2,
        "compilation_cache": "",
        **keys,
    }
    given = [f"--config.{key}={value}" for key, value in keys.items()]
    return main.main([command, "--config=own_images_scratch", f"--workdir={root / name}", *given])


def test_a_table_of_a_network_with_a_part_and_its_use(root, capsys):
    methods = {"reproduce.methods": "cdml_two_levels", "reproduce.seeds": 1}
    assert command(root, "reproduce", "table", **methods) == 0
    # The network with the part has a warm-up of its own, in which the family's term has no weight.
    runs = {path.name for path in (root / "table" / "runs").iterdir()}
    assert runs == {"warmup-two_levels-seed0", "cdml_two_levels-seed0"}
    run = root / "table" / "runs" / "cdml_two_levels-seed0"
    history = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert history[-1]["family_loss"] > 0
    assert json.loads((run / "config.json").read_text())["method"]["part"] == "two_levels"
    capsys.readouterr()
    assert main.main(["evaluate", f"--workdir={run}", "--split=test"]) == 0
    assert "right family" in capsys.readouterr().out
    image = root / "birds" / "tit" / "blue" / "0.png"
    assert main.main(["predict", f"--workdir={run}", str(image)]) == 0
    likeliest = load(run).predict([image])[0][0]
    assert f"{likeliest.probability:.1%}  {likeliest.class_name}" in capsys.readouterr().out


def test_wrong_labels_are_made_and_what_is_left_out_is_listed(root, capsys):
    keys = {"method": "dropping", "data.label_noise": 0.25, "epochs": 6, "warmup_epochs": 1}
    assert command(root, "train", "noisy", **keys) == 0
    said = capsys.readouterr().out
    assert "data.label_noise: 8 of 34 training images carry another class's label" in said
    with (root / "noisy" / "dropped.csv").open() as file:
        rows = list(csv.DictReader(file))
    # Of the fifth epoch after the warm-up: 7.5 % of 34 images.
    assert len(rows) == 3
    assert [float(row["change"]) for row in rows] == sorted(
        (float(row["change"]) for row in rows), reverse=True
    )
    assert {row["label changed"] for row in rows} <= {"True", "False"}
    assert "Left out by their last predictions: 3 of 34 images" in said
    history = [json.loads(line) for line in (root / "noisy/metrics.jsonl").read_text().splitlines()]
    shares = [entry["dropped_share"] for entry in history]
    assert shares[:3] == [0, 0, 0]
    assert 0 < shares[3] < shares[5] < 0.25


@pytest.mark.parametrize("method", ["nts_net", "cdml_spatial_transformer", "object_crop"])
def test_a_network_that_looks_at_crops_is_trained_used_and_exported(method, root, capsys):
    assert command(root, "train", method, method=method) == 0
    run, out = f"--workdir={root / method}", root / "out"
    out.mkdir(exist_ok=True)
    history = [json.loads(line) for line in (root / method / "metrics.jsonl").read_text().splitlines()]
    terms = [f"{name}_loss" for name in ("whole", "crops", "ranking")]
    assert [name in history[-1] for name in terms] == [method == "nts_net"] * 3
    assert all(np.isfinite(history[-1][name]) for name in ("loss", "accuracy"))
    assert main.main(["evaluate", run, "--split=test"]) == 0
    assert "top-1" in capsys.readouterr().out
    image = root / "birds" / "tit" / "blue" / "0.png"
    assert main.main(["predict", run, str(image)]) == 0
    trained = load(root / method)
    likeliest = trained.predict([image])[0][0]
    assert f"{likeliest.probability:.1%}  {likeliest.class_name}" in capsys.readouterr().out
    assert main.main(["embed", run, f"--out={out / method}.npz", "--logits", str(root / "birds")]) == 0
    images = np.random.default_rng(1).integers(0, 256, (5, 16, 16, 3), np.uint8)
    logits, embeddings = trained(images)
    with np.load(f"{out / method}.npz", allow_pickle=False) as found:
        assert found["embeddings"].shape == (56, embeddings.shape[1])
    assert main.main(["export", run, f"--out={out / method}.jax"]) == 0
    exported = jax.export.deserialize(bytearray((out / f"{method}.jax").read_bytes()))
    for ours, theirs in zip(exported.call(images), (logits, embeddings)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    if not all(map(importlib.util.find_spec, ("jax2onnx", "onnxruntime"))):
        return
    import onnxruntime

    assert main.main(["export", run, f"--out={out / method}.onnx"]) == 0
    session = onnxruntime.InferenceSession(out / f"{method}.onnx", providers=["CPUExecutionProvider"])
    for size in (1, 5):
        found = session.run(["logits", "embeddings"], {"images": images[:size]})
        np.testing.assert_allclose(found[0], logits[:size], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(found[1], embeddings[:size], atol=1e-6)


@pytest.mark.parametrize("method", ["bilinear", "compact_bilinear", "two_levels", "pmg"])
@pytest.mark.parametrize("kind", ["jax", "onnx"])
def test_a_network_with_a_part_is_exported_as_it_predicts(root, method, kind):
    name = f"exported-{method}"
    if not (root / name).exists():
        keys = {"model.name": "tiny_stages"} if method == "pmg" else {}  # it needs maps of three sizes
        assert command(root, "train", name, method=method, **keys) == 0
    if kind == "onnx":
        pytest.importorskip("jax2onnx")
        pytest.importorskip("onnxruntime")
    out = root / f"{method}.{kind}"
    assert main.main(["export", f"--workdir={root / name}", f"--out={out}"]) == 0
    run, files = load(root / name), sorted((root / "birds").rglob("*.png"))[::8]
    images = np.stack([run.view(file) for file in files])
    found = np.concatenate([np.asarray(called(out)(part)[0]) for part in (images[:1], images[1:])])
    shares = np.exp(found - found.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    for row, guesses in zip(shares, run.predict(files, top=4), strict=True):
        expected = {guess.class_name: guess.probability for guess in guesses}
        assert dict(zip(run.class_names, row)) == pytest.approx(expected, abs=1e-4)


def called(out):
    """A network that was exported, as docs/exports.md calls it."""
    if out.suffix == ".jax":
        return jax.export.deserialize(bytearray(out.read_bytes())).call
    import onnxruntime

    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    return lambda images: session.run(["logits", "embeddings"], {"images": images})
