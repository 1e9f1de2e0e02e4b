// Factual image, twin and difference: windowed, blended and enlarged in the browser.

import { blended, difference, paint, windowed } from "/static/canvas.js";

const FULL = { level: 0.5, width: 1, blend: 1, gain: 3 };

export default {
  template: `
  <section class="cx-panel radiographs" aria-labelledby="radiographs-title">
    <div class="cx-row radiographs-head">
      <h2 id="radiographs-title">Radiographs</h2>
      <p class="cx-note" aria-live="polite">{{ status }}</p>
      <progress v-if="progress" :value="progress.step" :max="progress.steps || 1" aria-label="The twin's image"></progress>
    </div>
    <div class="trio" :class="{ waiting: !twin }">
      <figure v-for="side in sides" :key="side.id">
        <figcaption>{{ side.title }} <span class="cx-note">{{ side.note }}</span></figcaption>
        <canvas v-if="side.shown" :ref="side.id" role="img" :aria-label="side.alt" @pointerdown="grab" @pointermove="drag"
          @dblclick="reset"></canvas>
        <div v-else class="dark" role="img" :aria-label="side.alt"><span>{{ side.empty }}</span></div>
      </figure>
    </div>
    <div class="radiograph-controls">
      <label class="cx-field">Blend {{ percent(view.blend) }}
        <input type="range" aria-label="Blend from the factual image to the twin" min="0" max="1" step="0.01" v-model.number="view.blend" :disabled="!twin"></label>
      <label class="cx-field">Level {{ percent(view.level) }}
        <input type="range" min="0" max="1" step="0.01" v-model.number="view.level"></label>
      <label class="cx-field">Window {{ percent(view.width) }}
        <input type="range" min="0.05" max="1.5" step="0.01" v-model.number="view.width"></label>
      <label class="cx-field">Difference × {{ view.gain }}
        <input type="range" min="1" max="10" step="1" v-model.number="view.gain"></label>
      <div class="cx-row buttons">
        <button class="cx-button" :aria-pressed="String(smooth)" @click="smooth = !smooth">Smooth</button>
        <button class="cx-button quiet" @click="reset">Reset view</button>
      </div>
    </div>
    <p class="cx-note">The twin's image is one posterior sample{{ coupling && `, under the coupling ${coupling}` }}. {{ sizes && `Images of ${sizes}.` }} In the difference, warm colours mean brighter than the factual image, cool colours darker.
      Drag on an image to change window and level.</p>
  </section>`,

  props: {
    factual: Object, twin: Object, preview: Object, same: Boolean, synthetic: Boolean, mark: String,
    progress: Object, status: String, missing: String, coupling: String, sizes: String,
  },

  data() { return { view: { ...FULL }, smooth: true, held: null }; },

  computed: {
    shownTwin() { return this.twin || this.preview; },
    isSynthetic() { return this.synthetic || !this.same; }, // otherwise the twin is the patient's own radiograph
    sides() {
      const b = this.view.blend;
      const blend = b === 1 ? "Twin" : b === 0 ? "Factual" : "Blend";
      const note = this.same ? "equals the factual image" : this.twin ? "synthetic" : this.preview ? "preview" : "";
      return [
        { id: "a", title: "Factual", note: this.synthetic ? "synthetic" : "", shown: this.factual, empty: this.missing,
          alt: this.factual ? "Factual radiograph" : "No factual radiograph" },
        { id: "b", title: blend, note, shown: this.factual && this.shownTwin, empty: this.factual ? "set a variable" : this.missing,
          alt: this.twin ? `${blend} radiograph, ${this.isSynthetic ? "synthetic" : "the patient's own"}` : "No twin yet" },
        { id: "c", title: "Difference", note: this.twin ? "twin − factual" : "", shown: this.factual && this.shownTwin,
          empty: this.factual ? "" : this.missing, alt: this.twin ? "Difference, twin minus factual" : "No difference yet" },
      ];
    },
  },

  watch: {
    factual() { this.later(); }, twin() { this.later(); }, preview() { this.later(); },
    smooth() { this.later(); }, view: { deep: true, handler() { this.later(); } },
  },

  mounted() {
    this.watcher = new ResizeObserver(() => this.later());
    this.watcher.observe(this.$el);
    this.later();
  },
  beforeUnmount() { this.watcher.disconnect(); },

  methods: {
    percent(share) { return `${Math.round(100 * share)} %`; },
    reset() { this.view = { ...FULL }; },
    later() {
      if (this.scheduled) return;
      this.scheduled = true;
      this.$nextTick(() => requestAnimationFrame(() => { this.scheduled = false; this.draw(); }));
    },
    canvas(id) { return [].concat(this.$refs[id] || [])[0]; },
    draw() {
      const { factual, shownTwin, view } = this;
      const pens = { a: this.canvas("a"), b: this.canvas("b"), c: this.canvas("c") };
      if (factual && pens.a) paint(pens.a, windowed(factual, view.level, view.width), this.smooth, this.synthetic ? this.mark : "");
      if (!factual || !shownTwin) return;
      // A preview has the size at which the model computes: it is enlarged, without a difference.
      if (factual.values.length !== shownTwin.values.length) {
        if (pens.b) paint(pens.b, windowed(shownTwin, view.level, view.width), this.smooth, this.mark);
        return;
      }
      const middle = blended(factual, shownTwin, view.blend);
      if (pens.b) paint(pens.b, windowed(middle, view.level, view.width), this.smooth, this.isSynthetic ? this.mark : "");
      if (pens.c) paint(pens.c, difference(factual, shownTwin, view.gain), this.smooth, this.isSynthetic ? this.mark : "");
    },
    grab(event) {
      event.target.setPointerCapture(event.pointerId);
      this.held = { x: event.clientX, y: event.clientY, ...this.view };
    },
    drag(event) {
      if (!this.held || !event.buttons) return;
      const size = event.target.clientWidth;
      const bound = (v, low, high) => Math.round(100 * Math.max(low, Math.min(high, v))) / 100;
      this.view.width = bound(this.held.width + (event.clientX - this.held.x) / size, 0.05, 1.5);
      this.view.level = bound(this.held.level + (event.clientY - this.held.y) / size, 0, 1);
    },
  },
};
