# SPDX-License-Identifier: Apache-2.0
"""Writes what docs/ says of the protos: docs/api.md as a whole, the tables of settings in docs/operator.md (one of them from
controller/eplb_config.cc), and the counts of docs/acceptance.md.

Run from the root of the checkout: python3 deploy/docs.py [--check]. --check changes nothing and fails where a file is not
what it would write.
"""

import argparse
import collections
import dataclasses
import pathlib
import re
import sys

PROTOS = ("common", "agent", "control", "config")
TITLES = {
    "common": "What all speak of",
    "agent": "Between agent and controller",
    "control": "What operators and programs ask",
    "config": "Configuration",
}
FIELD = re.compile(r"^(optional |repeated )?(map<.+?>|[\w.]+) (\w+) = (\d+)\b")
VALUE = re.compile(r"^(\w+) = (\d+);")
RPC = re.compile(r"^rpc (\w+)\((stream )?(\w+)\) returns \((stream )?(\w+)\);")
CODE = re.compile(r"^  +([A-Z_]{5,})  +(.*)$")
# How a setting's name tells its unit; the first that fits.
UNITS = ((r"_ms$", "ms"), (r"bytes_per_second", "bytes/s"), (r"_gb_", "GB"), (r"bytes", "bytes"), (r"moves", "moves"),
         (r"windows", "windows"), (r"_steps$", "steps"), (r"^(num_)?(concurrent_)?layers", "layers"),
         (r"_gain$|imbalance_min$|_rise$", "of imbalance"))
STATES = ("met", "partly", "not yet", "does not apply")
ROW = re.compile(r"^\| (R\d+\.\d+) \|(.*)\|$", re.M)


@dataclasses.dataclass
class Item:
    """A field, a value of an enumeration or a call."""

    name: str
    type: str
    comment: list[str]
    section: str = ""


@dataclasses.dataclass
class Block:
    """A message, an enumeration or a service."""

    kind: str
    name: str
    comment: list[str]
    items: list[Item] = dataclasses.field(default_factory=list)


def parse(text: str) -> tuple[list[str], list[Block]]:
    """The file's own comment, and its blocks in order. Comments stand before what they are of."""
    head, blocks, comment, section, inside = [], [], [], "", []
    for line in text.split("\n"):
        words = line.strip()
        if words.startswith("// ----"):
            section, comment = words.strip("/- ").rstrip("."), []
        elif words.startswith("//"):
            comment.append(words[2:].removeprefix(" "))
        elif not words:
            comment = []
        elif words.startswith(("syntax", "package", "import", "reserved")):
            head = head or comment
            comment = []
        elif match := re.match(r"^(message|enum|service) (\w+) \{(\})?", words):
            blocks.append(Block(match[1], match[2], comment))
            comment, section = [], ""
            inside = [] if match[3] else [match[1]]
        elif words.startswith("oneof"):
            inside.append("oneof")
            section, comment = "one of", []
        elif words == "}":
            inside.pop()
            section = ""
        elif match := RPC.match(words):
            ends = [("stream of " if stream else "") + name for stream, name in ((match[2], match[3]), (match[4], match[5]))]
            blocks[-1].items.append(Item(match[1], "\0".join(ends), comment))
            comment = []
        elif inside[-1] == "enum" and (match := VALUE.match(words)):
            blocks[-1].items.append(Item(match[1], match[2], comment))
            comment = []
        elif match := FIELD.match(words):
            blocks[-1].items.append(Item(match[3], (match[1] or "") + match[2], comment, section))
            comment = []
        else:
            raise ValueError(f"cannot read '{line}'")
    if not head:
        raise ValueError("the file does not say what it is for")
    return head[2:] if head[0].startswith("SPDX") else head, blocks


def cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def prose(comment: list[str]) -> str:
    """A comment as markdown: lines joined, paragraphs kept, codes as a list, indented lines as they are."""
    out, text = [], ""
    for line in comment + [""]:
        if match := CODE.match(line):
            out, text = out + ([text] if text else []), f"- `{match[1]}` {match[2]}"
        elif line.startswith("   ") and text.startswith("- "):
            text += " " + line.strip()
        elif line.startswith("  "):
            out, text = out + ([text] if text else []), ""
            out.append("    " + line)
        elif not line:
            out, text = out + ([text] if text else []) + [""], ""
        else:
            new_paragraph = text.startswith("- ")
            out, text = (out + [text, ""], line) if new_paragraph else (out, f"{text} {line}".strip())
    lines = []
    for i, line in enumerate(out):
        special = line.startswith(("- ", "    "))
        before = out[i - 1] if i else ""
        if line and before and special != before.startswith(("- ", "    ")):
            lines.append("")
        lines.append(line)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def render_block(block: Block, known: set[str]) -> list[str]:
    def link(name: str) -> str:
        return re.sub(r"\w+", lambda m: f"[{m[0]}](#{m[0].lower()})" if m[0] in known else m[0], cell(name))

    lines = [f"### {block.name}", ""]
    if block.comment:
        lines += [prose(block.comment), ""]
    if block.kind == "service":
        for item in block.items:
            takes, gives = item.type.split("\0")
            lines += [f"**{item.name}**: {link(takes)} → {link(gives)}", "", prose(item.comment), ""]
        return lines
    if not block.items:
        return lines + ["No fields.", ""]
    lines += ["| value | number | |", "|---|---|---|"] if block.kind == "enum" else ["| field | type | |", "|---|---|---|"]
    for item in block.items:
        lines.append(f"| `{item.name}` | {link(item.type)} | {cell(' '.join(item.comment))} |")
    return lines + [""]


def api(protos: dict[str, tuple[list[str], list[Block]]]) -> str:
    known = {block.name for _, blocks in protos.values() for block in blocks}
    lines = ["# API reference", "",
             "Made from the comments of `proto/evenkeel/v1/*.proto` by `deploy/docs.py`. Over gRPC the package is `evenkeel.v1`; health and",
             "reflection are served too. Over HTTP `POST /v1/METHOD` takes and gives the same messages as JSON",
             "([operator.md](operator.md#http)). 64-bit numbers are strings in JSON.", ""]
    for name in ("control", "agent", "common", "config"):
        head, blocks = protos[name]
        lines += [f"## {TITLES[name]}", "", f"`proto/evenkeel/v1/{name}.proto`", "", prose(head), ""]
        for block in blocks:
            lines += render_block(block, known)
    return "\n".join(lines).rstrip() + "\n"


def unit_of(name: str) -> str:
    return next((unit for pattern, unit in UNITS if re.search(pattern, name)), "")


def default_of(item: Item) -> str:
    """What the comment says: 'default 1,000', '0 (the default)', 'Default "flex"'; else nothing."""
    text = " ".join(item.comment)
    if match := re.search(r'\b[Dd]efault:? ("[^"]*"|[\d.,]*\d( [KMGTP]iB(/s)?)?|true|false)', text):
        return match[1].strip('"')
    if match := re.search(r"(\w+) \(the default\)", text):
        return match[1]
    match = re.search(r"\b[Dd]efault:? (.*?)[.;](?: |$)", text)
    return match[1] if match else ""


def settings(blocks: list[Block]) -> str:
    lines = []
    for block in blocks:
        lines += [f"**{block.name}**" + (f": {' '.join(block.comment)}" if block.comment else ""), "",
                  "| field | default | unit | |", "|---|---|---|---|"]
        section = None
        for item in block.items:
            if item.section != section and item.section:
                lines.append(f"| *{item.section}* | | | |")
            section = item.section
            default = default_of(item)
            lines.append(f"| `{item.name}` | {cell(default)} | {unit_of(item.name)} | {cell(' '.join(item.comment))} |")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def eplb_keys(source: str) -> str:
    """The table of keys in controller/eplb_config.cc, and of old names."""
    joined = re.sub(r'"\s*\n\s*"', "", source)
    keys = re.findall(r'\{"(\w+)",\s*"([^"]*)",\s*Kind::k(\w+),\s*([\d.e]+),\s*([\d.e]+),\s*"([^"]*)",\s*"([^"]*)"\}', joined)
    old = re.findall(r'\{"(\w+)",\s*"(\w+)"\}', joined)
    if len(keys) != joined.count("Kind::k") - joined.count("case Kind::k") - joined.count("== Kind::k"):
        raise ValueError(f"{len(keys)} keys found in the table")
    lines = ["| key | of | values | setting of ours | |", "|---|---|---|---|---|"]
    for name, whose, kind, low, high, ours, meaning in keys:
        values = {"Switch": "true, false", "Text": "text"}.get(kind, f"{float(low):,g} to {float(high):,.0f}")
        settings_of_ours = ", ".join(f"`{one}`" for one in ours.split(", ")) if ours else "none"
        lines.append(f"| `{name}` | {whose} | {values} | {settings_of_ours} | {cell(meaning)} |")
    lines += ["", "Old names: " + ", ".join(f"`{before}` (now `{now}`)" for before, now in old) + "."]
    return "\n".join(lines) + "\n"


def rows(acceptance: str) -> list[tuple[str, list[str]]]:
    """(id, the other cells) of every row."""
    return [(match[1], [one.strip() for one in match[2].split(" | ")]) for match in ROW.finditer(acceptance)]


def counts(acceptance: str) -> str:
    of_part = collections.defaultdict(collections.Counter)
    for row, cells in rows(acceptance):
        of_part[row.split(".")[0]][cells[1]] += 1
    lines = ["| | " + " | ".join(STATES) + " | rows |", "|---|" + "---|" * (len(STATES) + 1)]
    for part, of_state in [*of_part.items(), ("all", sum(of_part.values(), collections.Counter()))]:
        lines.append(f"| {part} | " + " | ".join(str(of_state[s]) for s in STATES) + f" | {sum(of_state.values())} |")
    return "\n".join(lines) + "\n"


def between(text: str, marker: str, content: str) -> str:
    """`text` with what stands between two of the markers replaced."""
    mark = f"<!-- {marker} -->\n"
    parts = text.split(mark)
    if len(parts) != 3:
        raise ValueError(f"{len(parts) - 1} markers {mark.strip()}, wanted 2")
    return parts[0] + mark + content + mark + parts[2]


def written(root: pathlib.Path) -> dict[str, str]:
    """Every file that this writes, as it is to be."""
    protos = {name: parse((root / f"proto/evenkeel/v1/{name}.proto").read_text()) for name in PROTOS}
    operator = (root / "docs/operator.md").read_text()
    operator = between(operator, "eplb keys", eplb_keys((root / "controller/eplb_config.cc").read_text()))
    acceptance = (root / "docs/acceptance.md").read_text()
    return {
        "docs/api.md": api(protos),
        "docs/operator.md": between(operator, "settings", settings(protos["config"][1])),
        "docs/acceptance.md": between(acceptance, "counts", counts(acceptance)),
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="deploy/docs.py", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    root = pathlib.Path(__file__).resolve().parent.parent
    stale = 0
    for name, text in written(root).items():
        path = root / name
        if path.exists() and path.read_text() == text:
            continue
        stale += 1
        if check:
            print(f"{name} is not what deploy/docs.py writes")
        else:
            path.write_text(text)
            print(f"wrote {name}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
