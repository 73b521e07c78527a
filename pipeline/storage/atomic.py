"""Files that are there whole or not at all: the one implementation is :mod:`hmar.atomic`, models need it too."""

from hmar.atomic import (
    TEMPORARY,
    flush,
    fsync_tree,
    new_directory,
    publish_file,
    read_json,
    storage_errors,
    sweep,
    write_json,
    write_text,
)

__all__ = [
    "TEMPORARY",
    "flush",
    "fsync_tree",
    "new_directory",
    "publish_file",
    "read_json",
    "storage_errors",
    "sweep",
    "write_json",
    "write_text",
]
