"""Small TOML files that a command wrote and an operator may have changed."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from common.atomic_files import file_errors
from common.errors import ConfigError

M = TypeVar("M", bound=BaseModel)


def read_settings(path: Path, model: type[M]) -> M:
    """The settings in `path`, as `model` has them.

    Raises:
        ConfigError: with all faults of the file.
        RunFolderError: it cannot be read.
    """
    with file_errors("read", path):
        content = path.read_bytes()
    try:
        return model.model_validate(tomllib.loads(content.decode("utf-8")))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError([f"{path} is not valid TOML: {error}; correct it"]) from error
    except ValidationError as error:
        raise ConfigError(
            [
                f"{'.'.join(map(str, fault['loc']))} in {path}: {fault['msg']}; correct it"
                for fault in error.errors(include_url=False)
            ]
        ) from error
