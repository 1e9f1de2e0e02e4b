// Setting variables: levels, sliders, and variables that keep their factual value. For an uploaded
// file, the same controls first take its factual values.

import { own } from "/static/own.js";

const ROOM = 16; // characters of all levels that stand beside each other as buttons

export default {
  template: `
  <section class="cx-panel settings" aria-labelledby="settings-title">
    <div class="cx-row"><h2 id="settings-title">{{ editsFacts ? "Factual values of the file" : "Set variables" }}</h2>
      <button v-if="!editsFacts" class="cx-button quiet fold" @click="some && $emit('clear')" :aria-disabled="String(!some)">Reset to observed</button></div>
    <div v-if="upload" class="cx-row modes" role="group" aria-label="What the controls below do">
      <button class="cx-button" :aria-pressed="String(editsFacts)" @click="factsFirst = true">Factual values</button>
      <button class="cx-button" :aria-pressed="String(!editsFacts)" @click="factsFirst = false">Set variables</button>
    </div>
    <p class="cx-note">{{ editsFacts ? "Values that are not given stay missing." : "The observed value is underlined. Hold keeps a variable at its factual value." }}</p>
    <ul class="variables">
      <li v-for="each in variables" :key="each.name" :data-variable="each.name" :class="{ set: !editsFacts && isSet(each), held: isHeld(each), free: !holds(each), fresh: editsFacts }">
        <span class="name" :id="id(each)">{{ each.name }}</span>
        <span class="control">
          <span v-if="fits(each)" class="levels" role="group" :aria-labelledby="id(each)">
            <button v-for="(level, k) in each.levels" :key="level" class="cx-button" :class="{ fact: own(codes, each.name) === k }"
              :aria-pressed="String(own(chosen, each.name) === level)" :aria-label="each.name + ' ' + level + (own(codes, each.name) === k ? ', observed' : '')"
              @click="change(each, own(chosen, each.name) === level ? '' : level)">{{ level }}</button>
          </span>
          <select v-else-if="each.levels.length" :aria-labelledby="id(each)" :value="own(chosen, each.name) ?? ''" @change="change(each, $event.target.value)">
            <option value="">{{ editsFacts ? "missing" : own(facts, each.name) + ", observed" }}</option>
            <option v-for="level in each.levels" :key="level">{{ level }}</option>
          </select>
          <span v-else class="slider">
            <input type="range" :aria-labelledby="id(each)" :min="each.low - room(each)" :max="each.high + room(each)" :step="each.step" :value="number(each)"
              :aria-valuetext="spoken(each)" @input="change(each, Number($event.target.value))">
            <button class="cx-button" :class="{ fact: !isSet(each) }" :aria-pressed="String(isSet(each))" @click="change(each, '')"
              :aria-label="each.name + ' ' + spoken(each) + (isSet(each) ? ', set; reset to observed' : ', observed')">{{ short(each) }}</button>
          </span>
        </span>
        <button class="cx-button hold" v-if="holds(each)" :aria-pressed="String(isHeld(each))" :aria-disabled="String(isSet(each))"
          @click="!isSet(each) && $emit('hold', each.name)" :aria-label="'Hold ' + each.name">hold</button>
      </li>
    </ul>
    <label v-if="!editsFacts" class="beyond cx-note"><input type="checkbox" :checked="beyond" @change="$emit('beyond', $event.target.checked)">
      Allow values outside the training data; the result records this</label>
  </section>`,

  props: {
    variables: Array, settings: Object, hold: Array, codes: Object, facts: Object, given: Object, upload: String, beyond: Boolean,
  },
  emits: ["set", "clear", "hold", "fact", "beyond"],

  data() { return { factsFirst: !Object.keys(this.settings).length }; },

  computed: {
    some() { return Object.keys(this.settings).length + this.hold.length > 0; },
    editsFacts() { return Boolean(this.upload) && this.factsFirst; },
    chosen() { return this.editsFacts ? this.given : this.settings; },
  },

  watch: { upload() { this.factsFirst = true; } },

  methods: {
    fits(each) { return each.levels.length > 0 && each.levels.join("").length <= ROOM; },
    id(each) { return `variable-${this.variables.indexOf(each)}`; },
    own,
    isSet(each) { return own(this.chosen, each.name) !== undefined; },
    isHeld(each) { return this.hold.includes(each.name); },
    holds(each) { return each.parents.length > 0 && !this.editsFacts; },
    value(each) { return own(this.chosen, each.name) ?? own(this.codes, each.name); },
    room(each) { return this.beyond && !this.editsFacts ? each.step * Math.ceil((each.high - each.low) / each.step / 2) : 0; },
    number(each) { return this.value(each) ?? (each.low + each.high) / 2; },
    short(each) { return typeof this.value(each) === "number" ? String(Number(this.value(each).toPrecision(4))) : "missing"; },
    spoken(each) { return `${this.short(each)} ${each.unit || ""}`.trim(); },
    change(each, value) { this.$emit(this.editsFacts ? "fact" : "set", each.name, value); },
  },
};
