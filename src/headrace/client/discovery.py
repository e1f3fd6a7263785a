"""Finding an application by its name: `jobs:app`, or `package.module:app`.

Every way in which this can fail is a sentence; only what the module itself raises while
it is imported keeps its traceback, since that is the application's own.
"""

from __future__ import annotations

import importlib
import sys

from headrace.client.app import App
from headrace.client.env_access import default_env
from headrace.client.errors import NotFound

_EXAMPLE = "Name it as module:variable, such as jobs:app."


def load_app(target: str) -> App:
    """The `App` that `target` names; its module is imported from the working directory too.

    Raises: `NotFound`; whatever the module raises while it is imported.
    """
    module_name, colon, variable = target.partition(":")
    if not colon or not module_name or not variable:
        raise NotFound(f"{target!r} does not name an application.", hint=_EXAMPLE)
    module = _import(module_name, target)
    found = getattr(module, variable, None)
    if isinstance(found, App):
        return found
    apps = [name for name, value in vars(module).items() if isinstance(value, App)]
    there_are = f"It has: {', '.join(apps)}." if apps else "It has no App at all."
    if found is None:
        raise NotFound(f"Module {module_name!r} has no {variable!r}.", hint=there_are)
    raise NotFound(f"{target!r} is not an App, but a {type(found).__name__}.", hint=there_are)


def _import(module_name: str, target: str) -> object:
    directory = default_env().host.working_directory()
    if directory not in sys.path:
        sys.path.insert(0, directory)
    if module_name.endswith(".py"):
        raise NotFound(
            f"{target!r} names a file.", hint=f"Write {module_name[:-3]}:{target.split(':')[1]}."
        )
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise NotFound(
            f"There is no module {error.name!r} for {target!r}.",
            hint=f"Looked in {directory} and in the installed packages.",
        ) from None
