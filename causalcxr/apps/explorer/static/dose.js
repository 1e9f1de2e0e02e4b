// Dose and response: the twin at each value of one variable, with images and the changed values.

import { windowed, paint } from "/static/canvas.js";
import { ask, events, decoded } from "/static/requests.js";

export default {
  template: `
  <section class="cx-panel dose" aria-labelledby="dose-title">
    <div class="cx-row">
      <h2 id="dose-title">Dose and response</h2>
      <label class="cx-row cx-note">over <select v-model="variable"><option v-for="each in numbers" :key="each.name">{{ each.name }}</option></select></label>
      <button class="cx-button" @click="show" :aria-disabled="String(running)">{{ table ? "Show again" : "Show" }}</button>
      <p class="cx-note" aria-live="polite">{{ status }}</p>
    </div>
    <p v-if="error" class="cx-warn" role="alert">{{ error }}</p>
    <div v-if="table" class="cx-scroll" tabindex="0" role="region" aria-label="Dose and response">
      <table class="cx-table">
        <thead><tr><th>{{ table.variable }}</th><th>Factual</th><th v-for="dose in table.doses" :key="dose">{{ dose }}</th></tr></thead>
        <tbody>
          <tr v-if="images"><th scope="row">Twin</th><td></td><td v-for="(dose, k) in table.doses" :key="dose">
            <canvas ref="canvases" role="img" :aria-label="'Twin at ' + table.variable + ' ' + dose + ', synthetic'"></canvas></td></tr>
          <tr v-for="line in table.lines" :key="line.name"><th scope="row">{{ line.name }}</th><td>{{ line.factual }}</td>
            <td v-for="(twin, k) in line.twins" :key="k" :class="{ changed: twin !== line.factual }">{{ twin }}</td></tr>
          <tr v-if="!table.lines.length"><th scope="row">Other variables</th><td :colspan="table.doses.length + 1" class="cx-note">no other variable changes</td></tr>
        </tbody>
      </table>
    </div>
  </section>`,

  props: { variables: Array, request: Object, images: Boolean, mark: String },
  data() { return { variable: "", table: null, status: "", error: "", running: false }; },
  computed: { numbers() { return this.variables.filter((each) => !each.levels.length); } },

  watch: {
    request() { this.stop(); this.table = null; this.status = this.error = ""; },
    variables: { immediate: true, handler() { this.variable = this.numbers.length ? this.numbers[0].name : ""; } },
  },
  beforeUnmount() { this.stop(); },

  methods: {
    stop() { if (this.going) this.going.abort(); this.running = false; },
    async show() {
      if (this.running) return;
      this.stop();
      const going = (this.going = new AbortController());
      const body = { request: this.request, variable: this.variable };
      Object.assign(this, { error: "", status: "…", running: true });
      try {
        this.table = await ask("/api/dose", body, going.signal);
        if (this.images) await events("/api/dose-radiographs", body, going.signal, this.onEvent);
        this.status = this.images ? "each image is one posterior sample, with the same noise at every dose" : "";
      } catch (fault) {
        if (fault.name !== "AbortError") Object.assign(this, { error: fault.message, status: "" });
      }
      if (this.going === going) this.running = false;
    },
    onEvent(event) {
      if ("ahead" in event && event.ahead) this.status = `${event.ahead} images of other requests first`;
      if ("step" in event) this.status = `${event.step} of ${event.steps} evaluations`;
      if ("image" in event) {
        const image = decoded(event.image);
        this.$nextTick(() => {
          const canvas = [].concat(this.$refs.canvases || [])[event.number];
          if (canvas) paint(canvas, windowed(image, 0.5, 1), true, this.mark);
        });
      }
    },
  },
};
