"""A word in place of a path that must not be shown, such as that of a site's folder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path


def without_paths(text: str, hidden: Mapping[Path, str]) -> str:
    """`text` with a word for each hidden path; one without a slash may be a word of the text."""
    names = {
        form: word
        for path, word in hidden.items()
        for form in (str(path.absolute()), str(path.resolve()), str(path))
        if form not in (".", "/")
    }
    for form in sorted(names, key=len, reverse=True):
        ends = "" if "/" in form else "(?=/)"
        text = re.sub(rf"(?<![\w./-]){re.escape(form)}{ends}", names[form], text)
    return text
