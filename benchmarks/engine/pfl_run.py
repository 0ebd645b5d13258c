"""Peer D inside an environment that has pfl-research: ``python -m benchmarks.engine.pfl_run``.

It needs pfl, torch, transformers, peft and numpy there, and nothing of fedrec. pfl clips and
noises a client's whole update (user-level, central); it has no example-level DP.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pfl.aggregate.simulate import SimulatedBackend
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.sampling import MinimizeReuseUserSampler
from pfl.hyperparam.base import NNEvalHyperParams, NNTrainHyperParams
from pfl.metrics import Metrics, Weighted
from pfl.model.pytorch import PyTorchModel
from pfl.privacy.gaussian_mechanism import GaussianMechanism
from pfl.privacy.privacy_mechanism import CentrallyAppliedPrivacyMechanism
from pfl.version import __version__

from benchmarks.engine.peer_model import TwoTower, build_model, loss_of


class Clients(torch.nn.Module):
    """The peers' model with the loss and the metrics that pfl asks for."""

    def __init__(self, model: TwoTower, data: Path) -> None:
        super().__init__()
        self.model = model
        catalogue = np.load(data / "catalogue.npz")
        self.register_buffer("ids", torch.from_numpy(catalogue["ids"]), persistent=False)
        self.register_buffer("mask", torch.from_numpy(catalogue["mask"]), persistent=False)

    def loss(self, films: torch.Tensor, eval: bool = False) -> torch.Tensor:
        """Mean loss of a batch of rows ``[B, 25]``."""
        self.train(not eval)
        films = films.long()
        return loss_of(self.model(self.ids[films], self.mask[films]))

    def metrics(self, films: torch.Tensor, eval: bool = False) -> dict[str, Any]:
        """Nothing is evaluated here."""
        return {"rows": Weighted(0, len(films))}


class Iterations(TrainingProcessCallback):
    """When central iterations ended."""

    def __init__(self) -> None:
        self.ended: list[float] = []

    def after_central_iteration(
        self, aggregate_metrics: Metrics, model: PyTorchModel, *, central_iteration: int
    ) -> tuple[bool, Metrics]:
        self.ended.append(time.monotonic())
        return False, Metrics()


def main() -> None:
    """Reads the job from the first argument and writes the figures to the second."""
    begun = time.monotonic()
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    torch.set_num_threads(job["threads"])
    data = Path(job["data"])
    model = build_model(data, job["lora_layers"], job["device"])
    clients = Clients(model, data)
    pfl_model = PyTorchModel(
        model=clients,
        local_optimizer_create=torch.optim.SGD,
        central_optimizer=torch.optim.SGD(
            [parameter for parameter in clients.parameters() if parameter.requires_grad], lr=1.0
        ),
    )
    used = job["steps"] * job["batch"]

    def dataset_of(site: int) -> Dataset:
        rows = np.load(data / f"site-{job['sites']}-{site}.npy")
        chosen = np.random.permutation(len(rows))[:used]
        return Dataset([rows[chosen].astype(np.int64)], user_id=str(site))

    federated = FederatedDataset(dataset_of, MinimizeReuseUserSampler(list(range(job["sites"]))))
    mechanism = CentrallyAppliedPrivacyMechanism(GaussianMechanism(job["clip"], job["sigma"]))
    iterations = Iterations()
    FederatedAveraging().run(
        algorithm_params=NNAlgorithmParams(
            central_num_iterations=1 + job["rounds"],
            evaluation_frequency=10**6,
            train_cohort_size=job["clients"],
            val_cohort_size=None,
        ),
        backend=SimulatedBackend(federated, federated, postprocessors=[mechanism]),
        model=pfl_model,
        model_train_params=NNTrainHyperParams(
            local_num_epochs=None,
            local_num_steps=job["steps"],
            local_learning_rate=job["learning_rate"],
            local_batch_size=job["batch"],
        ),
        model_eval_params=NNEvalHyperParams(local_batch_size=job["batch"]),
        callbacks=[iterations],
        send_metrics_to_platform=False,
    )
    figures = {
        "version": __version__,
        "start_seconds": iterations.ended[0] - begun,
        "seconds": list(np.diff(iterations.ended)),
    }
    Path(sys.argv[2]).write_text(json.dumps(figures), encoding="utf-8")


if __name__ == "__main__":
    main()
