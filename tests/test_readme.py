"""The README is true: its code runs, its commands are understood, its links lead somewhere."""

import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
from flax import jax_utils, nnx
from flax import linen as nn

import cdml_jax
from cdml_jax.cli.main import COMMANDS, parser
from cdml_jax.configuration.load import load_arguments, shipped_configs

ROOT = Path(__file__).parents[1]
PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "docs/index.md",
    "docs/api.md",
    "docs/tutorial.md",
    "docs/own-images.md",
    "docs/losses.md",
    "docs/reproducing.md",
    "docs/method.md",
    "docs/architecture.md",
    "docs/clusters.md",
    "docs/datasets.md",
    "docs/descriptors.md",
    "docs/exports.md",
    "docs/extending.md",
    "docs/models.md",
    "docs/peers.md",
    "docs/results.md",
    "docs/performance.md",
]
CLASSES, SIZE, EPOCHS, BATCH, DEVICES = 5, 8, 4, 32, 8
CONFUSABLE = {1, 3}


def blocks(page, language=r"\w*"):
    text = (ROOT / page).read_text()
    return [code for _, code in re.findall(rf"^```({language})\n(.*?)^```$", text, re.M | re.S)]


def test_the_first_block_runs_everything_and_the_second_tests_it():
    assert blocks("README.md")[:2] == ["make demo\n", "make test\n"]
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M)
    assert {"demo", "test"} <= set(targets)


def test_the_objective_of_the_readme_is_that_of_the_loops():
    short, whole = (blocks(page, "python")[0] for page in ("README.md", "docs/losses.md"))
    imported, _, objective = short.partition("def objective")
    assert imported.strip() in whole
    assert whole.endswith(f"def objective{objective}")


def unit(rows):
    return rows / jax.numpy.linalg.norm(rows + 1e-6, axis=-1, keepdims=True)


class LinenNetwork(nn.Module):
    @nn.compact
    def __call__(self, images):
        return nn.Dense(CLASSES)(images), unit(nn.Dense(4, use_bias=False)(images))


class NNXNetwork(nnx.Module):
    def __init__(self, rngs):
        self.classifier = nnx.Linear(SIZE, CLASSES, rngs=rngs)
        self.projection = nnx.Linear(SIZE, 4, use_bias=False, rngs=rngs)

    def __call__(self, images):
        return self.classifier(images), unit(self.projection(images))


def data():
    """Clusters of `CLASSES` classes, two of which overlap."""
    rng = np.random.default_rng(0)
    centres = 3 * np.eye(CLASSES, SIZE)
    centres[3] = centres[1] + 0.2
    labels = np.tile(np.arange(CLASSES, dtype=np.int32), 3 * BATCH)[: 6 * BATCH]
    return np.float32(centres[labels] + rng.normal(size=(labels.size, SIZE))), labels


def run(kind):
    """The namespace of a README loop, run on synthetic data after the README's objective."""
    images, labels = data()
    model, optimizer = LinenNetwork(), optax.sgd(0.1, momentum=0.9)
    params = model.init(jax.random.key(0), images[:1])["params"]
    opt_state = optimizer.init(params)
    if kind == "nnx":
        model = NNXNetwork(nnx.Rngs(0))
        optimizer = nnx.Optimizer(model, optimizer, wrt=nnx.Param)
    if kind == "pmap":
        params, opt_state = jax_utils.replicate((params, opt_state), axis_name="data")

    def batches(epoch):
        for rows in np.random.default_rng(epoch).permutation(labels.size).reshape(-1, BATCH):
            batch = {"image": images[rows], "label": labels[rows]}
            if kind == "pmap":
                batch = {k: v.reshape(DEVICES, -1, *v.shape[1:]) for k, v in batch.items()}
            yield batch

    namespace = {
        "model": model,
        "optimizer": optimizer,
        "params": params,
        "opt_state": opt_state,
        "batches": batches,
        "num_classes": CLASSES,
        "num_epochs": EPOCHS,
    }
    code = blocks("docs/losses.md", "python")
    assert len(code) == 4, "the objective, Linen, NNX and pmap"
    exec(compile(code[0], "docs/losses.md: objective", "exec"), namespace)
    exec(
        compile(code[1 + ["linen", "nnx", "pmap"].index(kind)], f"docs/losses.md: {kind}", "exec"), namespace
    )
    return namespace


@pytest.mark.parametrize("kind", ["linen", "nnx", "pmap"])
def test_a_loop_learns_and_finds_the_confusable_classes(kind):
    after = run(kind)
    weights, pairs = np.asarray(after["class_weights"]), np.asarray(after["pair_weights"])
    assert set(np.argsort(weights)[-2:].tolist()) == CONFUSABLE
    assert {int(i) for i in np.unravel_index(pairs.argmax(), pairs.shape)} == CONFUSABLE
    # Counts fade by half each epoch; every image of each is in them.
    images, labels = data()
    np.testing.assert_allclose(
        np.asarray(after["counts"]).sum(), labels.size * (2 - 0.5 ** (EPOCHS - 1)), rtol=1e-5
    )
    if kind == "nnx":
        logits, _ = after["model"](images)
    else:
        params = jax.tree.map(lambda leaf: leaf[0], after["params"]) if kind == "pmap" else after["params"]
        logits, _ = after["model"].apply({"params": params}, images)
    assert (np.asarray(logits).argmax(axis=1) == labels).mean() > 0.7
    if kind == "linen":
        assert after["step"]._cache_size() == 1, "one compiled step serves all epochs"


def test_the_pmap_loop_trains_what_the_linen_loop_trains():
    one, many = run("linen"), run("pmap")
    assert many["on_devices"].shape == (DEVICES, CLASSES, CLASSES)
    for ours, theirs in zip(jax.tree.leaves(many["params"]), jax.tree.leaves(one["params"])):
        np.testing.assert_allclose(ours, np.broadcast_to(theirs, ours.shape), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(many["counts"], one["counts"], rtol=1e-5, atol=1e-5)


LINES = [
    (page, line)
    for page in PAGES
    if page != "docs/extending.md"  # its commands are run, with its files, by test_extending.py
    for block in (blocks(page, "sh") if (ROOT / page).exists() else [])
    for line in block.replace("\\\n", " ").splitlines()
    if line.startswith("cdml ")
]


@pytest.mark.parametrize(("page", "line"), LINES, ids=[line for _, line in LINES])
def test_commands_have_keys_and_values_that_exist(page, line, monkeypatch):
    monkeypatch.setattr("cdml_jax.system.buckets.reach", lambda path: None)  # there is none of that name
    command, *arguments = shlex.split(line.partition(" > ")[0])[1:]
    assert command in COMMANDS
    _, rest = parser().parse_known_args([command, *arguments])
    configured = ("train", "reproduce", "config", "compile", "descriptors")
    if command not in configured and not (rest and command in ("embed", "search", "localize")):
        assert not rest
    else:
        base = f"--config={ROOT / 'configs' / 'base.py'}"
        load_arguments([base, *(a for a in rest if not a.startswith("--config="))])
        (name,) = [a.partition("=")[2] for a in rest if a.startswith("--config=")]
        assert name in (*shipped_configs(), "NAME") or (ROOT / name).is_file()


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text()
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        if path.startswith(("http://", "https://")):
            continue
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.exists(), f"{page} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(), re.M)
            slugs = {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}
            assert anchor in slugs, f"{page} links to {target}"


def test_the_site_has_every_page_and_its_api_names_modules_and_members():
    listed = set(re.findall(r"[\w-]+\.md", (ROOT / "mkdocs.yml").read_text()))
    assert listed == {path.name for path in (ROOT / "docs").glob("*.md")}
    text = (ROOT / "docs/api.md").read_text()
    entries = re.findall(r"^::: ([\w.]+)\n(?:    options: \{members: \[(.*)\]\})?", text, re.M)
    assert len(entries) > 10
    for name, members in entries:
        module = importlib.import_module(name)
        assert all(hasattr(module, member) for member in filter(None, members.split(", "))), (name, members)


def test_keys_that_the_pages_name_exist():
    from cdml_jax.configs import base

    config = base.get_config()
    groups = [name for name, value in config.items() if hasattr(value, "items")]
    for page in PAGES:
        for key in re.findall(rf"`((?:{'|'.join(groups)})\.\w+)`", (ROOT / page).read_text()):
            group, _, name = key.partition(".")
            if name not in ("png", "py"):
                known = name in config[group] or hasattr(getattr(cdml_jax, group, None), name)
                assert known, f"{page} names {key}"


def test_rows_and_logged_figures_are_described():
    from cdml_jax.methods import METHODS
    from cdml_jax.training.state import empty_metrics

    text = (ROOT / "docs/method.md").read_text()
    first_cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("|")]
    described = set(re.findall(r"`(\w+)`", " ".join(first_cells)))
    assert METHODS.keys() <= described
    assert empty_metrics(1).keys() - {"watched_share"} <= described


def test_files_that_the_architecture_names_exist():
    text = (ROOT / "docs/architecture.md").read_text()
    paths = re.findall(r"`([\w*/]+(?:\.py|/))`", text)
    assert len(paths) > 40
    for path in paths:
        assert any(list(folder.glob(path)) for folder in (ROOT, ROOT / "cdml_jax")), path


def test_importing_the_package_loads_jax_and_numpy_alone():
    code = (
        "import sys; from cdml_jax import *; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    others = {
        "flax",
        "optax",
        "orbax",
        "grain",
        "tensorflow",
        "tensorflow_datasets",
        "ml_collections",
        "absl",
    }
    others |= {"cv2", "safetensors", "tensorboardX", "tqdm", "PIL", "matplotlib", "scipy.stats", "jaxtyping"}
    others.add("sklearn")
    assert not others & set(run.stdout.split())


def test_the_command_line_answers_without_jax():
    wrong = [["train"], ["train", "--config=demo", "--config.epohcs=3"], ["evaluate", "--workdir=x", "--y"]]
    code = (
        "import sys; from cdml_jax.cli.main import main; "
        f"assert [main(a) for a in {wrong}] == [2] * 3; print(*sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"jax", "numpy"} & set(run.stdout.split())


def test_every_public_name_is_found_and_no_other():
    for name in cdml_jax.__all__:
        assert getattr(cdml_jax, name).__name__.rpartition(".")[2] == name
        assert name in dir(cdml_jax)
    with pytest.raises(AttributeError, match="module 'cdml_jax' has no attribute 'loss'"):
        cdml_jax.loss  # noqa: B018
