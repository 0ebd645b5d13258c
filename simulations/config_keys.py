"""Every key of the configuration with its default, what it must be, and what it means."""

from __future__ import annotations

from common.budget_tables import KEYS_TEXT
from common.config_faults import SECTIONS, requirement, shown


def config_keys_text() -> str:
    """Return the configuration with all defaults as TOML, each key with a comment."""
    blocks = []
    for section, model in SECTIONS.items():
        lines = [f"[{section}]  # {(model.__doc__ or '').strip()}"]
        for name, field in model.model_fields.items():
            must, meaning = requirement(field), field.description or ""
            comment = f"{must}: {meaning}" if meaning not in ("", must) else must
            lines.append(f"{name} = {shown(field.default)}  # {comment}")
        blocks.append("\n".join(lines))
    return "\n\n".join([*blocks, KEYS_TEXT])
