"""Faults that only several keys of a configuration together show."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from common.companion_names import COMPANIONS, companion_names, unknown_companions
from common.context_names import CONTEXTS, context_names

if TYPE_CHECKING:
    from common.config import RunConfig


class CrossFault(NamedTuple):
    """A fault that only several keys together show.

    Attributes:
        keys: the dotted keys that it was found from; if one of them is at fault by
            itself, this fault says nothing.
        text: names the key, its value and the remedy.
    """

    keys: tuple[str, ...]
    text: str


def cross_faults(config: RunConfig) -> Iterator[CrossFault]:
    """Yield every fault across keys of `config`, each with its remedy."""
    privacy, federation, mode = config.privacy, config.federation, "privacy.mode"
    if config.is_private and math.isinf(privacy.target_epsilon):
        yield CrossFault(
            (mode, "privacy.target_epsilon"),
            "privacy.target_epsilon must be finite in a private mode, got inf; "
            "set a finite ε, or privacy.mode=none for a run without noise",
        )
    if config.is_private and config.model.dropout > 0:
        yield CrossFault(
            (mode, "model.dropout"),
            f"model.dropout must be 0 in a private mode, got {config.model.dropout}; "
            "set model.dropout=0",
        )
    yield from _model_faults(config)
    yield from _context_faults(config)
    yield from _item_side_faults(config)
    yield from _rating_faults(config)
    yield from _softmax_faults(config)
    if not config.is_private and config.evaluation.metrics == "private":
        yield CrossFault(
            (mode, "evaluation.metrics"),
            "evaluation.metrics=private needs a private mode, got privacy.mode=none; "
            "set evaluation.metrics=exact or none, or a private mode",
        )
    if not config.is_private and privacy.clipping == "update":
        yield CrossFault(
            (mode, "privacy.clipping"),
            "privacy.clipping=update needs a private mode, got privacy.mode=none, which clips "
            "nothing; set privacy.clipping=gradient or a private mode",
        )
    if config.is_summed:
        yield from _sum_faults(config)
    yield from _mitigation_faults(config)
    yield from _patience_faults(config)
    drawn = federation.sites_per_round
    if drawn > config.data.sites:
        yield CrossFault(
            ("federation.sites_per_round", "data.sites"),
            f"federation.sites_per_round must be at most data.sites={config.data.sites}, "
            f"got {drawn}; lower it, or set federation.sites_per_round=0 for all sites",
        )
    elif 0 < drawn < federation.min_sites:
        yield CrossFault(
            ("federation.sites_per_round", "federation.min_sites"),
            f"federation.min_sites must be at most federation.sites_per_round={drawn}, "
            f"got {federation.min_sites}; lower federation.min_sites",
        )
    yield from _data_faults(config)
    yield from _shown_faults(config)
    yield from _companion_faults(config)
    yield from _audit_faults(config)
    if federation.min_sites > config.data.sites:
        yield CrossFault(
            ("federation.min_sites", "data.sites"),
            f"federation.min_sites must be at most data.sites={config.data.sites}, "
            f"got {federation.min_sites}; lower federation.min_sites",
        )


def _model_faults(config: RunConfig) -> Iterator[CrossFault]:
    """What parts of the model need of each other."""
    if config.model.history_gradient and config.model.item_side == "head":
        yield CrossFault(
            ("model.history_gradient", "model.item_side"),
            "model.history_gradient needs LoRA to be trained, got model.item_side=head; "
            "set model.item_side=both or lora, or model.history_gradient=false",
        )
    if config.model.item_to_item and not config.model.popularity_prior:
        yield CrossFault(
            ("model.item_to_item", "model.popularity_prior"),
            "model.item_to_item needs the released popularity, got model.popularity_prior=false; "
            "set model.popularity_prior=true, or model.item_to_item=false",
        )


def _item_side_faults(config: RunConfig) -> Iterator[CrossFault]:
    """Item vectors that are made are read."""
    data, key = config.data, "model.item_vectors_weight"
    makes = data.item_graph and data.item_graph_as != "text"
    if (data.item_vectors or makes) and config.model.item_vectors_weight == 0:
        named = "data.item_vectors" if data.item_vectors else "data.item_graph"
        yield CrossFault(
            (named, "data.item_graph_as", key),
            f"{named} gives vectors that {key}=0 does not read; set {key}=1, or leave {named} "
            "empty",
        )


def _rating_faults(config: RunConfig) -> Iterator[CrossFault]:
    """A rating beside the clicks has a scale and the features of the bilinear head, trained."""
    model, objective = config.model, "model.objective"
    if model.rating_low >= model.rating_high:
        yield CrossFault(
            ("model.rating_low", "model.rating_high"),
            f"model.rating_high must be above model.rating_low={model.rating_low:g}, got "
            f"{model.rating_high:g}; set the scale of the ratings",
        )
    if model.objective != "click_rating":
        return
    if model.head != "bilinear":
        yield CrossFault(
            (objective, "model.head"),
            f"model.objective=click_rating needs model.head=bilinear, got {model.head}; set it so, "
            "or model.objective=click or rating",
        )
    if model.item_side == "lora":
        yield CrossFault(
            (objective, "model.item_side"),
            "model.objective=click_rating needs trained outputs, got model.item_side=lora; set "
            "model.item_side=both or head",
        )


def _context_faults(config: RunConfig) -> Iterator[CrossFault]:
    """Each context is a known one, named once, and the head that reads it is trained."""
    key, asked = "model.context", context_names(config.model.context)
    for name in dict.fromkeys(asked):
        if name not in CONTEXTS or asked.count(name) > 1:
            yield CrossFault(
                (key,),
                f"{key} takes {', '.join(CONTEXTS)}, each at most once, got {name!r} "
                f"{asked.count(name)}x; correct the list, or leave it empty for none",
            )
    if asked and config.model.item_side == "lora":
        yield CrossFault(
            (key, "model.item_side"),
            f"{key} needs a trained head, got model.item_side=lora; set model.item_side=both or "
            f"head, or leave {key} empty",
        )


def _softmax_faults(config: RunConfig) -> Iterator[CrossFault]:
    """Units that share the catalogue as candidates cannot be clipped one by one."""
    key = "privacy.negatives_per_unit"
    if not config.has_full_softmax:
        return
    if config.is_private:
        yield CrossFault(
            ("privacy.mode", key),
            f"{key} must be at least 1 in a private mode, where each unit has candidates of its "
            f"own, got 0; set {key}=200, or privacy.mode=none",
        )
    if config.model.history_gradient:
        yield CrossFault(
            ("model.history_gradient", key),
            f"model.history_gradient needs candidates of each unit's own, got {key}=0; set "
            f"{key}=200, or model.history_gradient=false",
        )


def _data_faults(config: RunConfig) -> Iterator[CrossFault]:
    """A global time cut has two times in order, or none."""
    first, then = config.data.validation_from, config.data.test_from
    if config.data.split == "time_cut" and not (first == then == 0 or 0 < first < then):
        yield CrossFault(
            ("data.split", "data.validation_from", "data.test_from"),
            f"data.test_from must be after data.validation_from in split time_cut, got {then} and "
            f"{first}; set both in that order, or both to 0 in a simulation, which finds them",
        )


def _shown_faults(config: RunConfig) -> Iterator[CrossFault]:
    """Shown items are negatives of a user's own; what cannot use them refuses them."""
    key = "data.shown_negatives"
    if not config.data.shown_negatives:
        return
    objective = config.model.objective
    faults: list[tuple[str, bool, str]] = [
        ("model.objective", objective == "rating", "an objective with negatives, set ranking"),
        ("privacy.unit", config.privacy.unit != "user", "whole users as units, set user"),
        ("privacy.negatives_per_unit", config.has_full_softmax, "negatives to be among, set 60"),
        ("evaluation.personal_steps", config.evaluation.personal_steps > 0, "no such row, set 0"),
        ("evaluation.audit_canaries", config.evaluation.audit_canaries > 0, "no canaries, set 0"),
    ]
    for other, is_wrong, remedy in faults:
        if is_wrong:
            section, name = other.split(".")
            got = getattr(getattr(config, section), name)
            yield CrossFault(
                (key, other), f"{key} needs {remedy}: got {other}={got}; or set {key}=false"
            )


def _companion_faults(config: RunConfig) -> Iterator[CrossFault]:
    """Each companion is a known one, named once."""
    key, asked = "evaluation.companions", companion_names(config.evaluation.companions)
    for name in unknown_companions(config.evaluation.companions):
        yield CrossFault(
            (key,),
            f"{key} names {name!r}, which is no companion; use {', '.join(COMPANIONS)}, or leave "
            "it empty for none",
        )
    for name in sorted({name for name in asked if asked.count(name) > 1}):
        yield CrossFault((key,), f"{key} names {name!r} twice; name it once")


def _audit_faults(config: RunConfig) -> Iterator[CrossFault]:
    """What a run with canaries needs: noised sums over users, and no figure that has them in."""
    key, canaries = "evaluation.audit_canaries", config.evaluation.audit_canaries
    if canaries == 0:
        return
    if not config.is_summed:
        yield CrossFault(
            (key, "privacy.mode"),
            f"{key}={canaries} needs privacy.mode=distributed or central, whose noised sums show "
            f"the canaries, got {config.privacy.mode}; set one of these, or {key}=0",
        )
    needed: list[tuple[str, object, object]] = [
        ("privacy.unit", config.privacy.unit, "user"),
        ("evaluation.metrics", config.evaluation.metrics, "none"),
        ("evaluation.companions", config.evaluation.companions, ""),
        ("evaluation.lab", config.evaluation.lab, True),
    ]
    for other, value, must in needed:
        if value != must:
            yield CrossFault(
                (key, other),
                f"{other} must be {must!r} in an audit run ({key}={canaries}), got {value!r}; "
                f"set it so, or {key}=0",
            )


def _fair_weight_faults(config: RunConfig) -> Iterator[CrossFault]:
    """Fair weights are made of what sites release about their utility: it must be public."""
    evaluation, weighting = config.evaluation, "federation.weighting"
    public = "private" if config.is_private else "exact"
    if evaluation.metrics != public:
        yield CrossFault(
            ("privacy.mode", weighting, "evaluation.metrics"),
            f"federation.weighting=fair needs evaluation.metrics={public} in mode "
            f"{config.privacy.mode}, where it weighs by what the sites release, got "
            f"{evaluation.metrics}; set evaluation.metrics={public} or "
            "federation.weighting=equal",
        )
    if not 0 < evaluation.every < config.federation.rounds:
        yield CrossFault(
            (weighting, "evaluation.every", "federation.rounds"),
            f"federation.weighting=fair needs evaluation.every of at least 1 and below "
            f"federation.rounds={config.federation.rounds}, so that there is a figure to weigh "
            f"by, got {evaluation.every}; set evaluation.every=1",
        )


def _patience_faults(config: RunConfig) -> Iterator[CrossFault]:
    """A run is ended by what was released, never by a look at exact figures."""
    evaluation = config.evaluation
    if evaluation.patience == 0:
        return
    needed = "private" if config.is_private else "exact"
    if evaluation.metrics != needed:
        yield CrossFault(
            ("evaluation.patience", "evaluation.metrics", "privacy.mode"),
            f"evaluation.patience needs evaluation.metrics={needed} in privacy.mode="
            f"{config.privacy.mode}, got {evaluation.metrics}; set it, or evaluation.patience=0",
        )
    if evaluation.every == 0:
        yield CrossFault(
            ("evaluation.patience", "evaluation.every"),
            "evaluation.patience needs validation between rounds, got evaluation.every=0; set "
            "evaluation.every=1",
        )


def _mitigation_faults(config: RunConfig) -> Iterator[CrossFault]:
    """Fair weights need public figures; what only the fairness tables show needs these."""
    evaluation = config.evaluation
    if config.federation.weighting == "fair" and not config.is_summed:
        yield from _fair_weight_faults(config)
    if not config.model.popularity_prior and evaluation.exposure_penalty > 0:
        yield CrossFault(
            ("evaluation.exposure_penalty", "model.popularity_prior"),
            "evaluation.exposure_penalty needs a released popularity, got "
            "model.popularity_prior=false; set model.popularity_prior=true or "
            "evaluation.exposure_penalty=0",
        )
    if config.shows_fairness:
        return
    for name in ("personal_steps", "exposure_penalty"):
        if getattr(evaluation, name) > 0:
            yield CrossFault(
                (f"evaluation.{name}", "evaluation.companions", "evaluation.lab", "data.split"),
                f"evaluation.{name} is shown in the fairness tables alone, and this run has none, "
                f"got {getattr(evaluation, name)}; set evaluation.companions=last_fifth with "
                f"evaluation.lab=true, or evaluation.{name}=0",
            )


def _sum_faults(config: RunConfig) -> Iterator[CrossFault]:
    """What a mode with noise on the sum cannot do."""
    privacy, federation, mode = config.privacy, config.federation, "privacy.mode"
    needed: list[tuple[str, object, object]] = [
        ("federation.weighting", federation.weighting, "equal"),
        ("federation.sites_per_round", federation.sites_per_round, 0),
    ]
    if privacy.clipping == "gradient":
        needed.append(("federation.local_steps", federation.local_steps, 1))
        needed.append(("federation.local_optimizer", federation.local_optimizer, "sgd"))
    for key, value, must in needed:
        if value != must:
            yield CrossFault(
                (mode, key),
                f"{key} must be {must} in mode {privacy.mode}, where one round is one step on the "
                f"sum over all sites, got {value}; set {key}={must}",
            )
    if privacy.mode != "distributed":
        return
    sites, lost = config.data.sites, 2 * config.max_dropouts + privacy.max_colluders
    thresholds = ("data.sites", "privacy.max_dropouts", "privacy.max_colluders")
    if sites < 3 or lost >= sites:
        yield CrossFault(
            (mode, *thresholds),
            f"mode distributed needs at least 3 sites and 2·max_dropouts + max_colluders below "
            f"data.sites={sites}, got privacy.max_dropouts={config.max_dropouts}, "
            f"privacy.max_colluders={privacy.max_colluders}; lower them, add sites, or set "
            "privacy.mode=local",
        )
    elif config.min_honest > sites - config.max_dropouts - privacy.max_colluders:
        yield CrossFault(
            (mode, "privacy.min_honest", *thresholds),
            f"privacy.min_honest must be at most {sites} sites less max_dropouts less "
            f"max_colluders, got {config.min_honest}; set privacy.min_honest=auto",
        )
