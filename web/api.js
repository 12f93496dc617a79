// The server's interface, as far as the page needs it.
import { say } from "./words.js";

const login = document.getElementById("login");

function askToken() {
  return new Promise((resolve) => {
    login.addEventListener("close", () => {
      const token = document.getElementById("token").value.trim();
      document.cookie = `kith_token=${encodeURIComponent(token)}; SameSite=Strict; path=/`;
      resolve();
    }, { once: true });
    login.showModal();
  });
}

// Fetch JSON; asks for a token when the server wants one. Throws an Error whose message is for people.
async function ask(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error(say.unreachable);
  }
  if (response.status === 401) {
    await askToken();
    return ask(path, options);
  }
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(response.status === 415 ? say.noPicture : body.detail ?? `HTTP ${response.status}`);
  return body;
}

const base = (collection) => `v1/collections/${encodeURIComponent(collection)}`;

export const collections = () => ask("v1/collections");
export const thumbnail = (collection, key) => `${base(collection)}/rows/${key}/thumbnail`;
export const original = (collection, key) => `${base(collection)}/rows/${key}/picture`;

export const searchPicture = (collection, blob, k) =>
  ask(`${base(collection)}/search?k=${k}`, { method: "POST", body: blob, headers: { "Content-Type": "application/octet-stream" } });

export const searchRows = (collection, like, unlike, k) =>
  ask(`${base(collection)}/search`,
    { method: "POST", body: JSON.stringify({ like, unlike, k }), headers: { "Content-Type": "application/json" } });
