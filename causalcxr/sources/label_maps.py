"""Label maps: what the words of a source mean among the 14 findings, each with its reason."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from causalcxr.common.errors import CohortError, GraphError, nearest
from causalcxr.common.files import read_text
from causalcxr.graph.yaml_file import compose, plain, telling_lines
from causalcxr.sources.policy import ABNORMAL, BLANK, FINDINGS, UNLISTED, P

__all__ = ["LabelMap", "bundled"]

# What a word may stand for besides findings and levels.
_ABNORMAL, _NOTHING, _ASIDE = _OTHER = "abnormal", "nothing", "set aside"


@dataclass(frozen=True)
class LabelMap:
    """Say what each word of a source means, and why.

    A map is a YAML file of lines such as `effusion: {is: Pleural Effusion, why: ...}`. A word may
    stand for one finding or several, for `abnormal` (something that the 14 findings have no name
    for, which denies No Finding all the same), for `nothing`, or for `set aside` (the authors do
    not use the image, so that no word beside it says anything).

    Args:
        source: What the words are those of.
        means: What each word, in lower case, stands for.
        reasons: Why.
        words: Each word as the source spells it, by its lower case.

    Example:
        >>> bundled("nih_labels").of("Effusion")
        ('Pleural Effusion',)
        >>> bundled("nih_labels").reasons["effusion"]
        'the same finding under its short name'
    """

    source: str
    means: Mapping[str, tuple[str, ...]]
    reasons: Mapping[str, str]
    words: Mapping[str, str]

    @classmethod
    def read(cls, path: str | Path, targets: Sequence[str] = FINDINGS) -> "LabelMap":
        """Read a map from a YAML file.

        Args:
            path: The file.
            targets: What words may stand for besides `abnormal`, `nothing` and `set aside`.

        Raises:
            CohortError: If the file is no such map, a target is not known, or a line has no
                reason.
        """
        path = Path(path)
        text = read_text(path, error=CohortError)
        try:
            with telling_lines(text, str(path)):
                given = plain(compose(text))
        except GraphError as error:  # the reader of graphs' YAML reads this YAML too
            raise CohortError(str(error)) from None
        if not isinstance(given, dict) or set(given) != {"source", "labels"}:
            raise CohortError(f"{path}: a map of labels has `source` and `labels`, nothing else")
        lines = given["labels"]
        if not isinstance(lines, dict) or not lines:
            raise CohortError(
                f"{path}: `labels` holds no lines; write `word: {{is: ..., why: ...}}`"
            )
        means = {str(word).lower(): _means(path, word, lines[word], targets) for word in lines}
        return cls(
            str(given["source"]),
            means,
            {str(word).lower(): str(line["why"]) for word, line in lines.items()},
            {str(word).lower(): str(word) for word in lines},
        )

    def of(self, word: str) -> tuple[str, ...] | None:
        """Return what a word stands for, or None if the map does not have it."""
        return self.means.get(" ".join(word.lower().split()))

    @property
    def findings(self) -> list[str]:
        """The findings that any word stands for, in the order of the field."""
        met = {target for targets in self.means.values() for target in targets}
        return [name for name in FINDINGS if name in met]

    def marks(
        self, lists: Sequence[Sequence[str]], silent: int = BLANK
    ) -> tuple[dict[str, np.ndarray], list[str]]:
        """Return what lists of words say of each finding.

        Args:
            lists: The words of each of n lists.
            silent: What a list says of findings if no word of it says anything: an empty one, one
                that calls the radiograph unchanged, or one that is set aside.

        Returns:
            The marks by finding, shape (n,), int8: `P` or `UNLISTED`; of No Finding `P`,
            `ABNORMAL` or `BLANK`. And the first word of each list that the map does not have, ""
            where it has all.
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
            if "No Finding" in marks and "No Finding" not in targets:
                ill = targets - {"Support Devices"}
                marks["No Finding"][row] = ABNORMAL if ill else BLANK
        return marks, unknown

    def sets_aside(self, words: Sequence[str]) -> bool:
        """Return whether a list has a word by which the authors set the image aside.

        Example:
            >>> bundled("padchest_labels").sets_aside(["normal", "exclude"])
            True
        """
        return any(_ASIDE in (self.of(word) or ()) for word in words)

    def nearest_to(self, word: str) -> str:
        """Return a hint that names the nearest word of the map, or an empty string."""
        return nearest(word[:60], self.words.values())

    def _targets(self, words: Sequence[str]) -> tuple[set[str], str]:
        """Return everything that words stand for, and the first that the map does not have."""
        targets, unknown = set(), ""
        for word in words:
            found = self.of(word)
            unknown = unknown or ("" if found is not None else word)
            targets |= set(found or ())
        return targets - {_NOTHING}, unknown


@cache
def bundled(name: str, targets: tuple[str, ...] = FINDINGS) -> LabelMap:
    """Return one of the maps that come with the package, such as `padchest_labels`."""
    return LabelMap.read(Path(__file__).parent / f"{name}.yaml", targets)


def _means(path: Path, word: Any, line: Any, targets: Sequence[str]) -> tuple[str, ...]:
    place = f"{path}: {str(word)[:60]!r}"
    if not isinstance(line, dict) or set(line) != {"is", "why"} or not line["why"]:
        raise CohortError(f"{place}: write `{{is: ..., why: ...}}`; every line has its reason")
    found = line["is"] if isinstance(line["is"], list) else [line["is"]]
    known = (*targets, *_OTHER)
    if not found:
        raise CohortError(
            f"{place}: `is` names nothing; write a finding, abnormal, nothing or set aside"
        )
    for target in found:
        if target not in known:
            hint = nearest(str(target)[:60], known) or f"; one of {', '.join(known)}"
            raise CohortError(f"{place}: {str(target)[:60]!r} is no finding{hint}")
    return tuple(found)
