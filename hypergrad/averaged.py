"""Several samples: the mean of E and of its gradients, by any method."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from hypergrad.locate import gradient_status, run_status
from hypergrad.methods import AbstractMethod, Swept, Tape
from hypergrad.methods.work import Work
from hypergrad.problem import Problem
from hypergrad.status import Status


class Sampled(NamedTuple):
    """A run of one sample. ``swept``: what its sweep found, None before it."""

    problem: Problem
    tape: Tape
    status: Status
    swept: Swept | None = None


@dataclasses.dataclass(frozen=True)
class Averaged(AbstractMethod):
    """Any method over all samples of a problem, one after the other.

    ``E = (1/N) Σ_i E_i`` and ``dE/dλ = (1/N) Σ_i dE_i/dλ``, with N ``problem.average``.

    Where a sweep follows in any case, each sample is swept right after its run, in the
    memory of one sample. Otherwise the states that the sweeps of all samples start from
    are kept (those at segment starts), but the records of single steps of the last
    sample only, and a later sweep computes the others again.

    Args:
        method: `AbstractMethod`, of each sample.

    Cost: N times that of the method.

    Valid when: the method is.

    References: Maclaurin et al. 2015, section 3.1, arXiv:1502.03492, averages
    hypergradients over random initialisations.
    """

    method: AbstractMethod

    def check(self, problem: Problem) -> None:
        self.method.check(problem)

    @property
    def exact(self) -> bool:
        return self.method.exact

    def runs(self, problem: Problem) -> float:
        return problem.average * self.method.runs(problem)

    def work(self, problem: Problem, values: Mapping[str, np.ndarray]) -> Work:
        work, number = self.method.work(problem.sample(0), values), problem.average
        phases = {
            name: phase._replace(calls=number * phase.calls, steps=number * phase.steps)
            for name, phase in work.phases.items()
        }
        return work._replace(phases=phases)

    def prepare(self, problem: Problem, values: Mapping[str, np.ndarray]) -> None:
        self.method.prepare(problem.sample(0), values)

    def run(
        self,
        problem: Problem,
        values: Mapping[str, np.ndarray],
        sweep_follows: bool = False,
    ) -> Tape:
        samples: list[Sampled] = []
        records: dict[int, list] = {}
        for i in range(problem.average):
            records = {}  # of the sample before: gone before the next one runs
            one = self._run(problem.sample(i), values, sweep_follows)
            records = one.tape.records
            samples.append(one._replace(tape=one.tape._replace(records={})))
        tapes = [one.tape for one in samples]
        status = first_failure([one.status for one in samples])
        return tapes[0]._replace(
            loss=_mean([tape.loss for tape in tapes])[()] if status.ok else np.nan,
            metrics=mean_metrics([tape.metrics for tape in tapes]),
            train_losses=_mean([tape.train_losses for tape in tapes]),
            checkpoints=None,
            records=records,
            extra=samples,
            status=status,
        )

    def _run(
        self, sample: Problem, values: Mapping[str, np.ndarray], sweep_follows: bool
    ) -> Sampled:
        tape = self.method.run(sample, values, sweep_follows)
        status = run_status(sample, tape)
        if not (sweep_follows and status.ok):
            return Sampled(sample, tape, status)
        found = self.method.sweep(sample, tape)
        tape = tape._replace(checkpoints=None, records={}, extra=None)
        return Sampled(sample, tape, status, found)

    def sweep(self, problem: Problem, tape: Tape) -> Swept:
        all_found: list[Swept] = []
        records = tape.records
        for one in reversed(tape.extra):
            found = one.swept
            if found is None:
                found = self.method.sweep(
                    one.problem, one.tape._replace(records=records)
                )
            records = {}
            status = found.status
            status = gradient_status(found.gradient) if status.ok else status
            all_found.insert(0, found._replace(status=status))
        gradients = {
            name: np.stack([found.gradient[name] for found in all_found])
            for name in all_found[0].gradient
        }
        info = {
            **of_samples(tape)["samples"],
            "gradient": gradients,
            "info": [found.info for found in all_found],
        }
        runs = [
            found.info.get("runs", self.method.runs(one.problem))
            for found, one in zip(all_found, tape.extra)
        ]
        return Swept(
            {name: value.mean(axis=0) for name, value in gradients.items()},
            first_failure([found.status for found in all_found]),
            {"samples": info, "runs": float(sum(runs))},
        )


def of_samples(tape: Tape) -> dict[str, dict]:
    """What is known of each sample after such a run; {} after others."""
    samples = tape.extra
    if not (isinstance(samples, list) and samples and isinstance(samples[0], Sampled)):
        return {}
    return {
        "samples": {
            "loss": np.asarray([one.tape.loss for one in samples]),
            "metrics": [one.tape.metrics for one in samples],
            "status": [one.status for one in samples],
        }
    }


def first_failure(statuses: list[Status]) -> Status:
    for i, status in enumerate(statuses):
        if not status.ok:
            return dataclasses.replace(status, reason=f"Sample {i}: {status.reason}")
    return Status()


def mean_metrics(metrics: list[dict]) -> dict:
    """Numbers stay plain floats."""
    means = {name: _mean([m[name] for m in metrics]) for name in metrics[0]}
    return {n: float(v) if np.ndim(v) == 0 else v for n, v in means.items()}


def _mean(values: list) -> Any:
    return np.mean(np.stack([np.asarray(v) for v in values]), axis=0)
