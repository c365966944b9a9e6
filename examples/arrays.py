"""Train on numpy arrays, without the command line: three kinds of stripes, two of which look alike.

python examples/arrays.py
"""

import numpy as np

import cdml_jax
from cdml_jax.data import ArraySource, Classes, Dataset


def stripes(number: int, seed: int) -> ArraySource:
    """Images of bars that stand upright, lean a little, or lie."""
    rng = np.random.default_rng(seed)
    labels = np.arange(number) % 3
    angles = np.array([0.0, 0.25, 1.57])[labels] + rng.normal(0, 0.06, number)
    y, x = np.mgrid[:32, :32] / 5
    waves = np.cos(angles)[:, None, None] * x + np.sin(angles)[:, None, None] * y
    grey = 127 + 80 * np.sin(waves + rng.uniform(0, 6, (number, 1, 1))) + rng.normal(0, 20, (number, 32, 32))
    return ArraySource(np.repeat(grey.clip(0, 255).astype(np.uint8)[..., None], 3, axis=3), labels)


dataset = Dataset(
    "stripes",
    Classes(("upright", "leaning", "lying")),
    {"train": stripes(120, 0), "validation": stripes(60, 1)},
)
settings = cdml_jax.settings(
    "own_images_scratch",
    epochs=6,
    warmup_epochs=2,
    batch_size=24,
    **{"image.image_size": 32, "image.crop": "none", "image.flip": False, "data.num_threads": 0},
)
run = cdml_jax.train(settings, dataset, method="cdml", seed=0)
test = stripes(90, 2)
views = np.stack([run.view(test.image(index)) for index in range(len(test))])
logits, embeddings = run(views)
accuracy = (logits.argmax(axis=1) == test.labels).mean()
print(f"accuracy {accuracy:.2f}, embeddings {embeddings.shape}")
for name in run.class_names:
    others = run.taken_for(run.class_names.index(name))
    print(
        f"{name}: while training often taken for {', '.join(other for other, _ in others) or 'nothing else'}"
    )
