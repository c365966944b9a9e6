"""A page whose names are hard to show: drawn images, two methods under two seeds, one label that is wrong."""

import dataclasses

import cv2
import numpy as np

from cdml_jax.data import Classes
from cdml_jax.reporting.page.document import write_page
from cdml_jax.reporting.page.shown import Shown
from cdml_jax.reporting.predictions import Predictions
from cdml_jax.reporting.results import RunResult
from cdml_jax.reporting.table import tabulate

NAMES = (
    "<script>window.hacked=1</script>",
    '<b>bold</b> $x^2$ & "quotes" \'n all',
    "红雀 小嘴乌鸦",
    "عصفور الدوري",
    "new\nline \x1b[31mred",
    "🦉 owl " + "very long name " * 5,
)
CLASSES = Classes(NAMES, (0, 0, 1, 1, 2, 2), ("<i>kin</i>", "鳥", "owls"))
PER_CLASS = 10


def image(name):
    """A PNG of the class's colour, with a number of its own."""
    label, number = map(int, name.partition(".")[0].split("/")[1].split("-"))
    rng = np.random.default_rng(100 * label + number)
    colour = np.random.default_rng(label).integers(40, 216, 3)
    pixels = np.clip(colour + rng.normal(0, 25, (40, 60, 1)), 0, 255).astype(np.uint8)
    cv2.putText(pixels, f"{label}:{number}", (4, 26), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (255, 255, 255), 2)
    return cv2.imencode(".png", pixels)[1].tobytes()


def said(seed, better, count=PER_CLASS):
    """Answers that take a class for its kin now and then, more rarely by the better method."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(6), count)
    wrong = rng.random(labels.size) < (0.15 if better else 0.35)
    called = np.where(wrong, labels ^ 1, labels)
    called[0] = 5  # a label that every run denies
    others = np.stack([rng.permutation(np.setdiff1d(np.arange(6), [c]))[:4] for c in called])
    shares = np.sort(rng.dirichlet(np.full(5, 0.4), labels.size), axis=1)[:, ::-1]
    shares[0] = [0.96, 0.01, 0.01, 0.01, 0.01]
    top = np.concatenate([called[:, None], others], axis=1)
    place = (top == labels[:, None]).argmax(axis=1)
    own = np.where((top == labels[:, None]).any(axis=1), shares[np.arange(labels.size), place], 0.0)
    names = tuple(f"<img src=x onerror=alert(1)>/{c}-{k}.png" for c in range(6) for k in range(count))
    near = rng.integers(0, labels.size, (labels.size, 8))
    return Predictions(
        names,
        labels,
        top,
        shares,
        own,
        neighbours=near,
        similarities=np.linspace(1, 0.3, 8)[None].repeat(labels.size, 0),
        map=rng.random((labels.size, 2)),
        calibrated_probability=np.clip(shares[:, 0], 0.05, 0.9),
    )


def results():
    """Two methods under two seeds; validation images choose the pair 2, 3."""
    found = []
    chosen = 9 * np.eye(6, dtype=int)
    chosen[2, 3], chosen[0, 1] = 6, 2
    for k, method in enumerate(("baseline", "cdml")):
        for seed in range(2):
            test = said(10 * k + seed, better=k == 1)
            counts = np.zeros((6, 6), int)
            np.add.at(counts, (test.labels, test.top_classes[:, 0]), 1)
            history = [
                {
                    "epoch": epoch,
                    "loss": 2 / epoch + k,
                    "softmax_loss": 2 / epoch,
                    "validation_accuracy": 0.5 + 0.1 * epoch,
                    "confused_pairs": [
                        {"true": NAMES[0], "called": NAMES[1], "weight": 0.1 * epoch, "share": 0.1}
                    ],
                    "class_weights": [{"name": NAMES[0], "weight": 1.0 + 0.1 * epoch}],
                }
                for epoch in (1, 2, 3)
            ]
            found.append(RunResult(method, seed, 30, 60.0, chosen, counts, history, test=test))
    return found


def shown(**changes):
    """What the page is made of."""
    table = tabulate(results(), CLASSES, titles={"baseline": "Baseline", "cdml": "CDML </td>"})
    made = Shown(
        "birds <&> 鳥",
        table,
        "test",
        open=image,
        warmup=1,
        settings={"objective": {"margin": 0.2}, "note": "</style><script>"},
        command="cdml reproduce --config='</pre>'",
    )
    return dataclasses.replace(made, **changes)


def page(folder, **changes):
    """Writes the page; returns its path."""
    return write_page(shown(**changes), folder / "report.html").page
