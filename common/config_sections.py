"""The sections of a run's configuration: every key with its default, range and meaning."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from common.unit_texts import PrivacyUnit

AUTO: Literal["auto"] = "auto"
Positive = Annotated[float, Field(gt=0)]


class Section(BaseModel):
    """A frozen section: unknown keys, wrong types, NaN and infinity are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class DataConfig(Section):
    """Which interactions, how they are split in time, how users spread over sites."""

    dataset: str = Field(
        "movielens-100k",
        min_length=1,
        description="movielens-100k, debian-packages, news, products, ads, music, pictures, "
        "synthetic, or a folder",
    )
    folder: str = Field(
        "",
        description="news, products, ads, music, pictures: folder with the real files; empty: a "
        "generated sample",
    )
    item_vectors: str = Field(
        "",
        description="file of public item vectors, .npz (item_id, vectors) or .parquet (item_id, "
        "item_vector); empty: those of the items table, if any",
    )
    item_graph: str = Field(
        "",
        description="public links of items: genres (the catalogue's own), a RecBole .kg file with "
        "its .link beside it, or a table item_id, entity; empty: none",
    )
    item_graph_as: Literal["vectors", "neighbours", "text"] = Field(
        "vectors",
        description="vectors: made of the links; neighbours: each item's vector and its "
        "neighbours' mean; text: names of linked entities, appended",
    )
    item_graph_size: int = Field(
        16, ge=1, le=256, description="vectors: their width; neighbours, text: at most so many"
    )
    split: Literal["leave_one_out", "last_fifth", "time_cut"] = "leave_one_out"
    validation_from: int = Field(
        0, ge=0, description="time_cut: unix seconds; 0 in a simulation: after 80% of the data"
    )
    test_from: int = Field(
        0, ge=0, description="time_cut: unix seconds; 0 in a simulation: after 90% of the data"
    )
    shown_negatives: bool = Field(
        False,
        description="items shown beside a click and not clicked are among the unit's negatives; "
        "news and ads, or sites with shown.parquet",
    )
    min_interactions: int = Field(3, ge=3, description="users with fewer are counted and left out")
    seed: int = Field(0, ge=0, description="seeds tie-breaks and the partition, never noise")
    held_out_users: float = Field(
        0.0,
        ge=0,
        le=0.9,
        description="share of users that a simulation keeps out of all sites, for the audit's "
        "attacks on membership",
    )
    sites: int = Field(10, ge=1, description="number of disjoint sites")
    partition: Literal["equal", "dirichlet", "size_skewed"] = "equal"
    partition_by: str = Field("genre", description="dirichlet: genre, or a user attribute")
    partition_alpha: float = Field(0.5, gt=0, description="dirichlet/size_skewed concentration")
    sites_folder: str = Field("", description="folder with one folder per site; empty: made")

    @property
    def cut(self) -> tuple[int, int] | None:
        """From when interactions validate and from when they test, of split `time_cut`."""
        is_set = self.split == "time_cut" and self.validation_from > 0
        return (self.validation_from, self.test_from) if is_set else None


class ModelConfig(Section):
    """The recommender: base weights, adapter, towers, objective."""

    weights: str = Field(
        "sentence-transformers/all-MiniLM-L6-v2", min_length=1, description="name or folder"
    )
    max_tokens: int = Field(32, ge=4, le=512, description="item text is cut after this many")
    adapter: Literal["ffa", "fedit"] = Field("ffa", description="LoRA: A frozen, or both trained")
    item_side: Literal["lora", "head", "both"] = Field("both", description="what is trained")
    lora_layers: int = Field(2, ge=1, description="LoRA on the top-k BERT layers")
    lora_rank: int = Field(4, ge=1, le=256)
    lora_rows: int = Field(4, ge=1, description="candidate rows per unit with a LoRA gradient")
    head: Literal["multi_lag", "bilinear"] = "bilinear"
    head_dim: int = Field(64, ge=2, le=4096, description="width of the scored space")
    head_items: int = Field(
        400,
        ge=0,
        le=5000,
        description="bilinear: k, codes for the k most popular items",
    )
    head_items_scale: float = Field(
        4.0, gt=0, description="bilinear: length of an item code against the text directions"
    )
    head_matrix: Literal["per_lag", "symmetric"] = Field(
        "symmetric", description="bilinear: one per half-life, or one symmetric for recent items"
    )
    score_terms: Literal["trained", "fixed"] = Field(
        "fixed", description="text similarity, prior, offset and the head's text bias"
    )
    head_hidden: int = Field(
        512, ge=0, le=16384, description="hidden width of the towers' MLPs; 0: linear"
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="must be 0 under privacy")
    objective: Literal["ranking", "click", "rating", "click_rating"] = Field(
        "ranking", description="click_rating: two outputs over the same towers, trained jointly"
    )
    rating_weight: float = Field(
        1.0, gt=0, le=100, description="click_rating: of the squared error beside the click loss"
    )
    rating_low: float = Field(1.0, description="click_rating: least rating of the scale")
    rating_high: float = Field(5.0, description="click_rating: greatest rating of the scale")
    context: str = Field(
        "",
        description="what the user's side reads beside the history, a comma list of user "
        "(attributes), time (of the request); never leaves the site; empty: none",
    )
    context_dim: int = Field(
        64, ge=1, le=4096, description="context user: buckets that attributes are hashed into"
    )
    item_vectors_weight: float = Field(
        0.0, ge=0, le=100, description="spread of item vectors beside the texts' 1; 0: not read"
    )
    item_vectors_sha256: str = Field(
        "",
        pattern=r"^([0-9a-f]{64})?$",
        description="hash of the item vectors that every site must have; a simulation sets it",
    )
    max_history: int = Field(150, ge=1, description="most recent items that the user tower reads")
    history_gradient: bool = Field(
        False,
        description="history rows carry LoRA's gradient too, instead of the round's item table",
    )
    popularity_prior: bool = Field(True, description="release popularity once and use it")
    item_to_item: bool = Field(
        False, description="release co-occurrence of items once and mix it into the scores"
    )
    item_to_item_items: int = Field(
        0, ge=0, le=4000, description="over so many of the most popular items; 0: all"
    )
    item_to_item_half_life: float = Field(
        20.0, gt=0, description="of a pair's weight, in places between the two in the history"
    )
    item_to_item_ridge: float = Field(
        4.0, gt=0, description="against the mean count of an item; without noise"
    )
    item_to_item_weight: float = Field(1.4, ge=0, description="beside the recommender's score")


class PrivacyConfig(Section):
    """The claim to be made and the mechanism that keeps it."""

    mode: Literal["none", "local", "distributed", "central"] = Field(
        "distributed",
        description="who adds the noise: nobody, each site, all sites together, the server",
    )
    unit: PrivacyUnit = Field(
        "user", description="the privacy unit; example (one interaction and its history) is weaker"
    )
    target_epsilon: float = Field(
        8.0, gt=0, allow_inf_nan=True, description="for the whole run, all releases"
    )
    target_delta: float = Field(
        1e-4,
        gt=0,
        lt=1,
        description="below 1/(number of units); there are more examples than users",
    )
    noise_multiplier: Positive | Literal["auto"] = Field("auto", description="σ; auto: calibrated")
    clipping: Literal["gradient", "update"] = Field(
        "gradient",
        description="what of a unit is clipped: its gradient (DP-SGD), or its whole local update "
        "(DP-FedAvg)",
    )
    clip_rule: Literal["flat", "auto_s"] = Field(
        "flat", description="flat: units longer than C are cut; auto_s: every unit is scaled to C"
    )
    max_grad_norm: float = Field(1.0, gt=0, description="C, over all trainable tensors jointly")
    sample_rate: float = Field(1.0, gt=0, le=1, description="q, Poisson sampling of units")
    targets_per_unit: int = Field(40, ge=1, description="m, bound on a unit's contribution")
    negatives_per_unit: int = Field(
        200,
        ge=0,
        description="K, drawn inside the unit; 0: all items, in mode none and for small catalogues",
    )
    shown_per_unit: int = Field(
        20, ge=1, description="data.shown_negatives: at most so many of the K are shown items"
    )
    popularity_noise_multiplier: float = Field(1.4, gt=0, description="σ of the popularity release")
    cooccurrence_noise_multiplier: float = Field(
        2.0, gt=0, description="σ of the co-occurrence release"
    )
    max_dropouts: Annotated[int, Field(ge=0)] | Literal["auto"] = Field(
        "auto", description="distributed: sites that may vanish in a round; auto: a tenth"
    )
    max_colluders: int = Field(1, ge=0, description="distributed: sites that may help the server")
    min_honest: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        "auto", description="distributed: sites that share the noise; auto: all but both above"
    )
    max_site_units: int = Field(
        1000, ge=1, description="distributed, central: bound on the units that a site declares"
    )
    insecure_seeded_noise: bool = Field(False, description="tests only; voids the guarantee")


class FederationConfig(Section):
    """Rounds, local work, and how the server combines updates."""

    rounds: int = Field(4, ge=1)
    local_steps: int = Field(1, ge=1, description="steps per site and round")
    units_per_step: int = Field(32, ge=1, description="mode none: units per step, shuffled")
    local_optimizer: Literal["sgd", "adam"] = "sgd"
    local_lr: float = Field(4.7, gt=0)
    lr_schedule: Literal["constant", "cosine"] = Field(
        "constant", description="of local_lr over server rounds; cosine falls towards 0"
    )
    weight_decay: float = Field(0.0, ge=0, description="local adam only")
    lora_lr_scale: float = Field(0.01, gt=0, description="LoRA's step size relative to local_lr")
    server_optimizer: Literal["fedavg", "fedavgm", "fedadam"] = "fedavg"
    server_lr: float = Field(1.0, gt=0)
    server_momentum: float = Field(0.9, ge=0, lt=1)
    weighting: Literal["equal", "declared", "fair"] = Field(
        "equal", description="public weights only; fair: more to sites of low released utility"
    )
    fairness_q: float = Field(5.0, ge=0, description="fair: weight (1 − NDCG@10)^q; 0: equal")
    sites_per_round: int = Field(
        0, ge=0, description="sites drawn for each round; 0: all; claims no amplification"
    )
    min_sites: int = Field(2, ge=1, description="fewer replies than this end the run")
    round_deadline_s: float = Field(3600.0, gt=0)
    seed: int = Field(0, ge=0, description="initialisation and the non-private sampler")
    warm_start: str = Field(
        "", description="folder of a finished run whose adapter this one starts from; empty: none"
    )


class EvaluationConfig(Section):
    """How the adapter is examined. Exact figures are for the lab only."""

    every: int = Field(1, ge=0, description="validate each E rounds; 0: only at the end")
    patience: int = Field(
        0,
        ge=0,
        description="end the run once so many validations in a row had no better NDCG@10; "
        "0: never; a private run needs metrics=private",
    )
    metrics: Literal["exact", "private", "none"] = Field(
        "exact", description="asked of sites; exact: lab only; private: noised, charged releases"
    )
    metrics_noise_multiplier: float = Field(
        4.0, gt=0, description="σ of one private metrics release"
    )
    bootstrap_resamples: int = Field(2000, ge=100)
    companions: str = Field(
        "frozen,central",
        description="runs of the lab beside this one, a comma list of frozen, central, time_cut, "
        "last_fifth; empty: none",
    )
    lab: bool = Field(
        True, description="after the run, rank for every user and baseline; loads all data"
    )
    personal_steps: int = Field(
        0, ge=0, description="fairness tables: steps of each site's own user tower; 0: no such row"
    )
    personal_lr: float = Field(0.001, gt=0, description="step size of these, by Adam")
    exposure_penalty: float = Field(
        0.0, ge=0, description="fairness tables: re-ranking against popularity; 0: no such row"
    )
    audit_canaries: int = Field(
        0,
        ge=0,
        le=20_000,
        description="audit run (fedrec simulate --audit): made-up users, each in by a coin; "
        "simulated sites only",
    )
    audit_commitment: str = Field(
        "",
        pattern=r"^([0-9a-f]{64})?$",
        description="audit run: SHA-256 that binds the canaries' secret; set by the run",
    )


class EngineConfig(Section):
    """What the run is computed with; it changes nothing but rounding."""

    kind: Literal["inprocess", "flower"] = "inprocess"
    training: Literal["stacked", "site_by_site"] = Field(
        "stacked", description="inprocess: many sites in one batch, or each by itself"
    )
    device: str = Field(
        "auto", pattern=r"^(auto|cpu|cuda(:[0-9]{1,3})?)$", description="auto, cpu, cuda or cuda:N"
    )
    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="of the frozen weights and states; the adapter stays in fp32"
    )
    workers: int = Field(
        1, ge=1, le=256, description="inprocess: processes that share the sites, one per GPU if any"
    )
    threads: int = Field(0, ge=0, description="torch threads, shared by workers; 0: all cores")
