"""For matchers of monmon in Python: what stands between the contract's bindings and a plugin."""

import functools
import json

from componentize_py_types import Err
from wit_world.imports import host, types


def parameter(name, kind, help, many=False, required=False, default=None, one_of=(), min=None, max=None):
    """One thing that `config { }` in the pipeline file may say. `kind`: boolean, integer, number or text."""
    return types.Parameter(
        name=name,
        kind=types.Kind[kind.upper()],
        many=many,
        required=required,
        default=default,
        one_of=list(one_of),
        min=min,
        max=max,
        help=help,
    )


def description(name, version, help, body=False, headers=False, parameters=()):
    """What a plugin is. `body`, `headers`: what it looks at."""
    needs = types.Needs(0)
    if body:
        needs |= types.Needs.BODY
    if headers:
        needs |= types.Needs.HEADERS
    return types.Description(name=name, version=version, help=help, needs=needs, parameters=list(parameters))


def verdict(matched, message=None, values=None, metrics=None):
    """The plugin's word. `values`: a dict of texts; `metrics`: a dict of (number, unit)."""
    return types.Verdict(
        matched=matched,
        message=message,
        values=list((values or {}).items()),
        metrics=[types.Metric(name, float(value), unit) for name, (value, unit) in (metrics or {}).items()],
    )


def guarded(call):
    """Makes what a method raises an error of the plugin's. Without it an exception is a bare trap.

    `ValueError` is told in its own words; of anything else the place alone, since its words may have the page in them.
    """

    @functools.wraps(call)
    def inner(*arguments):
        try:
            return call(*arguments)
        except Err:
            raise
        except ValueError as error:
            raise Err(str(error)) from error
        except Exception as error:
            # By hand: the traceback module would look for source files, and there are none.
            at = error.__traceback__
            while at.tb_next:
                at = at.tb_next
            place = f"line {at.tb_lineno} of {at.tb_frame.f_code.co_name}"
            raise Err(f"{type(error).__name__} in {place}") from error

    return inner


def config(text):
    """The configuration as a dict."""
    return json.loads(text)


def text(body):
    """A body as text; what is not UTF-8 becomes U+FFFD."""
    return bytes(body).decode("utf-8", "replace")


def header(response, name):
    """The first header of this name, or None."""
    for known in response.headers:
        if known.name == name.lower():
            return bytes(known.value).decode("utf-8", "replace")
    return None


def log(level, message):
    """Writes a line to monmon's log. `level`: debug, info, warn or error."""
    host.log(host.Level[level.upper()], message)
