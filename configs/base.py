"""Every key that a configuration has, with the method's defaults; experiments say what differs.

Keys are named after the arguments that they end in. A key that is not here is an error. The package reads
them as `cdml_jax.configuration.settings.Settings`, whose fields have these names, types and order. Where a
number may be -1 ("by the images"), and where model.frozen is "auto", the value is chosen once the images and
the machine are known, and a line prints it.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    return ConfigDict(
        {
            # What to train on: synthetic_birds/CONFIG, folder:DIR, list:DIR, array_record:DIR, tfds:NAME, or
            # a published set where its archives were extracted, such as cub200:DIR (docs/datasets.md).
            "source": "synthetic_birds/demo",
            "data": {
                "data_dir": "",  # where prepared sets are kept; "" is the user's cache folder
                "train": "train",
                "validation": "validation",
                "test": "test",
                "holdout": "",  # a split for confusion counts alone
                "holdout_fraction": 0.0,  # or a share of every training class
                "validation_fraction": 0.0,  # shares of train, where the set has no such split
                "test_fraction": 0.0,
                "class_disjoint": False,  # train on the first classes, test on the others (CUB, Cars)
                # Share of the training images that get a wrong label, by their names; 0 for none
                "label_noise": 0.0,
                "check": True,  # decode every image once before training
                "cache_bytes": 4 << 30,  # decoded images are kept in memory up to this
                "num_threads": 2,
                "boxes": "",  # a file of cdml localize: each image is cut out by its box
            },
            "image": {
                "image_size": 64,  # -1: by the images
                "crop": "random_resized",
                "scale": (0.35, 1.0),
                "ratio": (3 / 4, 4 / 3),
                "flip": True,
                "jitter": 0.0,
                "trivial_augment": False,
                "erasing": 0.0,  # probability
                "resize": 0,
            },
            "model": {
                "name": "small_resnet",
                "embedding_size": 128,
                "embedding_from": "projection",
                "classifier": "linear",  # or "cosine": cosine_scale times the cosine to each class's column
                "cosine_scale": 20.0,
                "dtype": "float32",
                # Padding, epsilon, input as the weights want: "torchvision", "tensorflow"; "": as the file of
                # weights says, else the network's own
                "style": "",
                "freeze_batch_norm": False,  # running statistics in training too
                "remat": False,  # compute activations again in the backward pass: less memory, more time
                # How many neighbouring devices share batch norm's statistics in training: results then depend
                # on the number of devices; 0: all do, the statistics are those of the whole batch
                "batch_norm_devices": 0,
                # "imagenet", a shipped name, a file (safetensors, PyTorch's; FILE#NAME for a table in it),
                # hf:ORGANISATION/MODEL; "" trains from scratch.
                "weights": "",
                # Not trained, computed once: "backbone", or the number of first blocks. "auto": half of the
                # blocks where processors train a network that has weights, else none
                "frozen": "",
                "frozen_views": 4,  # augmented views of each training image that are then computed
            },
            "method": "cdml",  # which method `cdml train` trains
            "seed": 0,
            "epochs": 10,  # -1: by the images
            "warmup_epochs": 2,  # E_0: every method is the baseline in them; -1: a fifth
            "batch_size": 48,  # of all devices together; -1: by the images
            "accumulation": 1,  # microbatches a step
            "mesh": {
                "data": -1,  # devices over which the batch is split; -1: what is left
                "model": 1,  # devices over which the classifier's columns are split
                "shard_parameters_from": 0,  # bytes: parameters this large are split over data; 0: none
                "cpu_devices": 0,  # as how many devices JAX sees a processor; 0 leaves that to it
            },
            "evaluate_every": 1,  # epochs between looks at the validation split; -1: about ten looks a run
            # Looks in a row without a higher validation accuracy after which `cdml train` ends; 0 for never.
            "early_stopping": 0,
            "test_time_flip": False,  # evaluate the mean of an image's logits and its mirror image's
            "optimizer": {
                "name": "sgd",
                "learning_rate": 0.05,
                "momentum": 0.9,
                "weight_decay": 5e-4,
                "schedule": "cosine",
                "warmup_share": 0.05,  # of all steps, linear
                "clip_norm": 5.0,  # 0 for none
                "head_multiplier": 1.0,  # learning rate of the heads over that of the rest
                "layer_decay": 1.0,  # learning rate of a block over that of the next one
                "freeze": (),  # parameters whose names begin so, such as "stem", "blocks.0"
                "freeze_epochs": 0,  # for so long; -1 for ever
                "ema_decay": 0.0,  # 0 for none; at step t no more than (1 + t) / (10 + t)
            },
            "confusion": {
                "counts": "soft",
                # train or holdout: counts of the epochs; out_of_fold: of a linear classifier on pretrained
                # features, before the first step; taxonomy or file:PATH (a CSV matrix): costs in their place
                "source": "train",
                "decay": 0.5,
                "smoothing": 1.0,
                "symmetric": False,
                # dense, by_class (split over data), top (each class's most frequent); auto: by the classes
                "storage": "auto",
                "top_k": 32,  # wrong answers that a class keeps in "top"
            },
            "objective": {
                "mode": "one_plus_rate",
                "beta": 1.0,
                "normalize": True,
                "margin": 0.2,
                "triplet_weight": 0.3,
                "triplets_per_image": 4,
                "in_batch": "confusion",
                "label_smoothing": 0.0,
                "pair_beta": 1.0,  # of the confusion-weighted logits
                "term_factor": 1.0,  # of the published weight of a method's own terms
            },
            "sampling": {
                "composed": 0.5,
                "images_per_class": 4,
                "classes_per_group": 4,
                "composition_correction": True,
            },
            "reproduce": {
                "methods": ("baseline", "weighted_softmax", "confusion_driven", "cdml"),
                "seeds": 3,
                # Train on training and validation images; the baseline's confusion on so many folds of them
                # chooses what the figures show. 0 keeps the validation split apart.
                "folds": 0,
                # Whether results keep the embeddings of all validation and test images, in half precision.
                "embeddings": False,
            },
            "checkpoint": {"every_seconds": 60.0, "keep": 2},
            "profile": {"steps": 0, "start_step": 20},  # a trace of so many steps, into the workdir
            # Where the figures of each epoch go besides metrics.jsonl and TensorBoard, if installed: "wandb"
            # (WANDB_MODE=offline works too) or "mlflow" (MLFLOW_TRACKING_URI, else runs in the workdir).
            "live": "",
            # Where compiled programs are kept for the next start: a folder; "auto" is one in the user's cache
            # folder, "" none. JAX_COMPILATION_CACHE_DIR comes first.
            "compilation_cache": "auto",
        }
    )


def paper(config: ConfigDict) -> ConfigDict:
    """The slides' own forms: hard counts of the last epoch alone, the rates themselves as class weights."""
    config.confusion.update({"counts": "hard", "decay": 0.0})
    config.objective.mode = "rate"
    return config


def fine_tune_resnet50(config: ConfigDict) -> ConfigDict:
    """What the field fine-tunes most: ResNet-50 from ImageNet, random squares of 448 from 512 px, SGD."""
    config.image.update({"image_size": 448, "crop": "random", "resize": 512, "jitter": 0.2})
    config.model.update(
        {
            "name": "resnet50",
            "weights": "hf:timm/resnet50.tv_in1k",
            "embedding_from": "features",
            "dtype": "bfloat16",
        }
    )
    config.update({"epochs": 60, "warmup_epochs": 12, "batch_size": 64, "evaluate_every": 5})
    config.optimizer.update({"learning_rate": 0.005, "weight_decay": 5e-4, "head_multiplier": 10.0})
    config.objective.label_smoothing = 0.1
    return config


def fine_tune_dinov2(config: ConfigDict) -> ConfigDict:
    """ViT-S/14 of DINOv2 at 448 px: AdamW, learning rates falling by layer, gentle augmentation."""
    config.image.update({"image_size": 448, "scale": (0.5, 1.0), "jitter": 0.2})
    config.model.update(
        {
            "name": "vit_small_patch14_dinov2",
            "weights": "hf:timm/vit_small_patch14_dinov2.lvd142m",
            "embedding_from": "features",
            "dtype": "bfloat16",
            "remat": True,
        }
    )
    config.update({"epochs": 30, "warmup_epochs": 6, "batch_size": 64, "evaluate_every": 5})
    config.optimizer.update(
        {
            "name": "adamw",
            "learning_rate": 2e-4,
            "weight_decay": 0.05,
            "warmup_share": 0.1,
            "layer_decay": 0.7,
            "head_multiplier": 5.0,
            "clip_norm": 1.0,
        }
    )
    config.objective.label_smoothing = 0.1
    return config
