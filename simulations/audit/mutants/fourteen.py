"""The fourteen mutants of the audit's specification."""

from __future__ import annotations

from simulations.audit.mutants.mutant import Mutant

_STEP = "client/private_step.py"
_SAMPLING = "client/sampling.py"
_POISSON = "    return np.flatnonzero(source.uniform(units) < sample_rate).astype(np.int64)\n"

MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "noise off",
        _STEP,
        "parameter.noised_sum = parameter.summed_grad + scale * noise",
        "parameter.noised_sum = parameter.summed_grad + 0 * scale * noise",
        "noise",
        "noise.scale",
    ),
    Mutant(
        "noise ÷2",
        _STEP,
        "scale = self.noise_multiplier * self.max_grad_norm",
        "scale = self.noise_multiplier * self.max_grad_norm / 2",
        "one_step",
        "step_distinguishing",
    ),
    Mutant(
        "clip off",
        "client/clipping.py",
        "torch.where(norms <= max_grad_norm, 1.0, scaled)",
        "torch.ones_like(norms)",
        "record_replay",
        "replay.sensitivity",
    ),
    Mutant(
        "per-batch clipping",
        _STEP,
        "norm = torch.linalg.vector_norm(norms, dim=0)  # [B]; NaN or inf where any entry is\n",
        """whole = [torch.linalg.vector_norm(g.sum(0)).double() for g in self.grad_samples]
        norm = torch.linalg.vector_norm(torch.stack(whole)).expand(norms.shape[1])
""",
        "bounded_step",
        "step.sensitivity",
    ),
    Mutant(
        "one tensor without noise",
        _STEP,
        "parameter.noised_sum = parameter.summed_grad + scale * noise",
        "parameter.noised_sum = parameter.summed_grad + scale * noise * "
        "float(parameter is not self.params[-1])",
        "noise",
        "noise.every_tensor",
    ),
    Mutant(
        "shared noise seed between sites",
        "client/agent.py",
        "            return secure_source()\n",
        "            return seeded_source(0, str(server_round), purpose)\n",
        "site_releases",
        "noise.independence.sites",
    ),
    Mutant(
        "shuffling sampler",
        _SAMPLING,
        _POISSON,
        """    queue = poisson_sample.__dict__.setdefault("queue", [])
    size = max(1, round(units * sample_rate))
    if len(queue) < size:
        queue[:] = source.permutation(units)
    taken, queue[:size] = queue[:size], []
    return np.sort(np.array(taken, dtype=np.int64))
""",
        "sampler",
        "sampler.once_per_epoch",
    ),
    Mutant(
        "fixed batch",
        _SAMPLING,
        _POISSON,
        "    return np.arange(round(units * sample_rate), dtype=np.int64)\n",
        "sampler",
        "sampler.favoured_unit",
    ),
    Mutant(
        "NaN gradient",
        _STEP,
        "usable = factor >= torch.finfo(torch.float32).tiny  # False where a norm is not finite",
        "usable = torch.ones_like(factor, dtype=torch.bool)",
        "bounded_step",
        "step.non_finite",
    ),
    Mutant(
        "len(data) divisor",
        "client/site_training.py",
        "return self._data.declared(privacy.unit) * privacy.sample_rate",
        "return len(self._units) * privacy.sample_rate",
        "site_releases",
        "sites.divisor",
    ),
    Mutant(
        "double release",
        "client/agent.py",
        """        tensors, record = stored
        return TrainReply(
""",
        """        tensors, record = self._training.update(request), stored[1]
        return TrainReply(
""",
        "site_releases",
        "ledger.one_release",
    ),
    Mutant(
        "wrong δ",
        "client/release.py",
        'epsilon(after, privacy.target_delta, "prv")',
        'epsilon(after, 10 * privacy.target_delta, "prv")',
        "site_releases",
        "ledger.recorded_epsilon",
    ),
    Mutant(
        "undercounted steps",
        "common/noise_plan.py",
        'return 1 if config.privacy.clipping == "update" else config.federation.local_steps',
        "return 1",
        "record_replay",
        "replay.steps",
    ),
    Mutant(
        "site noise divided by n",
        "common/discrete_noise.py",
        "noise = discrete_gaussian(plan.share_std, plan.coordinates, source)",
        "noise = discrete_gaussian(max(1, plan.share_std // plan.sites), plan.coordinates, source)",
        "secure_sum",
        "noise.scale.sum",
    ),
)
