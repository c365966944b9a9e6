import os

import pytest
from messages import says

from cdml_jax.data.checking.problems import Problems
from cdml_jax.data.readers.scanning import HIDDEN, PASSED_OVER, scan


@pytest.fixture
def scanned():
    """scanned(folder) -> (images to any depth, lines of problems, lines of notes)."""

    def call(folder):
        problems = Problems("d")
        images = list(scan(folder, problems).all_images())
        return images, list(problems.problems()), list(problems.lines())

    return call


KEPT = [
    "__MACOSX",
    "@eaDir",
    "#recycle",
    "@Recycle",
    "$RECYCLE.BIN",
    "System Volume Information",
    "lost+found",
    "Recycled",
    "CaptureOne",
]


@pytest.mark.parametrize("name", KEPT)
@pytest.mark.parametrize("above", ["", "crow/"])
def test_folders_that_systems_keep_are_passed_over_and_named(write_pictures, scanned, name, above):
    folder = write_pictures("crow/1.png", f"{above}{name}/crow/2.png")
    assert scanned(folder) == (["crow/1.png"], [], [f"{PASSED_OVER}: {above}{name}"])


def test_links_are_followed_unless_they_lead_back(write_pictures, scanned, tmp_path):
    folder = write_pictures("crow/1.png")
    elsewhere = tmp_path / "elsewhere" / "deep"
    elsewhere.mkdir(parents=True)
    (elsewhere / "2.png").write_bytes(b"")
    (folder / "owl").symlink_to(elsewhere.parent)
    (folder / "crow" / "all").symlink_to(folder)
    (folder / "crow" / "3.png").symlink_to(elsewhere / "2.png")
    (elsewhere / "up").symlink_to(elsewhere.parent)
    assert scanned(folder) == (["crow/1.png", "crow/3.png", "owl/deep/2.png"], [], [])


def test_what_cannot_be_opened_is_named(write_pictures, scanned, monkeypatch):
    folder = write_pictures("crow/1.png", "shut/2.png")
    (folder / "gone.png").symlink_to("nowhere")
    (folder / "self").symlink_to("self")
    os.mkfifo(folder / "pipe.png")
    (folder / "crow" / os.fsdecode(b"\xe9.png")).touch()
    opened = os.scandir

    def scandir(path):
        if os.path.basename(path) == "shut":  # whoever runs the tests may open every folder
            raise PermissionError(13, "Permission denied")
        return opened(path)

    monkeypatch.setattr("os.scandir", scandir)
    images, problems, notes = scanned(folder)
    assert (images, notes) == (["crow/1.png"], [])
    assert problems == [
        "name that is not UTF-8: crow/\\xe9.png",
        "link that leads nowhere (2): gone.png, self",
        "neither a file nor a folder: pipe.png",
        "folder that cannot be opened: shut (Permission denied)",
    ]


def test_images_of_other_endings_are_counted_in_one_line(write_pictures, scanned):
    folder = write_pictures("a/1.png", "a/2.heic", "a/3.heic", "b/4.tga", "b/5", "b/6.jfif")
    (folder / "b" / "notes.txt").write_text("seen in May")
    images, problems, (line,) = scanned(folder)
    assert (images, problems) == (["a/1.png", "b/6.jfif"], [])
    assert says(
        "left out: 2 .heic, 1 .tga, 1 without an ending (such as a/2.heic); save them as JPEG or PNG, "
        "with the ending .jpg or .png",
        line,
    )


def test_hidden_images_are_named(write_pictures, scanned):
    """But not what macOS keeps of each file, nor hidden folders of something else."""
    folder = write_pictures("crow/1.png", "crow/._1.png", ".thumbs/a/2.png", "crow/.3.png", ".git/._4.png")
    assert scanned(folder) == (["crow/1.png"], [], [f"{HIDDEN} (2): .thumbs, crow/.3.png"])
