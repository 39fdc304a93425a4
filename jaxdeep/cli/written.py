"""Values with the Python that makes them: what a command runs is what its script says."""

import json
import operator
from typing import Any, NamedTuple

_WIDTH = 88


class Written(NamedTuple):
    """A value, and the expression that makes it."""

    value: Any
    code: str


def name(path: str) -> Written:
    """What stands under a dotted path, of ``jd``, ``jax`` or ``optax``.

    >>> name("jax.nn.relu").value.__name__
    'relu'
    """
    import jax
    import optax

    import jaxdeep

    root, _, rest = path.partition(".")
    return Written(operator.attrgetter(rest)({"jd": jaxdeep, "jax": jax, "optax": optax}[root]), path)


def call(function: str | Written, /, *args: Any, **kwargs: Any) -> Written:
    """A call of the function of this path; arguments are plain values, or `Written` ones.

    >>> call("jd.nn.dense", 10, use_bias=False).code
    'jd.nn.dense(10, use_bias=False)'
    """
    function = name(function) if isinstance(function, str) else function
    value = function.value(*map(_value, args), **{key: _value(one) for key, one in kwargs.items()})
    texts = [code(one) for one in args] + [f"{key}={code(one)}" for key, one in kwargs.items()]
    return Written(value, called(function.code, texts))


def called(function: str, arguments: list[str]) -> str:
    """A call as text, an argument a line if it is long.

    >>> called("f", ["1", "a=2"])
    'f(1, a=2)'
    """
    line = f"{function}({', '.join(arguments)})"
    if len(line) <= _WIDTH and "\n" not in line:
        return line
    lines = "".join(f"    {text},\n" for text in (one.replace("\n", "\n    ") for one in arguments))
    return f"{function}(\n{lines})"


def code(value: Any) -> str:
    """The literal of a plain value, or the expression of a `Written` one.

    >>> code({"a": (1, "x"), "b": [1e-3]}), code(call("jd.nn.flatten"))
    ('{"a": (1, "x"), "b": [0.001]}', 'jd.nn.flatten()')
    """
    if isinstance(value, Written):
        return value.code
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{code(key)}: {code(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(code, value))}]"
    if type(value) is tuple:
        return f"({', '.join(map(code, value))}{',' * (len(value) == 1)})"
    return repr(value)


def _value(value: Any) -> Any:
    return value.value if isinstance(value, Written) else value
