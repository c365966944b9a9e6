"""Bars, cells and lines are read off the figures and compared with numbers by hand."""

import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib.container import BarContainer
from matplotlib.font_manager import fontManager
from matplotlib.text import Text

from cdml_jax.data.classes import Classes
from cdml_jax.reporting import canvas, figures, matrices
from cdml_jax.reporting.pairs import confused_subcategories
from cdml_jax.reporting.results import RunResult
from cdml_jax.reporting.table import tabulate

NAMES = ("Ash Wren", "Bay Wren", "Cave Tit", "Dusk Tit")
TITLES = {"baseline": "baseline", "weighted_softmax": "weighted softmax", "cdml": "CDML"}


def table(results, **options):
    return tabulate(results, Classes(NAMES), **({"titles": TITLES} | options))


def diagonal_errors(wrong, size=10):
    """Counts of four classes of `size` images of which wrong[i] are called the next class."""
    counts = np.diag([size - one for one in wrong])
    for i, one in enumerate(wrong):
        counts[i, (i + 1) % 4] += one
    return counts


def run(method, seed, validation, test, history=()):
    return RunResult(method, seed, 10, 1.0, diagonal_errors(validation), diagonal_errors(test), list(history))


def results():
    """Validation says class 2, then 0 (a tie with 3), then 3; test and CDML would say otherwise."""
    return [
        run("baseline", 0, [3, 0, 5, 2], [1, 9, 2, 4]),
        run("baseline", 1, [1, 0, 4, 2], [3, 9, 4, 4]),
        run("cdml", 0, [0, 9, 0, 0], [0, 5, 1, 3]),
        run("cdml", 1, [0, 9, 0, 0], [2, 5, 3, 3]),
    ]


def test_subcategories_are_chosen_by_the_baselines_validation_confusion():
    np.testing.assert_array_equal(confused_subcategories(table(results()), 3), [2, 0, 3])
    np.testing.assert_array_equal(confused_subcategories(table(results()), 20), [2, 0, 3, 1])
    np.testing.assert_array_equal(confused_subcategories(table(results(), baseline="cdml"), 1), [1])
    with pytest.raises(ValueError, match="no result of method 'baseline'"):
        confused_subcategories(table(results()[2:]), 3)


def test_classes_without_validation_images_are_not_chosen():
    counts = diagonal_errors([1, 2, 3, 4])
    counts[3] = 0
    lone = RunResult("baseline", 0, 1, 1.0, counts, diagonal_errors([0, 0, 0, 9]))
    np.testing.assert_array_equal(confused_subcategories(table([lone]), 20), [2, 1, 0])


def test_bars_are_mean_test_rates_and_whiskers_their_range():
    axes = figures.draw_misclassification(table(results()), number=3).axes[0]
    containers = [one for one in axes.containers if isinstance(one, BarContainer)]
    bars = {one.get_label(): [bar.get_width() for bar in one] for one in containers}
    assert bars["baseline"] == pytest.approx([30.0, 20.0, 40.0])
    assert bars["CDML"] == pytest.approx([20.0, 10.0, 30.0])
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "Cave Tit (10)",
        "Ash Wren (10)",
        "Dusk Tit (10)",
    ]
    lines = axes.collections[0].get_segments()
    np.testing.assert_allclose([line[:, 0] for line in lines], [[20, 40], [10, 30], [40, 40]])
    assert axes.yaxis_inverted()  # the worst on top
    # A whisker has a light edge, which a dark bar does not hide.
    assert axes.collections[0].get_path_effects()


def test_equal_rates_whose_mean_is_rounded_past_them_have_bars():
    for seeds, size in ((3, 29), (5, 29), (7, 30), (5, 7)):
        for wrong in range(1, size):
            counts = diagonal_errors([wrong] * 4, size)
            runs = [RunResult("baseline", seed, 1, 1.0, counts, counts) for seed in range(seeds)]
            rate = np.full(seeds, 100.0 * (1 - (size - wrong) / size))
            if rate.min() <= rate.mean() <= rate.max():
                continue
            axes = figures.draw_misclassification(table(runs), number=2).axes[0]
            bars = next(one for one in axes.containers if isinstance(one, BarContainer))
            assert [bar.get_width() for bar in bars] == pytest.approx([rate[0]] * 2)
            return
    raise AssertionError("no such rates")


def test_controls_are_among_the_bars():
    controls = [run("triplets_only", seed, [0] * 4, [1, 1, 1, 1]) for seed in (0, 1)]
    axes = figures.draw_misclassification(table([*results(), *controls]), number=3).axes[0]
    bars = [one.get_label() for one in axes.containers if isinstance(one, BarContainer)]
    assert bars == ["baseline", "CDML", "triplets_only"]


def test_the_rows_asked_for_in_their_order():
    figure = figures.draw_misclassification(
        table(results(), titles={"cdml": "ours"}), methods=["cdml", "baseline", "absent"]
    )
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["ours", "baseline"]


def test_confusion_is_ordered_by_kinship_and_normalised_by_row():
    counts = np.array([[8, 0, 2, 0], [0, 6, 1, 3], [0, 5, 5, 0], [0, 0, 0, 0]])
    classes = Classes(NAMES, (1, 0, 1, 0), ("wrens", "tits"))
    figure = matrices.draw_confusion({"baseline": counts}, classes)
    axes = figure.axes[0]
    drawn = axes.images[0].get_array().filled(np.nan)
    x = np.nan  # the diagonal, and the class without images
    # Order 1, 3, 0, 2.
    np.testing.assert_allclose(drawn, [[x, 0.3, 0, 0.1], [x, x, x, x], [0, 0, x, 0.2], [0.5, 0, 0, x]])
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        f"{NAMES[i]} ({counts[i].sum()})" for i in (1, 3, 0, 2)
    ]
    assert [label.get_text() for label in axes.get_xticklabels()] == [NAMES[i] for i in (1, 3, 0, 2)]
    # Row by row, the right answers too; then the families.
    assert [text.get_text() for text in axes.texts] == [
        *("60", "30", "10", "80", "20", "50", "50"),
        "wrens",
        "tits",
    ]
    assert [(box.get_x(), box.get_width()) for box in axes.patches] == [(-0.5, 2), (1.5, 2)]


def test_panels_share_one_colour_scale():
    panels = {"baseline": diagonal_errors([1, 2, 3, 4]), "CDML": diagonal_errors([0, 0, 1, 1])}
    figure = matrices.draw_confusion(panels, Classes(NAMES))
    assert [axes.get_title() for axes in figure.axes[:2]] == ["baseline", "CDML"]
    assert {axes.images[0].norm.vmax for axes in figure.axes[:2]} == {0.4}
    # The third is the difference: of the first class 90 % are right, then 100 %.
    change = figure.axes[2].images[0].get_array()
    np.testing.assert_allclose(change[0], [10, -10, 0, 0])
    assert figure.axes[2].texts[0].get_text() == "+10"


@pytest.mark.parametrize("number", [1, 5, 81, 200])
def test_confusion_of_any_size_is_saved(tmp_path, number):
    rng = np.random.default_rng(number)
    counts = rng.multinomial(30, np.full(number, 1 / number), size=number)
    families = tuple(rng.integers(0, 60, number).tolist())
    names = tuple(f"a subcategory with quite a long name, number {i}" for i in range(number))
    classes = Classes(names, families, tuple(f"family {k}" for k in range(60)))
    path = matrices.confusion_figure({"": counts}, classes, tmp_path / "new" / "confusion.png")
    assert 5_000 < len(path.read_bytes()) < 400_000


def test_perfect_counts_have_a_picture(tmp_path):
    path = tmp_path / "pair.png"
    perfect = diagonal_errors([0, 0, 0, 0])
    matrices.confusion_figure({"a": perfect, "b": perfect}, Classes(NAMES), path)
    assert len(path.read_bytes()) > 5_000


def test_curves_are_means_over_seeds_with_their_range():
    nan = float("nan")
    first = [
        {"epoch": 1, "loss": 3.0, "validation_accuracy": nan},
        {"epoch": 2, "loss": 1.0, "validation_accuracy": 0.5},
    ]
    second = [{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": 2.0, "validation_accuracy": 0.7}]
    runs = [run("cdml", 0, [0] * 4, [0] * 4, first), run("cdml", 1, [0] * 4, [0] * 4, second)]
    loss, validation = figures.draw_learning_curves(table(runs)).axes
    np.testing.assert_allclose(loss.lines[0].get_xydata(), [[1, 2.5], [2, 1.5]])
    np.testing.assert_allclose(validation.lines[0].get_xydata(), [[2, 60.0]])
    assert not loss.collections  # two seeds are two lines
    np.testing.assert_allclose([line.get_ydata() for line in loss.lines[1:]], [[2, 1], [3, 2]])
    assert "own objective" in loss.get_ylabel()
    third = [{"epoch": 1, "loss": 2.5, "softmax_loss": 1.0}, {"epoch": 2, "loss": 1.5, "softmax_loss": 0.5}]
    three = [*runs, run("cdml", 2, [0] * 4, [0] * 4, third)]
    loss = figures.draw_learning_curves(table(three)).axes[0]
    band = loss.collections[0].get_paths()[0].vertices
    assert (band[:, 1].min(), band[:, 1].max()) == (1.0, 3.0)


def test_curves_of_different_objectives_show_what_they_share_and_few_points_are_marked():
    history = [{"epoch": k, "loss": 9.0, "softmax_loss": 1.0 / k} for k in range(1, 31)]
    history[-1]["validation_accuracy"] = 0.5
    runs = [run(name, 0, [0] * 4, [0] * 4, history) for name in ("baseline", "cdml")]
    loss, validation = figures.draw_learning_curves(table(runs)).axes
    np.testing.assert_allclose(loss.lines[0].get_ydata(), [1.0 / k for k in range(1, 31)])
    assert "softmax" in loss.get_ylabel()
    assert (loss.lines[0].get_marker(), validation.lines[0].get_marker()) == ("", "o")
    assert validation.get_xlim() == (0.5, 30.5)  # one evaluation is a mark at its epoch
    widths = [line.get_linewidth() for line in loss.lines]
    assert widths[0] > widths[1]  # the baseline's grey is faint


def test_every_row_of_a_figure_has_its_own_look():
    methods = ["baseline", "weighted_softmax", "confusion_driven", "cdml", *"abcdef"]
    runs = [run(method, 0, [0] * 4, [0] * 4, [{"loss": 1.0}]) for method in methods]
    figure = figures.draw_learning_curves(table(runs))
    looks = {(line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines}
    assert len(looks) == len(methods)


def test_pictures_are_the_same_again(tmp_path):
    history = [{"epoch": 1, "loss": 2.0, "validation_accuracy": 0.5}]
    runs = [*results(), run("weighted_softmax", 0, [1] * 4, [1] * 4, history)]
    for again in ("a", "b"):
        figures.misclassification_figure(table(runs), tmp_path / f"bars_{again}.png")
        figures.learning_curves(table(runs), tmp_path / f"curves_{again}.png")
    for name in ("bars", "curves"):
        one, two = ((tmp_path / f"{name}_{again}.png").read_bytes() for again in "ab")
        assert one == two
        assert len(one) > 10_000


ODD = ("US$5 or AU$5", "$#$", "$$", r"\$x_1^$ \alpha")


def test_names_are_drawn_as_they_are_written(tmp_path):
    """Dollar signs begin no formula, whether it would be valid or not."""
    classes = Classes(ODD, (0, 0, 1, 1), ("<b>fam|$^$", "50% off 10$ and $"))
    runs = [run(method, 0, [3, 1, 5, 2], [1, 9, 2, 4], [{"loss": 1.0}]) for method in ("baseline", "cdml")]
    odd = tabulate(runs, classes, titles={"baseline": "a $^$ b", "cdml": "$$"})
    panels = {title: odd.counts(method) for method, title in odd.titles.items()}
    pictures = [
        matrices.draw_confusion(panels, classes),
        figures.draw_misclassification(odd),
        figures.draw_learning_curves(odd),
    ]
    for number, picture in enumerate(pictures):
        canvas.save(picture, tmp_path / f"{number}.png")
        texts = picture.findobj(Text)
        assert not any(text.get_parse_math() for text in texts)
    drawn = [{text.get_text() for text in picture.findobj(Text)} for picture in pictures]
    assert {*ODD, *classes.family_names, *odd.titles.values()} <= drawn[0]
    assert {*(f"{name} (10)" for name in ODD), *odd.titles.values()} <= drawn[1]
    assert set(odd.titles.values()) <= drawn[2]


@pytest.fixture
def few_fonts(monkeypatch):
    """No fonts are installed but matplotlib's own; a function that installs one with some letters."""

    def install(path, name, letters):
        builder = FontBuilder(1000)
        glyphs = {ord(letter): f"glyph{number}" for number, letter in enumerate(letters)}
        names = [".notdef", *glyphs.values()]
        pen = TTGlyphPen(None)
        pen.moveTo((0, 0))
        for point in [(0, 900), (900, 900), (900, 0)]:
            pen.lineTo(point)
        pen.closePath()
        builder.setupGlyphOrder(names)
        builder.setupCharacterMap(glyphs)
        builder.setupGlyf(dict.fromkeys(names, pen.glyph()))
        builder.setupHorizontalMetrics(dict.fromkeys(names, (1000, 0)))
        builder.setupHorizontalHeader(ascent=900, descent=-100)
        builder.setupNameTable({"familyName": name, "styleName": "Regular"})
        builder.setupOS2()
        builder.setupPost()
        builder.save(path)
        fontManager.addfont(path)

    home = str(Path(matplotlib.__file__).parent)
    monkeypatch.setattr(fontManager, "ttflist", [e for e in fontManager.ttflist if e.fname.startswith(home)])
    canvas._fonts_for.cache_clear()
    yield install
    canvas._fonts_for.cache_clear()


def test_letters_are_drawn_by_installed_fonts_that_have_them(tmp_path, few_fonts, recwarn):
    few_fonts(tmp_path / "a.ttf", "One Letter", "雀")
    few_fonts(tmp_path / "b.ttf", "Some Letters", "红雀e")
    few_fonts(tmp_path / "c.ttf", "Birds", "🐦")
    assert canvas.without_glyph(["红雀 wren", "🐦鴉"]) == "鴉"
    classes = Classes(("红雀", "b🐦", "c", "d"))
    figure = matrices.draw_confusion({"": diagonal_errors([1, 2, 3, 4])}, classes)
    families = figure.axes[0].get_yticklabels()[0].get_fontfamily()
    assert families[-2:] == ["Some Letters", "Birds"]
    canvas.save(figure, tmp_path / "a.png")
    assert not list(recwarn)


@pytest.mark.usefixtures("few_fonts")
def test_letters_without_a_glyph_are_known_and_cause_no_warning(tmp_path, recwarn):
    assert canvas.without_glyph(["wren", "红雀 w", "雀"]) == "红雀"
    classes = Classes(("红雀", "b", "c", "d"))
    matrices.confusion_figure({"鸟": diagonal_errors([1, 2, 3, 4])}, classes, tmp_path / "a.png")
    assert not list(recwarn)


def test_what_would_act_on_a_terminal_is_an_escape_in_pictures():
    classes = Classes(("a\x1b[2Jb", "c\nd", "e\u202ef", "g\th"), (0, 0, 1, 1), ("i\x07", "j"))
    runs = [run(method, 0, [3, 1, 5, 2], [1, 9, 2, 4], [{"loss": 1.0}]) for method in ("baseline", "cdml")]
    odd = tabulate(runs, classes, titles={"baseline": "k\x1b", "cdml": "l"})
    pictures = [
        matrices.draw_confusion({"k\x1b": odd.counts("cdml")}, classes),
        figures.draw_misclassification(odd),
        figures.draw_learning_curves(odd),
    ]
    drawn = [text.get_text() for picture in pictures for text in picture.findobj(Text)]
    assert {"a\\x1b[2Jb", "c\\nd", "e\\u202ef", "g\\th", "i\\x07", "k\\x1b"} <= set(drawn)
    assert not any(letter in text for letter in "\x1b\n\u202e\t\x07" for text in drawn)


def test_the_method_has_a_picture(tmp_path):
    root = Path(__file__).parents[2]
    script, picture = root / "docs/images/draw_method.py", tmp_path / "method.png"
    subprocess.run([sys.executable, script, picture], check=True)
    assert 50_000 < len(picture.read_bytes()) < 400_000


def test_no_window_system_is_touched():
    code = "import sys, cdml_jax.reporting.report; print('matplotlib.pyplot' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
