"""What is known of each published data set: where it comes from, its terms, its classes and its splits.

Sizes of archives are those that the publishers' pages or TFDS's checksum lists state, in powers of ten.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Archive:
    """A file that the publisher offers.

    Attributes:
      name: the file's name.
      size: about how large it is, with its unit; "" where nobody states it.
      url: where it is.
    """

    name: str
    size: str
    url: str

    def __str__(self) -> str:
        return f"{self.name} ({', '.join(filter(None, (self.size, self.url)))})"


@dataclasses.dataclass(frozen=True)
class PublishedSet:
    """A data set as its publishers describe it.

    Attributes:
      key: what `source` calls it: "KEY:DIR".
      title: what tables call it.
      num_classes: C.
      counts: images of each of its splits.
      archives: what to extract into DIR.
      home: the page to read first.
      terms: the publisher's terms, in a few words.
      layout: what lies in DIR then.
      disjoint_classes: how many of the first classes train when retrieval is measured on classes never
        seen; 0 where the field has no such protocol.
      tfds: what TFDS calls it; "" where it has no such set.
      checksum: `split_checksum` of the published lists; "" where nobody here has read them whole.
    """

    key: str
    title: str
    num_classes: int
    counts: Mapping[str, int]
    archives: tuple[Archive, ...]
    home: str
    terms: str
    layout: str
    disjoint_classes: int = 0
    tfds: str = ""
    checksum: str = ""

    def where(self, *names: str) -> str:
        """The archives called `names` (all, if none is named), each with its size and address."""
        return ", ".join(str(a) for a in self.archives if not names or a.name in names)


_DOGS = "http://vision.stanford.edu/aditya86/ImageNetDogs"
_FLOWERS = "https://www.robots.ox.ac.uk/~vgg/data/flowers/102"
_INAT = "https://ml-inat-competition-datasets.s3.amazonaws.com/2021"
# That thread names copies: since 2023 the publisher's own page, ai.stanford.edu/~jkrause/cars, is gone.
_CARS = "https://github.com/pytorch/vision/issues/7545"
_NON_COMMERCIAL = "non-commercial research and education; the photographs belong to their owners"
_INAT_TERMS = "non-commercial research and education; each photograph has a licence of its own"
_INAT_VAL = (
    Archive("val.tar.gz", "8.4 GB", f"{_INAT}/val.tar.gz"),
    Archive("val.json.tar.gz", "9.4 MB", f"{_INAT}/val.json.tar.gz"),
)

SETS: dict[str, PublishedSet] = {
    s.key: s
    for s in (
        PublishedSet(
            key="cub200",
            title="CUB-200-2011",
            num_classes=200,
            counts={"train": 5994, "test": 5794},
            archives=(
                Archive(
                    "CUB_200_2011.tgz",
                    "1.15 GB",
                    "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz",
                ),
            ),
            home="https://www.vision.caltech.edu/datasets/cub_200_2011/",
            terms=_NON_COMMERCIAL,
            layout="CUB_200_2011/{images/, images.txt, image_class_labels.txt, train_test_split.txt, "
            "classes.txt}",
            disjoint_classes=100,
            tfds="caltech_birds2011",
        ),
        PublishedSet(
            key="cars196",
            title="Stanford Cars",
            num_classes=196,
            counts={"train": 8144, "test": 8041},
            archives=(
                Archive("cars_train.tgz", "979 MB", _CARS),
                Archive("cars_test.tgz", "977 MB", _CARS),
                Archive("car_devkit.tgz", "331 KB", _CARS),
                Archive("cars_test_annos_withlabels.mat", "186 KB", _CARS),
            ),
            home=_CARS,
            terms="research only; the photographs belong to their owners",
            layout="cars_train/, cars_test/, devkit/, cars_test_annos_withlabels.mat; or car_ims/, "
            "cars_annos.mat",
            disjoint_classes=98,
            tfds="cars196",
        ),
        PublishedSet(
            key="dogs120",
            title="Stanford Dogs",
            num_classes=120,
            counts={"train": 12000, "test": 8580},
            archives=(
                Archive("images.tar", "794 MB", f"{_DOGS}/images.tar"),
                Archive("lists.tar", "481 KB", f"{_DOGS}/lists.tar"),
            ),
            home=f"{_DOGS}/main.html",
            terms="research only; the photographs come from ImageNet",
            layout="Images/, train_list.mat, test_list.mat",
            tfds="stanford_dogs",
        ),
        PublishedSet(
            key="aircraft100",
            title="FGVC-Aircraft",
            num_classes=100,
            counts={"train": 3334, "validation": 3333, "test": 3333},
            archives=(
                Archive(
                    "fgvc-aircraft-2013b.tar.gz",
                    "2.75 GB",
                    "https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz",
                ),
            ),
            home="https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/",
            terms="non-commercial research only; the photographs belong to their owners",
            layout="fgvc-aircraft-2013b/data/{images/, variants.txt, images_variant_*.txt, "
            "images_family_*.txt}",
        ),
        PublishedSet(
            key="flowers102",
            title="Oxford Flowers-102",
            num_classes=102,
            counts={"train": 1020, "validation": 1020, "test": 6149},
            archives=(
                Archive("102flowers.tgz", "345 MB", f"{_FLOWERS}/102flowers.tgz"),
                Archive("imagelabels.mat", "0.5 KB", f"{_FLOWERS}/imagelabels.mat"),
                Archive("setid.mat", "15 KB", f"{_FLOWERS}/setid.mat"),
            ),
            home=f"{_FLOWERS}/",
            terms="none stated; the photographs belong to their owners",
            layout="jpg/, imagelabels.mat, setid.mat",
            checksum="fbd82368ff6719b5bc546fadb34e8743accbb50ecad3883c0345a28361de9153",
            tfds="oxford_flowers102",
        ),
        PublishedSet(
            key="nabirds",
            title="NABirds",
            num_classes=555,
            counts={"train": 23929, "test": 24633},
            archives=(Archive("nabirds.tar.gz", "", "https://dl.allaboutbirds.org/nabirds"),),
            home="https://dl.allaboutbirds.org/nabirds",
            terms="the Cornell Lab's terms of use, to be accepted on the page; non-commercial research",
            layout="nabirds/{images/, images.txt, image_class_labels.txt, train_test_split.txt, classes.txt, "
            "hierarchy.txt}",
            checksum="36388700ba02374c4feca71dbb36b74d1a3323b008848be181507a2512c2f9cc",
        ),
        PublishedSet(
            key="inat2021",
            title="iNaturalist 2021",
            num_classes=10000,
            counts={"train": 2686843, "validation": 100000},
            archives=(
                Archive("train.tar.gz", "224 GB", f"{_INAT}/train.tar.gz"),
                Archive("train.json.tar.gz", "221 MB", f"{_INAT}/train.json.tar.gz"),
                *_INAT_VAL,
            ),
            home="https://github.com/visipedia/inat_comp/tree/master/2021",
            terms=_INAT_TERMS,
            layout="train/, val/, train.json, val.json",
            tfds="i_naturalist2021",
        ),
        PublishedSet(
            key="inat2021_mini",
            title="iNaturalist 2021 mini",
            num_classes=10000,
            counts={"train": 500000, "validation": 100000},
            archives=(
                Archive("train_mini.tar.gz", "42 GB", f"{_INAT}/train_mini.tar.gz"),
                Archive("train_mini.json.tar.gz", "45 MB", f"{_INAT}/train_mini.json.tar.gz"),
                *_INAT_VAL,
            ),
            home="https://github.com/visipedia/inat_comp/tree/master/2021",
            terms=_INAT_TERMS,
            layout="train_mini/, val/, train_mini.json, val.json",
        ),
        PublishedSet(
            key="grocery",
            title="Grocery Store",
            num_classes=81,
            counts={"train": 2640, "validation": 296, "test": 2485},
            archives=(
                Archive(
                    "GroceryStoreDataset", "123 MB", "https://github.com/marcusklasson/GroceryStoreDataset"
                ),
            ),
            home="https://github.com/marcusklasson/GroceryStoreDataset",
            terms="MIT",
            layout="GroceryStoreDataset/dataset/{train/, val/, test/, train.txt, val.txt, test.txt, "
            "classes.csv}",
            checksum="90c49352f3f88ec22d7319e4c5df61d904bf63c8c7243eec6a7330276fa7b080",
        ),
    )
}
"""Every published set by its key."""
