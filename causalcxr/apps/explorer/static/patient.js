// The patient's page: what is asked stands in the address, so that a reload or a new start of the
// server changes nothing; tables come at once, images when they are ready.

import answer from "/static/answer.js";
import choose from "/static/choose.js";
import dose from "/static/dose.js";
import films from "/static/films.js";
import settings from "/static/settings.js";
import { Refused, ask, download, events, greys } from "/static/talk.js";

const REST = 350; // milliseconds without a change before an image is asked for
const AGAIN = 2000; // milliseconds until a server that does not answer is asked again

export default {
  components: { answer, choose, dose, films, settings },

  template: `
  <div class="explorer">
    <p v-if="lost" class="cx-warn" role="alert">The server does not answer. Trying again…</p>
    <choose :cohorts="initial.cohorts" :models="initial.models" :model="model" :who="who" :label="label"
      @choose="choose" @model="take" @dropped="dropped"></choose>
    <p v-if="foreign" class="cx-warn" role="status">{{ foreign }}</p>
    <div class="bench">
      <settings class="left" :variables="model.variables" :settings="set" :hold="hold" :codes="patient.codes" :facts="patient.facts" :known="who.facts || {}"
        :dropped="who.drop || ''" :beyond="beyond" @set="setTo" @clear="clear" @hold="toggleHold" @fact="fact" @beyond="beyond = $event; changed()"></settings>
      <div class="right">
        <films :factual="factual" :twin="twin" :preview="preview" :same="same" :synthetic="patient.synthetic" :mark="initial.mark" :progress="progress"
          :status="status" :missing="missing"></films>
        <answer :answer="table" :doubt="doubt" :error="error" :waiting="waiting" @pick="pick"></answer>
      </div>
    </div>
    <section class="cx-panel graph" aria-labelledby="graph-title">
      <div class="cx-row"><h2 id="graph-title">The graph</h2><p class="cx-note">Choose a variable to set it. <span class="key set">set</span>
        <span class="key changed">changed downstream</span> <span class="key held">held</span></p></div>
      <div class="cx-scroll drawn" tabindex="0" role="region" aria-label="The graph" v-html="drawn" @click="onGraph" @keydown.enter.prevent="onGraph" @keydown.space.prevent="onGraph"></div>
    </section>
    <dose :variables="model.variables" :asked="asked" :films="Boolean(factual)" :mark="initial.mark"></dose>
    <section class="cx-panel take" aria-labelledby="take-title">
      <h2 id="take-title">Take it along</h2>
      <div class="cx-row">
        <button class="cx-button" v-for="kind in ['png', 'dicom']" :key="kind" :aria-disabled="String(!twin)" @click="twin && save(kind)">{{ kind === "png" ? "PNG" : "DICOM" }}</button>
        <button class="cx-button" :aria-disabled="String(!table)" @click="save('json')">JSON</button>
        <button class="cx-button" :aria-disabled="String(!table)" @click="save('python')">Python</button>
      </div>
      <p class="cx-note">PNG: the pair, 16 bits, marked. DICOM: the twin as a marked Secondary Capture with new identifiers, and the factual image only where it is
        synthetic itself. The same in Python:</p>
      <p class="cx-mono code" v-if="table">{{ table.python }}</p>
      <p v-if="trouble" class="cx-warn" role="alert">{{ trouble }}</p>
    </section>
  </div>`,

  props: { initial: Object },

  data() {
    const first = { cohort: this.initial.cohorts[0].name, row: 0 };
    return {
      modelName: this.initial.models[0].name, who: first, set: {}, hold: [], beyond: false, patient: { codes: {}, facts: {}, synthetic: false },
      table: null, doubt: null, factual: null, twin: null, preview: null, same: false, progress: null, status: "", error: "", trouble: "",
      missing: "no image", waiting: false, lost: false, drawn: "", ...this.fromAddress(),
    };
  },

  computed: {
    model() { return this.initial.models.find((each) => each.name === this.modelName) || this.initial.models[0]; },
    asked() { return { model: this.model.name, who: this.who, settings: this.set, hold: this.hold, beyond_range: this.beyond }; },
    label() { return this.patient.label || ""; },
    foreign() {
      const { source, image } = this.patient;
      if (!image || !this.model.image || !source || this.model.knows.includes(source)) return "";
      return `The image's weights know ${this.model.knows}, not ${source}. What they make of this radiograph has been tested on nothing of its kind.`;
    },
  },

  mounted() {
    window.addEventListener("hashchange", this.moved);
    this.meet();
  },
  beforeUnmount() {
    window.removeEventListener("hashchange", this.moved);
    this.stop();
  },

  methods: {
    // The address

    fromAddress() {
      const asked = new URLSearchParams(window.location.search).get("model");
      const fresh = this.initial.models.some((each) => each.name === asked) ? { modelName: asked } : {};
      try {
        const { model, who, set, hold, beyond } = JSON.parse(decodeURIComponent(window.location.hash.slice(1)));
        const known = this.initial.models.some((each) => each.name === model);
        const there = who && (who.drop || this.initial.cohorts.some((each) => each.name === who.cohort));
        return { ...(known ? { modelName: model } : {}), ...(there ? { who } : {}), set: set || {}, hold: hold || [], beyond: Boolean(beyond) };
      } catch { return fresh; }
    },
    toAddress() {
      const told = { model: this.model.name, who: this.who, set: this.set, hold: this.hold, beyond: this.beyond };
      this.address = `#${encodeURIComponent(JSON.stringify(told))}`;
      window.history.replaceState(window.history.state, "", this.address);
    },
    moved() {
      if (window.location.hash === this.address) return;
      Object.assign(this, { set: {}, hold: [], beyond: false }, this.fromAddress());
      this.meet();
    },

    // What a person does

    choose(who) { Object.assign(this, { who, set: {}, hold: [] }); this.meet(); },
    take(name) { Object.assign(this, { modelName: name, set: {}, hold: [] }); this.meet(); },
    dropped(found) { Object.assign(this, { who: { drop: found.token, facts: {} }, set: {}, hold: [] }); this.meet(); },
    setTo(name, value) {
      const { [name]: gone, ...rest } = this.set;
      this.set = value === "" ? rest : { ...rest, [name]: value };
      this.hold = this.hold.filter((each) => each !== name);
      this.changed();
    },
    toggleHold(name) {
      this.hold = this.hold.includes(name) ? this.hold.filter((each) => each !== name) : [...this.hold, name];
      this.changed();
    },
    clear() { Object.assign(this, { set: {}, hold: [], beyond: false }); this.changed(); },
    fact(name, value) {
      const { [name]: gone, ...rest } = this.who.facts;
      this.who = { ...this.who, facts: value === "" ? rest : { ...rest, [name]: value } };
      this.meet();
    },
    pick(name) {
      const rows = [...this.$el.querySelectorAll("[data-variable]")];
      const row = rows.find((each) => each.dataset.variable === name);
      if (!row) return;
      row.scrollIntoView({ block: "center" });
      row.querySelector("button, select, input").focus({ preventScroll: true });
    },
    onGraph(event) {
      const node = event.target.closest("[data-name]");
      if (node) this.pick(node.dataset.name);
    },
    async save(kind) {
      this.trouble = "";
      try { await download(kind, this.asked); } catch (fault) { this.trouble = fault.message; }
    },

    // What the server says

    stop() { if (this.going) this.going.abort(); clearTimeout(this.resting); clearTimeout(this.retry); },
    meet() { // another patient, another model, or other facts
      this.met = false;
      Object.assign(this, { factual: null, twin: null, preview: null, missing: "…", table: null, doubt: null, status: "",
        progress: null, error: "" });
      return this.changed();
    },
    async greet(signal) { // who it is; a question that comes meanwhile begins with it anew
      this.patient = await ask("/api/patient", this.asked, signal);
      this.missing = this.patient.image ? "…" : "no image";
      if (this.patient.image && this.model.image) this.factual = greys(await ask("/api/factual", this.asked, signal));
      this.met = true;
    },
    async changed() {
      this.stop();
      this.toAddress();
      const going = (this.going = new AbortController());
      this.waiting = true;
      await this.attempt(going, async () => {
        if (!this.met) await this.greet(going.signal);
        const table = await ask("/api/ask", this.asked, going.signal);
        Object.assign(this, { table, error: "", doubt: null, twin: null, preview: null, progress: null, status: "" });
        this.same = !table.films;
        this.drawn = (await ask("/api/graph", this.asked, going.signal)).svg;
        this.resting = setTimeout(() => this.attempt(going, () => this.slower(going, table)), REST);
      });
    },
    async slower(going, table) {
      const doubt = ask("/api/doubt", this.asked, going.signal).then((found) => { this.doubt = found; this.waiting = false; });
      if (!this.factual || !table.films) {
        if (this.factual) this.twin = this.factual;
        return doubt;
      }
      this.status = "The twin's image is being made.";
      this.progress = { step: 0, steps: 1 };
      const film = events("/api/film", this.asked, going.signal, (event) => this.heard(event));
      await Promise.all([doubt, film]);
      return null;
    },
    heard(event) {
      if (event.ahead) this.status = `${event.ahead} image${event.ahead > 1 ? "s" : ""} of others before this one.`;
      if ("step" in event) {
        this.progress = event;
        if (event.preview) this.preview = greys(event.preview);
      }
      if ("image" in event) {
        Object.assign(this, { twin: greys(event.image), preview: null, progress: null, status: "The twin's image is ready." });
      }
    },
    async attempt(going, work) {
      try {
        await work();
        this.lost = false;
      } catch (fault) {
        if (going.signal.aborted || fault.name === "AbortError") return;
        Object.assign(this, { progress: null, status: "", waiting: false });
        if (fault instanceof Refused) {
          Object.assign(this, { error: fault.message, lost: false, preview: null });
          if (this.missing === "…") this.missing = "no image";
          return;
        }
        this.lost = true; // the server is away: the same again, until it is back
        going.abort();
        this.retry = setTimeout(() => this.meet(), AGAIN);
      }
    },
  },
};
