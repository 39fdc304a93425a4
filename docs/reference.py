"""The reference: a page for every namespace and public name, from signatures and docstrings."""

import inspect
import re
import textwrap

import jaxdeep as jd

SECTION = re.compile(
    r"^(Args|Attributes|Returns|Yields|Raises|Source|Example|Examples|Note):[ \t]*", re.MULTILINE
)
NESTED = ("activations", "initializers")  # namespaces inside jd.nn


def names():
    """Every public name with what it stands for: ``"nn.dense"``, ``"fit"``."""
    found = {}
    for name in jd.__all__:
        value = getattr(jd, name)
        if not inspect.ismodule(value):
            found[name] = value
            continue
        for inner in value.__all__:
            made = getattr(value, inner)
            if inspect.ismodule(made):
                found |= {f"{name}.{inner}.{one}": getattr(made, one) for one in public(made)}
            else:
                found[f"{name}.{inner}"] = made
    return found


def public(module):
    """The public names of a namespace."""
    return getattr(module, "__all__", None) or [n for n in vars(module) if not n.startswith("_")]


def pages():
    """The pages by path."""
    known = names()
    spaces = {}
    for name in known:
        spaces.setdefault(name.rpartition(".")[0], []).append(name)
    made = {path_of(name): page(name, value, known) for name, value in known.items()}
    for space, inside in spaces.items():
        if space:
            made[f"reference/{space.replace('.', '/')}/index.md"] = overview(space, inside, known)
    made["reference/index.md"] = face(spaces, known)
    return made


def path_of(name):
    """The page of a name."""
    return f"reference/{name.replace('.', '/')}.md"


def face(spaces, known):
    """The first page: the functions of the face, and the namespaces."""
    rows = [f"| [`jd.{name}`]({name}.md) | {first_line(known[name])} |" for name in spaces[""]]
    for space in spaces:
        if space:
            value = jd
            for part in space.split("."):
                value = getattr(value, part)
            rows.append(f"| [`jd.{space}`]({space.replace('.', '/')}/index.md) | {first_line(value)} |")
    return "# Reference\n\n| name | what it is |\n| --- | --- |\n" + "\n".join(rows) + "\n"


def overview(space, inside, known):
    """The page of a namespace."""
    value = jd
    for part in space.split("."):
        value = getattr(value, part)
    rows = []
    for name in inside:
        short = name.rpartition(".")[2]
        rows.append(f"| [`{short}`]({short}.md) | {first_line(known[name])} |")
    up = "../" * (space.count(".") + 1)
    text = described(value, space, known) if value.__doc__ else ""
    table = "| name | what it is |\n| --- | --- |\n" + "\n".join(rows)
    nested = ", ".join(f"[`jd.nn.{one}`]({one}/index.md)" for one in NESTED if space == "nn")
    parts = [f"# jd.{space}", f"[Reference]({up}index.md)", text, table, nested]
    return "\n\n".join(part for part in parts if part) + "\n"


def first_line(value):
    """The purpose in a line of a table."""
    line = inspect.getdoc(value) or ""
    line = " ".join(line.partition("\n\n")[0].split())
    return line.replace("``", "`").replace("|", "\\|")


def page(name, value, known):
    """The page of a name."""
    space, _, short = name.rpartition(".")
    depth = name.count(".")
    up = f"[Reference]({'../' * depth}index.md)" + (f" › [`jd.{space}`](index.md)" if space else "")
    # `activation` in the text of a function with an argument of this name is that argument
    own = arguments(value) | {short}
    known = {other: one for other, one in known.items() if other.rpartition(".")[2] not in own}
    parts = [f"# jd.{name}", up, block(signature(f"jd.{name}", value)), described(value, space, known)]
    if inspect.isclass(value):
        for method, function in members(value):
            parts.append(f"## {method}")
            if not isinstance(function, property):
                parts.append(block(signature(method, function, skip=1)))
            text = function.fget if isinstance(function, property) else function
            parts.append(described(text, space, known))
    source = inspect.getsourcefile(inspect.unwrap(value)) if callable(value) else None
    if source and "jaxdeep" in source:
        parts.append(f"Defined in `jaxdeep{source.rpartition('jaxdeep')[2]}`.")
    return "\n\n".join(part for part in parts if part) + "\n"


def arguments(value):
    """The names of the arguments."""
    try:
        return set(inspect.signature(value).parameters)
    except (TypeError, ValueError):
        return set()


def members(cls):
    """Public methods and properties that the class itself documents."""
    for name, value in vars(cls).items():
        function = getattr(value, "__func__", value)
        known = inspect.isfunction(function) or isinstance(function, property)
        if known and not name.startswith("_") and inspect.getdoc(function):
            yield name, function


def block(text):
    """Python to look at."""
    return text and f"```python\n{text}\n```"


def signature(name, value, skip=0):
    """The call with its defaults, an argument a line if it is long."""
    try:
        parameters = list(inspect.signature(value).parameters.values())[skip:]
    except (TypeError, ValueError):
        return ""
    texts, keyword, before = [], False, None
    for p in parameters:
        if before is p.POSITIONAL_ONLY and p.kind is not p.POSITIONAL_ONLY:
            texts.append("/")
        if p.kind is p.KEYWORD_ONLY and not keyword:
            texts.append("*")
        keyword = keyword or p.kind in (p.KEYWORD_ONLY, p.VAR_POSITIONAL)
        star = {p.VAR_POSITIONAL: "*", p.VAR_KEYWORD: "**"}.get(p.kind, "")
        default = "" if p.default is p.empty else f"={shown(p.default)}"
        texts.append(f"{star}{p.name}{default}")
        before = p.kind
    line = f"{name}({', '.join(texts)})"
    if len(line) <= 88:
        return line
    return f"{name}(\n" + "".join(f"    {text},\n" for text in texts) + ")"


def shown(value):
    """A default."""
    if isinstance(value, (str, int, float, tuple, list, dict, type(None))):
        return repr(value)
    return getattr(value, "__name__", None) or re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def described(value, space, known):
    """A docstring as Markdown."""
    text = re.sub(r":\w+:`", "`", inspect.getdoc(value) or "")  # JAX' own are in reStructuredText
    text = re.sub(r"\.\. math::\n+((?:[ ]{2,}.*\n?)+)", r"```text\n\1```\n", text)
    first, *rest = SECTION.split(text)
    parts = [prose(first, space, known)]
    for title, body in zip(rest[::2], rest[1::2]):
        if title in ("Args", "Attributes", "Raises"):
            items, after = listed(body, space, known)
            parts.append(f"**{title}**\n\n{items}")
            parts.append(prose(after, space, known))
        else:
            # the examples stand behind the last section
            start = re.search(r"^ *>>> ", body, re.MULTILINE)
            inline, code = (body[: start.start()], body[start.start() :]) if start else (body, "")
            parts.append(f"**{title}**: {prose(inline, space, known)}" if inline.strip() else "")
            parts.append(prose(code, space, known))
    return "\n\n".join(part for part in parts if part.strip())


def listed(body, space, known):
    """``argument: what it is`` as a list, and what follows the section."""
    items, after = [], []
    lines = body.strip("\n").split("\n")
    for i, line in enumerate(lines):
        if line and not line.startswith(" ") and i:  # the section has ended
            after = lines[i:]
            break
        if re.match(r"  ?\S|\S", line) and ":" in line:
            what, _, text = line.strip().partition(":")
            items.append([what, text.strip()])
        elif items:
            items[-1][1] += " " + line.strip()
        elif line.strip():
            items.append(["", line.strip()])
    texts = []
    for what, text in items:
        line = linked(" ".join(text.split()), space, known)
        texts.append(f"- `{what.strip('` ')}`: {line}" if what else f"- {line}")
    return "\n".join(texts), "\n".join(after)


def prose(text, space, known):
    """Paragraphs, examples and literal blocks."""
    parts = []
    for paragraph in re.split(r"\n\s*\n", text.strip("\n")):
        lines = textwrap.dedent(paragraph).split("\n")
        prompt = next((i for i, line in enumerate(lines) if line.lstrip().startswith(">>>")), None)
        if prompt is None:
            literal = paragraph.startswith("    ")
            text = re.sub(r"::$", ":", "\n".join(lines))
            parts.append(textwrap.indent(text, "    ") if literal else linked(text, space, known))
            continue
        if before := "\n".join(lines[:prompt]):
            parts.append(linked(before, space, known))
        code = "\n".join(re.sub(r"\s*# doctest:.*", "", line) for line in lines[prompt:])
        parts.append(f"```pycon\n{code}\n```")
    return "\n\n".join(parts)


def linked(text, space, known):
    """The text with links from names in backticks to their pages."""

    def link(match):
        word = match[1]
        short = re.sub(r"^(jaxdeep|jd)\.", "", word)
        found = next((one for one in (short, f"{space}.{short}") if one in known), None)
        if found is None:
            return match[0]
        up = "../" * (space.count(".") + 1 if space else 0)
        return f"[`{word}`]({up}{path_of(found).removeprefix('reference/')})"

    return re.sub(r"(?<!`)`([\w.]+)`(?!`)", link, text)
