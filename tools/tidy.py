"""House rules that no other linter knows: `python tools/tidy.py [--ratchet]`.

Each rule is a function from one file to its faults; what it forbids is in `tidy.toml`.
Length is a ratchet: what is too long today is listed in `tidy_ratchet.toml` and may only
shrink; `--ratchet` lowers the list and never lengthens it.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RULES = tomllib.loads((ROOT / "tools/tidy.toml").read_text(encoding="utf-8"))
RATCHET = "tools/tidy_ratchet.toml"
FOLDERS = ("src", "tests", "tools", "docs", "spec", "examples", "benchmarks", "deploy", "proof")
SUFFIXES = (".py", ".md", ".toml", ".sh", ".txt", ".service", ".json", ".jsonl")
SAYS_WHAT_IT_FORBIDS = ("tools/tidy.py", "tests/unit/test_tidy.py", "CONTRIBUTING.md")

WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
TODO = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b(?!\(#\d+\): \S)")
MACHINE_PATH = re.compile(r"/(home|Users|work)/[a-z]")
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
LOG_MAY_IMPORT = re.compile(r"headrace\.(log\b.*|model\.(errors|limits|env))")
NOW = {("datetime", "now"), ("datetime", "utcnow"), ("date", "today")}
NOW |= {("uuid", f"uuid{version}") for version in (1, 4, 6, 7)}

Faults = Iterator[tuple[int, str]]


@dataclass(frozen=True)
class Source:
    root: Path
    path: str
    text: str

    @property
    def layer(self) -> str:
        """Folder below `src/headrace`, or `` elsewhere."""
        parts = self.path.split("/")
        return parts[2] if parts[:2] == ["src", "headrace"] and len(parts) > 3 else ""

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)


def faults(root: Path) -> list[str]:
    """Every fault of the tree below `root`, as `path:line: what`."""
    found: list[str] = []
    lengths: dict[str, int] = {}
    for source in sources(root):
        found += [f"{source.path}:{line}: {what}" for line, what in file_faults(source)]
        lengths.update(too_long(source))
    return found + list(ratchet_faults(lengths, read_ratchet(root)))


def sources(root: Path) -> Iterator[Source]:
    paths = [*root.glob("*.md"), *root.glob("*.toml"), root / "Makefile"]
    for folder in FOLDERS:
        paths += [path for path in (root / folder).rglob("*") if path.suffix in SUFFIXES]
    for path in sorted(paths):
        relative = path.relative_to(root)
        hidden = any(
            part.startswith((".", "__pycache")) or "egg-info" in part for part in relative.parts
        )
        if path.is_file() and not hidden:
            yield Source(root, relative.as_posix(), path.read_text(encoding="utf-8"))


def file_faults(source: Source) -> Faults:
    if source.path not in SAYS_WHAT_IT_FORBIDS:
        yield from text_faults(source)
    if source.path.endswith(".md"):
        yield from markdown_faults(source)
    if source.path.startswith("src/") and source.path.endswith(".py"):
        yield from word_faults(source)
    if source.layer == "engine":
        yield from engine_faults(source)
    if source.layer == "log":
        yield from log_faults(source)
    is_real = re.fullmatch(RULES["seam"]["real"], source.path)
    if source.layer in RULES["seam"]["layers"] and not is_real:
        yield from seam_faults(source)


# --- any text


def text_faults(source: Source) -> Faults:
    for number, line in enumerate(source.text.splitlines(), start=1):
        if found := TODO.search(line):
            yield number, f"{found[1]} needs an issue and a reason: TODO(#123): why"
        if MACHINE_PATH.search(line):
            yield number, "path of somebody's machine"


def markdown_faults(source: Source) -> Faults:
    titles = []
    for number, line in enumerate(without_code(source.text).splitlines(), start=1):
        if line.startswith("# "):
            titles.append(number)
        for target in LINK.findall(line):
            if not alive(source, target):
                yield number, f"dead link: {target}"
    if len(titles) != 1:
        yield (titles or [1])[-1], f"a document has one title, this one {len(titles)}"


def without_code(text: str) -> str:
    """The text with fenced blocks blanked, line numbers kept."""
    fence = re.compile(r"^( *)(```+|~~~+).*?^ *\2", re.MULTILINE | re.DOTALL)
    return fence.sub(lambda block: "\n" * block[0].count("\n"), text)


def alive(source: Source, target: str) -> bool:
    path = target.partition("#")[0]
    if "://" in target or target.startswith("mailto:") or not path:
        return True
    return ((source.root / source.path).parent / path).exists()


# --- words


def word_faults(source: Source) -> Faults:
    for line, text in named_and_written(source.tree):
        words = {word.lower() for word in WORD.findall(text)}
        for word in sorted(words.intersection(RULES["banned_words"])):
            yield line, f"the glossary does not say {word!r} (in {text.strip()[:40]!r})"


def named_and_written(tree: ast.Module) -> Faults:
    """Names that the file defines, and its docstrings line by line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            for offset, line in enumerate(str(node.value.value).splitlines()):
                yield node.lineno + offset, line


# --- imports and calls


def imports(tree: ast.Module) -> Iterator[tuple[int, str, str]]:
    """(line, module, name); name is `` for `import module`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.lineno, node.module, alias.name) for alias in node.names)


def renamed_modules(tree: ast.Module) -> Faults:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names if alias.asname)


def attributes(tree: ast.Module) -> Iterator[tuple[int, str, str]]:
    """(line, owner, name) of each `owner.name`; an owner such as `os.path` is kept whole."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield node.lineno, ast.unparse(node.value), node.attr


def calls(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.lineno, node.func.id


def engine_faults(source: Source) -> Faults:
    yield from now_faults(source)
    for line, module, _ in imports(source.tree):
        top = module.partition(".")[0]
        third_party = top not in sys.stdlib_module_names | {"headrace", "msgspec"}
        if third_party or top in RULES["engine"]["modules"]:
            yield line, f"the engine is pure: no {top}"
    for line, name in calls(source.tree):
        if name in RULES["engine"]["calls"]:
            yield line, f"the engine is deterministic: no {name}()"


def log_faults(source: Source) -> Faults:
    for line, module, name in imports(source.tree):
        whole = f"{module}.{name}" if module == "headrace.model" else module
        if module.startswith("headrace") and not LOG_MAY_IMPORT.fullmatch(whole):
            yield line, f"a log knows model.errors, model.limits and model.env, not {whole}"


def seam_faults(source: Source) -> Faults:
    yield from now_faults(source)
    allowed = RULES["seam"]["except"].get(source.path, {})
    used = set()
    for line, name in sorted(past_the_seam(source.tree)):
        used.add(name)
        if name not in allowed:
            yield line, f"{name}: outside the process only through Env"
    for name in sorted(allowed.keys() - used):
        yield 1, f"{name}: tools/tidy.toml excepts it, and nothing here uses it"


def past_the_seam(tree: ast.Module) -> Faults:
    """What goes around `Env`, by the name under which it can be excepted."""
    parts = RULES["seam"]["parts"]
    for line, module, name in imports(tree):
        if name and module in parts and name not in parts[module]:
            yield line, f"{module}.{name}"
        elif not is_harmless(module, name):
            yield line, module
    for line, owner, name in attributes(tree):
        if owner in parts and name not in parts[owner]:
            yield line, f"{owner}.{name}"
        elif name in RULES["seam"]["loop_doors"]:
            yield line, name
    for line, name in calls(tree):
        if name in RULES["seam"]["calls"]:
            yield line, f"{name}()"
    for line, module in renamed_modules(tree):
        if module in parts:
            yield line, f"{module} under another name"


def is_harmless(module: str, name: str) -> bool:
    seam = RULES["seam"]
    if module.split(".")[0] == "headrace":
        real = re.compile(seam["real_modules"])
        return not (real.fullmatch(module) or real.fullmatch(f"{module}.{name}"))
    return module in seam["pure_modules"] or module in seam["parts"]


def now_faults(source: Source) -> Faults:
    for line, owner, name in attributes(source.tree):
        if (owner.rpartition(".")[2], name) in NOW:
            yield line, f"{owner}.{name}: time and randomness are arguments"


# --- length


def too_long(source: Source) -> dict[str, int]:
    """`path` or `path::function` → lines, of what is over the limit."""
    if not source.path.endswith(".py"):
        return {}
    found = {source.path: source.text.count("\n")}
    if found[source.path] <= RULES["file_lines_max"]:
        found = {}
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = function_lines(node)
            if length > RULES["function_lines_max"]:
                found[f"{source.path}::{node.name}"] = length
    return found


def function_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from `def` to the last one, the docstring left out."""
    length = (node.end_lineno or node.lineno) - node.lineno + 1
    if ast.get_docstring(node, clean=False) is not None:
        first = node.body[0]
        length -= (first.end_lineno or first.lineno) - first.lineno + 1
    return length


def read_ratchet(root: Path) -> dict[str, int]:
    path = root / RATCHET
    return tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def ratchet_faults(lengths: dict[str, int], ratchet: dict[str, int]) -> Iterator[str]:
    for name, length in sorted(lengths.items()):
        if name not in ratchet:
            limit = RULES["function_lines_max" if "::" in name else "file_lines_max"]
            yield f"{name}: {length} lines, at most {limit}"
        elif length > ratchet[name]:
            yield f"{name}: grew from {ratchet[name]} to {length} lines; it may only shrink"
    for name, allowed in sorted(ratchet.items()):
        if lengths.get(name, 0) < allowed:
            yield f"{name}: shorter than {RATCHET} says; run tools/tidy.py --ratchet"


def lower_ratchet(root: Path) -> None:
    """The ratchet lists no more, and nothing longer, than before; its comments stay."""
    lengths = {
        name: length for source in sources(root) for name, length in too_long(source).items()
    }
    ratchet = read_ratchet(root)
    path = root / RATCHET
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line[:1] == "#"]
    for name, allowed in sorted(ratchet.items()):
        if name in lengths:
            lines.append(f'"{name}" = {min(allowed, lengths[name])}')
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main(arguments: list[str]) -> int:
    if "--ratchet" in arguments:
        lower_ratchet(ROOT)
    found = faults(ROOT)
    print("\n".join(found) if found else "tidy: no faults")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
