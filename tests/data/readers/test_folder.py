import pytest

from cdml_jax.data.checking.problems import Problems
from cdml_jax.data.checking.verify import NO_TRAINING_IMAGE
from cdml_jax.data.classes import PREFIXED
from cdml_jax.data.readers.folder import read_folder
from cdml_jax.errors import UserError

NAMES = {"train": "train", "holdout": "", "validation": "validation", "test": "test"}


def _read(folder, **names):
    problems = Problems("folder")
    dataset = read_folder(str(folder), NAMES | names, problems)
    problems.raise_if_any()
    return dataset


def _files(source):
    return [(source.name(i), label) for i, label in enumerate(source.labels.tolist())]


def test_class_folders_in_one_pool(write_pictures):
    dataset = _read(write_pictures("owl/2.png", "crow/b.JPG", "crow/a.png"))
    assert dataset.classes.names == ("crow", "owl")
    assert dataset.classes.families is None
    assert _files(dataset.splits["train"]) == [("crow/a.png", 0), ("crow/b.JPG", 0), ("owl/2.png", 1)]
    assert list(dataset.splits) == ["train"]


def test_folders_above_classes_are_families(write_pictures):
    dataset = _read(
        write_pictures("x/corvids/crow/1.png", "x/corvids/jay/1.png", "x/owls/barn/1.png", "dodo/1.png")
    )
    assert dataset.classes.names == ("dodo", "crow", "jay", "barn")
    assert dataset.classes.families == (0, 1, 1, 2)
    assert dataset.classes.family_names == ("dodo", "corvids", "owls")


def test_families_of_one_name_are_told_apart_by_their_paths(write_pictures):
    dataset = _read(write_pictures("a/small/crow/1.png", "b/small/owl/1.png"))
    assert dataset.classes.family_names == ("a/small", "b/small")


@pytest.mark.parametrize("validation", ["validation", "val", "valid"])
def test_split_folders(write_pictures, validation):
    dataset = _read(
        write_pictures("train/crow/1.png", "train/owl/1.png", f"{validation}/owl/7.png", "test/crow/9.png")
    )
    assert dataset.classes.names == ("crow", "owl")
    assert {split: _files(source) for split, source in dataset.splits.items()} == {
        "train": [("train/crow/1.png", 0), ("train/owl/1.png", 1)],
        "validation": [(f"{validation}/owl/7.png", 1)],
        "test": [("test/crow/9.png", 0)],
    }


def test_splits_may_have_other_names(write_pictures):
    dataset = _read(
        write_pictures("fit/crow/1.png", "fit/owl/1.png", "dev/owl/7.png"), train="fit", validation="dev"
    )
    assert {split: len(source) for split, source in dataset.splits.items()} == {"train": 2, "validation": 1}


def test_a_training_folder_that_was_asked_for_is_the_pool(write_pictures):
    dataset = _read(write_pictures("fit/crow/1.png", "fit/owl/1.png", "drafts/emu/7.png"), train="fit")
    assert (dataset.classes.names, list(dataset.splits)) == (("crow", "owl"), ["train"])


def test_a_class_called_train_among_others_is_a_class(write_pictures):
    assert _read(write_pictures("bus/1.png", "train/1.png", "tram/1.png")).classes.names == (
        "bus",
        "train",
        "tram",
    )


@pytest.mark.parametrize(
    ("paths", "names", "noted"),
    [
        (["Greek/a", "Greek/b", "Korean/a"], ("Greek/a", "b", "Korean/a"), "Greek/a and Korean/a"),
        (["night/owl", "owl"], ("night/owl", "owl"), "night/owl and owl"),
        (["x/small/red", "y/small/red"], ("x/small/red", "y/small/red"), "x/small/red and y/small/red"),
        (["a/red", "b/red", "c/d/red"], ("a/red", "b/red", "d/red"), "a/red and b/red and d/red"),
        (["a/\u00e9", "b/e\u0301"], ("a/\u00e9", "b/\u00e9"), "a/\u00e9 and b/\u00e9"),
    ],
)
def test_equal_names_in_several_families_get_the_familys_in_front(write_pictures, paths, names, noted):
    problems = Problems("folder")
    dataset = read_folder(str(write_pictures(*(f"{path}/1.png" for path in paths))), NAMES, problems)
    assert dataset.classes.names == names
    assert list(problems.lines()) == [f"{PREFIXED}: {noted}"]


def test_a_class_that_lost_its_images_says_to_what(write_pictures):
    folder = write_pictures("train/crow/1.png", "train/crow/2.heic", "train/emu/1.heic", "test/crow/2.png")
    problems = Problems("folder")
    dataset = read_folder(str(folder), NAMES, problems)
    problems.add(NO_TRAINING_IMAGE, "emu")
    assert dataset.classes.names == ("crow", "emu")
    assert list(problems.problems()) == [f"{NO_TRAINING_IMAGE}: emu (1 .heic left out)"]


def test_a_folder_without_images_inside_a_class_is_passed_over(write_pictures):
    folder = write_pictures("crow/1.png", "owl/1.png")
    (folder / "crow" / "raw").mkdir()
    (folder / "crow" / "raw" / "1.xml").write_text("x")
    problems = Problems("folder")
    assert read_folder(str(folder), NAMES, problems).classes.names == ("crow", "owl")
    assert list(problems.lines()) == ["folder without an image in a class folder, passed over: crow/raw"]


def test_a_folder_that_systems_keep_does_not_make_images_stray(write_pictures):
    """Synology's thumbnails lie in folders called as the images."""
    folder = write_pictures("crow/1.png", "owl/1.png", "crow/@eaDir/1.png/T.png", "@eaDir/x/T.png")
    assert _read(folder).classes.names == ("crow", "owl")


def test_hidden_files_and_files_that_are_no_images_are_passed_over(write_pictures):
    folder = write_pictures("crow/1.png", "crow/._1.png", ".thumbs/1.png", "owl/1.png")
    (folder / "crow" / "notes.txt").write_text("seen in May")
    assert [name for name, _ in _files(_read(folder).splits["train"])] == ["crow/1.png", "owl/1.png"]


def test_a_link_to_a_folder_above_ends(write_pictures):
    folder = write_pictures("x/crow/1.png", "x/owl/1.png")
    (folder / "x" / "again").symlink_to(folder, target_is_directory=True)
    assert len(_read(folder).splits["train"]) == 2


def test_a_name_in_composed_and_decomposed_letters_is_one_class(write_pictures):
    dataset = _read(write_pictures("train/caf\u00e9/1.png", "train/owl/1.png", "test/cafe\u0301/2.png"))
    assert dataset.classes.names == ("caf\u00e9", "owl")


@pytest.mark.parametrize(
    ("paths", "names", "message"),
    [
        (["a/1.png"], {"validation": "dev"}, "there is no sub-folder dev"),
        (["fit/a/1.png", "test/a/1.png"], {"test": "exam"}, "there is no sub-folder exam"),
        (["x.txt"], {}, "no image in any class folder"),
        (
            ["a/1.png", "a/b/2.png", "c/3.png"],
            {},
            r"image outside the class folders: a/1.png \(a holds a/b too\)",
        ),
        (["a/1.heic", "b/2.heic"], {}, r"no image in any class folder \(.*\); left out: 2 .heic"),
        (["1.png", "c/3.png"], {}, r"image outside the class folders: 1.png"),
    ],
)
def test_a_folder_of_another_layout_is_refused(write_pictures, paths, names, message):
    folder = write_pictures(*paths)
    with pytest.raises(UserError, match=message):
        _read(folder, **names)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UserError, match="there is no such folder"):
        _read(tmp_path / "nowhere")
