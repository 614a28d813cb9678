"""A figure of matplotlib as SVG for a page: in the page's own colour, without ids, with words on what is drawn.

Greys become shades of the page's colour, so a drawing is read on white, on black and in print; other colours stay. The
``gid`` of an artist is what is said where the pointer rests on it: of a line or a collection a line of text per item,
of axes per cell of the image in them.
"""

from __future__ import annotations

import base64
import io
import itertools
import math
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backend_bases import GraphicsContextBase, RendererBase
from matplotlib.colors import to_hex, to_rgba
from matplotlib.path import Path
from matplotlib.transforms import Affine2D, Bbox, Transform

from nbanalyzer.text import as_attribute, escape

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties
    from matplotlib.text import Text

__all__ = ["panels", "whole"]

EDGE = 4.0  # pixels around a panel
SEEN, THIN = 0.05, 2.0  # pixels: a narrower bar is not drawn, or would be all edge
MOST_CELLS = 400  # of an image that is drawn cell by cell
Element = tuple[str, str]  # attributes that neighbours share, and the rest
CIRCLE = Path.unit_circle()
HATCH_APART = 7.0  # pixels
FONT = "font-family:system-ui,sans-serif"
EDGED = 'stroke="currentColor" stroke-opacity="0.55" stroke-width="0.6"'
COMMANDS = {Path.MOVETO: "M", Path.LINETO: "L", Path.CURVE3: "Q", Path.CURVE4: "C", Path.CLOSEPOLY: "z"}


def panels(figure: Figure, name: str) -> list[str]:
    """Return a figure as drawings for an HTML page: one of each of its axes, or of all of them if they share a bar.

    Args:
        figure: what to draw.
        name: what the drawing is, for those who do not see it.

    """
    is_one = any(ax.get_label() == "<colorbar>" for ax in figure.axes)
    drawing = _Drawing(figure)
    figure.draw(drawing)
    boxes = [ax.get_tightbbox(drawing) or ax.bbox for ax in figure.axes]
    found = [drawing.parts[1:]] if is_one else [[part] for part in drawing.parts[1:]]
    if is_one:
        boxes = [Bbox.union(boxes)]
    return [
        _framed([*drawing.parts[0], *(element for part in parts for element in part)], box, drawing.height, name)
        for parts, box in zip(found, boxes, strict=True)
    ]


def whole(figure: Figure, name: str) -> str:
    """Return a figure as an SVG file of its own, which follows the colours of what shows it."""
    drawing = _Drawing(figure)
    figure.draw(drawing)
    content = [element for part in drawing.parts for element in part]
    box = Bbox.from_bounds(EDGE, EDGE, drawing.width - 2 * EDGE, drawing.height - 2 * EDGE)
    text = _framed(content, box, drawing.height, name)
    size = f'width="{drawing.width:.0f}" height="{drawing.height:.0f}"'
    text = text.replace("<svg", f'<svg xmlns="http://www.w3.org/2000/svg" {size}', 1)
    return text.replace('style="', 'style="color-scheme:light dark;color:CanvasText;', 1) + "\n"


def _framed(elements: Sequence[Element], box: Bbox, height: float, name: str) -> str:
    content = ""
    for shared, alike in itertools.groupby(elements, lambda element: element[0]):
        inside = "".join(text for _, text in alike)
        content += f"<g {shared}>{inside}</g>" if shared else inside
    left, top = math.floor(box.x0 - EDGE), math.floor(height - box.y1 - EDGE)
    wide, high = math.ceil(box.x1 + EDGE) - left, math.ceil(height - box.y0 + EDGE) - top
    return (
        f'<svg viewBox="{left} {top} {wide} {high}" role="img" aria-label="{as_attribute(name)}" fill="currentColor" '
        f'style="display:block;width:{wide}px;max-width:100%;height:auto;{FONT}">{content}</svg>'
    )


class _Drawing(RendererBase):
    """What matplotlib draws a figure with.

    Attributes:
        parts: the elements outside all axes, then those of each of them.

    """

    def __init__(self, figure: Figure) -> None:
        super().__init__()
        self.dpi = figure.dpi
        self.width, self.height = figure.bbox.width, figure.bbox.height
        self.parts: list[list[Element]] = [[]]
        self._into = self.parts[0]
        self._groups: list[str] = []  # that are open
        self._words: list[list[str]] = []  # of each of them, what is still to be said, the next one last
        self._is_marking = False
        self._last_line = ""  # the attributes of the last element, if it is a line that another may be added to

    # ---- what matplotlib asks

    def get_canvas_width_height(self) -> tuple[float, float]:
        """Return the size in pixels."""
        return self.width, self.height

    def points_to_pixels(self, points: Any) -> Any:
        """Return a length in pixels."""
        return points * self.dpi / 72

    def option_image_nocomposite(self) -> bool:
        """Return that each image is drawn alone."""
        return True

    def option_scale_image(self) -> bool:
        """Return that images may come as they are, with a transform."""
        return True

    def open_group(self, s: str, gid: str | None = None) -> None:
        """Begin an artist; of axes, those after the last ones."""
        self._groups.append(s)
        self._words.append(gid.split("\n")[::-1] if gid else [])
        if s == "axes":
            self._into, self._last_line = [], ""
            self.parts.append(self._into)

    def close_group(self, s: str) -> None:
        """End an artist."""
        self._groups.pop()
        self._words.pop()
        if s == "axes":
            self._into, self._last_line = self.parts[0], ""

    # ---- what matplotlib draws

    def draw_markers(
        self, gc: GraphicsContextBase, marker_path: Path, marker_trans: Transform, path: Path, trans: Transform,
        rgbFace: Any = None,  # noqa: N803 (its name in matplotlib)
    ) -> None:  # fmt: skip
        """Draw a marker at every point of a line, each with its words."""
        self._is_marking = True
        super().draw_markers(gc, marker_path, marker_trans, path, trans, rgbFace)
        self._is_marking = False

    def draw_path(
        self, gc: GraphicsContextBase, path: Path, transform: Transform, rgbFace: Any = None,  # noqa: N803
    ) -> None:  # fmt: skip
        """Draw a shape or a line."""
        words = "" if self._groups[-1] == "line2d" and not self._is_marking else self._next_words()
        bounds, hatch = gc.get_clip_rectangle(), gc.get_hatch()
        fill = 'fill="none"' if rgbFace is None else _paint("fill", _faded(gc, rgbFace))
        # What has words, a bar or a dot, has an edge that parts it from its neighbours.
        box = _box(path, transform)
        is_edged = words and fill != 'fill="none"' and not hatch and min(box.width, box.height) > THIN
        stroke = EDGED if is_edged else self._stroke(gc)
        if words and min(box.width, box.height) < SEEN:
            return
        if words and fill == 'fill="none"':
            fill += ' pointer-events="all"'
        is_line = rgbFace is None and not hatch and not words
        is_clipped = is_line and bounds is not None and not _is_curved(path)
        # Matplotlib leaves a pixel on every side.
        clip = bounds.padded(-1).extents if is_clipped and bounds else None
        shape = self._circle(box) if _is_circle(path, box) else self._path(path, transform, clip)
        if shape and (stroke or words or fill != 'fill="none"'):
            name = shape.partition(" ")[0]
            title = f"><title>{escape(words)}</title></{name}>" if words else "/>"
            if bounds is not None and not is_clipped and _sticks_out(box, bounds):
                self._add(f"<svg {self._frame(bounds)}><{shape} {fill} {stroke}{title}</svg>")
            elif is_line and name == "path":
                self._add_line(f"{fill} {stroke}", shape)
            elif stroke == EDGED:
                self._add(f"<{shape} {fill}{title}", EDGED)
            else:
                self._add(f"<{shape} {fill} {stroke}".rstrip() + title)
        if hatch:
            self._add(self._hatched(gc, box))

    def draw_text(
        self, gc: GraphicsContextBase, x: float, y: float, s: str, prop: FontProperties, angle: float,
        ismath: Any = False, mtext: Text | None = None,
    ) -> None:  # fmt: skip
        """Draw text as text, aligned where it was meant to be: fonts differ in width."""
        if ismath:
            super().draw_text(gc, x, y, s, prop, angle, ismath, mtext)
            return
        side = mtext.get_horizontalalignment() if mtext is not None and angle == 0 else "left"
        if angle:
            side = "center"
        width = self.get_text_width_height_descent(s, prop, ismath)[0]
        reach = {"left": 0.0, "center": width / 2, "right": width}[side]
        x, y = x + reach * math.cos(math.radians(angle)), y - reach * math.sin(math.radians(angle))
        anchor = {"left": "", "center": ' text-anchor="middle"', "right": ' text-anchor="end"'}[side]
        weight = ' font-weight="bold"' if prop.get_weight() in {"bold", 700} else ""
        turned = f' transform="rotate({-angle:g} {_number(x)} {_number(y)})"' if angle else ""
        size = self.points_to_pixels(prop.get_size_in_points())
        paint = _paint("fill", _faded(gc, gc.get_rgb()))
        words = self._next_words()
        title = f"<title>{escape(words)}</title>" if words else ""
        # White is meant for a ground of its own; what is black is already the page's.
        paint = {'fill="currentColor"': "", 'fill="none"': ' fill="#fff"'}.get(paint, f" {paint}")
        if paint and "currentColor" not in paint:  # it stands on what has words of its own
            paint += ' pointer-events="none"'
        self._add(
            f'<text x="{_number(x)}" y="{_number(y)}"{turned}>{title}{_escaped(s)}</text>',
            f'font-size="{size:.3g}"{anchor}{weight}{paint}',
        )

    def draw_image(self, _: GraphicsContextBase, x: float, y: float, im: Any, transform: Any = None) -> None:
        """Draw an image: a small one cell by cell, with its words."""
        rows, columns = im.shape[:2]
        if transform is None:
            transform = Affine2D().scale(columns, rows)
        (left, bottom), (right, top) = transform.transform([(0, 0), (1, 1)])
        box = (x + min(left, right), y + min(bottom, top), abs(right - left), abs(top - bottom))
        if rows * columns <= MOST_CELLS:
            for element in self._cells(im, *box):
                self._add(element, 'shape-rendering="crispEdges"')
            return
        from PIL import Image

        out = io.BytesIO()
        Image.fromarray(im[::-1]).save(out, format="png", optimize=True)
        data = base64.b64encode(out.getvalue()).decode("ascii")
        place = f'x="{_number(box[0])}" y="{_number(self.height - box[1] - box[3])}"'
        size = f'width="{_number(box[2])}" height="{_number(box[3])}"'
        style = 'preserveAspectRatio="none" style="image-rendering:pixelated"'
        self._add(f'<image {place} {size} {style} href="data:image/png;base64,{data}"/>')

    # ---- how it is written

    def _add(self, element: str, shared: str = "") -> None:
        """Add an element, and the attributes that it may share with its neighbours."""
        self._into.append((shared, element))
        self._last_line = ""

    def _add_line(self, attributes: str, shape: str) -> None:
        """Add a line, to the last one if that looks alike: a grid is one path."""
        if attributes == self._last_line:
            _, last = self._into.pop()
            shape = last.removeprefix("<").partition('" ')[0] + shape.removeprefix('path d="')
        self._add(f"<{shape} {attributes}/>")
        self._last_line = attributes

    def _next_words(self) -> str:
        return self._words[-1].pop() if self._words and self._words[-1] else ""

    def _stroke(self, gc: GraphicsContextBase) -> str:
        """Return the attributes of a line, or of an edge."""
        paint, width = _paint("stroke", _faded(gc, gc.get_rgb())), self.points_to_pixels(gc.get_linewidth())
        if not width or paint == 'stroke="none"':
            return ""
        _, dashes = gc.get_dashes()
        broken = " ".join(map(_number, self.points_to_pixels(np.asarray(dashes if dashes is not None else ()))))
        return f'{paint} stroke-width="{_number(width)}"' + (f' stroke-dasharray="{broken}"' if broken else "")

    def _circle(self, box: Bbox) -> str:
        x, y = (box.x0 + box.x1) / 2, self.height - (box.y0 + box.y1) / 2
        return f'circle cx="{_number(x)}" cy="{_number(y)}" r="{_number(box.width / 2)}"'

    def _path(self, path: Path, transform: Transform, clip: Any) -> str:
        """Return a path as an element without its end; nothing if no part of it is inside."""
        commands = self._commands(path, transform, clip)
        return f'path d="{commands}"' if commands else ""

    def _commands(self, path: Path, transform: Transform, clip: Any) -> str:
        """Return a path as SVG has it."""
        text, at = "", ("", "")
        for points, code in path.iter_segments(transform, clip=clip, simplify=path.should_simplify):
            numbers = np.asarray(points).reshape(-1, 2)
            places = [(_number(x), _number(self.height - y)) for x, y in numbers]
            if code == Path.CLOSEPOLY:
                text += "z"
                continue
            name = COMMANDS[code]
            if name == "L":
                (x, y) = places[0]
                if (x, y) == at:
                    continue
                text += f"H{x}" if y == at[1] else f"V{y}" if x == at[0] else f"L{x} {y}"
            else:
                text += name + " ".join(f"{x} {y}" for x, y in places)
            at = places[-1]
        return re.sub(r"(?:M[-\d. ]+)+(?=M|$)", "", text)  # a move that nothing follows

    def _frame(self, box: Bbox) -> str:
        """Return the attributes of a drawing that ends at a box."""
        left, top = _number(box.x0), _number(self.height - box.y1)
        wide, high = _number(box.width), _number(box.height)
        return f'x="{left}" y="{top}" width="{wide}" height="{high}" viewBox="{left} {top} {wide} {high}"'

    def _hatched(self, gc: GraphicsContextBase, box: Bbox) -> str:
        """Return lines across a rectangle."""
        red, green, blue, alpha = to_rgba(gc.get_hatch_color())
        color = f'stroke="{to_hex((red, green, blue))}" stroke-opacity="{alpha:.2g}" stroke-width="1.4"'
        left, right, top, bottom = box.x0, box.x1, self.height - box.y1, self.height - box.y0
        commands, start = "", left - (bottom - top)
        while start < right:
            commands += f"M{_number(start)} {_number(bottom)}L{_number(start + bottom - top)} {_number(top)}"
            start += HATCH_APART
        return f'<svg {self._frame(box)}><path d="{commands}" pointer-events="none" fill="none" {color}/></svg>'

    def _cells(self, image: np.ndarray[Any, Any], x: float, y: float, wide: float, high: float) -> Iterator[str]:
        rows, columns = image.shape[:2]
        for row in range(rows):
            for column in range(columns):
                red, green, blue, alpha = image[row, column]
                left, right = (_number(x + wide * (column + more) / columns) for more in (0, 1))
                top, bottom = (_number(self.height - y - high * (row + more) / rows) for more in (1, 0))
                words = self._next_words()
                title = f"><title>{escape(words)}</title></path>" if words else "/>"
                opacity = f' fill-opacity="{alpha / 255:.2g}"' if alpha < 255 else ""
                color = f"#{red:02x}{green:02x}{blue:02x}"
                yield f'<path d="M{left} {top}H{right}V{bottom}H{left}z" fill="{color}"{opacity}{title}'


def _number(value: float) -> str:
    """Return a number of pixels with one digit after the point, if any."""
    text = f"{value:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def _paint(kind: str, rgba: Sequence[float]) -> str:
    """Return a colour as an attribute: of a grey the page's colour, the less of it the lighter the grey."""
    red, green, blue, alpha = rgba
    color = to_hex((red, green, blue))
    if red == green == blue:
        color, alpha = "currentColor", alpha * (1 - red)
    if alpha < 0.01:
        return f'{kind}="none"'
    return f'{kind}="{color}"' + (f' {kind}-opacity="{alpha:.2g}"' if alpha < 0.995 else "")


def _box(path: Path, transform: Transform) -> Bbox:
    """Return the box around a path's points, which is that around the path if each curve ends where it is furthest."""
    points = transform.transform(np.asarray(path.vertices))
    points = points[np.isfinite(points).all(axis=1)]
    return Bbox((points.min(axis=0), points.max(axis=0))) if len(points) else Bbox.null()


def _is_circle(path: Path, box: Bbox) -> bool:
    if len(path) != len(CIRCLE) or abs(box.width - box.height) > 0.01 * box.width:
        return False
    points = np.asarray(path.vertices)
    middle, reach = (points.max(axis=0) + points.min(axis=0)) / 2, float(np.ptp(points[:, 0])) / 2
    return bool(np.abs(points - middle - reach * np.asarray(CIRCLE.vertices)).max() < 1e-6 * reach)


def _is_curved(path: Path) -> bool:
    return path.codes is not None and bool(np.isin(path.codes, (Path.CURVE3, Path.CURVE4)).any())


def _sticks_out(box: Bbox, bounds: Bbox) -> bool:
    over = (bounds.x0 - box.x0, bounds.y0 - box.y0, box.x1 - bounds.x1, box.y1 - bounds.y1)
    return bool(max(over) > 0.6)


def _faded(gc: GraphicsContextBase, color: Sequence[float]) -> tuple[float, float, float, float]:
    """Return a colour with the opacity at which it is drawn."""
    red, green, blue, *alpha = color
    return red, green, blue, gc.get_alpha() if gc.get_forced_alpha() else alpha[0] if alpha else 1.0


def _escaped(text: str) -> str:
    """Return the text for a text of a drawing, in which no HTML may be."""
    return escape(text).replace("<span", "<tspan").replace("</span", "</tspan")
