"""Test accuracy of a table's methods without the images of some classes, such as those that ImageNet has too.

    python experiments/table_without_classes.py --workdir=runs/cub200_160-reproduce
    python experiments/table_without_classes.py --workdir=DIR --without=crow,owl

Nothing is trained: results keep what each run said of each test image. Answers that name a class that is left
out stay wrong answers. By default the classes are those of CUB-200-2011 that are also classes of ImageNet's
1,000, or of a kind that is one (ImageNet's "pelican" for two species of pelicans): a pretrained network may
have seen the very photographs.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from etils import epath

from cdml_jax.reporting import results
from cdml_jax.reporting.comparison import paired_interval
from cdml_jax.runs import class_names

CUB_IN_IMAGENET = (
    "European_Goldfinch",
    "Dark_eyed_Junco",
    "Indigo_Bunting",
    "Red_breasted_Merganser",
    "Albatross",
    "Pelican",
    "Hummingbird",
    "Green_Violetear",
    "Blue_Jay",
    "Florida_Jay",
    "Green_Jay",
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", type=epath.Path, required=True, help="of cdml reproduce")
    parser.add_argument(
        "--without", default=",".join(CUB_IN_IMAGENET), help="ends of names, with commas between"
    )
    options = parser.parse_args()
    _, names = class_names.read(options.workdir)
    ends = tuple(end.lower().replace("_", " ") for end in options.without.split(","))
    plain = [name.lower().replace("_", " ") for name in names.names]
    left_out = np.array([name.endswith(ends) for name in plain])
    print(f"without {left_out.sum()} classes: {', '.join(np.array(names.names)[left_out])}")
    accuracy: dict[str, dict[int, float]] = {}
    images = 0
    for result in results.load(Path(options.workdir) / "results"):
        if result.test is None:
            raise SystemExit(f"{result.method}, seed {result.seed}: what it said of the images was not kept")
        kept = ~left_out[result.test.labels]
        right = result.test.top_classes[:, 0] == result.test.labels
        accuracy.setdefault(result.method, {})[result.seed] = 100 * float(right[kept].mean())
        images = int(kept.sum())
    print(f"{images:,} test images")
    for method, seeds in accuracy.items():
        common = [seed for seed in seeds if seed in accuracy.get("baseline", {})]
        mean, low, high = paired_interval([seeds[seed] - accuracy["baseline"][seed] for seed in common])
        top_1 = np.mean(list(seeds.values()))
        print(f"{method:24} {top_1:6.2f}  {mean:+.2f} [{low:+.2f}, {high:+.2f}]  {len(seeds)} seeds")


if __name__ == "__main__":
    main()
