"""Files that are delivered twice."""

import shutil
from pathlib import PurePosixPath

from hmar.errors import SettingsError
from pipeline.simulate.delivery import Account, Delivery
from pipeline.simulate.formats.base import Kind
from pipeline.simulate.settings import SimulateSettings
from pipeline.simulate.world import generator

MARK = "_again"
"""Comes after the separators in file names, so the copy comes after the original in order of names."""


def deliver_again(s: SimulateSettings, delivery: Delivery, kind: Kind) -> None:
    """Copy ``dirt.duplicate_files`` daily files under a name that comes after theirs, and account for the copies.

    Where equal rows are separate events, a file that came before is known by its content and none of its rows counts;
    elsewhere its rows are judged one by one, and the good ones are duplicates.

    Raises:
        SettingsError: fewer files were written.
    """
    count = s.dirt.duplicate_files
    if not count:
        return
    names = delivery.of(kind)
    if count > len(names):
        raise SettingsError(f"dirt.duplicate_files: {count} asked for, but the log has {len(names)}; choose fewer")
    for place in sorted(generator(s.seed, 6).choice(len(names), count, replace=False).tolist()):
        name = names[place]
        again = _renamed(name)
        (delivery.directory / again).parent.mkdir(exist_ok=True)
        shutil.copyfile(delivery.directory / name, delivery.directory / again)
        old = delivery.accounts[name]
        whole = s.format.identical_rows == "event"
        delivery.accounts[again] = Account(
            duplicates=old.rows if whole else old.events + old.duplicates, quarantined=0 if whole else old.quarantined
        )


def _renamed(name: str) -> str:
    path = PurePosixPath(name)
    if len(path.parts) > 1:
        return f"{path.parts[0]}{MARK}/{path.name}"
    return f"{path.name.split('.')[0]}{MARK}{''.join(path.suffixes)}"
