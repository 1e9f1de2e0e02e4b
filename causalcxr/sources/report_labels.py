"""Labels from English reports by rules: findings mentioned, denied, or called possible.

A report is cut into sentences, and sentences into clauses. A mention counts as absent if a word of
negation precedes it in its clause (or denies it after it), as uncertain if a word of doubt does,
and as present otherwise. Over a report, present takes precedence over uncertain, and uncertain
over absent. No Finding is present if a report has sentences and no pathology is present or
uncertain in any of them.

The rules are few and our own. `docs/sources.md` reports their accuracy: they are a stopgap. If the
labels of a better labeller are available, use them.

References:
    The idea is that of NegEx (Chapman et al., J Biomed Inform 2001) and of the CheXpert labeller
    (Irvin et al., AAAI 2019); words, code and rules are not.
"""

import re
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from causalcxr.common.files import read_text
from causalcxr.common.progress import progress
from causalcxr.graph.yaml_file import compose, plain
from causalcxr.sources.policy import BLANK, FINDINGS, PATHOLOGIES, UNCERTAIN, N, P

__all__ = ["label_report", "label_reports"]

# Phrases that are not mentions.
_NOT_MEANT = re.compile(
    r"(?:rule|r/o|evaluate|assess|evaluation|concern)(?: out)? (?:for )?[\w ,]{0,80}\?"
    r"|pericardial effusion|soft tissue (?:swelling|edema)|(?:nipple|skin) (?:shadow|fold)\w*"
    r"|no (?:\w+ )?change in|not (?:\w+ )?changed"
    r"|healed by|catheterization|mass effect|resection of [\w ]{0,40}mass"
)
_BEFORE = re.compile(
    r"\b(?:no|not|without|free of|clear of|negative for|never|absence of|resolution of|resolved|"
    r"rather than|exclude[sd]?|excluding|nor|neither|removal of|removed|denies|lack of)\b"
)
_AFTER = re.compile(
    r"^[\w ,/-]{0,40}?\b(?:(?:is|are|has|have|was|were) (?:\w+ )?(?:not|no longer|been (?:removed|"
    r"resolved|excluded)|resolved|absent|removed|excluded)|not (?:seen|identified|present|evident|"
    r"visualized|visualised|appreciated|demonstrated)|resolved|absent|unlikely)\b"
)
_DOUBT_BEFORE = re.compile(
    r"\b(?:possibl[ey]|probabl[ey]|may|might|could|suspect\w*|suspicious|questionable|question of|"
    r"equivocal|concern\w*|versus|vs|or|suggest\w*|likely|potential\w*|consider\w*|compatible|"
    r"perhaps|differential|presumed|borderline|evaluat\w+ for|rule out)\b"
)
_DOUBT_AFTER = re.compile(
    r"^[\w ,/-]{0,40}?\b(?:(?:is|are|be) (?:not |difficult to be )?(?:suspected|possible|"
    r"questioned|considered|likely|probable|questionable)|can(?:not| not) be (?:\w+ )?"
    r"(?:excluded|ruled out)|(?:is|are) not (?:entirely |completely |definitely )?excluded|"
    r"not (?:be )?excluded)|^(?: \w+)?,? (?:versus|vs\.?|or|possibly|may be|might be|could be)\b"
)
_CANNOT = re.compile(r"can(?:not| not)|difficult to|not (?:be )?(?:entirely |completely )?exclud")
_SENTENCE = re.compile(r"(?<=[a-z0-9\)])[.;:!?]+(?=\s|$)|\n\s*\n|(?:^|\s)\d{1,2}[.)]\s")
_CLAUSE = re.compile(
    r"\b(?:but|however|although|though|except|aside from|apart from|with(?!out)|which|while|"
    r"there (?:is|are))\b"
)
# Sentences that deny a finding without naming it.
_NORMAL = {
    "Cardiomegaly": re.compile(
        r"(?:heart|cardiac|cardiomediastinal)(?! failure)[\w -]{0,40}\b(?:normal|unremarkable|"
        r"within normal)|normal (?:heart|cardiac|cardiomediastinal)"
    ),
    "Enlarged Cardiomediastinum": re.compile(
        r"(?:mediastin|cardiomediastin)\w+[\w -]{0,40}\b(?:normal|unremarkable)|"
        r"normal (?:mediastin|cardiomediastin)"
    ),
}
_REACH = 160  # letters; a word further away does not apply to the mention
_RANK = {BLANK: 0, N: 1, UNCERTAIN: 2, P: 3}


@cache
def _mentions() -> dict[str, re.Pattern]:
    """Return the pattern of the mentions of each finding."""
    text = read_text(Path(__file__).parent / "report_mentions.yaml")
    phrases = plain(compose(text))
    return {name: re.compile(rf"(?<![\w-])(?:{'|'.join(each)})") for name, each in phrases.items()}


def label_report(text: str) -> dict[str, int]:
    """Return the mark of each of the 14 findings in a report.

    Args:
        text: The report, in English: its impression, its findings or both.

    Returns:
        Marks of the policy: `P`, `N`, `UNCERTAIN` or `BLANK`.

    Example:
        >>> marks = label_report("Small left effusion. No pneumothorax. Possible pneumonia.")
        >>> {name: mark for name, mark in marks.items() if mark != BLANK}
        {'Pleural Effusion': 1, 'Pneumonia': 2, 'Pneumothorax': 0}
    """
    marks = dict.fromkeys(FINDINGS, BLANK)
    # An empty line ends a sentence, other line breaks do not.
    lowered = " ".join(text.lower().replace("\n\n", " . ").split())
    for sentence in _SENTENCE.split(lowered):
        # A normal organ denies a finding that no sentence has named so far.
        for name, pattern in _NORMAL.items():
            if marks[name] == BLANK and pattern.search(sentence or ""):
                marks[name] = N
        for name, mark in _mentioned(_NOT_MEANT.sub(" ", sentence or "")):
            # Of several mentions that of the highest rank counts.
            if _RANK[mark] > _RANK[marks[name]]:
                marks[name] = mark
    # A report without a pathology is normal; an empty one says nothing.
    has_text = any(letter.isalpha() for letter in lowered)
    if has_text and not any(marks[name] in (P, UNCERTAIN) for name in PATHOLOGIES):
        marks["No Finding"] = P
    return marks


def label_reports(parts: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Return the marks of each finding in reports; each distinct report is read once.

    Args:
        parts: The sections of each of n reports, shape (n,) each, texts.

    Returns:
        Marks of the policy by finding, shape (n,), int8.
    """
    reports = parts[0].astype(object)
    for part in parts[1:]:
        reports = reports + "\n\n" + part
    codes, texts = pd.factorize(reports)
    by_report = [label_report(text) for text in progress(texts, "Reading", "reports")]
    marks = np.array([[each[name] for name in FINDINGS] for each in by_report], dtype=np.int8)
    return {name: marks[codes, k] for k, name in enumerate(FINDINGS)}


def _mentioned(sentence: str) -> list[tuple[str, int]]:
    """Return the findings that a sentence mentions, with their marks."""
    starts = [0, *(match.start() for match in _CLAUSE.finditer(sentence)), len(sentence)]
    marks = []
    for start, end in pairwise(starts):
        clause = sentence[start:end]
        for name, pattern in _mentions().items():
            for match in pattern.finditer(clause):
                marks.append((name, _mark(clause, match, name)))
    return marks


def _mark(clause: str, match: re.Match, name: str) -> int:
    """Return the mark of a mention in its clause."""
    # Only words near the mention count.
    before = clause[max(match.start() - _REACH, 0) : match.start()]
    after = clause[match.end() : match.end() + _REACH]
    if _CANNOT.search(before) or _DOUBT_AFTER.match(after):
        denied = _BEFORE.search(_CANNOT.sub(" ", before)) and not _CANNOT.search(clause)
        return N if denied else UNCERTAIN
    within = re.search(r"\b(?:not|no longer)\b", match[0])  # "the heart is not enlarged"
    if within or _BEFORE.search(before) or _AFTER.match(after):
        return N
    # "Likely in the stomach" is doubt about the place of a device, not about its presence.
    if name != "Support Devices" and _DOUBT_BEFORE.search(before):
        return UNCERTAIN
    return P
