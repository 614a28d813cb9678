"""SKILL.md and llms.txt: what an agent reads of the tools, with their schemas, written from the tools themselves.

``python -m tools.schemas`` writes both, into docs/ and into the package; ``--check`` says whether they are current.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nbanalyzer.agents.arguments import Pass
from nbanalyzer.agents.prompts import PROMPTS
from nbanalyzer.agents.resources import ACCELERATOR, RESOURCES
from nbanalyzer.agents.tool import Tool
from nbanalyzer.agents.tools import TOOLS

ROOT = Path(__file__).parent.parent
FOLDERS = (ROOT / "docs", ROOT / "nbanalyzer" / "agents")
ABOUT = "what a language model costs: FLOPs, bytes, memory, time, with a readable formula behind every number"
WHEN = (
    "Use it for questions about the FLOPs, parameters, KV cache, memory, latency or throughput of language models, for "
    "which accelerator holds a model, for comparing precisions and accelerators, and to draft and check the template "
    "of a model that nobody has shipped."
)
PASS = Pass.__struct_fields__
RULES = """\
- Say an answer's conditions and warnings along with its numbers. What is drafted says what it was checked against.
- A time at the roofline is a bound with the list of kernels that it says; an estimate has an interval and a source.
- Models, accelerators and engines are names that `nbanalyzer_list` gives; a config is data. Paths are refused.
- An error is one line that says what to do. A list has `next_offset` if more of it is left.
- Never correct a check's facts: correct the draft."""


def skill() -> str:
    """Return SKILL.md: what the tools are for and which one does what, in little text."""
    parts = [
        "---",
        "name: nbanalyzer",
        f"description: {json.dumps(f'{ABOUT[0].upper()}{ABOUT[1:]}. {WHEN}')}",
        "---",
        "",
        "# nbanalyzer",
        "",
        f"Tools that answer {ABOUT}. `pip install nbanalyzer[mcp]`, then the server is `nbanalyzer-mcp`.",
        "",
        "## Tools",
        "",
        *(f"- `{tool.name}({_signature(tool)})`: {_first(tool.description)}" for tool in TOOLS.values()),
        "",
        f"A pass: {', '.join(PASS)}. Leave out what has its default.",
        "",
        "## Prompts",
        "",
        *(f"- `{name}`: {one.about}" for name, one in PROMPTS.items()),
        "",
        "## Rules",
        "",
        RULES,
        "",
        "The schemas of all arguments and answers are in llms.txt, beside this file.",
    ]
    return "\n".join(parts) + "\n"


def llms() -> str:
    """Return llms.txt: the same with every schema, and what can be read."""
    parts = ["# nbanalyzer", "", f"> {ABOUT[0].upper()}{ABOUT[1:]}.", "", WHEN, "", RULES, "", "## Documents", ""]
    parts += [f"- [{one.title}]({one.file}): {one.about} (`{uri}`)" for uri, one in RESOURCES.items()]
    parts += [f"- `{ACCELERATOR}`: an accelerator's figures, with their sources and doubts", "", "## Tools", ""]
    for tool in TOOLS.values():
        parts += [f"### {tool.name}", "", tool.description, "", *_fenced("Arguments", tool.input_schema)]
        parts += _fenced("Answer", tool.output_schema)
    return "\n".join(parts).rstrip() + "\n"


def _signature(tool: Tool) -> str:
    required = tool.input_schema.get("required", ())
    names = tool.input_schema["properties"]
    common = PASS if "seq_len" in names else ()
    own = [name for name in names if name not in required and name not in common]
    return ", ".join([*required, *own, *(["a pass"] if common else [])])


def _first(text: str) -> str:
    return " ".join(text.partition("\n\n")[0].split())


def _fenced(title: str, schema: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"{title}:", "", "```json", json.dumps(schema, ensure_ascii=False), "```", "")


PAGES = {"SKILL.md": skill, "llms.txt": llms}


def main(words: Sequence[str] | None = None) -> int:
    """Write the pages, or check them; return 1 if one is not current."""
    check = "--check" in (sys.argv[1:] if words is None else words)
    stale = 0
    for folder in FOLDERS:
        for name, page in PAGES.items():
            file, text = folder / name, page()
            if file.exists() and file.read_text(encoding="utf-8") == text:
                continue
            stale += 1
            if not check:
                file.write_text(text, encoding="utf-8")
            print(f"{file.relative_to(ROOT)}: {'not current: python -m tools.schemas' if check else 'written'}")
    return int(check and stale > 0)


if __name__ == "__main__":
    sys.exit(main())
