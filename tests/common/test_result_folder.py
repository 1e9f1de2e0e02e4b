"""A folder of results: kept, made again, resumed, or refused."""

from pathlib import Path

import pytest

from causalcxr.common.errors import CohortError
from causalcxr.common.result_folder import ResultFolder


def note(path: Path, seed: int = 1, *, overwrite: bool = False, lines: list | None = None):
    tell = (lambda _: None) if lines is None else lines.append
    return ResultFolder(path, "note", "a note", {"seed": seed}, overwrite, tell=tell)


def write(result: ResultFolder, text: str) -> bool:
    """Write a text unless it is there; return whether it was written."""
    with result.writing() as draft:
        if draft.complete:
            return False
        (draft.place / "note.txt").write_text(text)
        draft.finish({})
    return True


def interrupted(result: ResultFolder, text: str) -> None:
    """Write a first file, and no more."""

    def stops(place: Path) -> None:
        (place / "first.txt").write_text(text)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), result.writing() as draft:
        stops(draft.place)


def test_complete_result_is_kept(tmp_path):
    lines: list[str] = []
    path = tmp_path / "r"
    assert write(note(path), "one")
    assert not write(note(path, lines=lines), "two")
    assert (path / "note.txt").read_text() == "one"
    assert lines == [
        f"{path}: complete already, nothing to do; --overwrite (overwrite=True) makes it again"
    ]


def test_overwrite_makes_the_same_result_again(tmp_path):
    path, lines = tmp_path / "r", []
    assert write(note(path), "one")
    assert write(note(path, overwrite=True, lines=lines), "two")
    assert (path / "note.txt").read_text() == "two"
    assert not write(note(path), "three")
    assert lines == []
    assert [each.name for each in tmp_path.iterdir()] == ["r"]


def test_failed_overwrite_keeps_the_earlier_result(tmp_path):
    path = tmp_path / "r"
    assert write(note(path), "one")
    interrupted(note(path, overwrite=True), "first")
    assert (path / "note.txt").read_text() == "one"


def test_overwrite_resumes_own_work_and_discards_other(tmp_path):
    path = tmp_path / "r"
    assert write(note(path), "one")
    interrupted(note(path, overwrite=True), "first")
    with note(path, overwrite=True).writing() as draft:
        assert draft.resumed
        assert (draft.place / "first.txt").read_text() == "first"
        draft.finish({})
    assert sorted(each.name for each in path.iterdir()) == [
        "SHA256SUMS", "first.txt", "manifest.json",
    ]  # fmt: skip
    interrupted(note(path, overwrite=True), "first")
    with note(path, 2, overwrite=True).writing() as draft:
        assert not draft.resumed
        assert list(draft.place.iterdir()) == []
        draft.finish({})


def test_damaged_result_is_refused_or_made_again(tmp_path):
    path = tmp_path / "r"
    assert write(note(path), "one")
    (path / "note.txt").write_text("changed")
    with pytest.raises(CohortError, match=r"note\.txt: missing or changed .* with --overwrite"):
        write(note(path), "one")
    assert write(note(path, overwrite=True), "one")
    assert (path / "note.txt").read_text() == "one"


def test_litter_of_an_inner_result_is_removed(tmp_path):
    path = tmp_path / "r"
    with note(path).writing() as draft:
        assert write(note(draft.place / "part"), "one")
        (draft.place / ".part.unfinished" / "old").mkdir(parents=True)
        (draft.place / ".part.lock").touch()
        draft.finish({})
    assert sorted(each.name for each in path.iterdir()) == ["SHA256SUMS", "manifest.json", "part"]


def test_kill_before_removal_of_the_old_result_is_recovered(tmp_path, monkeypatch):
    path = tmp_path / "r"
    assert write(note(path), "one")
    real = Path.rename

    def dies(self: Path, target: Path) -> Path:
        if target.name == "gone":
            raise KeyboardInterrupt
        return real(self, target)

    monkeypatch.setattr(Path, "rename", dies)
    with pytest.raises(KeyboardInterrupt):
        write(note(path, overwrite=True), "two")
    monkeypatch.undo()
    assert (tmp_path / ".r.unfinished" / "old").is_dir()
    assert write(note(path, overwrite=True), "three")
    assert (path / "note.txt").read_text() == "three"
    assert [each.name for each in tmp_path.iterdir()] == ["r"]
