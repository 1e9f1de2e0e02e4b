"""The bias of an audit with learned twins, by the coupling of the image and the network.

    python -m benchmarks audit.learned          (about an hour on one core)

The classifiers with planted bias are those of `audit.truth`. The twins come from a learned model:
equations fitted to 20,000 phantoms, and bundled weights of RadiT. The bias is the audit's effect
minus the true effect on the same 120 patients.
"""

from benchmarks import Row
from benchmarks.audit.truth import FAIR, GRAPH, Score, planted_classifiers, run_audit
from causalcxr import SCM, Cohort, do
from causalcxr.audit.attribute_reader import image_features
from causalcxr.graph.interventions import Intervention
from causalcxr.mechanisms.image import ImageMechanism
from causalcxr.scm.questions.image_sensitivity import with_image_mechanism
from causalcxr.sources.phantom import truth

__all__ = ["main"]

_QUESTIONS = {
    "do(sex=M)": ("Sex == 'F'", do(sex="M")),
    "do(support_devices=P)": ("`Support Devices` == 'N'", do(support_devices="P")),
    "do(support_devices=N)": ("`Support Devices` == 'P'", do(support_devices="N")),
    "do(pleural_effusion=P)": ("`Pleural Effusion` == 'N'", do(pleural_effusion="P")),
    "do(pleural_effusion=N)": ("`Pleural Effusion` == 'P'", do(pleural_effusion="N")),
}
# Name -> options of the image's equation.
_NEW = {"size": "mini", "weights": "phantom-randomised"}
_IMAGES = {
    "inversion, phantom-64": {"weights": "phantom"},
    "transport, phantom-64": {"weights": "phantom", "coupling": "transport"},
    "inversion, phantom-randomised-64": _NEW,
    "inversion, phantom-randomised-64, guidance 1.25": {**_NEW, "guidance": 1.25},
    "inversion, phantom-randomised-64, guidance 1.5": {**_NEW, "guidance": 1.5},
    "transport, phantom-randomised-64": {**_NEW, "coupling": "transport"},
    "transport, three networks": {
        **_NEW,
        "coupling": "transport",
        "partners": "phantom-64, phantom-randomised-32",
    },
}


def _bias(
    model: SCM, cohort: Cohort, action: Intervention, scorers: dict[str, Score], draws: int
) -> list[Row]:
    """Return the bias of every classifier's audit."""
    twins = model.counterfactual(cohort, action)
    before, after, true = (image_features(each) for each in (cohort, twins, truth(cohort, action)))
    rows = []
    for name, score in scorers.items():
        expected = float((score(true) - score(before)).mean())
        effects = run_audit(score(before), score(after), score(before), draws, 0).loc["total"]
        rows.append(
            {
                "classifier uses": name,
                "true effect": expected,
                "audit": effects["mean"],
                "low": effects["low"],
                "high": effects["high"],
                "bias": effects["mean"] - expected,
                "bias / true effect": abs(effects["mean"] - expected) / max(abs(expected), 1e-9),
            }
        )
    return rows


def _mechanism(options: dict[str, str | float]) -> ImageMechanism:
    """Return the image's equation with bundled weights."""
    variable = GRAPH[GRAPH.image]
    parents = [GRAPH[name] for name in variable.parents]
    mechanism = ImageMechanism(variable, parents, **options)
    mechanism.fit(None, {}, seed=0)
    return mechanism


def main(quick: bool = False) -> list[Row]:
    """Return one row per question, image's equation and classifier."""
    n_training, n, n_fit, draws = (200, 2, 500, 200) if quick else (2000, 120, 20_000, 2000)
    questions = dict(list(_QUESTIONS.items())[:1]) if quick else _QUESTIONS
    images = dict(list(_IMAGES.items())[:2]) if quick else _IMAGES
    scorers = {k: v for k, v in planted_classifiers(n_training).items() if k != FAIR}
    model = SCM(GRAPH).fit(Cohort.load("phantom", n=n_fit, seed=11))
    mechanisms = {name: _mechanism(options) for name, options in images.items()}
    table: list[Row] = []
    for question, (where, action) in questions.items():
        cohort = Cohort.load("phantom", n=50 * n, seed=13).select(where).head(n)
        for name, mechanism in mechanisms.items():
            rows = _bias(with_image_mechanism(model, mechanism), cohort, action, scorers, draws)
            about = {"question": question, "image": name}
            table += [about | row for row in rows]
    return table
