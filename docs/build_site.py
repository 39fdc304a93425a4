"""Build the site (`make docs`): pages of this folder and others', the reference, the gallery.

    python docs/build_site.py            # pages into build/docs, the site into site/
    python docs/build_site.py --pages    # the pages alone, for `mkdocs build` with Material for MkDocs

Pages are made of what there is: the README is the first, the guide becomes a page for each section,
notebooks become pages with their pictures, and every public name gets a page from its signature and
docstring. Links between files become links between pages. Beside each page lies its Markdown, which
llms.txt lists.
"""

import argparse
import base64
import html.parser
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import urllib.parse

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
PAGES, SITE = ROOT / "build" / "docs", ROOT / "site"
sys.path[:0] = [str(HERE), str(ROOT)]

# What becomes of a file of the repository, for links: its page.
MOVED = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "docs/guide.md": "guide/index.md",
    "docs/headline.md": "benchmarks/headline.md",
    "docs/optimizers.md": "benchmarks/optimizers.md",
    "notebooks": "gallery/index.md",
}
PROMISES = ("Versions, and what may change", "The oldest and the newest versions")
GENERATED = ("docs", "benchmarks/results", "notebooks")


def slug(heading):
    """The anchor of a heading, as Markdown's table of contents makes it."""
    text = re.sub(r"[^\w\s-]", "", heading.lower()).strip()
    return re.sub(r"[-\s]+", "-", text)


def sections(text):
    """What stands in front of the first heading of the second level, and the text of each of them."""
    first, *rest = re.split(r"^## ", outside_blocks(text), flags=re.MULTILINE)
    parts = [part.partition("\n") for part in rest]
    return restored(first), {name: restored(body) for name, _, body in parts}


def outside_blocks(text):
    """The text with the # of code blocks hidden."""
    hide = lambda block: block[0].replace("\n#", "\n\0")  # noqa: E731
    return re.sub(r"^```.*?^```", hide, text, flags=re.MULTILINE | re.DOTALL)


def restored(text):
    """The text with them again."""
    return text.replace("\0", "#")


def guide():
    """The guide: its first page, and one for each section; and where the anchors of its headings are."""
    first, parts = sections((HERE / "guide.md").read_text())
    pages, anchors = {}, {}
    for name, body in parts.items():
        page = f"guide/{slug(name)}.md"
        anchors[slug(name)] = page
        for inner in re.findall(r"^### (.*)", outside_blocks(body), flags=re.MULTILINE):
            anchors[slug(inner)] = f"{page}#{slug(inner)}"
        raised = re.sub(r"^###", "##", outside_blocks(body), flags=re.MULTILINE)
        start = "*Part of the [guide](guide.md): blocks use what those of the pages before made.*"
        pages[page] = f"# {name}\n\n{start}\n{restored(raised)}"
    listed = "".join(f"- [{name}](#{slug(name)})\n" for name in parts)
    pages["guide/index.md"] = f"{first.rstrip()}\n\n{listed}"
    return pages, anchors


def benchmarks():
    """The tables of measurements, and a page that lists them."""
    pages = {"benchmarks/headline.md": read("docs/headline.md")}
    pages["benchmarks/optimizers.md"] = read("docs/optimizers.md")
    for file in sorted((ROOT / "benchmarks" / "results").glob("*.md")):
        pages[f"benchmarks/{file.name}"] = file.read_text()
    listed = ""
    for page, text in pages.items():
        title = re.search(r"^# (.*)", text, re.MULTILINE)
        title = title[1] if title else page.rpartition("/")[2][:-3].replace("_", " ").capitalize()
        listed += f"- [{title}]({page.rpartition('/')[2]})\n"
        pages[page] = text if text.startswith("# ") else f"# {title}\n\n{text}"
    intro = "Measured side by side on two CPU cores, each with the command that measures it again."
    pages["benchmarks/index.md"] = f"# Benchmarks\n\n{intro}\n\n{listed}"
    return pages


def gallery():
    """The notebooks with what they put out, and a page of their first pictures."""
    pages, listed = {}, ""
    for file in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb")):
        text, pictures = notebook(file)
        page = f"gallery/{file.stem}.md"
        pages |= {page: text, **pictures}
        title = re.search(r"^# (.*)", text, re.MULTILINE)[1]
        about = next(part for part in text.split("\n\n")[1:] if part.strip()[:1].isalpha())
        shown = next(iter(pictures), None)
        image = f"\n\n[![]({shown.partition('/')[2]})]({file.stem}.md)" if shown else ""
        listed += f"\n## [{title}]({file.stem}.md)\n\n{' '.join(about.split())}{image}\n"
    return {**pages, "gallery/index.md": f"# Gallery\n\nThe chapter, live.\n{listed}"}


def notebook(file):
    """A notebook as Markdown, and its pictures."""
    parts, pictures = [], {}
    for cell in json.loads(file.read_text())["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(with_mathml(re.sub(r"^\[!\[Open in Colab\].*\n?", "", source, flags=re.M)))
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell.get("outputs", ()):
            data = output.get("data", {"text/plain": output.get("text", "")})
            if "image/png" in data:
                name = f"{file.stem}-{len(pictures)}.png"
                pictures[f"gallery/{name}"] = base64.b64decode(data["image/png"])
                parts.append(f"![]({name})")
            elif text := "".join(data.get("text/plain", "")).rstrip():
                parts.append(f"```text\n{text}\n```")
    return "\n\n".join(parts) + "\n", pictures


def with_mathml(text):
    """The text with its formulas in MathML, which browsers show without a script."""
    from latex2mathml.converter import convert

    def formula(match):
        if match[1] is not None:  # code
            return match[0]
        block = match[2] is not None
        return convert((match[2] or match[3]).strip(), display="block" if block else "inline")

    pattern = r"(```.*?```|`[^`\n]+`)|\$\$(.+?)\$\$|\$([^$\n]+?)\$"
    return re.sub(pattern, formula, text, flags=re.DOTALL)


def home():
    """The README, with how to install it before the first lines."""
    first, parts = sections(read("README.md"))
    order = ["Install", *(name for name in parts if name != "Install")]
    return first + "".join(f"## {name}\n{parts[name].rstrip()}\n\n" for name in order)


def promises():
    """What may change from version to version, as contributors are told."""
    _, parts = sections(read("CONTRIBUTING.md"))
    return "# What is promised\n" + "".join(f"\n## {name}\n{parts[name]}" for name in PROMISES)


def read(path):
    """The text of a file of the repository."""
    return (ROOT / path).read_text()


def relinked(text, file, page, anchors):
    """The text of a file with links to pages, as they are seen from its page."""
    folder = pathlib.PurePosixPath(file).parent

    def link(match):
        target = match[2]
        if re.match(r"[a-z]+:", target) or (target[0] == "#" and file != "docs/guide.md"):
            return match[0]
        path, _, anchor = target.partition("#")
        found = os.path.normpath(folder / path) if path else file
        if found == "docs/guide.md" and anchor:
            moved = anchors[anchor]
        else:
            moved = moved_to(found)
            moved = None if moved is None else moved + (f"#{anchor}" if anchor else "")
        if moved is None:
            return match[1]  # the text alone: a file that has no page
        return f"{match[1]}({os.path.relpath(moved, os.path.dirname(page) or '.')})"

    return re.sub(r"(!?\[(?:[^\[\]]|\[[^\]]*\])*\])\(([^)\s]+)\)", link, text)


def moved_to(file):
    """The page of a file of the repository, or its copy."""
    if file in MOVED:
        return MOVED[file]
    path = pathlib.PurePosixPath(file)
    if path.suffix == ".md" and path.parts[0] == "docs":
        return path.name
    if path.parts[:2] == ("benchmarks", "results") and path.suffix == ".md":
        return f"benchmarks/{path.name}"
    if path.parts[0] == "notebooks" and path.suffix == ".ipynb":
        return f"gallery/{path.stem}.md"
    if path.parts[0] == "notebooks" and path.suffix == ".png":
        return f"gallery/{path.name}"
    return f"images/{path.name}" if path.suffix in (".png", ".svg") else None


def pages():
    """Every page and picture of the site by its path."""
    import reference

    split, anchors = guide()
    made = {page: relinked(text, "docs/guide.md", page, anchors) for page, text in split.items()}
    origins = {
        "index.md": "README.md",
        "changelog.md": "CHANGELOG.md",
        "contributing.md": "CONTRIBUTING.md",
    }
    own = (file.name for file in HERE.glob("*.md") if f"docs/{file.name}" not in MOVED)
    origins |= {name: f"docs/{name}" for name in own}
    for page, file in origins.items():
        made[page] = relinked(read(file), file, page, anchors)
    made["index.md"] = relinked(home(), "README.md", "index.md", anchors)
    made["promises.md"] = relinked(promises(), "CONTRIBUTING.md", "promises.md", anchors)
    for page, text in benchmarks().items():
        file = (
            "docs/"
            if page.rpartition("/")[2] in ("headline.md", "optimizers.md")
            else "benchmarks/results/"
        )
        made[page] = relinked(text, file + page.rpartition("/")[2], page, anchors)
    for page, text in gallery().items():
        moves = isinstance(text, str) and page != "gallery/index.md"
        file = f"notebooks/{page.rpartition('/')[2]}"
        made[page] = relinked(text, file, page, anchors) if moves else text
    made |= reference.pages()
    for picture in (*HERE.glob("*.png"), *HERE.glob("*.svg")):
        made[f"images/{picture.name}"] = picture.read_bytes()
    made["llms.txt"] = llms(made)
    return made


def llms(made):
    """The list of pages for readers that are no people: https://llmstxt.org."""
    first = made["index.md"].split("\n\n")[1]
    lines = ["# jaxdeep", "", "> " + " ".join(first.split()), ""]
    groups = {"Documents": "", "Guide": "guide/", "Reference": "reference/", "Gallery": "gallery/"}
    groups["Benchmarks"] = "benchmarks/"
    for group, folder in groups.items():
        lines += [f"## {group}", ""]
        for page, text in made.items():
            inside = page.startswith(folder) if folder else "/" not in page
            if inside and page.endswith(".md"):
                title = re.search(r"^# (.*)", text, re.MULTILINE)
                lines.append(f"- [{title[1] if title else page}]({page})")
        lines.append("")
    return "\n".join(lines)


def write(made):
    """The pages, anew."""
    shutil.rmtree(PAGES, ignore_errors=True)
    for path, content in made.items():
        file = PAGES / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    shutil.copytree(HERE / "assets", PAGES / "assets", dirs_exist_ok=True)


def localize(site=SITE):
    """Let every page work from disk alone: what it would load from elsewhere, and links to folders."""
    for file in site.rglob("*.html"):
        up = "../" * (len(file.relative_to(site).parts) - 1)
        text = file.read_text()
        text = text.replace("https://unpkg.com/iframe-worker/shim", f"{up}assets/iframe-worker.js")
        file.write_text(re.sub(r'href="(\.?|(\./)?\.\.(/\.\.)*)"', f'href="{up}index.html"', text))


class _Page(html.parser.HTMLParser):
    """The anchors of a page, and what it links to and loads."""

    def __init__(self, text):
        super().__init__()
        self.anchors, self.links, self.loads = set(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.anchors |= {given[name] for name in ("id", "name") if given.get(name)}
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        source = given.get("src") or (given.get("href") if tag == "link" else None)
        if source and given.get("rel") not in ("canonical", "prev", "next"):
            self.loads.append(source)


def broken(site=SITE):
    """Links to pages and anchors that are not there, and what a page would load from elsewhere."""
    found = {file: _Page(file.read_text()) for file in sorted(site.rglob("*.html"))}
    wrong = []
    for file, page in found.items():
        for link in [*page.links, *page.loads]:
            parts = urllib.parse.urlsplit(link)
            if parts.scheme or parts.netloc:
                if link in page.loads and parts.scheme != "data":
                    wrong.append(f"{file.relative_to(site)} loads {link}")
                continue
            path = urllib.parse.unquote(parts.path)
            target = (
                file
                if not path
                else (site / path[1:] if path[0] == "/" else file.parent / path).resolve()
            )
            if not target.is_file():
                if file.name != "404.html":
                    wrong.append(f"{file.relative_to(site)} links to {link}")
            elif parts.fragment and target in found:
                anchors = found[target].anchors | {"__skip"}
                if urllib.parse.unquote(parts.fragment) not in anchors:
                    wrong.append(f"{file.relative_to(site)} links to {link}, which has no such place")
    return wrong


def main():
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pages", action="store_true", help="write the pages alone")
    args = parser.parse_args()
    made = pages()
    write(made)
    print(f"wrote {sum(page.endswith('.md') for page in made)} pages to {PAGES.relative_to(ROOT)}")
    if args.pages:
        return 0
    shutil.rmtree(SITE, ignore_errors=True)
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    if subprocess.run(command, cwd=ROOT, check=False).returncode:
        return 1
    localize()
    for page, text in made.items():
        if page.endswith(".md"):
            (SITE / page).write_text(text)
    if wrong := broken():
        print("\n".join(wrong[:50]))
        print(f"{len(wrong)} links are broken")
        return 1
    print(f"open {(SITE / 'index.html').relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
