"""Write the goldens: outputs of torchvision, timm and transformers on weights and images of golden_recipe.py.

    pip install torch torchvision timm transformers numpy
    python tests/models/goldens/make_goldens.py [NAME ...]

Each golden is one .npz: the names and shapes of the library's arrays (JSON), logits and the first features
for each image size. No weights are stored. A golden whose two images look alike to the network is refused.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from golden_recipe import NUM_CLASSES, images, weights  # noqa: E402

STORED_FEATURES = 48
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
LITE = ((127 / 255,) * 3, (128 / 255,) * 3)
# Name of the golden: how the reference is made, its input scaling, gain, image sizes.
GOLDENS = {
    "mobilenet_v2.torchvision": ("torchvision:mobilenet_v2", IMAGENET, 1.3, [(64, 64), (75, 97)]),
    "mobilenet_v2.timm": ("timm:mobilenetv2_100", IMAGENET, 1.3, [(64, 64)]),
    "mobilenet_v2.tensorflow": ("same:mobilenet_v2", HALF, 1.3, [(64, 64), (75, 97)]),
    "efficientnet_lite0.timm": ("timm:tf_efficientnet_lite0", LITE, 1.3, [(64, 64), (75, 97)]),
    "efficientnet_lite1.timm": ("timm:tf_efficientnet_lite1", LITE, 1.3, [(64, 64)]),
    "efficientnet_lite2.timm": ("timm:tf_efficientnet_lite2", LITE, 1.3, [(64, 64)]),
    "resnet18.torchvision": ("torchvision:resnet18", IMAGENET, 1.0, [(64, 64)]),
    "resnet34.timm": ("timm:resnet34", IMAGENET, 1.0, [(64, 64)]),
    "resnet50.torchvision": ("torchvision:resnet50", IMAGENET, 1.0, [(64, 64), (75, 97)]),
    "resnet101.torchvision": ("torchvision:resnet101", IMAGENET, 1.0, [(64, 64)]),
    "googlenet.torchvision": ("torchvision:googlenet", IMAGENET, 2.0, [(64, 64), (75, 97)]),
    "vgg16.torchvision": ("torchvision:vgg16", IMAGENET, 1.6, [(64, 64), (75, 97)]),
    "vgg19.timm": ("timm:vgg19", IMAGENET, 1.6, [(64, 64)]),
    "vgg16_bn.torchvision": ("torchvision:vgg16_bn", IMAGENET, 1.6, [(64, 64), (75, 97)]),
    "vgg19_bn.timm": ("timm:vgg19_bn", IMAGENET, 1.6, [(224, 224)]),
    "vit_small_patch14_dinov2.timm": (
        "timm:vit_small_patch14_dinov2",
        IMAGENET,
        1.0,
        [(224, 224), (70, 98)],
    ),
    "vit_small_patch14_dinov2.transformers": ("transformers:384", IMAGENET, 1.0, [(518, 518)]),
    "vit_base_patch14_dinov2.timm": ("timm:vit_base_patch14_dinov2", IMAGENET, 1.0, [(70, 98)]),
    "vit_small_patch16.timm": ("timm:vit_small_patch16_224", HALF, 1.0, [(224, 224), (64, 96)]),
    "vit_base_patch16.timm": ("timm:vit_base_patch16_224", HALF, 1.0, [(64, 96)]),
}


def import_torchvision():
    """torchvision; its compiled operators, which these networks do not use, may be missing."""
    import torch

    try:
        import torchvision
    except RuntimeError:
        for name in [module for module in sys.modules if module.startswith("torchvision")]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        boxes = ("nms", "qnms", "deform_conv2d", "ps_roi_align", "ps_roi_pool", "roi_align", "roi_pool")
        backward = tuple(f"_{name}_backward" for name in boxes[2:])
        for name in (*boxes, *backward):
            library.define(f"{name}(Tensor a) -> Tensor")
        import_torchvision.library = library  # it must outlive this call
        import torchvision
    return torchvision


def transformers_dinov2(width, gain):
    """DINOv2 under the names of published files, which differ from those of the modules in memory."""
    from safetensors.numpy import load_file, save_file
    from transformers import Dinov2Config, Dinov2Model

    config = Dinov2Config(hidden_size=width, num_attention_heads=width // 64, image_size=518)
    with tempfile.TemporaryDirectory() as folder:
        Dinov2Model(config).save_pretrained(folder)
        file = Path(folder) / "model.safetensors"
        shapes = {name: list(value.shape) for name, value in load_file(file).items()}
        save_file(weights(shapes, gain), file, metadata={"format": "pt"})
        return shapes, Dinov2Model.from_pretrained(folder).eval()


def reference(kind):
    """The reference network, and its features of scaled images (N, 3, H, W) before the classifier."""
    import torch

    source, _, name = kind.partition(":")
    vision = import_torchvision()
    if source == "timm":
        import timm

        options = {"dynamic_img_size": True} if name.startswith("vit") else {}
        model = timm.create_model(name, num_classes=NUM_CLASSES, **options).eval()
        return model, lambda x: model.forward_head(model.forward_features(x), pre_logits=True)
    options = {}
    if name == "googlenet":
        options = {"aux_logits": False, "init_weights": False, "transform_input": True}
    model = vision.models.get_model(name, weights=None, num_classes=NUM_CLASSES, **options).eval()
    if source == "same":  # TensorFlow's padding and epsilon, which torchvision lacks
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eps = 1e-3
            if isinstance(module, torch.nn.Conv2d) and module.padding != (0, 0):
                module.padding = (0, 0)
                module.register_forward_pre_hook(pad_same)
    last = model.fc if hasattr(model, "fc") else model.classifier[-1]
    seen = []
    last.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))

    def features(x):
        model(x)
        return seen.pop()

    return model, features


def pad_same(module, arguments):
    """Zeros as TensorFlow's SAME puts them, the odd one at the end."""
    import torch

    (x,) = arguments
    pads = []
    for length, size, stride in zip(x.shape[:1:-1], module.kernel_size[::-1], module.stride[::-1]):
        total = max((-(-length // stride) - 1) * stride + size - length, 0)
        pads += [total // 2, total - total // 2]
    return (torch.nn.functional.pad(x, pads),)


def make(name):
    """Compute and write one golden."""
    import torch

    kind, (mean, std), gain, sizes = GOLDENS[name]
    if kind.startswith("transformers"):
        import_torchvision()
        shapes, model = transformers_dinov2(int(kind.partition(":")[2]), gain)
        features_of, classifier = lambda x: model(x).pooler_output, None
    else:
        model, features_of = reference(kind)
        classifier = model
        shapes = {key: list(value.shape) for key, value in model.state_dict().items()}
        values = weights(shapes, gain)
        model.load_state_dict({key: torch.from_numpy(value) for key, value in values.items()}, strict=True)
    stored = {"shapes": json.dumps(shapes), "gain": gain, "sizes": sizes}
    for height, width in sizes:
        x = (images(height, width).astype(np.float64) / 2 + 0.5 - mean) / std
        x = torch.from_numpy(x.astype(np.float32).transpose(0, 3, 1, 2).copy())
        with torch.no_grad():
            features = features_of(x).numpy()
            logits = None if classifier is None else classifier(x).numpy()
        spread = np.abs(features[0] - features[1]).mean() / np.abs(features).mean()
        scale = np.abs(features).max()
        print(f"{name} {height}x{width}: features to {scale:.2f}, images differ by {spread:.3f}")
        if not (np.isfinite(features).all() and spread > 0.02 and 0.1 < scale < 1e3):
            raise SystemExit(f"{name}: degenerate; change its gain")
        stored[f"features_{height}x{width}"] = features[:, :STORED_FEATURES]
        if logits is not None:
            stored[f"logits_{height}x{width}"] = logits
    np.savez_compressed(HERE / f"{name}.npz", **stored)


if __name__ == "__main__":
    for golden in sys.argv[1:] or GOLDENS:
        make(golden)
