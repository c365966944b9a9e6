"""Names and layouts of other libraries, on arrays small enough to look at."""

import dataclasses

import jax
import numpy as np
import pytest
from messages import like

from cdml_jax.errors import UserError
from cdml_jax.models.weights.conversion import Table, convert

SHAPES = {
    "stem.conv.kernel": (3, 5, 2, 4),
    "stem.norm.scale": (4,),
    "stem.norm.bias": (4,),
    "stem.norm.mean": (4,),
    "stem.norm.var": (4,),
    "joined.kernel": (4, 6),
    "joined.bias": (6,),
    "whole.kernel": (2, 3, 6, 5),
    "token": (1, 1, 6),
    "heads.classifier.kernel": (5, 7),
    "heads.classifier.bias": (7,),
    "heads.projection.kernel": (5, 8),
}
OURS = {name: jax.ShapeDtypeStruct(shape, np.float32) for name, shape in SHAPES.items()}
TABLE = Table(
    {"stem.conv": "conv", "stem.norm": "bn", "joined": ("left", "right"), "whole": "dense"},
    {"token": "tokens.cls"},
    classifier="fc",
    left=(r"aux\..*",),
)
OTHER = Table({"stem.conv": "a", "stem.norm": "b", "joined": "c", "whole": "d"}, {"token": "e"})


@pytest.fixture
def theirs():
    rng = np.random.default_rng(0)
    shapes = {
        "conv.weight": (4, 2, 3, 5),
        "bn.weight": (4,),
        "bn.bias": (4,),
        "bn.running_mean": (4,),
        "bn.running_var": (4,),
        "left.weight": (3, 4),
        "left.bias": (3,),
        "right.weight": (3, 4),
        "right.bias": (3,),
        "dense.weight": (5, 36),
        "dense.bias": (5,),
        "tokens.cls": (1, 6),
        "fc.weight": (7, 5),
        "fc.bias": (7,),
        "aux.weight": (9,),
    }
    values = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    return values | {"bn.num_batches_tracked": np.array(3)}


@pytest.fixture
def ours():
    return OURS | {"whole.bias": jax.ShapeDtypeStruct((5,), np.float32)}


def test_arrays_go_where_they_compute_the_same(theirs, ours):
    got, said = convert(theirs, ours, {"other": OTHER, "this": TABLE}, origin="file")
    assert said == "12 arrays by this's names, 4 left out, such as aux.weight"
    assert got.keys() == {name for name in ours if not name.startswith("heads.")}
    assert all(value.shape == ours[name].shape for name, value in got.items())
    for i in range(4):
        for j in range(2):
            assert np.array_equal(got["stem.conv.kernel"][:, :, j, i], theirs["conv.weight"][i, j])
    assert np.array_equal(got["stem.norm.scale"], theirs["bn.weight"])
    assert np.array_equal(got["stem.norm.mean"], theirs["bn.running_mean"])
    assert np.array_equal(got["stem.norm.var"], theirs["bn.running_var"])
    x = np.random.default_rng(1).normal(size=(3, 4))
    sides = [x @ theirs[f"{side}.weight"].T + theirs[f"{side}.bias"] for side in ("left", "right")]
    np.testing.assert_allclose(
        x @ got["joined.kernel"] + got["joined.bias"], np.concatenate(sides, 1), rtol=1e-5
    )
    # A dense layer on a flattened (channels, height, width) map is a convolution over the whole map.
    x = np.random.default_rng(2).normal(size=(2, 3, 6))
    np.testing.assert_allclose(
        np.einsum("hwi,hwio->o", x, got["whole.kernel"]),
        theirs["dense.weight"] @ x.transpose(2, 0, 1).ravel(),
        rtol=1e-4,
    )
    assert np.array_equal(got["token"].ravel(), theirs["tokens.cls"].ravel())


def test_the_classifier_is_kept_where_asked(theirs, ours):
    got = convert(theirs, ours, {"this": TABLE}, origin="file", keep_classifier=True).values
    assert np.array_equal(got["heads.classifier.kernel"], theirs["fc.weight"].T)
    assert np.array_equal(got["heads.classifier.bias"], theirs["fc.bias"])
    assert "heads.projection.kernel" not in got


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.pop("bn.running_var"), r"this's names\); not in the file: bn.running_var$"),
        (lambda v: v.update({"more.weight": np.ones(2)}), "not in the network: more.weight$"),
        (lambda v: v.update({"bn.bias": np.ones(5)}), r"bn.bias \(5,\) of file does not fit stem.norm.bias"),
        (lambda v: v.update({"conv.weight": np.ones((4, 2, 5, 3))}), r"conv.weight \(4, 2, 5, 3\) of file"),
        (lambda v: v.update({"left.weight": np.ones((4, 3))}), r"left.weight \(4, 3\), right.weight"),
        (lambda v: v.update({"dense.weight": np.ones((6, 30))}), r"dense.weight \(6, 30\)"),
        (lambda v: v.update({"dense.bias": np.full(5, np.nan)}), "not finite, in whole.bias$"),
        (lambda v: v.update({"tokens.cls": np.full((1, 6), -np.inf)}), "not finite, in token$"),
        (lambda v: v.update({"tokens.cls": np.full((1, 6), 1e300)}), "not finite, in token$"),
        (
            lambda v: v.update({"dense.bias": np.ones(5, np.int8)}),
            r"not floating-point \(int8\), in whole.bias$",
        ),
        (
            lambda v: v.update({"dense.bias": np.ones(5, complex)}),
            r"not floating-point \(complex128\), in whole",
        ),
        (lambda v: v.update({"a\x1b[2J\n": np.ones(2)}), r"not in the network: a\\x1b\[2J\\n$"),
        (
            lambda v: v.update({"module.conv.weight": v.pop("bn.bias")}),
            "not in the network: module.conv.weight;",
        ),
    ],
    ids=[
        "missing",
        "extra",
        "length",
        "kernel",
        "part",
        "dense",
        "nan",
        "infinity",
        "too large",
        "whole",
        "complex",
        "escape",
        "two of one name",
    ],
)
def test_what_does_not_fit_is_refused_by_name(theirs, ours, change, message):
    change(theirs)
    with pytest.raises(UserError, match=message):
        convert(theirs, ours, {"this": TABLE, "other": OTHER}, origin="file")


def test_a_classifier_of_other_classes_is_left_or_refused(theirs, ours):
    theirs |= {"fc.weight": np.ones((9, 5)), "fc.bias": np.ones(9)}
    convert(theirs, ours, {"this": TABLE}, origin="file")
    with pytest.raises(
        UserError, match=like("fc.weight (9, 5) of file does not fit heads.classifier.kernel")
    ):
        convert(theirs, ours, {"this": TABLE}, origin="file", keep_classifier=True)


@pytest.mark.parametrize(
    "prefix", ["module.", "backbone.", "model.", "module.model.", "_orig_mod.", "model.model.", "\x1b."]
)
def test_what_stands_in_front_of_all_names_is_taken_off_and_said(theirs, ours, prefix):
    wrapped = {f"{prefix}{name}": value for name, value in theirs.items()}
    got, said = convert(wrapped, ours, {"other": OTHER, "this": TABLE}, origin="file")
    plain = convert(theirs, ours, {"this": TABLE}, origin="file")
    assert all(np.array_equal(got[name], plain.values[name]) for name in ours if name in plain.values)
    assert got.keys() == plain.values.keys()
    assert f", {prefix!r} in front of the names was taken off, " in said
    # Heads are often outside of what is wrapped; other names must still be known.
    outside = {name.removeprefix(prefix) if "fc." in name else name: value for name, value in wrapped.items()}
    assert convert(outside, ours, {"this": TABLE}, origin="file").said == said
    with pytest.raises(UserError, match=r"this's names, without .*\); not in the network: loss.weight$"):
        convert(wrapped | {"loss.weight": np.ones(2)}, ours, {"this": TABLE}, origin="file")
    del wrapped[f"{prefix}bn.bias"]
    with pytest.raises(UserError, match=r"without .*\); not in the file: bn.bias$"):
        convert(wrapped, ours, {"this": TABLE}, origin="file")


def test_what_stands_before_the_classifier_is_left_with_it(theirs, ours):
    table = dataclasses.replace(TABLE, head=(r"pre_logits\..*",))
    theirs |= {"pre_logits.fc.weight": np.ones((5, 5)), "pre_logits.fc.bias": np.ones(5)}
    assert "6 left out" in convert(theirs, ours, {"this": table}, origin="file").said
    with pytest.raises(UserError, match=r"in the network: pre_logits.fc.bias, pre_logits.fc.weight$"):
        convert(theirs, ours, {"this": table}, origin="file", keep_classifier=True)


def test_an_array_of_another_shape_is_made_to_fit_where_the_table_says_how(theirs, ours):
    def fit(value, shape):
        return (value.reshape(-1)[:6].reshape(shape), "cut to 6") if value.size == 8 else None

    table = dataclasses.replace(TABLE, fitted={"token": fit})
    got, said = convert(theirs | {"tokens.cls": np.arange(8.0)}, ours, {"this": table}, origin="file")
    assert got["token"].tolist() == [[[0, 1, 2, 3, 4, 5]]]
    assert got["token"].dtype == np.float32
    assert said.endswith(", cut to 6")
    assert "cut" not in convert(theirs, ours, {"this": table}, origin="file").said
    with pytest.raises(UserError, match=r"tokens.cls \(9,\) of file does not fit token"):
        convert(theirs | {"tokens.cls": np.arange(9.0)}, ours, {"this": table}, origin="file")


def test_a_source_without_classifier_has_none_to_keep(theirs, ours):
    with pytest.raises(UserError, match="file has no classifier to keep"):
        convert(theirs, ours, {"other": OTHER}, origin="file", keep_classifier=True)


def test_a_network_of_ours_alone_takes_no_foreign_weights(theirs, ours):
    with pytest.raises(UserError, match="no other library's names are known"):
        convert(theirs, ours, {}, origin="file")
