"""The table of descriptors: the published figures stand beside those of the whole published set alone."""

import dataclasses

from cdml_jax.reporting.descriptors import NOTES, Found, Measured, table

MEASURED = Measured(
    dataset="CUB-200-2011",
    network="resnet50",
    weights="imagenet",
    whole=True,
    side=448,
    map_shape=(14, 14, 2048),
    queries=5794,
    gallery=5994,
    encodings={"scda": Found(4096, 0.61234, 0.67, 0.5), "both_all": Found(4096, 0.6, 0.66, 0.49)},
    corloc={"whole": (0.2, 0.21), "box_scda": (0.51234, float("nan"))},
    located=11788,
)


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_published_figures_stand_beside_the_rows_that_have_them():
    lines = table(MEASURED).splitlines()
    (scda,) = (cells(line) for line in lines if line.startswith("| average and maximum (SCDA)"))
    assert scda[1:] == ["4,096", "61.23", "67.00", "50.00", "59.72 / 65.79"]
    (every,) = (cells(line) for line in lines if line.startswith("| average and maximum of all"))
    assert every[-1] == ""
    (boxes,) = (cells(line) for line in lines if line.startswith("| SCDA "))
    assert boxes == ["SCDA", "51.23", "–"]
    assert "whole images squeezed to 448 px; last map 14 x 14 x 2048" in lines[2]


def test_a_part_of_a_set_is_not_compared_and_dogs_have_their_note():
    part = table(dataclasses.replace(MEASURED, whole=False, corloc={}))
    assert "published" not in part
    assert "CorLoc" not in part
    dogs = table(dataclasses.replace(MEASURED, dataset="Stanford Dogs"))
    assert NOTES["Stanford Dogs"] in dogs
    assert "74.86 / 79.24" in dogs
