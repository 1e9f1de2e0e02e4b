"""The view of the graph page: it shows a session and handles clicks and keys."""

from collections.abc import Callable
from html import escape
from json import dumps
from typing import Any
from urllib.parse import quote

from nicegui import run, ui

from causalcxr.apps.explorer import graph_html as html
from causalcxr.apps.explorer.graph_elements import (
    KEEP_FOCUS,
    ON_CHIP,
    ON_NODE,
    ON_NODE_KEY,
    button,
    choice,
    enable,
    field,
    panel,
    plain,
    relabel,
)
from causalcxr.apps.explorer.graph_session import GraphSession, PlannedGraph
from causalcxr.apps.explorer.graph_svg import graph_legend
from causalcxr.common.errors import CausalCXRError

__all__ = ["GraphView"]

_POLL = 0.25  # seconds between two updates of the progress
_WORDS = {
    "running": "Retraining. You can use the page meanwhile; other users are not affected.",
    "done": "The retraining is done.",
    "stopped": "The retraining was stopped; nothing was changed.",
    "failed": "The retraining failed; nothing was changed.",
}


class GraphView:
    """Show a session in the browser and handle its events.

    Args:
        session: The edits of this user.
    """

    def __init__(self, session: GraphSession) -> None:
        self.session = session
        self._planned: PlannedGraph | None = None
        self._drawings = 0  # drawings come from threads; only the last one is shown
        self._comparing = False
        with ui.element("div").classes("graph-columns"):
            self._build_drawing()
            with ui.element("div").classes("graph-side"):
                self._build_edit()
                self._build_retrain()
        self._build_compare()
        self._build_save()
        self._timer = ui.timer(_POLL, self._update, active=False)

    async def begin(self) -> None:
        """Show the session for the first time."""
        ids = [element.html_id for element in (self.drawing, self.chips)]
        ui.run_javascript(f"{KEEP_FOCUS}({dumps(ids)})")
        self._timer.active = self.session.running
        await self._show()

    # Building

    def _build_drawing(self) -> None:
        with panel("The graph", "graph-drawing") as section:
            self.drawing_note = plain(
                "p",
                "Click a variable to choose the parent, then another to choose the child. "
                "Or use the lists.",
                "cx-note",
            )
            self.drawing = plain("div", "", "cx-scroll graph-svg")
            self.drawing.on("click", self._node_chosen, js_handler=ON_NODE)
            self.drawing.on("keydown", self._node_chosen, js_handler=ON_NODE_KEY)
            self.legend = plain("div", "")
        self.drawing_panel = section

    def _build_edit(self) -> None:
        with panel("Edit edges"):
            with ui.element("div").classes("cx-row"):
                self.model = choice("Model", self._model_chosen)
            with ui.element("div").classes("cx-row"):
                self.parent = choice("Parent (cause)", self._parent_chosen)
                self.child = choice("Child (effect)", self._child_chosen)
            with ui.element("div").classes("cx-row"):
                self.edit = button("Add edge", self._edit, "go")
                self.undo = button("Undo", self._undo)
                self.redo = button("Redo", self._redo)
            self.edit_error = plain("div", "").props("role=alert")
            self.chips = plain("div", "").props("tabindex=-1")
            self.chips.on("click", self._removed, js_handler=ON_CHIP)

    def _build_retrain(self) -> None:
        with panel("Retrain"):
            self.plan = plain("div", "").props("aria-live=polite")
            self.cohort = choice("Training cohort", self._cohort_chosen)
            with ui.element("div").classes("cx-row"):
                self.go = button("Retrain", self._retrain, "go")
                self.stop = button("Stop", self._stop)
            self.retrain_error = plain("div", "").props("role=alert")
            self.progress_words = plain("p", "").props("role=status")
            self.progress = plain("div", "")

    def _build_compare(self) -> None:
        self.compare_panel = panel("Before and after")
        with self.compare_panel, ui.element("div").classes("graph-halves"):
            with ui.element("div"):
                plain("h3", "Held-out likelihood")
                self.held_out = plain("div", "")
            with ui.element("div"):
                plain("h3", "The effect of an intervention")
                self._build_effect()

    def _build_effect(self) -> None:
        with ui.element("div").classes("cx-row"):
            self.variable = choice("Set", self._variable_chosen)
            self.level = choice("to", self._value_chosen)
            self.number = field("to a number, or by +10", self._value_chosen)
            self.compare = button("Compare", self._compare, "go")
        self.compare_error = plain("div", "").props("role=alert")
        self.effect = plain("div", "").props("aria-live=polite")

    def _build_save(self) -> None:
        with panel("Save"):
            with ui.element("div").classes("cx-row"):
                self.name = field("Name of the new model", self._named)
                self.use = button("Save and use this model", self._use, "go")
                self.yaml = button("Download the graph (YAML)", self._download)
            self.save_error = plain("div", "").props("role=alert")
            self.saved = plain("div", "").props("role=status")

    # Showing

    async def _show(self) -> None:
        """Show everything that depends on the edits; the drawing follows when it is ready."""
        self._planned = None  # the previous plan is of another graph
        self._show_choices()
        self._show_result()
        self._show_buttons()
        self._drawings += 1
        number = self._drawings
        planned, fault = await _attempt(self.session.planned_graph)
        if number != self._drawings or self.drawing.is_deleted:
            return
        if planned is None:
            self.retrain_error.set_content(html.warning_html(fault))
            return
        self._planned = planned
        self.drawing.set_content(planned.svg)
        self.legend.set_content(graph_legend(planned.graph, planned.marks))
        self.plan.set_content(html.plan_html(planned.plan, planned.done))
        self._show_buttons()

    def _show_choices(self) -> None:
        session = self.session
        names = list(session.graph.order)
        models, cohorts = session.workspace.models.names, list(session.workspace.cohorts)
        self.model.props["disabled"] = session.running
        self.model.set_content(html.options_html(models, session.name))
        self.parent.set_content(html.options_html(names, session.parent, "choose"))
        self.child.set_content(html.options_html(names, session.child, "choose"))
        self.cohort.set_content(html.options_html(cohorts, session.cohort_name))
        self.cohort.parent_slot.parent.set_visibility(len(cohorts) > 1)
        self.chips.set_content(html.parents_html(session.graph, session.child))

    def _show_buttons(self) -> None:
        session, plan = self.session, self._planned.plan if self._planned else None
        relabel(self.edit, "Remove edge" if session.has_edge else "Add edge")
        self.edit.classes(**{"remove" if session.has_edge else "add": "go"})
        enable(self.edit, session.parent is not None and session.child is not None)
        enable(self.undo, session.can_undo)
        enable(self.redo, session.can_redo)
        count = len(plan.retrain) if plan else 0
        words = f"Retrain {count} equation{'s' * (count != 1)}" if count else "Retrain"
        relabel(
            self.go, "Continue with tables only" if plan and plan.image and not count else words
        )
        ready = plan is not None and bool(count or plan.image) and not session.running
        enable(self.go, ready and session.result is None)
        self.stop.set_visibility(session.running)

    def _show_result(self) -> None:
        """Show the progress of the retraining and its result."""
        session, job = self.session, self.session.job
        result = session.result
        state = "" if job is None else job.state
        if state == "done" and result is None:
            state = ""  # the job belongs to another edit than the one shown
        words = _WORDS.get(state, "")
        if state == "running" and job is not None and job.stopping:
            words = "Stopping after this epoch ..."
        self.progress_words.set_content(escape(words))
        self.progress.set_content(html.progress_html(job) if job and state else "")
        failed = job.error if job is not None and state == "failed" else ""
        self.retrain_error.set_content(html.warning_html(failed))
        self.compare_panel.set_visibility(result is not None)
        if result is not None and result.held_out is not None:
            self.held_out.set_content(html.held_out_html(result.held_out))
            self._show_effect()
        self.use.set_visibility(result is not None)
        self.name.parent_slot.parent.set_visibility(result is not None)
        if result is not None and not self.name.props.get("value"):
            self.name.props["value"] = session.free_name()

    def _show_effect(self) -> None:
        session = self.session
        graph = session.model.graph
        if session.variable not in graph.tabular:
            session.choose_intervention(session.suggested())
        levels = graph[session.variable].levels
        self.variable.set_content(html.options_html(graph.tabular, session.variable))
        self.level.set_content(html.options_html(levels, session.value))
        self.level.parent_slot.parent.set_visibility(bool(levels))
        self.number.parent_slot.parent.set_visibility(not levels)
        self.number.props["value"] = "" if levels else session.value
        effect = session.effect
        self.effect.set_content("" if effect is None else html.effect_html(effect))

    # Events

    async def _node_chosen(self, event: Any) -> None:
        await self._do(lambda: self.session.choose(event.args))

    async def _parent_chosen(self, event: Any) -> None:
        self.session.parent = event.args or None
        await self._do(lambda: None)

    async def _child_chosen(self, event: Any) -> None:
        self.session.child = event.args or None
        await self._do(lambda: None)

    async def _edit(self) -> None:
        session = self.session
        if session.parent is None or session.child is None:
            self._refuse("choose a parent and a child first")
            return
        change = session.remove if session.has_edge else session.add
        await self._do(lambda: change(session.parent or "", session.child or ""))

    async def _removed(self, event: Any) -> None:
        child = self.session.child
        if child is not None:
            await self._do(lambda: self.session.remove(event.args, child))

    async def _undo(self) -> None:
        await self._do(self.session.undo)

    async def _redo(self) -> None:
        await self._do(self.session.redo)

    async def _do(self, change: Callable[[], None]) -> None:
        """Change the session; an invalid change shows a message and changes nothing."""
        try:
            change()
        except CausalCXRError as fault:
            self._refuse(_line(fault))
        else:
            self._refuse("")
        await self._show()

    def _refuse(self, text: str) -> None:
        self.edit_error.set_content(html.warning_html(text))

    async def _model_chosen(self, event: Any) -> None:
        await self._do(lambda: self.session.open(event.args))

    async def _cohort_chosen(self, event: Any) -> None:
        await self._do(lambda: self.session.train_on(event.args))

    async def _retrain(self) -> None:
        _, fault = await _attempt(self.session.retrain)
        self.retrain_error.set_content(html.warning_html(fault))
        if not fault:
            self._timer.active = True
            self._show_choices()
            self._show_result()
        self._show_buttons()

    async def _stop(self) -> None:
        if self.session.job is not None:
            self.session.job.stop()
            self._show_result()

    async def _update(self) -> None:
        """Update the progress of the retraining."""
        if self.session.running:
            self._show_result()
        else:
            self._timer.active = False
            await self._show()

    async def _variable_chosen(self, event: Any) -> None:
        self.session.choose_intervention(event.args)
        self._show_effect()

    async def _value_chosen(self, event: Any) -> None:
        self.session.value = event.args

    async def _compare(self) -> None:
        if self._comparing:
            return
        self._comparing = True
        enable(self.compare, False)
        _, fault = await _attempt(self.session.compare)
        self._comparing = False
        if self.compare.is_deleted:
            return
        enable(self.compare, True)
        self.compare_error.set_content(html.warning_html(fault))
        if not fault:
            self._show_effect()

    async def _named(self, event: Any) -> None:
        self.name.props["value"] = event.args

    async def _use(self) -> None:
        name = self.name.props.get("value") or ""
        folder, fault = await _attempt(lambda: self.session.use(name))
        self.save_error.set_content(html.warning_html(fault))
        if fault:
            return
        link = f'<a class="cx-button" href="/?model={quote(name)}">View patients with it</a>'
        note = "You continue with this model; other users keep theirs."
        self.saved.set_content(f"<p>Saved in {escape(str(folder))}. {note}</p>{link}")
        self._refuse("")
        self.name.props["value"] = ""
        await self._show()

    def _download(self) -> None:
        graph = self.session.graph
        ui.download.content(graph.to_yaml(), f"{graph.name}.yaml", "application/yaml")


async def _attempt(work: Callable[[], Any]) -> tuple[Any, str]:
    """Run slow work in a thread; return its result, and one line if it fails."""
    try:
        return await run.io_bound(work), ""
    except CausalCXRError as fault:
        return None, _line(fault)


def _line(fault: CausalCXRError) -> str:
    return " ".join(str(fault).split())
