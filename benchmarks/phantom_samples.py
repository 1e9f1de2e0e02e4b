"""Does RadiT show what it is told to? A classifier trained on true phantoms reads its samples.

    python -m benchmarks phantom_samples

Also: the noise abducted from held-out phantoms (its standard deviation and kurtosis; a predictor from noise to parents is
left to a later benchmark), and the error of twins to the phantom's true twins for several interventions.
"""

import time

import numpy as np
import torch
from scipy.stats import kurtosis
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from causalcxr import SCM, Cohort, Graph, do
from causalcxr.demo import image_error
from causalcxr.interventions import Shift
from causalcxr.noise import Draws, record_keys

__all__ = ["main"]

_TARGETS = {
    "View=AP": 0.9, "View=PA": 0.9, "View=LATERAL": 0.9, "Sex=M": 0.8, "Cardiomegaly=P": 0.9,
    "Pleural Effusion=P": 0.9, "Support Devices=P": 0.9,
}


def _labels(cohort: Cohort) -> np.ndarray:
    table = cohort.table
    pairs = (target.split("=") for target in _TARGETS)
    return np.stack([(table[name] == level).to_numpy(float) for name, level in pairs], 1)


def _classifier(outputs: int) -> nn.Module:
    def stage(a: int, b: int, stride: int = 2) -> nn.Module:
        return nn.Sequential(nn.Conv2d(a, b, 3, stride, 1), nn.BatchNorm2d(b), nn.GELU())

    stages = [stage(1, 24), stage(24, 48), stage(48, 96), stage(96, 128), stage(128, 128, 1)]
    return nn.Sequential(*stages, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(512, outputs))


def train_classifier(cohort: Cohort, epochs: int, seed: int = 0) -> nn.Module:
    """Train a small convolutional network to read the labels off true phantoms."""
    x = torch.from_numpy(np.rint(cohort.images[:] * 255).astype(np.uint8))
    y = torch.from_numpy(_labels(cohort)).float()
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = _classifier(y.shape[1])
    steps = epochs * len(x) // 128
    adam = torch.optim.AdamW(net.parameters(), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(adam, 4e-3, steps)
    for _ in range(steps):
        rows = torch.randint(len(x), (128,), generator=generator)
        loss = nn.functional.binary_cross_entropy_with_logits(net(x[rows].float() / 127.5 - 1), y[rows])
        adam.zero_grad()
        loss.backward()
        adam.step()
        schedule.step()
    return net.eval()


@torch.no_grad()
def _scores(net: nn.Module, images: np.ndarray) -> np.ndarray:
    x: Tensor = torch.from_numpy(images) * 2 - 1
    return torch.cat([net(part) for part in x.split(500)]).numpy()


def _aurocs(net: nn.Module, cohort: Cohort) -> dict[str, float]:
    scores, labels = _scores(net, cohort.images[:]), _labels(cohort)
    return {
        name: roc_auc_score(labels[:, k], scores[:, k]) if 0 < labels[:, k].mean() < 1 else np.nan
        for k, name in enumerate(_TARGETS)
    }


def _noise_moments(model: SCM, cohort: Cohort) -> tuple[float, float]:
    name = model.graph.image
    columns = {k: torch.from_numpy(v) for k, v in cohort.columns(model.graph).items()}
    mechanism = model.fitted[name].mechanism
    u = mechanism({p: columns[p] for p in model.graph[name].parents}).abduct(
        torch.from_numpy(cohort.images[:])
    )[:, 0]
    return float(u.std()), float(kurtosis(u.flatten().numpy(), fisher=False))


def main(quick: bool) -> list[dict[str, object]]:
    """Return the figures, one row each."""
    n_train, n_samples, n_truth = (4000, 400, 48) if quick else (16000, 2000, 256)
    graph = Graph.load("cxr7")
    train, test = (Cohort.load("phantom", n=n, seed=s) for n, s in ((n_train, 101), (n_samples, 102)))
    net = train_classifier(train, 4)
    model = SCM(graph).fit(train, seed=0)
    begun = time.monotonic()
    # Samples under the variables of held-out phantoms: the noise of the images is new, the table is not.
    mechanism = model.fitted[graph.image].mechanism
    columns = {k: torch.from_numpy(v) for k, v in test.columns(graph).items()}
    equation = mechanism({p: columns[p] for p in graph[graph.image].parents})
    u = equation.sample_noise(Draws(record_keys(test.records), 7, "samples"))
    sampled = test.with_images(equation.predict(u).clamp(0, 1).float().numpy())
    seconds = time.monotonic() - begun
    true, made = _aurocs(net, test), _aurocs(net, sampled)
    rows: list[dict[str, object]] = [
        {"figure": f"AUROC of {name} on samples", "value": round(made[name], 3), "target": f">= {target}",
         "beside": f"true phantoms {true[name]:.3f}"}
        for name, target in _TARGETS.items()
    ]
    rows.append({"figure": "samples a second", "value": round(n_samples / seconds, 1), "target": "", "beside": ""})
    std, kurt = _noise_moments(model, test.head(n_truth))
    rows.append({"figure": "std of abducted noise", "value": round(std, 3), "target": ".95 to 1.05", "beside": ""})
    rows.append({"figure": "kurtosis of abducted noise", "value": round(kurt, 3), "target": "2.7 to 3.3", "beside": ""})
    few = test.head(n_truth)
    actions = {
        "do(sex=M)": do(sex="M"), "do(view=PA)": do(view="PA"), "do(cardiomegaly=P)": do(cardiomegaly="P"),
        "do(pleural_effusion=P)": do(pleural_effusion="P"), "do(support_devices=N)": do(support_devices="N"),
        "do(age+20)": do(age=Shift(20), beyond_range=True),
    }
    for name, action in actions.items():
        cohort = few.select("Age <= 85") if "age" in name else few
        score = image_error(cohort, model.counterfactual(cohort, action), action)
        rows.append({
            "figure": f"error of twins to the truth, {name}", "value": round(score["ratio"], 3), "target": "< 1",
            "beside": f"absolute {score['twin_to_truth']:.4f}; a copy of the factual image {score['factual_to_truth']:.4f}",
        })
    return rows
