"""The graph page: edit edges, see what would be retrained, retrain, compare before and after."""

from nicegui import app as site
from nicegui import ui

from causalcxr.apps.explorer.frame import STATIC, page_frame
from causalcxr.apps.explorer.graph_desk import GraphDesk
from causalcxr.apps.explorer.graph_elements import plain
from causalcxr.apps.explorer.graph_view import GraphView
from causalcxr.apps.explorer.workbench import Workbench

__all__ = ["register"]


def register(workbench: Workbench) -> None:
    """Add the page; it needs no route of its own.

    Args:
        workbench: What all users share.
    """

    @ui.page("/graph", title="Graph - causalcxr", response_timeout=30)
    async def page(model: str = "") -> None:
        style = (STATIC / "graph_page.css").read_text(encoding="utf-8")
        ui.add_head_html(f"<style>{style}</style>")
        with page_frame("Graph", "/graph"):
            waiting = plain("p", "One moment ...", "cx-note")
            await ui.context.client.connected(timeout=60)
            waiting.delete()
            view = GraphView(_desk(workbench, model))
        await view.begin()


def _desk(workbench: Workbench, model: str) -> GraphDesk:
    """Return the desk of this browser tab: a refresh finds it as it was left."""
    desk = site.storage.tab.get("graph-desk")
    if desk is None or desk.bench is not workbench:
        desk = GraphDesk(workbench, workbench.models.first)
        site.storage.tab["graph-desk"] = desk
    if model in workbench.models.names and model != desk.name and not desk.running:
        desk.open(model)
    return desk
