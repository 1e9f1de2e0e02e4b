// The page of a reader: shows a trial, reads choice and confidence, sends them until they are saved.

const SENTENCES = {
  "2afc": {
    ask: "Which of the two is real?",
    choices: ["1", "2"],
    hint: "first or second",
    start: "You will see two radiographs at a time. One is real, the other is synthetic: it was computed. Choose the real one, and state how sure you are.",
  },
  single: {
    ask: "Is this radiograph real or synthetic?",
    choices: ["Real", "Synthetic"],
    hint: "real or synthetic",
    start: "You will see one radiograph at a time. It is either real or synthetic, that is, computed. Choose which, and state how sure you are.",
  },
};
const SURE = ["guess", "unsure", "likely", "sure", "certain"];
const ZOOMS = [1, 1.5, 2, 3, 4, 6, 8];

export default {
  template: `
  <main class="study" :class="[state.kind, phase]" ref="main">
    <header>
      <h1>{{ state.title }}</h1>
      <p class="reader">{{ state.reader }}</p>
      <template v-if="phase === 'trial'">
        <p class="progress" aria-live="polite">
          <strong>{{ state.position }} of {{ state.total }}</strong>
          <span v-if="state.presentations > 1"> · part {{ state.presentation }} of {{ state.presentations }}</span>
        </p>
        <button class="quiet" @click="pause" aria-keyshortcuts="p">Pause <kbd>P</kbd></button>
      </template>
      <div class="bar" aria-hidden="true"><i :style="{ width: share }"></i></div>
    </header>

    <section v-if="phase !== 'trial'" class="words" aria-live="polite">
      <template v-if="phase === 'start'">
        <h2>Before you begin</h2>
        <p>{{ words.start }}</p>
        <p>There are {{ state.total }} questions<template v-if="state.presentations > 1"> in each of
          {{ state.presentations }} parts, with a break between them</template>.
          Each answer is saved when you continue, and cannot be changed afterwards. You can close the page
          at any time and return with the same link.</p>
        <dl class="keys">
          <dt><kbd>1</kbd> <kbd>2</kbd> or <kbd>←</kbd> <kbd>→</kbd></dt><dd>{{ words.hint }}</dd>
          <dt><kbd>1</kbd> to <kbd>5</kbd></dt><dd>then: confidence, from guess to certain</dd>
          <dt><kbd>Enter</kbd></dt><dd>continue</dd>
          <dt><kbd>Esc</kbd></dt><dd>choose again</dd>
          <dt><kbd>+</kbd> <kbd>−</kbd> <kbd>0</kbd></dt><dd>larger, smaller, whole image</dd>
          <dt><kbd>Shift</kbd> + arrows</dt><dd>move an enlarged image</dd>
          <dt><kbd>P</kbd></dt><dd>pause: the time stops, the images are hidden</dd>
        </dl>
      </template>
      <template v-else-if="phase === 'break'">
        <h2>Time for a break</h2>
        <p>Part {{ state.presentation - 1 }} of {{ state.presentations }} is done, and every answer is saved.
          Part {{ state.presentation }} has {{ state.total }} questions as well.</p>
        <p>Rest your eyes, or close the page and return later with the same link.</p>
      </template>
      <template v-else-if="phase === 'paused'">
        <h2>Paused</h2>
        <p>{{ state.position - 1 }} of {{ state.total }} questions are answered and saved. The time is stopped.</p>
      </template>
      <template v-else>
        <h2>Thank you</h2>
        <p>All {{ state.total * state.presentations }} answers are saved. You can close the page.</p>
      </template>
      <button v-if="phase !== 'done'" class="go" ref="go" @click="begin">
        {{ phase === 'start' ? 'Begin' : 'Continue' }} <kbd>Enter</kbd>
      </button>
    </section>

    <template v-else>
      <div class="radiographs" ref="radiographs">
        <figure v-for="(name, k) in state.images" :key="state.step + name" :class="{ chosen: two && choice === k }">
          <figcaption v-if="two">{{ k + 1 }}<span v-if="choice === k"> · chosen as real</span></figcaption>
          <div class="frame" ref="frames" :tabindex="zoom ? 0 : -1" role="group" :aria-label="'Radiograph ' + (k + 1) + ', enlarged ' + scale + ' times'">
            <img :src="link(name)" :alt="alt(k)" :style="imageSize" :class="{ square }" @load="loaded += 1" @error="failed = true" draggable="false">
          </div>
        </figure>
      </div>

      <div class="controls">
        <p class="ask" id="ask">{{ words.ask }}</p>
        <div class="row choices" role="group" aria-labelledby="ask">
          <button v-for="(label, k) in words.choices" :key="label" :aria-pressed="choice === k" :aria-label="two ? 'Radiograph ' + label + ' is real' : label" @click="choose(k)">
            <kbd aria-hidden="true">{{ k ? '→' : '←' }}</kbd> {{ label }}<span v-if="choice === k" aria-hidden="true"> ✓</span>
          </button>
        </div>
        <div class="row sures" role="group" aria-label="How sure are you?">
          <button v-for="(label, k) in sure" :key="label" :aria-disabled="choice === null" :aria-pressed="confidence === k + 1" @click="grade(k + 1)">
            <kbd aria-hidden="true">{{ k + 1 }}</kbd> <span class="label">{{ label }}</span><span v-if="confidence === k + 1" aria-hidden="true"> ✓</span>
          </button>
        </div>
        <div class="row last">
          <button class="quiet" @click="resize(-1)" :aria-disabled="!zoom" aria-label="Smaller">−</button>
          <span class="scale" aria-live="polite">{{ scale }}×</span>
          <button class="quiet" @click="resize(1)" :aria-disabled="zoom === most" aria-label="Larger">+</button>
          <button class="go" :aria-disabled="confidence === null || sending" @click="send">Next <kbd>Enter</kbd></button>
        </div>
        <p class="hint" aria-live="polite">{{ hint }}</p>
      </div>
    </template>
    <p v-if="trouble" class="trouble" role="alert">{{ trouble }}</p>
  </main>`,

  props: { initial: Object, base: String },

  data() {
    return {
      state: this.initial, phase: this.initial.phase, choice: null, confidence: null, zoom: 0,
      sending: false, trouble: "", loaded: 0, failed: false, since: null, box: [0, 0], dpr: 1,
      sure: SURE, most: ZOOMS.length - 1,
    };
  },

  computed: {
    two() { return this.state.kind === "2afc"; },
    words() { return SENTENCES[this.state.kind]; },
    scale() { return ZOOMS[this.zoom]; },
    share() {
      return `${(100 * this.state.step) / (this.state.total * this.state.presentations)}%`;
    },
    ready() { return this.phase === "trial" && this.loaded >= this.state.images.length; },
    hint() {
      if (this.failed) return "An image cannot be shown. Please reload the page.";
      if (this.choice === null) return `1 or 2, ← or →: ${this.words.hint}`;
      if (this.confidence === null) return "1 to 5: how sure are you? Esc: choose again";
      return "Enter: continue. 1 to 5: confidence. Esc: choose again";
    },
    // Pixels of the screen for each pixel of the image. A whole number for enlarged images, so that
    // all pixels of the image have the same size and their exact grey value.
    factor() {
      const [height, width] = this.state.size;
      const fit = Math.min(this.box[0] / width, this.box[1] / height) * this.dpr * this.scale;
      return fit >= 1 && !this.state.smooth ? Math.floor(fit) : fit;
    },
    square() { return this.factor >= 1 && !this.state.smooth; },
    imageSize() {
      const [height, width] = this.state.size;
      const times = this.factor / this.dpr;
      return { width: `${width * times}px`, height: `${height * times}px` };
    },
  },

  mounted() {
    this.events = [
      [window, "keydown", this.key], [window, "resize", this.measure],
      [document, "visibilitychange", this.clock], [window, "pagehide", this.stop],
    ];
    this.events.forEach(([target, name, run]) => target.addEventListener(name, run));
    this.watcher = new ResizeObserver(this.measure);
    this.resend();
    this.entered();
  },

  beforeUnmount() {
    this.events.forEach(([target, name, run]) => target.removeEventListener(name, run));
    this.watcher.disconnect();
  },

  watch: {
    ready() { this.clock(); },
    phase() { this.entered(); },
  },

  methods: {
    link(name) { return `${this.base}/image/${encodeURIComponent(name)}.png`; },
    alt(k) {
      const which = this.two ? `, ${k ? "second" : "first"} of two` : "";
      return `Radiograph of question ${this.state.position}${which}`;
    },

    // Display

    entered() {
      this.clock();
      this.$nextTick(() => {
        if (this.phase === "trial") {
          this.watcher.observe(this.$refs.radiographs);
          this.measure();
        } else if (this.$refs.go) this.$refs.go.focus({ preventScroll: true });
      });
    },
    measure() {
      const frames = this.$refs.frames;
      if (!frames || !frames.length) return;
      this.dpr = window.devicePixelRatio || 1;
      // Without the border, and whether there are scroll bars or not.
      this.box = [frames[0].offsetWidth - 4, frames[0].offsetHeight - 4];
    },
    begin() { this.phase = this.state.phase === "done" ? "done" : "trial"; },
    pause() {
      this.stop();
      this.loaded = 0;
      this.phase = "paused";
    },
    show(state) {
      this.stop();
      Object.assign(this, { choice: null, confidence: null, zoom: 0, loaded: 0, failed: false });
      this.state = state;
      this.phase = state.phase;
      (state.ahead || []).forEach((name) => { new Image().src = this.link(name); });
    },

    // Choices

    choose(k) { if (!this.sending) this.choice = k; },
    grade(n) { if (!this.sending && this.choice !== null) this.confidence = n; },
    reset() { if (!this.sending) Object.assign(this, { choice: null, confidence: null }); },
    resize(by) {
      this.zoom = Math.max(0, Math.min(this.most, by ? this.zoom + by : 0));
      this.$nextTick(() => this.pan(0, 0, true));
    },
    pan(x, y, middle) {
      (this.$refs.frames || []).forEach((frame) => {
        if (middle) {
          frame.scrollLeft = (frame.scrollWidth - frame.clientWidth) / 2;
          frame.scrollTop = (frame.scrollHeight - frame.clientHeight) / 2;
        } else frame.scrollBy(x * frame.clientWidth * 0.2, y * frame.clientHeight * 0.2);
      });
    },
    key(event) {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
      const arrow = arrows[event.key];
      if (event.key === "Enter") {
        if (this.phase === "trial") {
          // Enter presses the button that has the keyboard focus.
          if (event.target.closest("button.quiet, button[aria-pressed=false]")) return;
          this.send();
        } else this.begin();
        event.preventDefault();
        return;
      }
      if (this.phase !== "trial") return;
      const digit = "12345".indexOf(event.key) + 1;
      if (arrow && event.shiftKey) this.pan(...arrow);
      else if (arrow && arrow[0]) this.typed(this.choose, arrow[0] > 0 ? 1 : 0);
      else if (digit && this.choice !== null) this.typed(this.grade, digit);
      else if (digit && digit <= 2) this.typed(this.choose, digit - 1);
      else if (event.key === "Escape" || event.key === "Backspace") this.reset();
      else if (event.key === "+" || event.key === "=") this.resize(1);
      else if (event.key === "-" || event.key === "_") this.resize(-1);
      else if (event.key === "0") this.resize(0);
      else if (event.key === "p" || event.key === "P") this.pause();
      else return;
      event.preventDefault();
    },

    typed(run, value) { // remove the focus from buttons, so that Enter does not press one
      if (document.activeElement) document.activeElement.blur();
      run(value);
    },

    // The time during which the images were visible, kept across reloads of the page

    place() { return `causalcxr:${this.base}:${this.state.step}`; },
    before() { return Number(sessionStorage.getItem(this.place())) || 0; },
    clock() {
      const runs = this.ready && document.visibilityState === "visible" && !this.sending;
      if (runs && this.since === null) this.since = performance.now();
      else if (!runs) this.stop();
    },
    stop() {
      if (this.since === null) return;
      sessionStorage.setItem(this.place(), this.before() + performance.now() - this.since);
      this.since = null;
    },

    // Sending

    send() {
      if (this.confidence === null || this.choice === null || this.sending) return;
      this.stop();
      const answer = {
        step: this.state.step, choice: this.choice, confidence: this.confidence, seen_ms: this.before(),
      };
      sessionStorage.setItem(`causalcxr:${this.base}`, JSON.stringify(answer));
      this.deliver(answer);
    },
    resend() { // an answer that was not saved before the page was reloaded
      const unsaved = JSON.parse(sessionStorage.getItem(`causalcxr:${this.base}`) || "null");
      if (unsaved && unsaved.step === this.state.step && this.phase !== "done") this.deliver(unsaved);
    },
    async deliver(answer) {
      this.sending = true;
      this.clock();
      for (let wait = 500; ; wait = Math.min(2 * wait, 5000)) {
        const [status, state] = await this.post(answer);
        if (status === 200 || status === 409 || status === 422) {
          this.proceed(answer, status === 200 ? state : null);
          return;
        }
        this.trouble = "Your answer is not saved yet. Trying again…";
        await new Promise((resume) => setTimeout(resume, wait));
      }
    },
    async post(answer) {
      try {
        const reply = await fetch(`${this.base}/answer`, {
          method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(answer),
        });
        return [reply.status, reply.ok ? await reply.json() : null];
      } catch {
        return [0, null];
      }
    },
    proceed(answer, state) {
      sessionStorage.removeItem(`causalcxr:${this.base}`);
      sessionStorage.removeItem(this.place());
      if (state === null) return window.location.reload(); // answered in another tab: show the next question
      this.trouble = "";
      this.sending = false;
      this.show(state);
    },
  },
};
