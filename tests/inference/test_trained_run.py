"""A run trained by the command on a folder that is then gone: used in Python and by commands."""

import csv
import io
import json
import re
import shutil
from pathlib import Path

import cv2
import jax
import numpy as np
import pytest
from flax import nnx
from messages import like
from PIL import Image

import cdml_jax
from cdml_jax.cli import main as cli
from cdml_jax.confusion import TopConfusions
from cdml_jax.data.checking.images import DAMAGED
from cdml_jax.data.images.decoding import DARK, SEVERAL, TRANSPARENT
from cdml_jax.data.sources import load as load_dataset
from cdml_jax.errors import UserError
from cdml_jax.inference.trained_run import TrainedRun
from cdml_jax.models import NETWORKS, Network, Variant
from cdml_jax.models.heads import Heads
from cdml_jax.runs.checkpoint import Checkpoints
from cdml_jax.training.program import Program

SIDE = 16
ROOT = Path(__file__).parents[2]


def photograph(index, rng):
    shade = np.full((20, 24, 3), 20 * index + 60) + rng.normal(0, 30, (20, 24, 3))
    return np.clip(shade, 0, 255).astype(np.uint8)


class Tiny(Network):
    """Mean colours of quarters, a linear layer with batch norm, two heads: compiled in no time."""

    def __init__(self, spec, *, rngs):
        super().__init__(spec)
        self.body = nnx.Linear(12, 16, rngs=rngs)
        self.norm = nnx.BatchNorm(16, momentum=0.8, rngs=rngs)
        self.heads = Heads(16, spec, rngs=rngs)

    def __call__(self, images, *, train):
        batch, side, *_ = images.shape
        quarters = images.reshape(batch, 2, side // 2, 2, side // 2, 3).mean((2, 4)).reshape(batch, 12)
        return self.heads(nnx.tanh(self.norm(self.body(quarters), use_running_average=not train)))


@pytest.fixture(scope="module", autouse=True)
def tiny_network():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(NETWORKS, "tiny", Variant(Tiny))
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny_network):
    """A folder with runs/mine, trained, its images gone; field/ has photographs of many sizes."""
    folder = tmp_path_factory.mktemp("place")
    rng = np.random.default_rng(0)
    for index, name in enumerate(["finches/red finch", "finches/pink finch", "owl"]):
        (folder / "photographs" / name).mkdir(parents=True)
        for k in range(14):
            cv2.imwrite(str(folder / "photographs" / name / f"{k}.png"), photograph(index, rng))
    (folder / "field/deep/er").mkdir(parents=True)
    for k, (name, size) in enumerate(
        {"b.png": (40, 31), "a.JPG": (16, 90), "deep/er/c.bmp": (17, 17), "deep/a.png": (300, 200)}.items()
    ):
        image = cv2.resize(photograph(k % 3, rng), size)
        cv2.imwrite(str(folder / "field" / name), image)
    (folder / "field/deep/torn.jpg").write_bytes(b"\xff\xd8\xff\xe0 torn")
    (folder / "field/notes.txt").write_text("no image")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CDML_DATA_DIR", str(folder / "data"))
        arguments = [
            "train",
            "--config=own_images_scratch",
            f"--config.source=folder:{folder / 'photographs'}",
            f"--workdir={folder / 'runs/mine'}",
            f"--config.image.image_size={SIDE}",
            "--config.model.name=tiny",
            "--config.epochs=3",
            "--config.warmup_epochs=1",
            "--config.batch_size=8",
            "--config.data.num_threads=0",
            "--config.optimizer.ema_decay=0.5",
        ]
        assert cli.main(arguments) == 0
        config = cdml_jax.load(folder / "runs/mine").config
        program = Program(config, load_dataset(config.source, validation_fraction=0.15, test_fraction=0.15))
        saved = Checkpoints(folder / "runs/mine/checkpoints", keep=1).restore(program)
        network = program.model(saved.state)
        rng = np.random.default_rng(1)
        images = rng.integers(0, 256, (20, SIDE, SIDE, 3), np.uint8)
        logits, embeddings = network(images / np.float32(127.5) - 1, train=False)
        np.savez(folder / "expected.npz", images=images, logits=logits, embeddings=embeddings)
    shutil.rmtree(folder / "photographs")
    return folder


@pytest.fixture(scope="module")
def run(place):
    return cdml_jax.load(place / "runs/mine", devices=jax.devices()[:2])


@pytest.fixture(scope="module")
def expected(place):
    return np.load(place / "expected.npz")


def test_outputs_are_those_of_the_trained_network_for_batches_of_any_size(run, expected):
    for size in (1, 7, 20, 3, 0):
        logits, embeddings = run(expected["images"][:size])
        np.testing.assert_allclose(logits, expected["logits"][:size], atol=2e-5)
        np.testing.assert_allclose(embeddings, expected["embeddings"][:size], atol=2e-6)


def test_few_sizes_are_compiled(run, expected):
    fresh = TrainedRun(run.config, run.dataset, run.classes, *graph_and_weights(run), jax.devices()[:2])
    for size in (1, 2, 5, 6, 7, 8, 3, 4):
        fresh(expected["images"][:size])
    assert fresh._apply._cache_size() == 3  # 2, 4 and 8 rows


def graph_and_weights(run):
    return run.apply.keywords["graph"], run.weights


def test_large_batches_are_computed_in_parts(run, expected, monkeypatch):
    monkeypatch.setattr("cdml_jax.inference.photographs.BATCH", 4)
    np.testing.assert_allclose(run(expected["images"]).logits, expected["logits"], atol=2e-5)


def test_photographs_of_any_size_and_kind_are_seen_as_in_evaluation(run, place):
    path = place / "field/deep/a.png"
    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    view = run.view(path)
    assert view.shape == (SIDE, SIDE, 3)
    assert np.array_equal(view, run.view(pixels))
    assert np.array_equal(view, run.view(path.read_bytes()))
    short, side = run.transform.short_side, 200
    kept = round(side * SIDE / short)  # of 300 x 200 pixels, the centre square of 16/18 of the short side
    top, left = (200 - kept) // 2, (300 - kept) // 2
    middle = pixels[top : top + kept, left : left + kept].mean((0, 1))
    np.testing.assert_allclose(view.mean((0, 1)), middle, atol=1.5)


def test_names_and_confusions_are_those_of_the_training(run):
    assert run.class_names == ("pink finch", "red finch", "owl")
    assert run.classes.family_names == ("finches", "owl")
    counts = run.weights.counts.matrix
    for index, name in enumerate(run.class_names):
        taken_for = dict(run.taken_for(index))
        assert name not in taken_for
        for other, share in taken_for.items():
            expected = counts[index, run.class_names.index(other)] / counts[index].sum()
            assert share == pytest.approx(expected, rel=1e-6)
        assert list(taken_for.values()) == sorted(taken_for.values(), reverse=True)


def test_confusions_of_very_many_classes_are_told_from_what_is_kept_of_them(run):
    kept = TopConfusions(
        np.array([[2, -1], [0, 2], [-1, -1]]),
        np.array([[3.0, 0.0], [1.0, 4.0], [0.0, 0.0]]),
        np.array([4.0, 5.0, 0.0]),
        np.array([6.0, 5.0, 0.0]),
    )
    graph, weights = run.apply.keywords["graph"], run.weights._replace(counts=kept)
    many = TrainedRun(run.config, run.dataset, run.classes, graph, weights)
    assert many.taken_for(0) == (("owl", 0.3),)
    assert many.taken_for(1) == (("owl", 0.4), ("pink finch", 0.1))
    assert many.taken_for(2) == ()


def test_guesses_are_sorted_probabilities(run):
    guesses = run.guesses(np.array([1.0, 3.0, 2.0]), top=2)
    assert [guess.class_name for guess in guesses] == ["red finch", "owl"]
    probabilities = np.exp([3.0, 2.0]) / np.exp([1.0, 3.0, 2.0]).sum()
    assert [guess.probability for guess in guesses] == pytest.approx(probabilities)


@pytest.mark.parametrize(
    "images", [np.zeros((2, 8, 8, 3), np.uint8), np.zeros((2, SIDE, SIDE, 3), np.float32)]
)
def test_images_of_another_size_or_type_are_refused(run, images):
    with pytest.raises(ValueError, match=r"run.view\(photograph\)"):
        run(images)


def test_predict_answers_what_it_can_and_names_the_rest(place, run, capsys):
    field = place / "field"
    status = cli.main(
        [
            "predict",
            f"--workdir={place / 'runs/mine'}",
            str(field / "b.png"),
            str(field / "none.png"),
            str(field),
        ]
    )
    said = capsys.readouterr()
    assert status == 2
    assert f"{field / 'none.png'}: cannot be opened (No such file or directory)" in said.err
    assert f"{field / 'deep/torn.jpg'}: " in said.err
    assert said.err.count("\n") == 3
    assert "\nNext: cdml embed" in said.err
    headings = [line for line in said.out.splitlines() if not line.startswith(" ")]
    names = ["b.png", "a.JPG", "b.png", "deep/a.png", "deep/er/c.bmp"]
    assert headings == [str(field / name) for name in names]
    best = run.predict([field / "b.png"])[0][0]
    assert re.search(
        rf"^ +{best.probability:.1%}  {best.class_name} +often taken for: {best.taken_for[0][0]} \(\d+%\)",
        said.out,
        re.M,
    )


def test_predict_for_machines(place, run, capsys):
    paths = [str(place / "field/b.png"), str(place / "field/none.png")]
    assert cli.main(["predict", f"--workdir={place / 'runs/mine'}", "--json", "--top=2", *paths]) == 2
    good, bad = map(json.loads, capsys.readouterr().out.splitlines())
    guesses = run.predict(paths[:1], top=2)[0]
    assert [answer["name"] for answer in good["classes"]] == [guess.class_name for guess in guesses]
    assert good["classes"][0]["probability"] == pytest.approx(guesses[0].probability, abs=1e-5)
    assert bad["image"] == paths[1]
    assert "cannot be opened" in bad["error"]


def test_predict_writes_a_table_and_says_where_it_does_not_know(place, run, capsys):
    paths = [str(place / "field/b.png"), str(place / "field/none.png"), str(place / "field/a.JPG")]
    guesses = [run.predict([path])[0] for path in (paths[0], paths[2])]
    likeliest = sorted(answer[0].probability for answer in guesses)
    threshold = sum(likeliest) / 2
    flags = ["--csv", "--top=2", f"--threshold={threshold}", *paths]
    assert cli.main(["predict", f"--workdir={place / 'runs/mine'}", *flags]) == 2
    said = capsys.readouterr()
    first, failed, last = csv.DictReader(io.StringIO(said.out))
    assert list(first) == ["image", "answer", "class_1", "probability_1", "class_2", "probability_2", "error"]
    for row, answer in zip((first, last), guesses, strict=True):
        assert row["answer"] == (answer[0].class_name if answer[0].probability >= threshold else "unknown")
        assert [row["class_1"], row["class_2"]] == [guess.class_name for guess in answer[:2]]
        assert float(row["probability_2"]) == pytest.approx(answer[1].probability, abs=1e-5)
    assert {first["answer"], last["answer"]} > {"unknown"}
    assert failed["image"] == paths[1]
    assert "cannot be opened" in failed["error"]
    assert "unknown: 1 of 3 images" in said.err


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_every_form_says_where_it_does_not_know(place, capsys, form):
    flags = [*form, "--threshold=1", str(place / "field/b.png")]
    assert cli.main(["predict", f"--workdir={place / 'runs/mine'}", *flags]) == 0
    out = capsys.readouterr().out
    assert json.loads(out)["known"] is False if form else "b.png  unknown; the likeliest classes:" in out


def test_a_gallery_is_searched_by_the_network_that_embedded_it(place, run, tmp_path, capsys, monkeypatch):
    field, out = place / "field", tmp_path / "field.npz"
    cli.main(["embed", f"--workdir={place / 'runs/mine'}", str(field), f"--out={out}"])
    capsys.readouterr()
    assert cli.main(["search", f"--gallery={out}", "--top=2", "--json", str(field / "deep/a.png")]) == 0
    (found,) = map(json.loads, capsys.readouterr().out.splitlines())
    rows = run.embed([field / name for name in ("a.JPG", "b.png", "deep/a.png", "deep/er/c.bmp")]).embeddings
    nearest = sorted(range(4), key=lambda place: -float(rows[place] @ rows[2]))
    names = np.load(out)["paths"]
    assert [match["path"] for match in found["matches"]] == [names[place] for place in nearest[:2]]
    assert found["matches"][0]["similarity"] == pytest.approx(1, abs=1e-5)
    # The run has moved, and then holds another network.
    shutil.copytree(place / "runs/mine", tmp_path / "moved")
    stored = dict(np.load(out))
    np.savez(tmp_path / "lost.npz", **stored | {"workdir": np.array("/no/such")})
    np.savez(tmp_path / "other.npz", **stored | {"network": np.array("ab" * 32)})
    lost = ["search", f"--gallery={tmp_path / 'lost.npz'}", str(field / "b.png")]
    assert cli.main(lost) == 2
    assert "was in /no/such, where it is no longer; --workdir=DIR" in capsys.readouterr().err
    assert cli.main([*lost, f"--workdir={tmp_path / 'moved'}"]) == 0
    assert re.search(r"^   1\.000  b\.png$", capsys.readouterr().out, re.M)
    assert cli.main(["search", f"--gallery={tmp_path / 'other.npz'}", str(field / "b.png")]) == 2
    assert "was embedded by another network" in capsys.readouterr().err


def test_embed_writes_what_can_be_read_in_the_order_of_the_paths(place, run, tmp_path, capsys):
    out = tmp_path / "field.npz"
    arguments = [
        "embed",
        f"--workdir={place / 'runs/mine'}",
        str(place / "field"),
        f"--out={out}",
        "--logits",
    ]
    assert cli.main(arguments) == 2
    said = capsys.readouterr()
    assert "torn.jpg" in said.err
    assert "4 of 5 images" in said.out
    written = np.load(out)
    assert written["paths"].tolist() == ["a.JPG", "b.png", "deep/a.png", "deep/er/c.bmp"]
    expected = run.embed([place / "field" / path for path in written["paths"]])
    np.testing.assert_allclose(written["embeddings"], expected.embeddings, atol=2e-6)
    np.testing.assert_allclose(written["logits"], expected.logits, atol=2e-5)
    assert [path.name for path in tmp_path.iterdir()] == ["field.npz"]


def test_folders_are_searched_as_for_training(place, tmp_path, capsys):
    """Links are followed, more endings are images, and what is left out or cannot be opened is named."""
    folder = tmp_path / "links"
    folder.mkdir()
    (folder / "field").symlink_to(place / "field/deep/er")
    (folder / "again").symlink_to(folder)
    shutil.copy(place / "field/b.png", folder / "b.jfif")
    (folder / "c.heic").write_bytes(b"\0\0\0\x18ftypheic")
    (folder / "@eaDir").mkdir()
    shutil.copy(place / "field/b.png", folder / "@eaDir")
    run = f"--workdir={place / 'runs/mine'}"
    assert cli.main(["embed", run, str(folder), f"--out={tmp_path / 'a.npz'}"]) == 0
    said = capsys.readouterr()
    assert np.load(tmp_path / "a.npz")["paths"].tolist() == ["b.jfif", "field/c.bmp"]
    assert "2 of 2 images" in said.out
    assert f"cdml: {folder}: left out: 1 .heic (such as c.heic); save them as JPEG or PNG" in said.err
    assert (
        f"cdml: {folder}: folder that a system or a program keeps for itself, passed over: @eaDir" in said.err
    )
    (folder / "gone.png").symlink_to("nowhere")
    assert cli.main(["predict", run, str(folder), str(folder / "c.heic")]) == 2
    said = capsys.readouterr()
    assert f"cdml: {folder}: link that leads nowhere: gone.png" in said.err
    assert f"cdml: {folder / 'c.heic'}: HEIC, which is not read: save it as JPEG or PNG" in said.err
    headings = [line for line in said.out.splitlines() if not line.startswith(" ")]
    assert headings == [str(folder / name) for name in ("b.jfif", "field/c.bmp")]


def test_what_is_worth_knowing_about_an_image_is_said_with_its_name(place, tmp_path, capfd, monkeypatch):
    """As `cdml prepare` says it: damage, transparency, 16 bits that come out dark, several frames."""
    monkeypatch.setattr("cdml_jax.inference.photographs.BATCH", 2)  # so that a batch is decoded ahead
    folder, rng = tmp_path / "odd", np.random.default_rng(5)
    folder.mkdir()
    whole = [
        cv2.imencode(".jpg", rng.integers(0, 256, (80, 90, 3), np.uint8))[1].tobytes() for _ in range(60)
    ]
    for k, data in enumerate(whole):
        (folder / f"{k:02}.jpg").write_bytes(data[:3000] + b"\xff\xd9" if k in (7, 50) else data)
    clear = np.dstack([photograph(1, rng), np.full((20, 24), 100, np.uint8)])
    cv2.imwrite(str(folder / "clear.png"), clear)
    cv2.imwrite(str(folder / "dark.png"), photograph(1, rng).astype(np.uint16) * 16)
    frames = [Image.fromarray(photograph(k, rng)) for k in range(2)]
    frames[0].save(folder / "film.gif", save_all=True, append_images=frames[1:])
    (folder / "torn.jpg").write_bytes(whole[0][:3000])
    expected = [
        f"cdml: predict: {DAMAGED} (2): {folder}/07.jpg (premature end of data segment), {folder}/50.jpg (",
        f"cdml: predict: {TRANSPARENT}: {folder}/clear.png",
        f"cdml: predict: {DARK.format(4096)}: {folder}/dark.png",
        f"cdml: predict: {SEVERAL}: {folder}/film.gif",
    ]
    assert cli.main(["predict", f"--workdir={place / 'runs/mine'}", str(folder)]) == 2
    said = capfd.readouterr()
    (torn, *lines, _) = said.err.splitlines()
    assert torn == f"cdml: {folder}/torn.jpg: truncated"
    assert len(lines) == 4
    assert all(line.startswith(start) for line, start in zip(lines, expected))
    assert sum(not line.startswith(" ") for line in said.out.splitlines()) == 63
    out = tmp_path / "a.npz"
    assert cli.main(["embed", f"--workdir={place / 'runs/mine'}", str(folder), f"--out={out}"]) == 2
    said = capfd.readouterr().err
    assert "Corrupt JPEG" not in said
    assert all(start.replace("predict:", "embed:") in said for start in expected)
    assert np.load(out)["paths"].size == 63
    # What is no file of embeddings is not replaced by one.
    for name in ("00.jpg", "../odd"):
        before = (folder / "00.jpg").read_bytes()
        arguments = ["embed", f"--workdir={place / 'runs/mine'}", str(folder), f"--out={folder / name}"]
        assert cli.main(arguments) == 2
        assert (
            f"--out: {folder / name} is there and is not an .npz file; choose another"
            in capfd.readouterr().err
        )
        assert (folder / "00.jpg").read_bytes() == before


def test_export_writes_the_network_and_the_names(place, tmp_path, capsys):
    assert cli.main(["export", f"--workdir={place / 'runs/mine'}", f"--out={tmp_path / 'mine.jax'}"]) == 0
    assert "runs on cpu, cuda, tpu" in capsys.readouterr().out
    assert json.loads((tmp_path / "mine.jax.json").read_text())["class_names"] == [
        "pink finch",
        "red finch",
        "owl",
    ]


def python_blocks(page):
    return re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(), re.M | re.S)


def test_the_pages_use_a_run_as_it_can_be_used(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    shutil.copy(place / "field/b.png", place / "photo.jpg")
    for page in ("README.md", "docs/own-images.md"):
        (code,) = (code for code in python_blocks(page) if "cdml_jax.load(" in code)
        after = {}
        exec(compile(code, f"{page}: use", "exec"), after)
        assert "finch" in capsys.readouterr().out
    assert after["embeddings"].shape == (
        2,
        after["run"].weights.parameters["heads"]["projection"]["kernel"].shape[1],
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["predict", "--workdir=/no/such", "a.png"], "holds no run"),
        (["predict", "--workdir=RUN", "--top=0", "a.png"], "--top: must be at least 1"),
        (["predict", "--workdir=RUN", "--threshold=50", "a.png"], "--threshold: must be a probability"),
        (["search", "--gallery=/no/such.npz", "a.png"], "--gallery: there is no file /no/such.npz"),
        (["search", "--gallery=g.npz", "--top=0", "a.png"], "--top: must be at least 1"),
        (["predict", "--workdir=RUN", "--tpo=3", "a.png"], "unknown argument '--tpo=3'"),
        (["embed", "--workdir=RUN", "/no/such", "--out=a.npz"], "there is no folder /no/such"),
        (["embed", "--workdir=RUN", "FIELD", "--out=/no/such/a.npz"], "--out: there is no folder /no/such"),
        (["embed", "--workdir=RUN", "EMPTY", "--out=a.npz"], "no image in it"),
        (["export", "--workdir=RUN", "--out=/no/such/a.jax"], "--out: there is no folder /no/such"),
    ],
)
def test_a_mistake_is_answered_in_one_line(place, tmp_path, capsys, arguments, words):
    places = {"RUN": place / "runs/mine", "FIELD": place / "field", "EMPTY": tmp_path}
    for name, path in places.items():
        arguments = [argument.replace(name, str(path)) for argument in arguments]
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err.strip()
    assert words in error
    assert "\n" not in error


def test_a_run_without_names_says_how_to_get_them(place, tmp_path):
    shutil.copy(place / "runs/mine/config.json", tmp_path)
    with pytest.raises(UserError, match="`cdml evaluate --workdir="):
        cdml_jax.load(tmp_path)


def test_the_folder_of_a_table_names_its_runs(place, tmp_path):
    stored = json.loads((place / "runs/mine/config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(stored | {"command": "reproduce"}))
    with pytest.raises(UserError, match="and no run of it has begun"):
        cdml_jax.load(tmp_path)
    for name in ("baseline-seed0", "cdml-seed0"):
        shutil.copytree(place / "runs/mine", tmp_path / "runs" / name)
    (tmp_path / "runs/warmup-seed0").mkdir()
    with pytest.raises(
        UserError, match=like("choose one, such as …/runs/cdml-seed0 (baseline-seed0, cdml-seed0)")
    ):
        cdml_jax.load(tmp_path)
    assert cdml_jax.load(tmp_path / "runs/cdml-seed0").class_names == ("pink finch", "red finch", "owl")


def test_files_of_a_run_that_were_edited_are_named(place, tmp_path, capsys):
    shutil.copytree(place / "runs/mine", tmp_path / "run")
    cdml_jax.load(tmp_path / "run")
    assert capsys.readouterr().err == ""
    for name, old, new in (
        ("config.json", '"epochs": 3', '"epochs": 9'),
        ("classes.json", "owl", "owls"),
    ):
        path = tmp_path / "run" / name
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))
        cdml_jax.load(tmp_path / "run")
        said = capsys.readouterr().err
        assert f"cdml: {path} is not as the run wrote it" in said


@pytest.mark.parametrize(
    "content", ["null", "[]", '{"dataset": "a", "class_names": null}', "\udc80", "[" * 10**5]
)
def test_names_that_cannot_be_read_say_how_to_get_them(place, tmp_path, content):
    shutil.copy(place / "runs/mine/config.json", tmp_path)
    (tmp_path / "classes.json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(UserError, match=r"classes\.json cannot be read .*delete it, and `cdml evaluate"):
        cdml_jax.load(tmp_path)
