"""The report of an audit shows the figures of its tables, and escapes hostile text."""

import re
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from causalcxr import Cohort, Graph, do
from causalcxr.audit import report
from causalcxr.audit.attribute_reader import AttributeReader
from causalcxr.audit.audit_result import Audit
from causalcxr.audit.auditing import audit_pairs
from causalcxr.audit.classifiers import FeatureClassifier
from causalcxr.audit.pairs import Pairs
from causalcxr.audit.report import SECTIONS, write_report
from causalcxr.audit.report.graph_part import graph_drawing
from causalcxr.audit.report.groups_part import curves
from causalcxr.audit.report.svg_figures import LINES, PALE
from causalcxr.audit.stress_result import Stress
from causalcxr.sources.phantom import truth

VOID = {"meta", "link", "br", "img", "input", "hr"}
ALWAYS = {"summary", "key-figures", "limits", "flow", "effects", "flips", "graph", "checks"}
ALWAYS |= {"tests", "methods", "provenance"}
SCRIPT, PICTURE = "<script>alert(1)</script>", "<img src=http://evil.example/x onerror=alert(1)>"


@dataclass
class Element:
    """What a tag holds."""

    tag: str
    attributes: dict
    children: list = field(default_factory=list)

    @property
    def text(self) -> str:
        parts = [c if isinstance(c, str) else c.text for c in self.children]
        return " ".join("".join(parts).split())

    def all(self, *tags: str) -> list["Element"]:
        """Return every element of these tags, in order."""
        own = [self] if self.tag in tags else []
        return own + [e for c in self.children if isinstance(c, Element) for e in c.all(*tags)]


class Reader(HTMLParser):
    """Read a page into elements, refusing one that is not closed."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Element("page", {})
        self.open = [self.root]

    def handle_starttag(self, tag, attrs):
        element = Element(tag, dict(attrs))
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag, attrs):
        self.open[-1].children.append(Element(tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop().tag == tag

    def handle_data(self, data):
        self.open[-1].children.append(data)


def read(path: Path) -> Element:
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    reader.close()
    assert reader.open == [reader.root]
    return reader.root


def tables(page: Element) -> dict[str, dict[str, list[str]]]:
    """Return the rows of every table: caption -> first cell -> all cells."""
    found = {}
    for table in page.all("table"):
        rows = [[first(c) for c in row.all("th", "td")] for row in table.all("tr")]
        found[table.all("caption")[0].text] = {row[0]: row for row in rows}
    return found


def first(cell: Element) -> str:
    """Return a cell's text, the lines below the first one apart by bars."""
    lines = [c for c in cell.children if not isinstance(c, Element)]
    subs = [
        s.text for s in cell.all("span", "abbr") if "phone" not in s.attributes.get("class", "")
    ]
    return "|".join(filter(None, [" ".join("".join(lines).split()), *subs]))


def shown(value: float, signed: bool = False) -> str:
    """Return a number as a reader expects it; written apart from the code under test."""
    if not np.isfinite(value):
        return "–"
    text = f"{abs(round(value, 3)):.3f}"
    sign = "−" if round(value, 3) < 0 else "+" if signed and round(value, 3) > 0 else ""
    return sign + text


def sections(page: Element) -> set[str]:
    return {s.attributes["id"] for s in page.all("section")}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def blocks(cohort: Cohort) -> np.ndarray:
    """Return the mean of each of 16 blocks of an image, (n, 16)."""
    images = cohort.images[:]
    n, _, height, width = images.shape
    return images.reshape(n, 4, height // 4, 4, width // 4).mean((2, 4)).reshape(n, 16)


def grey(images):
    """Score an image by the grey of its lower half."""
    return sigmoid(12 * (np.asarray(images)[:, 0, 16:].mean((1, 2)) - 0.45))


def paired() -> Pairs:
    """Return images of phantoms and their true twins, judged by a reader."""
    graph, action = Graph.load("cxr7"), do(sex="M")
    drawn = Cohort.load("phantom", n=110, size=32, seed=1)
    taught, cohort = drawn.select(np.arange(110) < 45), drawn.select(np.arange(110) >= 45)
    twins = truth(cohort, action)
    taught, cohort, twins = (
        c.with_images(c.images.with_pixels(c.images[:])) for c in (taught, cohort, twins)
    )
    reader = AttributeReader.fit(taught, graph, ["Sex", "Age"], features=blocks)
    return Pairs.from_cohorts(
        graph, cohort, twins, action, null=cohort, direct=twins, reader=reader
    )


def audited(pairs: Pairs, **options) -> Audit:
    asked = {"label": "lung opacity", "by": ["sex", "view"], "bootstrap": 60}
    return audit_pairs(grey, pairs, **asked | options)


@pytest.fixture(scope="module")
def whole():
    return audited(paired())


@pytest.fixture(scope="module")
def page(whole, tmp_path_factory):
    return read(write_report(whole, tmp_path_factory.mktemp("report") / "a.html", patients=3))


def evil() -> Audit:
    """Return an audit without label or images, whose records, groups and classifier are evil."""
    graph = Graph.load("cxr7").without_variable("Image")
    drawn = Cohort.load("phantom", n=40, size=32, seed=2)
    twins = truth(drawn, do(sex="M"))
    site = np.where(np.arange(40) % 2, SCRIPT, '$\\frac{x$ & "q" \x00\u202e')
    names = pd.Index([f"{PICTURE}{k}" for k in range(40)], name="record")

    def dressed(cohort):
        table = cohort.table.assign(Site=site).set_axis(names)
        return Cohort(table, source=f"phantom {PICTURE}")

    ages = pd.DataFrame({"Age": np.arange(20.0, 90.0)})
    learned = LogisticRegression().fit(ages, ages["Age"] > 60)
    pairs = Pairs.from_cohorts(graph, dressed(drawn), dressed(twins), do(sex="M"))
    scorer = FeatureClassifier(learned, ["Age"], name=f"net {SCRIPT}")
    return audit_pairs(scorer, pairs, by=["Site"], threshold=0.4, bootstrap=20)


@pytest.fixture(scope="module")
def hostile():
    return evil()


@pytest.fixture(scope="module")
def hostile_page(hostile, tmp_path_factory):
    return write_report(hostile, tmp_path_factory.mktemp("hostile") / "a.html")


# Figures


def test_report_shows_measures_by_group(whole, page):
    found, n = tables(page), 0
    for name, words in (
        ("auroc", "AUROC"),
        ("tpr", "sensitivity"),
        ("ppv", "positive predictive"),
    ):
        caption = next(c for c in found if words in str(found[c].get("Group")))
        column = next(k for k, t in enumerate(found[caption]["Group"]) if t.startswith(words))
        for row in whole.observed.table.query("measure == @name").itertuples():
            about = whole.groups.loc[row.group]
            cells = next(v for k, v in found[caption].items() if k.split("|")[0] == row.group)
            assert cells[1:4] == [f"{about[k]:,}" for k in ("n", "positives", "patients")]
            lines = cells[column].split("|")
            assert lines[0] == shown(row.estimate)
            if np.isfinite(row.low):
                assert lines[1] == f"{shown(row.low)} to {shown(row.high)}"
            if name != "auroc" and row.of > 0:
                assert lines[-1].startswith(f"{row.count:.0f}/{row.of:.0f}: ")
            n += 1
    assert n == 3 * len(whole.groups)


def test_report_flags_small_groups(whole, page):
    assert 0 < whole.groups["few"].sum() < len(whole.groups)
    rows = tables(page)["Ranking, and decisions at the common threshold"]
    flagged = {key.split("|")[0] for key in rows if "few" in key}
    assert flagged == set(whole.groups.index[whole.groups["few"]])


def test_report_shows_observed_and_balanced_gaps(whole, page):
    rows = tables(page)["Gap in sensitivity"]
    observed, balanced = whole.observed.gaps, whole.observed.balanced
    for row in observed[observed["measure"] == "tpr"].itertuples():
        key = next(k for k in rows if k.split("|")[0] == f"{row.group} minus {row.reference}")
        same = (balanced["group"] == row.group) & (balanced["measure"] == "tpr")
        other = balanced[same].iloc[0]
        assert rows[key][5].split("|")[0] == shown(row.gap, signed=True)
        assert rows[key][6].split("|")[0] == shown(other["gap"], signed=True)


def test_report_shows_effects(whole, page):
    found = tables(page)
    where = found["Total, direct and indirect effect on the score"]
    kinds = where["Group"][3:]
    assert kinds == ["total", "direct", "indirect", "label stays"]
    for row in whole.effects[whole.effects["kind"].isin(kinds)].itertuples():
        cells = where[row.group]
        lines = cells[3 + kinds.index(row.kind)].split("|")
        assert lines[:2] == [
            shown(row.mean, signed=True),
            f"{shown(row.low, signed=True)} to {shown(row.high, signed=True)}",
        ]
    size = found["Absolute effect, and its excess over the null twins"]
    total = whole.effects.set_index(["group", "kind"]).loc[("all", "total")]
    assert size["all"][1:3] == [f"{total[k]:.0f}" for k in ("pairs", "patients")]
    assert size["all"][-1] == shown(total["q95"])


def test_report_shows_flips(whole, page):
    found = tables(page)
    caption = next(c for c in found if c.startswith("Decisions on accepted pairs"))
    told = [int(c.split("|")[0]) for r in ("record negative", "record positive")
            for c in found[caption][r][1:]]  # fmt: skip
    assert told == whole.flip_matrix.to_numpy().ravel().tolist()
    flips = next(v for k, v in found.items() if k.startswith("Flips by group"))["all"]
    assert flips[3].startswith(f"{100 * whole.flips['up'].iloc[0]:.1f} %|")
    assert float(flips[-1].removeprefix("< ")) == pytest.approx(
        max(whole.flips["p"].iloc[0], 1e-4), abs=5e-5
    )


def test_report_counts_rejected_pairs(whole, page):
    told = next(e for e in page.all("ol") if e.attributes.get("class") == "flow").text
    for row in whole.pairs.flow.itertuples():
        assert f"{row.pairs:,} pairs" in told
        assert row.step.removeprefix("rejected: ") in told.lower()
    assert "unchanged" in told


def test_report_shows_tests_by_family(whole, page):
    found = tables(page)
    explored = whole.tests[whole.tests["family"] == "explored"]
    rows = (
        found["Declared: 1 hypothesis, Holm"]
        | found[f"Explored: {len(explored)} hypotheses, Benjamini-Hochberg"]
    )
    rows |= found[f"Explored: {len(explored)} hypotheses, Benjamini-Hochberg, continued"]
    for name, row in whole.tests.iterrows():
        cells = rows[name]
        assert cells[1].split("|")[0] == shown(row["estimate"], signed=True)
        assert (cells[4], cells[5]) == (str(row["size"]), "yes" if row["told"] else "no")


def test_report_shows_quality_checks(whole, page):
    found = tables(page)
    row = whole.pairs.amplification.iloc[0]
    cells = found["Non-descendants, all pairs"]["Age"]
    assert cells[4] == f"{row['absolute']:.4f}"
    assert int(found["Quality checks"]["effectiveness"][3]) == len(whole.pairs)
    share = whole.records.groupby("Sex")["valid"].sum()
    groups = next(v for k, v in found.items() if k.startswith("Accepted pairs by group"))
    assert [int(groups[f"Sex={s}"][3]) for s in "FM"] == [share["F"], share["M"]]


def test_report_shows_summary_and_versions(whole, page):
    text = page.text
    for sentence in whole.sentences:
        assert re.sub(r"(?<=\s)-(?=\d)", "−", sentence) in text
    for value in (whole.about["graph_hash"], whole.about["versions"]["numpy"], "not for clinical"):
        assert value in text


# Sections


def test_full_report_has_all_sections_except_stress(page):
    assert sections(page) == set(SECTIONS) - {"dose", "shifts"}


def test_sections_without_data_are_left_out(hostile, hostile_page):
    assert hostile.observed is None
    assert sections(read(hostile_page)) == ALWAYS
    text = read(hostile_page).text
    assert "No label was given or known" in text
    assert "There are no null twins" in text
    assert "Synthetic records - not for clinical use" in text


def test_report_without_groups_has_curves(whole, tmp_path):
    found = read(
        write_report(audited(whole.pairs, by=(), bootstrap=20), tmp_path / "a.html", patients=0)
    )
    assert sections(found) == ALWAYS | {"measures", "curves", "amplification"}


def test_report_draws_the_dose_response(hostile, tmp_path):
    dose = pd.DataFrame(
        {"value": [40, 60], "mean": [0.25, 0.375], "low": [0.2, 0.3], "high": [0.3, np.nan],
         "label_share": [0.1, np.nan], "unsupported": [0.0, 0.5]}
    )  # fmt: skip
    empty = pd.DataFrame()
    stress = Stress(empty, dose, empty, empty, {"dose": "Age"})
    found = read(write_report(hostile, tmp_path / "a.html", stress=stress, patients=0))
    assert "dose" in sections(found)
    assert "shifts" not in sections(found)
    assert tables(found)["Dose-response"]["60"][1].split("|") == ["0.375", "0.300 to –"]
    told = next(d.text for d in found.all("desc") if d.attributes["id"] == "dose-desc")
    assert "Age 40: mean score 0.250 (0.200 to 0.300), label 10.0" in told
    assert "Hollow" in found.text


def test_report_shows_the_stress_test(hostile, tmp_path):
    shift = {"shift": "more women", "measure": "auroc", "estimate": 0.8, "low": 0.7, "high": 0.9}
    shift |= {"base": 0.75, "change": 0.05, "change_low": -0.01, "change_high": 0.11}
    worst = {"group": "Sex=F", "measure": "auroc", "searched": 0.5, "estimate": 0.7, "low": 0.6}
    flips = {"group": "all", "intervention": "do(sex=M)", "records": 9, "flipped": 0.25}
    stress = Stress(
        pd.DataFrame([shift | {"effective": 88.4}]), None,
        pd.DataFrame([worst | {"high": 0.8, "n": 50, "positives": 12, "candidates": 7}]),
        pd.DataFrame([flips | {"smallest": 1.0, "plausibility": np.nan}]), {},
    )  # fmt: skip
    found = read(write_report(hostile, tmp_path / "a.html", stress=stress, patients=0))
    assert "dose" not in sections(found)
    rows = tables(found)
    assert rows["Change in AUROC"]["more women"][3] == "+0.050|−0.010 to +0.110"
    told = {k.split("Searched")[0].split("Smallest:")[0]: v for k, v in rows.items()}
    assert told["Worst subgroups"]["Sex=F"][4:6] == ["0.500", "0.700|0.600 to 0.800"]
    flipped = told["Smallest interventions that flip decisions"]["all"]
    assert flipped[3:] == ["25.0 %", "100.0 %", "–"]


# What is drawn


def test_figures_have_alternative_texts(whole, page):
    roc = next(
        s for s in page.all("svg") if "roc0-title" in s.attributes.get("aria-labelledby", "")
    )
    words = [t.text for t in roc.all("text")]
    assert {"false positive rate", "sensitivity"} <= set(words)
    told = next(d.text for d in roc.all("desc"))
    auroc = whole.observed.table.query("group == 'Sex=F' and measure == 'auroc'")["estimate"]
    assert f"Sex=F: AUROC {shown(auroc.iloc[0])}" in told
    for svg in page.all("svg"):
        named = svg.attributes.get("aria-label") or svg.attributes.get("aria-labelledby")
        assert named or svg.attributes.get("aria-hidden") == "true"
    assert all(len(i.attributes["alt"]) > 20 for i in page.all("img"))


def test_patients_with_the_largest_change_come_first(whole, page):
    change = (whole.records["twin"] - whole.records["factual"]).abs()
    most = change.sort_values(ascending=False).index[:3]
    figures = [f for f in page.all("figure") if f.attributes.get("class") == "trio"]
    assert [f.all("b")[0].text for f in figures[:3]] == [str(record) for record in most]
    assert len(figures) == 3 + 2
    alts = [i.attributes["alt"] for i in figures[0].all("img")]
    assert f"score {shown(whole.records.loc[most[0], 'twin'])}" in alts[1]
    assert alts[1].startswith("Synthetic twin")
    assert alts[2].startswith("Twin minus record")


def test_changes_stop_at_what_is_held():
    graph = Graph.load("cxr7")
    told = graph_drawing(graph, do(sex="M").bind(graph).to_json()["do"], ["Edema", "Fracture"])
    assert told.roles["set"] == ("Sex",)
    assert told.roles["held"] == ("Edema", "Fracture")
    assert "Cardiomegaly" in told.roles["reached"]
    assert not {"Edema", "Age", "View"} & set(told.roles["reached"])
    edges = {e["edge"]: e["role"] for e in told.edges}
    assert edges["Sex", "Edema"] == "cut"
    assert edges["Sex", "Cardiomegaly"] == "reached"


# Faults


def test_hostile_names_are_escaped(hostile_page):
    content = hostile_page.read_text(encoding="utf-8")
    found = read(hostile_page)
    assert not found.all("script", "iframe", "object", "embed", "form")
    assert SCRIPT not in content
    assert PICTURE not in content
    assert not found.all("img")
    assert f"Site={SCRIPT}" in tables(found)["Mean change of the score by group, with 95 % "
                                             "intervals over patients"]  # fmt: skip
    assert f"net {SCRIPT}" in found.all("h1")[0].text
    assert '$\\frac{x$ & "q" ��' in found.text
    assert "\x00" not in content
    assert "\u202e" not in content


def test_hostile_names_in_figures_are_escaped(whole):
    text = f"{SCRIPT} $x$ \x07"
    names = {"View=AP": f"View={text}"}
    observed = replace(
        whole.observed,
        table=whole.observed.table.replace(names),
        roc={names.get(k, k): v for k, v in whole.observed.roc.items()},
        reliability={names.get(k, k): v for k, v in whole.observed.reliability.items()},
    )
    ((_, roc, _),) = curves(observed, whole.groups.rename(index=names), ["View"])
    reader = Reader()
    reader.feed(roc.svg)
    found = reader.root
    assert not found.all("script")
    assert any(t.text.startswith(f"View={SCRIPT[:20]}") for t in found.all("text"))
    assert f"View={SCRIPT} $x$ �: AUROC" in next(d.text for d in found.all("desc"))


@pytest.mark.parametrize("name", ["page", "hostile_page"])
def test_page_loads_nothing_from_outside(name, request, whole, tmp_path):
    found = request.getfixturevalue(name)
    found = read(found) if isinstance(found, Path) else found
    stack = [found]
    while stack:
        element = stack.pop()
        stack += [c for c in element.children if isinstance(c, Element)]
        for key, value in element.attributes.items():
            assert not key.startswith("on"), (element.tag, key)
            if key in ("src", "href", "xlink:href", "srcset", "data", "action", "poster"):
                assert value.startswith(("data:", "#")), (element.tag, value[:80])
            if key != "alt" and value:
                assert not re.search(r"url\((?!#)", value)
    style = " ".join(s.text for s in found.all("style"))
    assert not re.search(r"@import|url\((?!#)|https?:", style)
    policy = next(m for m in found.all("meta") if "http-equiv" in m.attributes)
    assert policy.attributes["content"].startswith("default-src 'none'")


def test_undefined_figures_are_dashes(whole, tmp_path):
    only = audited(whole.pairs, by=["lung opacity"], bootstrap=20)
    found = read(write_report(only, tmp_path / "a.html", patients=1))
    rows = tables(found)["Ranking, and decisions at the common threshold"]
    group = next(v for k, v in rows.items() if k.startswith("Lung Opacity=N|few"))
    assert group[4].split("|") == ["–"]
    words = found.text + " ".join(
        v for e in found.all("svg", "img", "div", "path", "circle", "rect", "g")
        for k, v in e.attributes.items() if k != "src" and v
    )  # fmt: skip
    assert not re.search(r"\b(nan|inf|None|NaT)\b", words)


def test_ids_links_and_headings_are_valid(page):
    def walk(element):
        yield element
        for child in element.children:
            if isinstance(child, Element):
                yield from walk(child)

    elements = list(walk(page))
    ids = [e.attributes["id"] for e in elements if "id" in e.attributes]
    assert len(ids) == len(set(ids))
    links = [a.attributes["href"] for a in page.all("a")]
    assert {h.removeprefix("#") for h in links} <= set(ids)
    assert len(links) == 1 + len(sections(page))
    for e in elements:
        for key in ("aria-labelledby", "href"):
            if key in e.attributes and not e.attributes[key].startswith("data:"):
                assert {n.removeprefix("#") for n in e.attributes[key].split()} <= set(ids)
    levels = [int(e.tag[1]) for e in elements if re.fullmatch(r"h\d", e.tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert max(b - a for a, b in pairwise(levels)) == 1
    assert all(t.all("caption") and t.all("th") for t in page.all("table"))


def test_colours_have_enough_contrast():
    def light(colour):
        parts = np.array([int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)])
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    def contrast(a, b):
        high, low = sorted((light(a), light(b)), reverse=True)
        return (high + 0.05) / (low + 0.05)

    css = (Path(report.__file__).parent / "report.css").read_text(encoding="utf-8")
    named = dict(re.findall(r"--([\w-]+): (#[0-9A-Fa-f]{6})", css))
    for ink in ("ink", "pale", "blue", "warn"):
        for ground in ("#FFFFFF", named["faint"], named["warn-face"]):
            assert contrast(named[ink], ground) >= 4.5
    assert all(contrast(colour, "#FFFFFF") >= 4.5 for colour in (*LINES, PALE))


def test_existing_page_is_replaced(hostile, tmp_path):
    path = tmp_path / "a.html"
    path.write_text("old")
    assert hostile.to_html(path, patients=1) == path
    assert read(path).all("h1")[0].text == f"net {SCRIPT} under do(Sex=M)"
    assert list(tmp_path.iterdir()) == [path]
