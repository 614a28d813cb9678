"""The server: tools, resources and prompts over the Model Context Protocol. This file alone knows the SDK.

The tools are loaded with the first question about them, for a client waits for the answer to its hello.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import mcp_types as types
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError

from nbanalyzer.errors import NBAnalyzerError, UnknownNameError

from .bench import Bench
from .prompts import PROMPTS, text_of
from .resources import ACCELERATOR, RESOURCES, read
from .shelf import Shelf
from .tool import Tool

__all__ = ["INSTRUCTIONS", "server_of"]

INSTRUCTIONS = """\
What a language model costs: FLOPs, bytes, memory, time, with a readable formula behind every number. \
nbanalyzer_list names models, module templates and accelerators. nbanalyzer_analyze, _request, _fit, _compare and \
_sweep answer what a pass or a request costs and what fits, _meshes on how many devices; nbanalyzer_explain says where \
a number comes from. Say the \
conditions and warnings of an answer along with its numbers, and call times at the roofline bounds. For a model that \
nobody has shipped: nbanalyzer_module, then draft, _validate, _expand, _check and _save, as the prompt model_analyzer \
says; the check decides, not the draft."""


def server_of(shelf: Shelf) -> Server[Any]:
    """Return a server whose tools save on `shelf`."""
    bench = Bench(shelf)

    return Server(
        "nbanalyzer",
        version=_version(),
        title="nbanalyzer",
        instructions=INSTRUCTIONS,
        get_tool_input_schema=lambda name: _tools()[name].input_schema if name in _tools() else None,
        on_list_tools=_list_tools,
        on_call_tool=partial(_call_tool, bench),
        on_list_resources=_list_resources,
        on_list_resource_templates=_list_templates,
        on_read_resource=_read_resource,
        on_list_prompts=_list_prompts,
        on_get_prompt=_get_prompt,
    )


def _version() -> str:
    try:
        return version("nbanalyzer")
    except PackageNotFoundError:  # a checkout that is not installed
        return ""


# ---- tools


def _tools() -> Mapping[str, Tool]:
    from .tools import TOOLS

    return TOOLS


async def _list_tools(_: Any, __: types.PaginatedRequestParams | None) -> types.ListToolsResult:
    return types.ListToolsResult(tools=[_tool(tool) for tool in _tools().values()])


def _tool(tool: Tool) -> types.Tool:
    return types.Tool(
        name=tool.name,
        description=tool.description,
        input_schema=tool.input_schema,
        output_schema=tool.output_schema,
        annotations=types.ToolAnnotations(
            read_only_hint=not tool.writes, destructive_hint=False, idempotent_hint=True, open_world_hint=False
        ),
    )


async def _call_tool(bench: Bench, _: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
    tool = _tools().get(params.name)
    if tool is None:
        raise _refused(UnknownNameError("tool", params.name, tuple(_tools())))
    reply = await bench.call(tool, params.arguments)
    content: list[types.ContentBlock] = [types.TextContent(text=reply.text)]
    if reply.data is None:
        return types.CallToolResult(content=content, is_error=True)
    return types.CallToolResult(content=content, structured_content=reply.data)


# ---- resources


async def _list_resources(_: Any, __: types.PaginatedRequestParams | None) -> types.ListResourcesResult:
    found = [
        types.Resource(
            uri=uri, name=uri.rpartition("/")[2], title=one.title, description=one.about, mime_type="text/markdown"
        )
        for uri, one in RESOURCES.items()
    ]
    return types.ListResourcesResult(resources=found)


async def _list_templates(_: Any, __: types.PaginatedRequestParams | None) -> types.ListResourceTemplatesResult:
    about = "an accelerator's figures, with their sources and doubts; nbanalyzer_list gives the names"
    one = types.ResourceTemplate(
        uri_template=ACCELERATOR, name="accelerator", title="Accelerator", description=about, mime_type="text/plain"
    )
    return types.ListResourceTemplatesResult(resource_templates=[one])


async def _read_resource(_: Any, params: types.ReadResourceRequestParams) -> types.ReadResourceResult:
    uri = str(params.uri)
    try:
        text = read(uri)
    except NBAnalyzerError as error:
        raise _refused(error) from None
    kind = "text/markdown" if uri in RESOURCES else "text/plain"
    return types.ReadResourceResult(contents=[types.TextResourceContents(uri=uri, mime_type=kind, text=text)])


# ---- prompts


async def _list_prompts(_: Any, __: types.PaginatedRequestParams | None) -> types.ListPromptsResult:
    found = []
    for name, one in PROMPTS.items():
        argument, meaning = one.argument
        arguments = [types.PromptArgument(name=argument, description=meaning, required=False)]
        found.append(types.Prompt(name=name, title=one.title, description=one.about, arguments=arguments))
    return types.ListPromptsResult(prompts=found)


async def _get_prompt(_: Any, params: types.GetPromptRequestParams) -> types.GetPromptResult:
    try:
        text = text_of(params.name, params.arguments)
    except NBAnalyzerError as error:
        raise _refused(error) from None
    message = types.PromptMessage(role="user", content=types.TextContent(text=text))
    return types.GetPromptResult(description=PROMPTS[params.name].about, messages=[message])


def _refused(error: NBAnalyzerError) -> MCPError:
    """Return the protocol's error for a name that there is none of, in one line."""
    return MCPError(code=types.INVALID_PARAMS, message=str(error))
