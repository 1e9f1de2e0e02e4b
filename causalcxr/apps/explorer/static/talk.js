// Asking the server: JSON there and back, or events line by line.

export class Refused extends Error {} // the server's own one line: no use in asking again

const JSON_TYPE = { "content-type": "application/json" };

async function reply(path, body, signal, headers = JSON_TYPE) {
  const content = headers === JSON_TYPE ? JSON.stringify(body) : body;
  const found = await fetch(path, { method: "POST", headers, body: content, signal });
  if (found.ok) return found;
  const told = await found.json().catch(() => ({}));
  const line = told.error || (typeof told.detail === "string" ? told.detail : "");
  throw new Refused(line || `the server refused (${found.status})`);
}

export async function ask(path, body, signal) {
  return (await reply(path, body, signal)).json();
}

export async function send(path, file, name, signal) {
  return (await reply(path, file, signal, { "x-file-name": encodeURIComponent(name) })).json();
}

export async function events(path, body, signal, heard) {
  const reader = (await reply(path, body, signal)).body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let last = null;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) heard((last = JSON.parse(line)));
  }
  if (last && last.error) throw new Refused(last.error);
  if (!last || !last.done) throw new TypeError("the server stopped in the middle");
}

export async function download(kind, body) {
  const found = await reply(`/api/download/${kind}`, body);
  const name = /filename="([^"]+)"/.exec(found.headers.get("content-disposition"))[1];
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await found.blob());
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

export function greys(image) { // little-endian 16 bits in base64 -> numbers between 0 and 1
  const bytes = Uint8Array.from(atob(image.data), (c) => c.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  const values = new Float32Array(image.width * image.height);
  for (let k = 0; k < values.length; k += 1) values[k] = view.getUint16(2 * k, true) / 65535;
  return { width: image.width, height: image.height, values };
}
