"""Every error that fedrec raises on purpose.

The tree::

    FedrecError                  exit code 2: one clear line (what, where, the remedy)
    ├── ConfigError              the run's configuration is wrong; lists *all* faults
    ├── DataError                interactions, items or users cannot be used as they are
    ├── WeightsError             base weights are missing or are not the expected ones
    ├── DeviceError              the device that a run asks for is not there
    ├── MessageError             a message between server and site breaks the contract
    ├── CertificateError         a TLS certificate or key cannot be used as it is
    ├── ConnectionFault          the coordinator cannot be reached, or is not who it must be
    ├── ExportError              an exported adapter is changed, unsigned or of another model
    ├── SiteAgentError           the resident site agent cannot be started or reached
    ├── RequestFault             a question to the recommendation service cannot be answered
    ├── RunFolderError           a run's folder is missing, damaged or cannot be written
    ├── FederationError          the run cannot go on (too few sites, no finite update, …)
    │   └── RoundAbandoned       secure aggregation lost too many sites; nothing was revealed
    ├── PrivacyError             a privacy claim cannot be made or kept
    │   ├── CalibrationError     no noise, steps or sampling rate reaches the asked (ε, δ)
    │   ├── UnknownEventError    an accountant met an event that it has no theorem for
    │   ├── SelfTestError        the private step does not do what it claims
    │   ├── EvidenceError        a run's records were changed, or are not of one run
    │   ├── ClaimRefuted         an audit refuted the privacy claim of a run
    │   ├── AuditorKeyError      the auditor's signing key is missing, damaged or readable
    │   └── LedgerError          the site's ledger is damaged, locked or inconsistent
    └── Refusal                  a site says no: it trains nothing and releases nothing
        ├── BudgetRefusal        the release would pass the site's (ε, δ) limit
        ├── PolicyRefusal        the site's policy does not allow what was asked
        └── SecAggRefusal        the server or a peer broke the secure aggregation protocol
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

# Why a site leaves a round of secure aggregation.
SecAggReason: TypeAlias = Literal[
    "wrong_round",
    "replay",
    "config_mismatch",
    "unknown_peer",
    "bad_signature",
    "bad_share",
    "swapped_key",
    "inconsistent",
    "both_kinds",
    "below_threshold",
    "out_of_order",
]

# What is wrong with a question: it makes no sense, names what is not there, contradicts, comes
# while there is too much to do, or is not waited for any more.
RequestReason: TypeAlias = Literal["invalid", "unknown", "conflict", "busy", "late"]


class FedrecError(Exception):
    """Root of all errors a user, an operator or a peer can cause."""

    exit_code = 2


class ConfigError(FedrecError):
    """The configuration is wrong; `faults` names every fault with value and remedy."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        plural = "fault" if len(self.faults) == 1 else "faults"
        lines = "".join(f"\n  - {fault}" for fault in self.faults)
        super().__init__(f"configuration has {len(self.faults)} {plural}:{lines}")


class DataError(FedrecError):
    """Interactions, items or users cannot be used as they are."""


class WeightsError(FedrecError):
    """Base weights are missing or are not the expected ones."""


class DeviceError(FedrecError):
    """The device that a run asks for is not there."""


class MessageError(FedrecError):
    """A message between server and site breaks the contract of `common.messages`."""


class SiteAgentError(FedrecError):
    """The resident site agent cannot be started, reached, or does not answer."""


class RequestFault(FedrecError):
    """A question to the recommendation service cannot be answered; `reason` says why."""

    def __init__(self, reason: RequestReason, message: str) -> None:
        self.reason: RequestReason = reason
        super().__init__(message)


class CertificateError(FedrecError):
    """A TLS certificate or its key cannot be used as it is."""


class ConnectionFault(FedrecError):
    """The coordinator cannot be reached, or is not who it must be."""


class ExportError(FedrecError):
    """An exported adapter is changed, unsigned, or not for this site's model."""


class RunFolderError(FedrecError):
    """A run's folder is missing, damaged or cannot be written."""


class FederationError(FedrecError):
    """The run cannot go on: too few sites, no finite update, a missed deadline."""


class RoundAbandoned(FederationError):
    """Secure aggregation lost too many sites in a round; no input of it was revealed."""


class PrivacyError(FedrecError):
    """A privacy claim cannot be made or kept."""


class CalibrationError(PrivacyError):
    """No noise multiplier, number of steps or sampling rate reaches the asked (ε, δ)."""


class UnknownEventError(PrivacyError):
    """An accountant met an event that it has no theorem for."""


class SelfTestError(PrivacyError):
    """The private step does not do what it claims."""


class EvidenceError(PrivacyError):
    """A run's records were changed since they were written, or are not of one run."""


class ClaimRefuted(PrivacyError):
    """An audit refuted the privacy claim of a run."""


class AuditorKeyError(PrivacyError):
    """The auditor's signing key is missing, damaged, or readable by others."""


class LedgerError(PrivacyError):
    """The site's ledger is damaged, locked or inconsistent."""


class Refusal(FedrecError):
    """A site says no. It trained nothing and released nothing."""


class BudgetRefusal(Refusal):
    """The release would pass the site's (ε, δ) limit."""


class PolicyRefusal(Refusal):
    """The site's policy does not allow what was asked."""


class SecAggRefusal(Refusal):
    """The server or a peer broke the secure aggregation protocol; `reason` says how."""

    def __init__(self, reason: SecAggReason, message: str) -> None:
        self.reason: SecAggReason = reason
        super().__init__(f"secure aggregation refused ({reason}): {message}")
