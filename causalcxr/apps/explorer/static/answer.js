// The answer as a table: facts, twin, probabilities, and how they depend on the coupling.

import { own } from "/static/own.js";

const LIKELY = 0.01; // below this a variable that did not change is left out
const MARKS = { set: "set", held: "held", changed: "changed", same: "" };

export default {
  template: `
  <section class="cx-panel answer" aria-labelledby="answer-title">
    <div class="cx-row">
      <h2 id="answer-title">What changed</h2>
      <p class="cx-note" aria-live="polite">{{ summary }}</p>
      <button class="cx-button quiet fold" :aria-pressed="String(all)" @click="all = !all">All variables</button>
    </div>
    <p v-if="error" class="cx-warn" role="alert">{{ error }}</p>
    <p v-for="line in warnings" :key="line" class="cx-warn" role="status">Few training data. {{ line }}.</p>
    <div class="cx-scroll" tabindex="0" role="region" aria-label="Table of what changed" v-if="answer">
      <table class="cx-table">
        <thead><tr><th>Variable</th><th>Factual</th><th>Twin</th><th>Probability</th><th>Change under other couplings</th></tr></thead>
        <tbody>
          <tr v-for="line in lines" :key="line.name" :class="line.mark">
            <th scope="row"><button class="link" @click="$emit('pick', line.name)">{{ line.name }}</button></th>
            <td class="facts">{{ line.factual }}</td>
            <td><strong v-if="line.factual !== line.twin">{{ line.twin }}</strong><template v-else>{{ line.twin }}</template>
              <span v-if="line.mark !== 'same'" class="tag" :class="line.mark">{{ marks[line.mark] }}</span></td>
            <td><template v-if="line.chances.length">
                <span v-for="chance in line.chances" :key="chance.level" class="chance">{{ chance.level }} {{ share(chance.probability) }}</span>
                <span class="cx-note">{{ method(line) }}</span></template>
              <span v-else-if="line.spread" class="chance">90 % interval: {{ line.spread[0].toPrecision(3) }} to {{ line.spread[1].toPrecision(3) }}</span></td>
            <td><template v-if="coupling(line)">
                <span class="range" role="img" :aria-label="spoken(coupling(line))"><i :style="span(coupling(line))"></i>
                  <b :style="{ left: 100 * coupling(line).model + '%' }"></b></span>
                <span class="cx-note">{{ spoken(coupling(line)) }}</span></template>
              <span v-else-if="line.chances.length && waiting" class="cx-note">…</span></td>
          </tr>
        </tbody>
      </table>
    </div>
    <p v-if="answer && !lines.length" class="cx-note">Set a variable to see what changes downstream.</p>
    <p v-if="answer && Object.keys(couplings).length" class="cx-note">Probabilities are those of the twin given everything observed of the patient; the
      twin itself is one posterior sample. The bar spans the probability of a change under any coupling. The coupling is an assumption that data
      cannot test.</p>
    <p v-if="answer && imageCoupling" class="cx-note">Coupling of the image, which is assumed as well: {{ imageCoupling }}. Under another coupling the
      twin's radiograph can differ.</p>
  </section>`,

  props: { answer: Object, assumptions: Object, error: String, waiting: Boolean, milliseconds: Number },
  emits: ["pick"],
  data() { return { all: false, marks: MARKS }; },

  computed: {
    lines() {
      const canChange = (line) => line.chances.some((c) => c.level !== line.factual && c.probability >= LIKELY);
      return this.answer ? this.answer.lines.filter((line) => this.all || line.mark !== "same" || canChange(line)) : [];
    },
    couplings() { return (this.assumptions && this.assumptions.couplings) || {}; },
    imageCoupling() { return (this.assumptions && this.assumptions.image_coupling) || ""; },
    warnings() { return (this.assumptions && this.assumptions.warnings) || []; },
    summary() {
      if (!this.answer) return "";
      const n = this.answer.lines.filter((line) => line.mark === "changed").length;
      return `${this.answer.words}; ${n} changed downstream`;
    },
  },

  methods: {
    coupling(line) { return own(this.couplings, line.name); },
    share(p) { return p > 0 && p < 0.005 ? "< 1 %" : p < 1 && p > 0.995 ? "> 99 %" : `${Math.round(100 * p)} %`; },
    method(line) { return line.method === "exact" ? "exact" : `sampled, ± ${Math.max(1, Math.round(100 * line.error))} %`; },
    span(c) {
      if (c.lower === null) return { display: "none" };
      return { left: `${100 * c.lower}%`, width: `${Math.max(1, 100 * (c.upper - c.lower))}%` };
    },
    spoken(c) {
      const values = ["monotone", "gumbel", "ot", "independent"].map((name) => c[name]).filter((p) => p !== null);
      const bounds = c.lower === null ? `other couplings: ${this.share(Math.min(...values))} to ${this.share(Math.max(...values))}`
        : `any coupling: ${this.share(c.lower)} to ${this.share(c.upper)}`;
      return `change ${this.share(c.model)}; ${bounds}`;
    },
  },
};
