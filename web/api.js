// The server's interface, as far as the page needs it.
import { say } from "./words.js";
import { parse, stringify } from "./exact.js";

const login = document.getElementById("login");

// One dialog for all that wait for a token. Whoever closes it without one gets an error in place of the dialog again.
let asking;
function askToken(wasWrong) {
  asking ??= new Promise((resolve, reject) => {
    document.getElementById("token-wrong").hidden = !wasWrong;
    login.addEventListener("close", () => {
      asking = undefined;
      const token = document.getElementById("token").value.trim();
      if (login.returnValue !== "use" || !token) {
        reject(new Error(say.tokenNeeded));
        return;
      }
      const secure = location.protocol === "https:" ? "; Secure" : "";
      document.cookie = `kith_token=${encodeURIComponent(token)}; SameSite=Strict; path=/${secure}`;
      document.getElementById("token").value = "";
      resolve();
    }, { once: true });
    login.returnValue = "";
    login.showModal();
  });
  return asking;
}

// Fetch JSON; asks for a token when the server wants one. Throws an Error whose message is for people.
async function ask(path, options, hasAsked = false) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error(say.unreachable);
  }
  if (response.status === 401) {
    await askToken(hasAsked);
    return ask(path, options, true);
  }
  if (response.status === 204) return {};
  const body = await response.text().then(parse).catch(() => ({}));
  if (!response.ok) throw new Error(response.status === 415 ? say.noPicture : say.refused(response.status, body.detail ?? `HTTP ${response.status}`));
  return body;
}

const base = (collection) => `v1/collections/${encodeURIComponent(collection)}`;

export const collections = () => ask("v1/collections");
export const thumbnail = (collection, key) => `${base(collection)}/rows/${key}/thumbnail`;
export const original = (collection, key) => `${base(collection)}/rows/${key}/picture`;

// What a row is called: its path, its text, or its key.
export const nameOf = (row) => row.payload?.path ?? row.text ?? row.payload?.name ?? `№ ${row.key}`;

async function search(path, options) {
  const answer = await ask(path, options);
  for (const row of answer.results) row.path = nameOf(row);
  return answer;
}

const json = (value) => ({ method: "POST", body: stringify(value), headers: { "Content-Type": "application/json" } });
const file = (blob) => ({ method: "POST", body: blob, headers: { "Content-Type": "application/octet-stream" } });

export const searchPicture = (collection, blob, k, filter) =>
  search(`${base(collection)}/search/picture?k=${k}${filter ? `&filter=${encodeURIComponent(filter)}` : ""}`, file(blob));

// How the collection sees a picture.
export const pictureVector = async (collection, blob) => (await ask(`${base(collection)}/search/picture?k=1&vector=1`, file(blob))).vector;

export const searchVector = (collection, vector, k, filter) => search(`${base(collection)}/search`, json({ vector, k, ...(filter ? { filter } : {}) }));

// The vectors of rows, undefined for those that are gone.
export const vectors = async (collection, keys) =>
  keys.length > 0 ? (await ask(`${base(collection)}/rows/get`, json({ keys, with_vector: true }))).rows.map((row) => row?.vector) : [];

export const searchRows = (collection, like, unlike, k, filter) =>
  search(`${base(collection)}/search`, json({ like, k, ...(unlike.length > 0 ? { unlike } : {}), ...(filter ? { filter } : {}) }));

export const duplicates = (collection, bits) => ask(`${base(collection)}/duplicates?bits=${bits}`);
export const stats = (collection) => ask(`${base(collection)}/stats`);
export const map = (collection) => ask(`${base(collection)}/map?limit=1500`);
export const bad = (collection) => ask(`${base(collection)}/bad`);
export const row = (collection, key) => ask(`${base(collection)}/rows/${encodeURIComponent(key)}`);
export const jobs = () => ask("v1/jobs");
export const cancel = (id) => ask(`v1/jobs/${id}`, { method: "DELETE" });
export const begin = (collection, kind) =>
  ask(`${base(collection)}/jobs`, json({ kind }));

// The counters of /metrics, by name and label.
export async function metrics() {
  const response = await fetch("metrics");
  const lines = response.ok ? (await response.text()).split("\n") : [];
  return new Map(lines.filter((line) => line && line[0] !== "#").map((line) => [line.slice(0, line.lastIndexOf(" ")), Number(line.slice(line.lastIndexOf(" ") + 1))]));
}
