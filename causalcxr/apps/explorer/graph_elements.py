"""Elements of the graph page: selection lists, text fields and buttons that keep the focus."""

from collections.abc import Awaitable, Callable
from html import escape

from nicegui import ui

__all__ = [
    "KEEP_FOCUS",
    "ON_CHIP",
    "ON_NODE",
    "ON_NODE_KEY",
    "button",
    "choice",
    "enable",
    "field",
    "panel",
    "plain",
    "relabel",
]

Handler = Callable[..., Awaitable[None] | None]

_ON_CHANGE = "(event) => emit(event.target.value)"
# Emits the name of the variable that is clicked in a drawing, or chosen with a key.
ON_NODE = """(event) => {
  const node = event.target.closest('[data-name]');
  if (node) emit(node.dataset.name);
}"""
ON_NODE_KEY = """(event) => {
  const node = event.target.closest('[data-name]');
  if (!node || !['Enter', ' '].includes(event.key)) return;
  event.preventDefault();
  emit(node.dataset.name);
}"""
ON_CHIP = """(event) => {
  const chip = event.target.closest('button[data-parent]');
  if (chip) emit(chip.dataset.parent);
}"""
# The focus stays on the same element when the part around it is replaced, or moves to the part.
KEEP_FOCUS = """((ids) => ids.forEach((id) => {
  const box = document.getElementById(id);
  let last = null;
  const key = (node) => node.dataset.name ?? node.dataset.parent ?? null;
  box.addEventListener('focusin', (event) => { last = key(event.target); });
  box.addEventListener('focusout', (event) => { if (event.relatedTarget) last = null; });
  new MutationObserver(() => {
    if (last === null || document.activeElement !== document.body) return;
    const all = [...box.querySelectorAll('[data-name], button[data-parent]')];
    (all.find((node) => key(node) === last) ?? box).focus({ preventScroll: true });
  }).observe(box, { childList: true });
}))"""


def plain(tag: str, content: str, classes: str = "") -> ui.html:
    """Return an element; its content must be escaped HTML."""
    return ui.html(content, sanitize=False, tag=tag).classes(classes)


def panel(title: str, classes: str = "") -> ui.element:
    """Return a section with a heading."""
    section = ui.element("section").classes(f"cx-panel {classes}")
    with section:
        plain("h2", escape(title))
    return section


def choice(label: str, handler: Handler) -> ui.html:
    """Return a selection list; its content is its options."""
    with ui.element("label").classes("cx-field"):
        plain("span", escape(label))
        return plain("select", "").on("change", handler, js_handler=_ON_CHANGE)


def field(label: str, handler: Handler) -> ui.html:
    """Return a field for one line of text."""
    with ui.element("label").classes("cx-field"):
        plain("span", escape(label))
        return plain("input", "").on("input", handler, js_handler=_ON_CHANGE)


def button(text: str, handler: Handler, classes: str = "") -> ui.html:
    """Return a button; a disabled one keeps the focus and does nothing."""
    element = plain("button", escape(text), f"cx-button {classes}").props("type=button")

    async def pressed() -> None:
        if element.props.get("aria-disabled") != "true":
            result = handler()
            if result is not None:
                await result

    return element.on("click", pressed, args=[])


def relabel(element: ui.html, text: str) -> None:
    """Change the text of a button."""
    element.set_content(escape(text))


def enable(element: ui.html, is_enabled: bool) -> None:
    """Enable or disable a button."""
    element.props["aria-disabled"] = "false" if is_enabled else "true"
