// The patient's page. The question is stored in the address, so that a reload or a restart of the
// server keeps it. Tables appear immediately, images when they are ready.

import answer from "/static/answer.js";
import choose from "/static/choose.js";
import dose from "/static/dose.js";
import radiographs from "/static/radiographs.js";
import settings from "/static/settings.js";
import { Refused, ask, download, events, decoded } from "/static/requests.js";

const REST = 350; // milliseconds without a change before an image is requested
const AGAIN = 2000; // milliseconds until a failed request is repeated

export default {
  components: { answer, choose, dose, radiographs, settings },

  template: `
  <div class="explorer">
    <p v-if="lost" class="cx-warn" role="alert">The server does not respond. Trying again…</p>
    <choose :cohorts="initial.cohorts" :models="initial.models" :model="model" :who="who" :label="label"
      @choose="choose" @model="useModel" @uploaded="uploaded"></choose>
    <p v-if="weightsNote" class="cx-warn" role="status">{{ weightsNote }}</p>
    <div class="columns">
      <settings class="left" :variables="model.variables" :settings="set" :hold="hold" :codes="patient.codes" :facts="patient.facts" :given="who.facts || {}"
        :upload="who.upload || ''" :beyond="beyond" @set="setTo" @clear="clear" @hold="toggleHold" @fact="fact" @beyond="beyond = $event; changed()"></settings>
      <div class="right">
        <radiographs :factual="factual" :twin="twin" :preview="preview" :same="same" :synthetic="patient.synthetic" :mark="initial.mark" :progress="progress"
          :status="status" :missing="missing" :coupling="model.coupling" :sizes="patient.sizes"></radiographs>
        <answer :answer="table" :assumptions="assumptions" :error="error" :waiting="waiting" @pick="pick"></answer>
      </div>
    </div>
    <section class="cx-panel graph" aria-labelledby="graph-title">
      <div class="cx-row"><h2 id="graph-title">The graph</h2><p class="cx-note">Select a variable to set it. <span class="key set">set</span>
        <span class="key changed">changed downstream</span> <span class="key held">held</span></p></div>
      <div class="cx-scroll graph-drawing" tabindex="0" role="region" aria-label="The graph" v-html="graphSvg" @click="onGraph" @keydown.enter.prevent="onGraph" @keydown.space.prevent="onGraph"></div>
    </section>
    <dose :variables="model.variables" :request="request" :images="Boolean(factual)" :mark="initial.mark"></dose>
    <section class="cx-panel download" aria-labelledby="download-title">
      <h2 id="download-title">Download</h2>
      <div class="cx-row">
        <button class="cx-button" v-for="kind in ['png', 'dicom']" :key="kind" :aria-disabled="String(!twin)" @click="twin && save(kind)">{{ kind === "png" ? "PNG" : "DICOM" }}</button>
        <button class="cx-button" :aria-disabled="String(!table)" @click="save('json')">JSON</button>
        <button class="cx-button" :aria-disabled="String(!table)" @click="save('python')">Python</button>
      </div>
      <p class="cx-note">PNG: the pair in 16 bits, marked as synthetic. DICOM: the twin as a marked Secondary Capture with new identifiers, and the factual
        image only if it is synthetic too. The same result in Python:</p>
      <p class="cx-mono code" v-if="table">{{ table.python }}</p>
      <p v-if="trouble" class="cx-warn" role="alert">{{ trouble }}</p>
    </section>
  </div>`,

  props: { initial: Object },

  data() {
    const first = { cohort: this.initial.cohorts[0].name, row: 0 };
    return {
      modelName: this.initial.models[0].name, who: first, set: {}, hold: [], beyond: false, patient: { codes: {}, facts: {}, synthetic: false },
      table: null, assumptions: null, factual: null, twin: null, preview: null, same: false, progress: null, status: "", error: "", trouble: "",
      missing: "no image", waiting: false, lost: false, graphSvg: "", ...this.fromAddress(),
    };
  },

  computed: {
    model() { return this.initial.models.find((each) => each.name === this.modelName) || this.initial.models[0]; },
    request() { return { model: this.model.name, patient: this.who, settings: this.set, hold: this.hold, beyond_range: this.beyond }; },
    label() { return this.patient.label || ""; },
    weightsNote() {
      const { source, image } = this.patient;
      if (!image || !this.model.image || !source || this.model.trained_on.includes(source)) return "";
      return `The image model was trained on ${this.model.trained_on}, not on ${source}. Its twins of such radiographs have not been tested.`;
    },
  },

  mounted() {
    window.addEventListener("hashchange", this.moved);
    this.load();
  },
  beforeUnmount() {
    window.removeEventListener("hashchange", this.moved);
    this.stop();
  },

  methods: {
    // The address

    fromAddress() {
      const name = new URLSearchParams(window.location.search).get("model");
      const fresh = this.initial.models.some((each) => each.name === name) ? { modelName: name } : {};
      try {
        const { model, who, set, hold, beyond } = JSON.parse(decodeURIComponent(window.location.hash.slice(1)));
        const hasModel = this.initial.models.some((each) => each.name === model);
        const hasPatient = who && (who.upload || this.initial.cohorts.some((each) => each.name === who.cohort));
        return { ...(hasModel ? { modelName: model } : {}), ...(hasPatient ? { who } : {}), set: set || {}, hold: hold || [], beyond: Boolean(beyond) };
      } catch { return fresh; }
    },
    toAddress() {
      const question = { model: this.model.name, who: this.who, set: this.set, hold: this.hold, beyond: this.beyond };
      this.address = `#${encodeURIComponent(JSON.stringify(question))}`;
      window.history.replaceState(window.history.state, "", this.address);
    },
    moved() {
      if (window.location.hash === this.address) return;
      Object.assign(this, { set: {}, hold: [], beyond: false }, this.fromAddress());
      this.load();
    },

    // Actions of the user

    choose(who) { Object.assign(this, { who, set: {}, hold: [] }); this.load(); },
    useModel(name) { Object.assign(this, { modelName: name, set: {}, hold: [] }); this.load(); },
    uploaded(file) { Object.assign(this, { who: { upload: file.token, facts: {} }, set: {}, hold: [] }); this.load(); },
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
      this.load();
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
      try { await download(kind, this.request); } catch (fault) { this.trouble = fault.message; }
    },

    // Replies of the server

    stop() { if (this.going) this.going.abort(); clearTimeout(this.resting); clearTimeout(this.retry); },
    load() { // another patient, another model, or other factual values
      this.loaded = false;
      Object.assign(this, { factual: null, twin: null, preview: null, missing: "…", table: null, assumptions: null, status: "",
        progress: null, error: "" });
      return this.changed();
    },
    async loadPatient(signal) { // a question that arrives meanwhile starts it again
      this.patient = await ask("/api/patient", this.request, signal);
      this.missing = this.patient.image ? "…" : "no image";
      if (this.patient.image && this.model.image) this.factual = decoded(await ask("/api/factual", this.request, signal));
      this.loaded = true;
    },
    async changed() {
      this.stop();
      this.toAddress();
      const going = (this.going = new AbortController());
      this.waiting = true;
      await this.attempt(going, async () => {
        if (!this.loaded) await this.loadPatient(going.signal);
        const table = await ask("/api/ask", this.request, going.signal);
        Object.assign(this, { table, error: "", assumptions: null, twin: null, preview: null, progress: null, status: "" });
        this.same = !table.films;
        this.graphSvg = (await ask("/api/graph", this.request, going.signal)).svg;
        this.resting = setTimeout(() => this.attempt(going, () => this.loadSlow(going, table)), REST);
      });
    },
    async loadSlow(going, table) {
      const assumptions = ask("/api/assumptions", this.request, going.signal).then((reply) => { this.assumptions = reply; this.waiting = false; });
      if (!this.factual || !table.films) {
        if (this.factual) this.twin = this.factual;
        return assumptions;
      }
      this.status = "The twin's image is being rendered.";
      this.progress = { step: 0, steps: 1 };
      const image = events("/api/radiograph", this.request, going.signal, (event) => this.onEvent(event));
      await Promise.all([assumptions, image]);
      return null;
    },
    onEvent(event) {
      if (event.ahead) this.status = `${event.ahead} image${event.ahead > 1 ? "s" : ""} of other requests first.`;
      if ("step" in event) {
        this.progress = event;
        if (event.preview) this.preview = decoded(event.preview);
      }
      if ("image" in event) {
        Object.assign(this, { twin: decoded(event.image), preview: null, progress: null, status: "The twin's image is ready." });
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
        this.lost = true; // the server is unavailable: repeat until it is back
        going.abort();
        this.retry = setTimeout(() => this.load(), AGAIN);
      }
    },
  },
};
