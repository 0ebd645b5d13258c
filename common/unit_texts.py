"""The two privacy units in words, one wording for every output.

A *training example* is one target interaction together with the history that the model was
shown as its input. Neighbouring data sets differ in one such example; the histories of the
other examples stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

PrivacyUnit: TypeAlias = Literal["user", "example"]


CONTEXT_INPUTS: Mapping[str, str] = {
    "user": "users' attributes",
    "time": "times of interactions",
}
"""What a model with context is trained on beside items, by the names of `model.context`."""

CONTEXT_OF_EXAMPLES: Mapping[str, str] = {
    "user": (
        "a user's attributes: every example of that user carries them, so that they have the "
        "guarantee of a user with k examples"
    ),
    "time": "the time of an interaction as it appears in the pause before the next example",
}
"""What examples do not protect where the model reads context, by the same names."""


@dataclass(frozen=True)
class UnitWords:
    """What an output says of a unit.

    Attributes:
        unit: its name, a value of `privacy.unit`.
        one: with its article.
        many: its plural.
        relation: the pair of data sets that the guarantee compares.
        site: whose site something leaves: the unit's.
        note: one sentence on what the unit does not give; empty for a user.
        persons: what the guarantee comes to for a person with several units.
    """

    unit: PrivacyUnit
    one: str
    many: str
    relation: str
    site: str
    note: str
    persons: str


UNIT_WORDS: Mapping[str, UnitWords] = {
    "user": UnitWords(
        unit="user",
        one="a user",
        many="users",
        relation="add or remove all data of one user",
        site="their site",
        note="",
        persons=(
            "A person is assumed to be a user of one site only. Someone who is a user at k sites "
            "is k units, and the guarantee for that person weakens by group privacy as stated "
            "above."
        ),
    ),
    "example": UnitWords(
        unit="example",
        one="an example",
        many="examples",
        relation=(
            "add or remove one training example, which is one target interaction with the history "
            "that the model was shown for it; the histories of the other examples stay unchanged"
        ),
        site="its site",
        note=(
            "Example-level privacy is weaker than user-level privacy: a user with k examples has "
            "at most group privacy of size k, and an interaction is not protected as it appears "
            "in the histories of other examples."
        ),
        persons=(
            "Every training interaction of a user is an example of its own. A user with k examples "
            "is k units, at however many sites, and the guarantee for that user weakens by group "
            "privacy as stated above."
        ),
    ),
}
