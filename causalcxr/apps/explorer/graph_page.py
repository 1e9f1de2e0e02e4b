"""The graph page: edit edges, plan the retraining, retrain, compare before and after."""

from nicegui import app as site
from nicegui import ui

from causalcxr.apps.explorer.graph_elements import plain
from causalcxr.apps.explorer.graph_session import GraphSession
from causalcxr.apps.explorer.graph_view import GraphView
from causalcxr.apps.explorer.page_frame import STATIC, page_frame
from causalcxr.apps.explorer.workspace import Workspace

__all__ = ["register"]


def register(workspace: Workspace) -> None:
    """Add the page to the application.

    Args:
        workspace: What all users share.
    """

    @ui.page("/graph", title="Graph - causalcxr", response_timeout=30)
    async def page(model: str = "") -> None:
        style = (STATIC / "graph_page.css").read_text(encoding="utf-8")
        ui.add_head_html(f"<style>{style}</style>")
        with page_frame("Graph", "/graph"):
            waiting = plain("p", "Loading ...", "cx-note")
            await ui.context.client.connected(timeout=60)
            waiting.delete()
            view = GraphView(_session(workspace, model))
        await view.begin()


def _session(workspace: Workspace, model: str) -> GraphSession:
    """Return the session of this browser tab, which survives a refresh."""
    session = site.storage.tab.get("graph-session")
    if session is None or session.workspace is not workspace:
        session = GraphSession(workspace, workspace.models.first)
        site.storage.tab["graph-session"] = session
    if model in workspace.models.names and model != session.name and not session.running:
        session.open(model)
    return session
