// Requests to the server: JSON in both directions, or events line by line.

export class Refused extends Error {} // an error message of the server: repeating the request does not help

const JSON_TYPE = { "content-type": "application/json" };

async function reply(path, body, signal, headers = JSON_TYPE) {
  const content = headers === JSON_TYPE ? JSON.stringify(body) : body;
  const response = await fetch(path, { method: "POST", headers, body: content, signal });
  if (response.ok) return response;
  const refusal = await response.json().catch(() => ({}));
  const line = refusal.error || (typeof refusal.detail === "string" ? refusal.detail : "");
  throw new Refused(line || `the server refused (${response.status})`);
}

export async function ask(path, body, signal) {
  return (await reply(path, body, signal)).json();
}

export async function send(path, file, name, signal) {
  return (await reply(path, file, signal, { "x-file-name": encodeURIComponent(name) })).json();
}

export async function events(path, body, signal, onEvent) {
  const reader = (await reply(path, body, signal)).body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let last = null;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) onEvent((last = JSON.parse(line)));
  }
  if (last && last.error) throw new Refused(last.error);
  if (!last || !last.done) throw new TypeError("the reply of the server is incomplete");
}

export async function download(kind, body) {
  const response = await reply(`/api/download/${kind}`, body);
  const name = /filename="([^"]+)"/.exec(response.headers.get("content-disposition"))[1];
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await response.blob());
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

export function decoded(image) { // little-endian 16 bits in base64 -> numbers between 0 and 1
  const bytes = Uint8Array.from(atob(image.data), (c) => c.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  const values = new Float32Array(image.width * image.height);
  for (let k = 0; k < values.length; k += 1) values[k] = view.getUint16(2 * k, true) / 65535;
  return { width: image.width, height: image.height, values };
}
