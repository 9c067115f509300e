"""Importing what a worker is to run, which the command line names: ``module:manager``."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType

from tapescope.errors import TapescopeError
from tapescope.manager.manager import TaskManager
from tapescope.manager.ops import Ops

__all__ = ["BadApp", "load_manager"]


class BadApp(TapescopeError):
    """A program that cannot be used as the app of a worker."""

    def __init__(self, app: str, why: str) -> None:
        self.app, self.why = app, why
        super().__init__(f"The app {app!r} cannot be used: {why}.")


def load_manager(app: str, folder: Path | None = None, store: str | None = None) -> TaskManager:
    """Import the module, from this folder too, and give its manager, or one for its ``Ops``.

    ``store`` is the URL for the latter. Raises ``BadApp``, and for the URL what a manager raises.

    Without a folder that is the current one, unless Python was told not to trust it
    (``PYTHONSAFEPATH``, ``-P``). What is installed goes before it: a file there cannot take the
    place of a driver that a store imports later.
    """
    if folder is None and not sys.flags.safe_path:
        folder = Path.cwd()
    if folder is not None and str(folder.resolve()) not in sys.path:
        sys.path.append(str(folder.resolve()))
    name, colon, path = app.partition(":")
    if not (name and colon and path):
        raise BadApp(app, "write it as module:manager, as in 'shop.tasks:manager'")
    module = _import(app, name)
    target: object = module
    for part in path.split("."):
        if not hasattr(target, part):
            raise BadApp(app, f"{name!r} has no {path!r}{_list_apps(module)}")
        target = getattr(target, part)
    if isinstance(target, Ops):
        if store is None:
            raise BadApp(app, f"{path!r} is an Ops, which has no store: name one, with --store URL")
        target = TaskManager(store, ops=target)
    if not isinstance(target, TaskManager):
        name = type(target).__name__
        what = (
            f"{path!r} is {'an' if name[0] in 'AEIOU' else 'a'} {name}, not a TaskManager or an Ops"
        )
        raise BadApp(app, f"{what}{_list_apps(module)}")
    if not target.ops:
        raise BadApp(app, f"{path!r} has no op: register one with @{path}.op('name')")
    return target


def _import(app: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise BadApp(app, f"there is no module {error.name!r} {_describe_search()}") from error
        raise BadApp(app, _describe(error)) from error
    except (Exception, SystemExit) as error:
        # Whatever the user's code raises while it is imported; also a script that ends itself.
        raise BadApp(app, _describe(error)) from error


def _describe_search() -> str:
    if sys.flags.safe_path:
        return "among those installed; with PYTHONSAFEPATH its folder must be named: --app-dir"
    return "in this folder or among those installed; --app-dir names another folder"


def _describe(error: BaseException) -> str:
    """What an import raised, and the line of the user's code that raised it."""
    if isinstance(error, SyntaxError):
        return f"its module has a syntax error: {error}"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<") and frame.filename != __file__
        if f"{os.sep}importlib{os.sep}" not in frame.filename
    ]
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"importing its module raised {type(error).__name__}: {error}{where}"


def _list_apps(module: ModuleType) -> str:
    names = [name for name, it in vars(module).items() if isinstance(it, TaskManager | Ops)]
    return f"; it has {', '.join(names)}" if names else ""
