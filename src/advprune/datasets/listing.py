"""The files of a class-per-folder tree: root/{train,test or val}/<class>/<image>.

Images may lie in subfolders of a class.

Only the standard library is imported, so that a stage's key can be made of a tree without loading
torch.
"""

from dataclasses import dataclass, field
from pathlib import Path

from advprune.datasets.folders import LAYOUT, SUFFIXES, identity, subfolders, walk
from advprune.errors import UserError


@dataclass(frozen=True)
class Listing:
    """The files of one split of a tree.

    Attributes:
        paths: of the images, relative to the split's folder, with forward slashes: class by class,
            sorted within.
        labels: of the images.
        left_out: other files, relative as ``paths``, which are no images by their names; hidden
            ones are not counted.
    """

    paths: list[str] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def class_names(root: str | Path) -> list[str]:
    """Return the folders of ``root/train``, sorted; a class's label is its place in this list.

    Raises:
        UserError: if there are fewer than two.
    """
    folder = Path(root).expanduser() / "train"
    names, _ = subfolders(folder)
    if len(names) < 2:
        raise UserError(
            f"{folder} has one class folder only, {names[0]}, and a classifier needs at least two: "
            f"add the others; if the classes are inside {names[0]}, {LAYOUT}"
        )
    return names


def test_folder(root: str | Path) -> str:
    """Return the folder of the test images: ``test``, else ``val``.

    Raises:
        UserError: if there is neither.
    """
    for name in ("test", "val"):
        if (Path(root).expanduser() / name).is_dir():
            return name
    raise UserError(f"{root} has neither a folder test nor a folder val: {LAYOUT}")


def list_images(root: str | Path, split: str) -> tuple[list[str], list[int]]:
    """Return the paths and labels of one split's images, as ``list_split`` does."""
    listing = list_split(root, split)
    return listing.paths, listing.labels


def list_split(root: str | Path, split: str) -> Listing:
    """List the images of one split, and what lies beside them.

    Raises:
        UserError: if there are too few classes, not the training set's, or one without images; if a
            folder cannot be read, or lies in itself.
    """
    folder, classes = Path(root).expanduser() / split, class_names(root)
    names, beside = subfolders(folder)
    _check_same(folder, classes, names)
    listing = Listing(left_out=beside)
    for label, name in enumerate(classes):
        before = len(listing.left_out)
        images: list[str] = []
        walk(folder / name, f"{name}/", images, listing.left_out, {identity(folder)})
        if not images:
            others = listing.left_out[before:]
            what = f"only other files, such as {others[0]}" if others else "no file"
            raise UserError(
                f"{folder / name} has {what}, and each class needs an image "
                f"({', '.join(SUFFIXES)}) in every split: put one there, or remove the folder "
                f"{name} from both train and {test_folder(root)}"
            )
        listing.paths.extend(sorted(images))
        listing.labels.extend([label] * len(images))
    return listing


def _check_same(folder: Path, classes: list[str], names: list[str]) -> None:
    """Check that a split has the same class folders as train."""
    missing, unknown = sorted(set(classes) - set(names)), sorted(set(names) - set(classes))
    if not missing and not unknown:
        return
    differences = [
        f"{what} {', '.join(some[:5])}{f' ({len(some)} in all)' if len(some) > 5 else ''}"
        for what, some in (("lacks", missing), ("alone has", unknown))
        if some
    ]
    split = folder.name
    raise UserError(
        f"{folder} has not the same class folders as train: {split} {', and '.join(differences)}; "
        "give both the same (letter case counts), with images in each, or remove these folders "
        f"from both train and {split}"
    )
