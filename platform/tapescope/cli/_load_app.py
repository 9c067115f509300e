"""Importing the manager of a program that the command line names: ``module:manager``."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType

from tapescope.errors import TapescopeError
from tapescope.manager.manager import TaskManager

__all__ = ["BadApp", "load_manager"]


class BadApp(TapescopeError):
    """A program that cannot be used as the app of a worker."""

    def __init__(self, app: str, why: str) -> None:
        self.app, self.why = app, why
        super().__init__(f"The app {app!r} cannot be used: {why}.")


def load_manager(app: str, folder: Path | None = None) -> TaskManager:
    """Import the module, from this folder too, and give its manager. Raises ``BadApp``.

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
            raise BadApp(app, f"{name!r} has no {path!r}{_list_managers(module)}")
        target = getattr(target, part)
    if not isinstance(target, TaskManager):
        what = f"{path!r} is a {type(target).__name__}, not a TaskManager"
        raise BadApp(app, f"{what}{_list_managers(module)}")
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


def _list_managers(module: ModuleType) -> str:
    names = [name for name, value in vars(module).items() if isinstance(value, TaskManager)]
    return f"; its managers: {', '.join(names)}" if names else ""
