"""Fit one peer to one task and write its twins; runs under the peers' own interpreter.

    PEERS_PYTHON worker.py MODEL task.npz answer.npz

Nothing of this project is imported, because the peers have a separate environment. The task has
`train`, `val`, `test` (n, d), causes first, `levels` (d,), zero for numbers, `adjacency` (d, d),
`actions` (k, 2) of position and value, and `seed`, `epochs`, `draws`. The answer has `twins`
(k, draws, n, d), and the seconds `fit` and `twin`.
"""

import copy
import sys
import time
from collections.abc import Callable

import numpy as np

Answer = Callable[[], list[np.ndarray]]


def causalflows(task: dict, kind: str) -> Answer:
    """Fit a causal normalising flow on standardised columns; keep the best epoch on `val`."""
    import torch
    from causalflows.flows import CausalMAF, CausalNSF

    torch.set_num_threads(1)
    torch.manual_seed(task["seed"])
    columns = [torch.as_tensor(task[part], dtype=torch.float32) for part in ("train", "val")]
    mean, std = columns[0].mean(0), columns[0].std(0)
    train, val = ((x - mean) / std for x in columns)
    width = train.shape[1]
    adjacency = torch.as_tensor(task["adjacency"]) | torch.eye(width, dtype=torch.bool)
    family = {"nsf": CausalNSF, "maf": CausalMAF}[kind]
    flow = family(width, adjacency=adjacency, hidden_features=(64, 64))
    adam = torch.optim.Adam(flow.parameters(), lr=2e-3)
    batch = min(512, len(train))
    steps = task["epochs"] * len(range(0, len(train), batch))
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(adam, max(steps, 1))
    best, state = float("inf"), copy.deepcopy(flow.state_dict())
    for _ in range(task["epochs"]):
        for rows in torch.randperm(len(train)).split(batch):
            loss = -flow().log_prob(train[rows]).mean()
            adam.zero_grad()
            loss.backward()
            adam.step()
            cosine.step()
        with torch.no_grad():
            held = -flow().log_prob(val).mean().item()
        if held < best:
            best, state = held, copy.deepcopy(flow.state_dict())
    flow.load_state_dict(state)
    facts = (torch.as_tensor(task["test"], dtype=torch.float32) - mean) / std

    def answer() -> list[np.ndarray]:
        twins_by_action = []
        with torch.no_grad():
            distribution = flow()
            for index, value in task["actions"]:
                i = int(index)
                value_to_set = (
                    (torch.tensor(value, dtype=torch.float32) - mean[i]) / std[i]
                ).expand(len(facts), 1)
                # The library stacks values on a new last axis, so the column is squeezed.
                twins = distribution.compute_counterfactual(
                    facts.clone(), i, value_to_set.squeeze(1)
                )
                twins_by_action.append((twins * std + mean).numpy()[None])
        return twins_by_action

    return answer


def tramdag(task: dict, kind: str) -> Answer:
    """Fit a TRAM-DAG: all edges are complex intercepts; nominal variables count as ordinal."""
    import pandas as pd
    import torch
    from tramdag import CausalFlowDAG, ContinuousNode, OrdinalNode

    torch.set_num_threads(1)
    torch.manual_seed(task["seed"])
    names = [f"x{i}" for i in range(task["train"].shape[1])]
    frames = {part: pd.DataFrame(task[part], columns=names) for part in ("train", "val", "test")}
    spec = {}
    for name, levels, row in zip(names, task["levels"], task["adjacency"], strict=True):
        parents = {names[j]: "ci" for j in np.flatnonzero(row)}
        node = OrdinalNode(levels=int(levels), parents=parents) if levels else None
        spec[name] = node or ContinuousNode(parents=parents, transform=kind)
    flow = CausalFlowDAG(spec)
    options = {"verbose": 0, "seed": int(task["seed"]), "restore_best": True}
    flow.fit(frames["train"], frames["val"], epochs=task["epochs"], schedule="plateau", **options)

    def answer() -> list[np.ndarray]:
        noise = [flow.abduct(frames["test"], seed=draw) for draw in range(task["draws"])]
        return [
            np.stack(
                [flow.sample(do={names[int(i)]: value}, u=u)[names].to_numpy() for u in noise]
            )
            for i, value in task["actions"]
        ]

    return answer


def dowhy(task: dict, kind: str) -> Answer:
    """Fit additive noise models; the library chooses the regressions."""
    import networkx as nx
    import pandas as pd
    from dowhy import gcm

    gcm.config.disable_progress_bars()
    gcm.util.general.set_random_seed(int(task["seed"]))
    names = [f"x{i}" for i in range(task["train"].shape[1])]
    graph = nx.DiGraph()
    graph.add_nodes_from(names)
    edges = np.argwhere(task["adjacency"])
    graph.add_edges_from((names[cause], names[effect]) for effect, cause in edges)
    model = gcm.InvertibleStructuralCausalModel(graph)
    train, test = (pd.DataFrame(task[part], columns=names) for part in ("train", "test"))
    gcm.auto.assign_causal_mechanisms(model, train)
    gcm.fit(model, train)

    def answer() -> list[np.ndarray]:
        twins_by_action = []
        for i, value in task["actions"]:
            action = {names[int(i)]: lambda _, value=value: value}
            twins = gcm.counterfactual_samples(model, action, observed_data=test)
            twins_by_action.append(twins[names].to_numpy()[None])
        return twins_by_action

    return answer


MODELS = {
    "causalflows-nsf": (causalflows, "nsf"),
    "causalflows-maf": (causalflows, "maf"),
    "tramdag": (tramdag, "bernstein"),
    "dowhy-anm": (dowhy, "additive"),
}


def main(model: str, source: str, target: str) -> None:
    """Run one task."""
    with np.load(source) as file:
        task = {name: file[name] for name in file.files}
    task |= {name: int(task[name]) for name in ("seed", "epochs", "draws")}
    fit, kind = MODELS[model]
    start = time.perf_counter()
    answer = fit(task, kind)
    fitted = time.perf_counter()
    twins = np.stack(answer())
    end = time.perf_counter()
    np.savez(target, twins=twins, fit=fitted - start, twin=end - fitted)


if __name__ == "__main__":
    main(*sys.argv[1:])
