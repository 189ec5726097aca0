// The server's routes. The key, where there is one, lives in this tab only and travels as a header.
const STORED = "engine-key";

export const address = (path) => new URL(path, document.baseURI).href;
export const key = () => sessionStorage.getItem(STORED) || "";
export const setKey = (value) => (value ? sessionStorage.setItem(STORED, value) : sessionStorage.removeItem(STORED));

export class Refusal extends Error {
  constructor(status, code, message, requestId = "", retryAfter = 0) {
    super(message);
    Object.assign(this, { status, code, requestId, retryAfter });
  }
}

export async function call(path, options = {}) {
  const headers = { ...options.headers };
  if (key()) headers.Authorization = `Bearer ${key()}`;
  let response;
  try {
    response = await fetch(address(path), { ...options, headers });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new Refusal(0, "unreachable", "The server does not answer.");
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => ({}));
  const said = body.error || {};
  const message = said.message || `The server answered ${response.status}.`;
  throw new Refusal(response.status, said.code || String(response.status), message, said.request_id,
    Number(response.headers.get("retry-after")) || 0);
}

export const models = async () => (await (await call("models")).json()).models;

// EventSource sends no headers, so the stream is read by hand.
export async function watch(onEvent, signal) {
  const response = await call("events", { signal, headers: { Accept: "text/event-stream" } });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += value;
    let end;
    while ((end = text.indexOf("\n\n")) >= 0) {
      const lines = text.slice(0, end).split("\n");
      text = text.slice(end + 2);
      const content = lines.filter((line) => line.startsWith("data: ")).map((line) => line.slice(6)).join("\n");
      if (content) onEvent(JSON.parse(content));
    }
  }
}

// The parts of one request, also shown as code.
export function request({ model, task, prompts, picture }) {
  const isText = task === "vqa" || task === "caption";
  const options = isText || task === "classify" ? {} : { confidence: 0.05 };
  const texts = isText ? prompts : [];
  if (picture.url) {
    const body = { model_id: model, image_url: picture.url };
    if (texts.length) body.prompts = texts;
    if (Object.keys(options).length) body.parameters = options;
    return { path: "inference", json: body };
  }
  const query = new URLSearchParams({ model_id: model, ...options });
  for (const text of texts) query.append("prompts", text);
  return { path: `inference?${query}`, query, blob: picture.blob, type: picture.blob.type, name: picture.name };
}

// The picture that the server fetched: its own drawing of an answer so sure that nothing is drawn. Words would stand below.
export async function fetched(parts, { width, height }, signal) {
  const body = { ...parts.json, ...(parts.json.parameters && { parameters: { confidence: 1 } }) };
  const headers = { "Content-Type": "application/json", Accept: "image/jpeg" };
  const response = await call("inference", { method: "POST", signal, body: JSON.stringify(body), headers });
  return createImageBitmap(await response.blob(), 0, 0, width, height);
}

export async function infer(parts, signal) {
  const started = performance.now();
  const sent = parts.json
    ? { body: JSON.stringify(parts.json), headers: { "Content-Type": "application/json" } }
    : { body: parts.blob, headers: { "Content-Type": parts.type } };
  const answer = await (await call(parts.path, { method: "POST", signal, ...sent })).json();
  return { answer, elapsed: performance.now() - started };
}
