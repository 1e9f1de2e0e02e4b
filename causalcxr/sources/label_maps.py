"""Label maps: the meaning of a source's words among the 14 findings, each with its reason."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from causalcxr.common.errors import CohortError, GraphError, nearest
from causalcxr.common.files import read_text
from causalcxr.graph.yaml_file import compose, locating_faults, plain
from causalcxr.sources.policy import ABNORMAL, BLANK, FINDINGS, UNLISTED, P

__all__ = ["LabelMap", "bundled"]

_FOLDER = Path(__file__).parent / "datasets"
# The meanings of a word besides findings.
_ABNORMAL, _NOTHING, _ASIDE = _OTHER = "abnormal", "nothing", "set aside"


@dataclass(frozen=True)
class LabelMap:
    """Map each word of a source to its meaning, with the reason.

    A map is a YAML file of lines such as `effusion: {is: Pleural Effusion, why: ...}`. A word may
    mean one finding or several, `abnormal` (something outside the 14 findings, which contradicts
    No Finding all the same), `nothing`, or `set aside` (the authors do not use the image, so the
    other words of its list are ignored).

    Args:
        source: The source of the words.
        meanings: The meanings of each word, by the word in lower case.
        reasons: The reason, by the word in lower case.
        words: The source's spelling, by the word in lower case.

    Example:
        >>> bundled("nih_labels").meaning("Effusion")
        ('Pleural Effusion',)
        >>> bundled("nih_labels").reasons["effusion"]
        'the same finding under its short name'
    """

    source: str
    meanings: Mapping[str, tuple[str, ...]]
    reasons: Mapping[str, str]
    words: Mapping[str, str]

    @classmethod
    def read(cls, path: str | Path, targets: Sequence[str] = FINDINGS) -> "LabelMap":
        """Read a map from a YAML file.

        Args:
            path: The file.
            targets: The possible meanings besides `abnormal`, `nothing` and `set aside`.

        Raises:
            CohortError: If the file is not such a map, or a line has an unknown meaning or no
                reason.
        """
        path = Path(path)
        text = read_text(path, error=CohortError)
        try:
            with locating_faults(text, str(path)):
                content = plain(compose(text))
        except GraphError as error:  # the reader of graphs' YAML reads this YAML too
            raise CohortError(str(error)) from None
        if not isinstance(content, dict) or set(content) != {"source", "labels"}:
            raise CohortError(f"{path}: a map of labels has `source` and `labels`, nothing else")
        lines = content["labels"]
        if not isinstance(lines, dict) or not lines:
            raise CohortError(
                f"{path}: `labels` holds no lines; write `word: {{is: ..., why: ...}}`"
            )
        return cls(
            str(content["source"]),
            {str(word).lower(): _meanings(path, word, lines[word], targets) for word in lines},
            {str(word).lower(): str(line["why"]) for word, line in lines.items()},
            {str(word).lower(): str(word) for word in lines},
        )

    def meaning(self, word: str) -> tuple[str, ...] | None:
        """Return the meanings of a word, or None if the map does not have it."""
        return self.meanings.get(" ".join(word.lower().split()))

    @property
    def findings(self) -> list[str]:
        """The findings that the words mean, in the order of `FINDINGS`."""
        present = {target for targets in self.meanings.values() for target in targets}
        return [name for name in FINDINGS if name in present]

    def marks(
        self, lists: Sequence[Sequence[str]], silent: int = BLANK
    ) -> tuple[dict[str, np.ndarray], list[str]]:
        """Return the marks of each finding from lists of words.

        Args:
            lists: The words of each of n lists.
            silent: The mark of all findings for a list that means none: an empty list, one that
                calls the radiograph unchanged, or one that is set aside.

        Returns:
            The marks by finding, shape (n,), int8: `P` or `UNLISTED`; of No Finding `P`,
            `ABNORMAL` or `BLANK`. And the first word of each list that is not in the map, "" if
            all words are.
        """
        marks = {name: np.full(len(lists), UNLISTED, dtype=np.int8) for name in self.findings}
        unknown = [""] * len(lists)
        for row, words in enumerate(lists):
            targets, unknown[row] = self._targets(words)
            if self.sets_aside(words):
                targets = set()
            for target in targets & set(marks):
                marks[target][row] = P
            for name in marks if not targets else ():
                marks[name][row] = silent
            # A finding that is not a device contradicts No Finding.
            if "No Finding" in marks and "No Finding" not in targets:
                ill = targets - {"Support Devices"}
                marks["No Finding"][row] = ABNORMAL if ill else BLANK
        return marks, unknown

    def sets_aside(self, words: Sequence[str]) -> bool:
        """Return whether a word of a list means that the authors set the image aside.

        Example:
            >>> bundled("padchest_labels").sets_aside(["normal", "exclude"])
            True
        """
        return any(_ASIDE in (self.meaning(word) or ()) for word in words)

    def nearest(self, word: str) -> str:
        """Return a hint that names the nearest word of the map, or an empty string."""
        return nearest(word[:60], self.words.values())

    def _targets(self, words: Sequence[str]) -> tuple[set[str], str]:
        """Return the meanings of words, and the first word that is not in the map."""
        targets, unknown = set(), ""
        for word in words:
            meanings = self.meaning(word)
            unknown = unknown or ("" if meanings is not None else word)
            targets |= set(meanings or ())
        return targets - {_NOTHING}, unknown


@cache
def bundled(name: str, targets: tuple[str, ...] = FINDINGS) -> LabelMap:
    """Return one of the maps that come with the package, such as `padchest_labels`."""
    return LabelMap.read(_FOLDER / f"{name}.yaml", targets)


def _meanings(path: Path, word: Any, line: Any, targets: Sequence[str]) -> tuple[str, ...]:
    place = f"{path}: {str(word)[:60]!r}"
    if not isinstance(line, dict) or set(line) != {"is", "why"} or not line["why"]:
        raise CohortError(f"{place}: write `{{is: ..., why: ...}}`; every line has its reason")
    meanings = line["is"] if isinstance(line["is"], list) else [line["is"]]
    allowed = (*targets, *_OTHER)
    if not meanings:
        raise CohortError(
            f"{place}: `is` names nothing; write a finding, abnormal, nothing or set aside"
        )
    for target in meanings:
        if target not in allowed:
            hint = nearest(str(target)[:60], allowed) or f"; one of {', '.join(allowed)}"
            raise CohortError(f"{place}: {str(target)[:60]!r} is not a finding{hint}")
    return tuple(meanings)
