// Choosing a patient: cohort, filters, thumbnails; or an uploaded file.

import { ask, send } from "/static/requests.js";

export default {
  template: `
  <section class="cx-panel choose" aria-labelledby="choose-title" :class="{ over }"
    @dragover.prevent="over = true" @dragleave="over = false" @drop.prevent="dropped">
    <div class="cx-row">
      <h2 id="choose-title">Patient</h2>
      <span class="cx-note" aria-live="polite">{{ summary }}</span>
      <button class="cx-button quiet fold" :aria-expanded="String(open)" @click="open = !open">{{ open ? "Hide" : "Choose another" }}</button>
    </div>
    <div v-show="open">
      <div class="cx-row">
        <label class="cx-field" v-if="cohorts.length > 1">Cohort
          <select :value="cohort" @change="cohort = $event.target.value; look(0)">
            <option v-for="each in cohorts" :key="each.name" :value="each.name">{{ each.name }} ({{ each.records }})</option>
          </select></label>
        <label class="cx-field" v-if="models.length > 1">Model
          <select :value="model.name" @change="$emit('model', $event.target.value)">
            <option v-for="each in models" :key="each.name">{{ each.name }}</option>
          </select></label>
        <label class="cx-field">Filter by
          <select v-model="by"><option value="">a variable …</option>
            <option v-for="each in model.variables" :key="each.name">{{ each.name }}</option></select></label>
        <template v-if="chosen && chosen.levels.length">
          <label class="cx-field">is
            <select @change="add({ level: $event.target.value })"><option value="" disabled selected>choose …</option>
              <option v-for="level in chosen.levels" :key="level">{{ level }}</option></select></label>
          <button class="cx-button" @click="add({ level: '' })">missing</button>
        </template>
        <template v-else-if="chosen">
          <label class="cx-field">from <input type="number" v-model.number="low" :min="chosen.low" :max="chosen.high" :step="chosen.step"></label>
          <label class="cx-field">to <input type="number" v-model.number="high" :min="chosen.low" :max="chosen.high" :step="chosen.step"></label>
          <button class="cx-button" @click="between">Apply</button>
        </template>
        <button v-for="(rule, name) in filters" :key="name" class="cx-button chip" @click="removeFilter(name)" :aria-label="'Remove the filter ' + words(name, rule)">
          {{ words(name, rule) }} <span aria-hidden="true">×</span></button>
      </div>
      <ul class="thumbs" aria-label="Patients">
        <li v-for="item in items" :key="item.row">
          <button @click="$emit('choose', { cohort, row: item.row })" :aria-pressed="String(isHere(item))" :aria-label="'Record ' + item.label + ', ' + item.caption">
            <img v-if="item.image" :src="thumb(item)" alt="" loading="lazy"><span v-else class="none">no image</span>
            <span class="label">{{ item.label }}</span><span class="caption">{{ item.caption }}</span>
          </button>
        </li>
      </ul>
      <div class="cx-row">
        <button class="cx-button" :aria-disabled="String(page === 0)" @click="page && look(page - 1)">Previous</button>
        <span class="cx-note">{{ page + 1 }} of {{ pages }}</span>
        <button class="cx-button" :aria-disabled="String(page + 1 >= pages)" @click="page + 1 < pages && look(page + 1)">Next</button>
        <label class="cx-button file">Open a PNG or DICOM file <input type="file" accept=".png,.dcm,.dicom,.jpg,.jpeg,image/png,application/dicom" @change="picked"></label>
        <span class="cx-note">or drop a file here; it stays on this machine.</span>
      </div>
    </div>
    <p v-if="trouble" class="cx-warn" role="alert">{{ trouble }}</p>
  </section>`,

  props: { cohorts: Array, models: Array, model: Object, who: Object, label: String },
  emits: ["choose", "model", "uploaded"],

  data() {
    return {
      cohort: this.who.cohort || this.cohorts[0].name, filters: {}, by: "", low: null, high: null, items: [], count: 0,
      page: 0, pages: 1, open: true, over: false, trouble: "", reading: false,
    };
  },

  computed: {
    chosen() { return this.model.variables.find((each) => each.name === this.by); },
    summary() {
      if (this.reading) return "Reading the file…";
      return `${this.label ? `${this.label}; ` : ""}${this.count.toLocaleString("en")} patients`;
    },
  },

  watch: { model() { this.filters = {}; this.look(0); } },
  mounted() { this.look(0); },

  methods: {
    isHere(item) { return !this.who.upload && this.who.cohort === this.cohort && this.who.row === item.row; },
    thumb(item) {
      return `/api/thumb?${new URLSearchParams({ model: this.model.name, cohort: this.cohort, row: item.row })}`;
    },
    words(name, rule) {
      if ("level" in rule) return `${name}: ${rule.level || "missing"}`;
      return `${name}: ${rule.low ?? "…"} to ${rule.high ?? "…"}`;
    },
    add(rule) { this.filters = { ...this.filters, [this.by]: rule }; this.by = ""; this.look(0); },
    between() {
      const ends = { low: this.low, high: this.high };
      this.add(Object.fromEntries(Object.entries(ends).filter(([, v]) => typeof v === "number")));
    },
    removeFilter(name) {
      const { [name]: gone, ...rest } = this.filters;
      this.filters = rest;
      this.look(0);
    },
    async look(page) {
      try {
        const body = { cohort: this.cohort, model: this.model.name, filters: this.filters, page };
        Object.assign(this, await ask("/api/patients", body), { trouble: "" });
      } catch (fault) { this.trouble = fault.message; }
    },
    picked(event) { this.upload(event.target.files[0]); event.target.value = ""; },
    dropped(event) { this.over = false; this.upload(event.dataTransfer.files[0]); },
    async upload(file) {
      if (!file) return;
      this.trouble = "";
      this.reading = true;
      try { this.$emit("uploaded", await send("/api/upload", file, file.name)); }
      catch (fault) { this.trouble = fault.message; }
      this.reading = false;
    },
  },
};
