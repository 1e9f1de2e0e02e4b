"""What the graph page shows of one user's desk, and what becomes of what is pressed."""

from collections.abc import Callable
from html import escape
from json import dumps
from typing import Any
from urllib.parse import quote

from nicegui import run, ui

from causalcxr.apps.explorer import graph_parts as parts
from causalcxr.apps.explorer.graph_desk import GraphDesk, Picture
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
from causalcxr.apps.explorer.graph_svg import graph_legend
from causalcxr.common.errors import CausalCXRError

__all__ = ["GraphView"]

_POLL = 0.25  # seconds between two looks at a retraining
_WORDS = {
    "running": "Retraining. You can go on looking around; nobody else is held up.",
    "done": "The retraining is done.",
    "stopped": "The retraining was stopped; nothing was changed.",
    "failed": "The retraining failed; nothing was changed.",
}


class GraphView:
    """Show a desk in the browser, and pass on what is pressed.

    Args:
        desk: The edits of this user.
    """

    def __init__(self, desk: GraphDesk) -> None:
        self.desk = desk
        self._picture: Picture | None = None
        self._asked = 0  # pictures are drawn in threads: only the last that was asked for counts
        self._comparing = False
        with ui.element("div").classes("graph-columns"):
            self._build_drawing()
            with ui.element("div").classes("graph-side"):
                self._build_edit()
                self._build_retrain()
        self._build_compare()
        self._build_keep()
        self._timer = ui.timer(_POLL, self._look, active=False)

    async def begin(self) -> None:
        """Show the desk for the first time."""
        names = [self.drawing, self.chips]
        ui.run_javascript(f"{KEEP_FOCUS}({dumps([each.html_id for each in names])})")
        self._timer.active = self.desk.running
        await self._show()

    # Building

    def _build_drawing(self) -> None:
        with panel("The graph", "graph-drawing") as section:
            self.drawing_note = plain(
                "p",
                "Press a variable to choose the parent, another to choose its child. "
                "Or choose them in the lists.",
                "cx-note",
            )
            self.drawing = plain("div", "", "cx-scroll graph-svg")
            self.drawing.on("click", self._pointed, js_handler=ON_NODE)
            self.drawing.on("keydown", self._pointed, js_handler=ON_NODE_KEY)
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
            self.cohort = choice("Learn from", self._cohort_chosen)
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
                self._build_question()

    def _build_question(self) -> None:
        with ui.element("div").classes("cx-row"):
            self.variable = choice("Set", self._variable_chosen)
            self.level = choice("to", self._value_chosen)
            self.number = field("to a number, or by +10", self._value_chosen)
            self.compare = button("Compare", self._compare, "go")
        self.compare_error = plain("div", "").props("role=alert")
        self.effect = plain("div", "").props("aria-live=polite")

    def _build_keep(self) -> None:
        with panel("Keep it"):
            with ui.element("div").classes("cx-row"):
                self.name = field("Name of the new model", self._named)
                self.use = button("Save and use this model", self._use, "go")
                self.yaml = button("Download the graph (YAML)", self._download)
            self.keep_error = plain("div", "").props("role=alert")
            self.kept = plain("div", "").props("role=status")

    # Showing

    async def _show(self) -> None:
        """Show everything that depends on the edits; the drawing follows as soon as it is made."""
        self._picture = None  # what it plans is of another graph
        self._show_choices()
        self._show_result()
        self._show_buttons()
        self._asked += 1
        mine = self._asked
        picture, fault = await _tried(self.desk.picture)
        if mine != self._asked or self.drawing.is_deleted:
            return
        if picture is None:
            self.retrain_error.set_content(parts.warning_html(fault))
            return
        self._picture = picture
        self.drawing.set_content(picture.svg)
        self.legend.set_content(graph_legend(picture.graph, picture.marks))
        self.plan.set_content(parts.plan_html(picture.plan, picture.done))
        self._show_buttons()

    def _show_choices(self) -> None:
        desk = self.desk
        names = list(desk.graph.order)
        models, cohorts = desk.bench.models.names, list(desk.bench.cohorts)
        self.model.props["disabled"] = desk.running
        self.model.set_content(parts.options_html(models, desk.name))
        self.parent.set_content(parts.options_html(names, desk.parent, "choose"))
        self.child.set_content(parts.options_html(names, desk.child, "choose"))
        self.cohort.set_content(parts.options_html(cohorts, desk.cohort_name))
        self.cohort.parent_slot.parent.set_visibility(len(cohorts) > 1)
        self.chips.set_content(parts.parents_html(desk.graph, desk.child))

    def _show_buttons(self) -> None:
        desk, plan = self.desk, self._picture.plan if self._picture else None
        relabel(self.edit, "Remove edge" if desk.has_edge else "Add edge")
        self.edit.classes(**{"remove" if desk.has_edge else "add": "go"})
        enable(self.edit, desk.parent is not None and desk.child is not None)
        enable(self.undo, desk.can_undo)
        enable(self.redo, desk.can_redo)
        count = len(plan.retrain) if plan else 0
        words = f"Retrain {count} equation{'s' * (count != 1)}" if count else "Retrain"
        relabel(self.go, "Go on with tables only" if plan and plan.image and not count else words)
        ready = plan is not None and bool(count or plan.image) and not desk.running
        enable(self.go, ready and desk.result is None)
        self.stop.set_visibility(desk.running)

    def _show_result(self) -> None:
        """Show how far the retraining is, and what came of it."""
        desk, job = self.desk, self.desk.job
        result = desk.result
        state = "" if job is None else job.state
        if state == "done" and result is None:
            state = ""  # it is of another edit than the one shown
        words = _WORDS.get(state, "")
        if state == "running" and job is not None and job.stopping:
            words = "Stopping after this epoch ..."
        self.progress_words.set_content(escape(words))
        self.progress.set_content(parts.progress_html(job) if job and state else "")
        failed = job.error if job is not None and state == "failed" else ""
        self.retrain_error.set_content(parts.warning_html(failed))
        self.compare_panel.set_visibility(result is not None)
        if result is not None and result.held_out is not None:
            self.held_out.set_content(parts.held_out_html(result.held_out))
            self._show_question()
        self.use.set_visibility(result is not None)
        self.name.parent_slot.parent.set_visibility(result is not None)
        if result is not None and not self.name.props.get("value"):
            self.name.props["value"] = desk.free_name()

    def _show_question(self) -> None:
        desk = self.desk
        graph = desk.model.graph
        if desk.variable not in graph.tabular:
            desk.ask(desk.suggested())
        levels = graph[desk.variable].levels
        self.variable.set_content(parts.options_html(graph.tabular, desk.variable))
        self.level.set_content(parts.options_html(levels, desk.value))
        self.level.parent_slot.parent.set_visibility(bool(levels))
        self.number.parent_slot.parent.set_visibility(not levels)
        self.number.props["value"] = "" if levels else desk.value
        found = desk.effect
        self.effect.set_content("" if found is None else parts.effect_html(found))

    # What is pressed

    async def _pointed(self, event: Any) -> None:
        await self._do(lambda: self.desk.point(event.args))

    async def _parent_chosen(self, event: Any) -> None:
        self.desk.parent = event.args or None
        await self._do(lambda: None)

    async def _child_chosen(self, event: Any) -> None:
        self.desk.child = event.args or None
        await self._do(lambda: None)

    async def _edit(self) -> None:
        desk = self.desk
        if desk.parent is None or desk.child is None:
            self._refuse("choose a parent and a child first")
            return
        change = desk.remove if desk.has_edge else desk.add
        await self._do(lambda: change(desk.parent or "", desk.child or ""))

    async def _removed(self, event: Any) -> None:
        child = self.desk.child
        if child is not None:
            await self._do(lambda: self.desk.remove(event.args, child))

    async def _undo(self) -> None:
        await self._do(self.desk.undo)

    async def _redo(self) -> None:
        await self._do(self.desk.redo)

    async def _do(self, change: Callable[[], None]) -> None:
        """Change the desk; what is refused is told at the place, and nothing is changed."""
        try:
            change()
        except CausalCXRError as fault:
            self._refuse(_line(fault))
        else:
            self._refuse("")
        await self._show()

    def _refuse(self, text: str) -> None:
        self.edit_error.set_content(parts.warning_html(text))

    async def _model_chosen(self, event: Any) -> None:
        await self._do(lambda: self.desk.open(event.args))

    async def _cohort_chosen(self, event: Any) -> None:
        await self._do(lambda: self.desk.learn_from(event.args))

    async def _retrain(self) -> None:
        _, fault = await _tried(self.desk.retrain)
        self.retrain_error.set_content(parts.warning_html(fault))
        if not fault:
            self._timer.active = True
            self._show_choices()
            self._show_result()
        self._show_buttons()

    async def _stop(self) -> None:
        if self.desk.job is not None:
            self.desk.job.stop()
            self._show_result()

    async def _look(self) -> None:
        """Look how far the retraining is."""
        if self.desk.running:
            self._show_result()
        else:
            self._timer.active = False
            await self._show()

    async def _variable_chosen(self, event: Any) -> None:
        self.desk.ask(event.args)
        self._show_question()

    async def _value_chosen(self, event: Any) -> None:
        self.desk.value = event.args

    async def _compare(self) -> None:
        if self._comparing:
            return
        self._comparing = True
        enable(self.compare, False)
        _, fault = await _tried(self.desk.compare)
        self._comparing = False
        if self.compare.is_deleted:
            return
        enable(self.compare, True)
        self.compare_error.set_content(parts.warning_html(fault))
        if not fault:
            self._show_question()

    async def _named(self, event: Any) -> None:
        self.name.props["value"] = event.args

    async def _use(self) -> None:
        name = self.name.props.get("value") or ""
        folder, fault = await _tried(lambda: self.desk.use(name))
        self.keep_error.set_content(parts.warning_html(fault))
        if fault:
            return
        link = f'<a class="cx-button" href="/?model={quote(name)}">See patients under it</a>'
        told = "You go on from this model; other people keep theirs."
        self.kept.set_content(f"<p>Saved in {escape(str(folder))}. {told}</p>{link}")
        self._refuse("")
        self.name.props["value"] = ""
        await self._show()

    def _download(self) -> None:
        graph = self.desk.graph
        ui.download.content(graph.to_yaml(), f"{graph.name}.yaml", "application/yaml")


async def _tried(work: Callable[[], Any]) -> tuple[Any, str]:
    """Do in a thread what takes a while; return what it gives, and one line if it is refused."""
    try:
        return await run.io_bound(work), ""
    except CausalCXRError as fault:
        return None, _line(fault)


def _line(fault: CausalCXRError) -> str:
    return " ".join(str(fault).split())
