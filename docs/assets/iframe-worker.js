// The search of this site runs in a worker. A browser allows none to a page that was opened from
// the disk, so there a hidden frame takes its place: the same script, the same messages.
if (location.protocol === "file:") {
  window.Worker = class FrameWorker extends EventTarget {
    constructor(script) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      frame.title = "Search";
      document.body.append(frame);
      this.inside = frame.contentWindow;
      this.inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      const element = this.inside.document.createElement("script");
      this.ready = new Promise((done) => (element.onload = done));
      element.src = String(script);
      this.inside.document.body.append(element);
    }

    postMessage(data) {
      this.ready.then(() =>
        this.inside.dispatchEvent(new this.inside.MessageEvent("message", { data })));
    }
  };
}
