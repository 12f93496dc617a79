// The page: what is searched for (a picture, or rows), what was found, and what can be done with it.
import { language, say, translate } from "./words.js";
import * as api from "./api.js";
import { crop } from "./cropper.js";

const $ = (id) => document.getElementById(id);
const PAGE = 60; // results that are fetched at a time

const state = {
  collection: "",
  picture: undefined,   // a Blob that was dropped, and the part of it that is searched for
  part: undefined,
  like: [], unlike: [], // rows {key, path}
  k: PAGE,
  results: [],
  most: PAGE,           // results that the server gives
  turn: 0,              // of the last search: answers to older ones are dropped
};

// ---- status ----

function report(text, wrong = false) {
  $("status").textContent = text;
  $("status").classList.toggle("wrong", wrong);
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    report(say.copied);
  } catch (error) {
    report(error.message, true);
  }
}

// ---- what is searched for ----

function chip(source, name, minus, remove) {
  const li = document.createElement("li");
  const img = document.createElement("img");
  img.src = source;
  img.alt = "";
  const label = document.createElement("span");
  label.textContent = (minus ? "− " : "") + name;
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "×";
  button.setAttribute("aria-label", say.remove(name));
  button.addEventListener("click", remove);
  li.className = minus ? "minus" : "";
  li.append(img, label, button);
  return li;
}

let all = []; // the collections that are served
let shown; // the object URL of the chip
function drawQuery() {
  const chips = [];
  if (shown) URL.revokeObjectURL(shown);
  shown = undefined;
  if (state.picture) {
    shown = URL.createObjectURL(state.part ?? state.picture);
    chips.push(chip(shown, say.your, false, () => { state.picture = state.part = undefined; search(); }));
  }
  for (const list of ["like", "unlike"])
    for (const row of state[list])
      chips.push(chip(api.thumbnail(state.collection, row.key), row.path, list === "unlike", () => {
        state[list] = state[list].filter((r) => r !== row);
        search();
      }));
  $("chips").replaceChildren(...chips);
  $("query").hidden = chips.length === 0;
  $("crop").hidden = !state.picture;
}

function searchPicture(blob) {
  if (!blob || !blob.type.startsWith("image/")) {
    report(say.noPicture, true);
    return;
  }
  Object.assign(state, { picture: blob, part: undefined, like: [], unlike: [], k: PAGE });
  search();
}

// ---- the address: a search from rows can be kept as a link, and the browser's Back goes back ----

const keysOf = (rows) => rows.map((row) => row.key).join(",");

function keepAddress(replace) {
  const parts = { in: state.collection, like: keysOf(state.like), unlike: keysOf(state.unlike) };
  const hash = "#" + new URLSearchParams(Object.entries(parts).filter(([, value]) => value));
  if (hash !== location.hash) history[replace ? "replaceState" : "pushState"](null, "", hash);
}

const rowsOf = (text) => (text ?? "").split(",").filter((key) => /^[1-9]\d*$/.test(key)).map((key) => ({ key: Number(key), path: `№ ${key}` }));

function readAddress() {
  const parts = new URLSearchParams(location.hash.slice(1));
  Object.assign(state, { picture: undefined, part: undefined, like: rowsOf(parts.get("like")), unlike: rowsOf(parts.get("unlike")), k: PAGE });
  return parts.get("in");
}

// Go to what the address says, without another step in the browser's history.
function fromAddress() {
  const wanted = readAddress();
  const found = all.find((c) => c.name === wanted) ?? all.find((c) => c.name === state.collection) ?? all[0];
  $("collection").value = found.name;
  choose(found, true);
}
addEventListener("popstate", fromAddress);

function searchFrom(row) {
  Object.assign(state, { picture: undefined, part: undefined, like: [row], unlike: [], k: PAGE });
  search();
  window.scrollTo({ top: 0 });
}

// An example more. Rows are what examples are: a picture that was dropped gives way to them.
function addExample(list, row) {
  const other = list === "like" ? "unlike" : "like";
  state[other] = state[other].filter((r) => r.key !== row.key);
  if (!state[list].some((r) => r.key === row.key)) state[list].push(row);
  if (state.like.length === 0) { // something to be like is needed: the best of the others
    const best = state.results.find((r) => r.key !== row.key);
    if (best) state.like.push(best);
  }
  Object.assign(state, { picture: undefined, part: undefined, k: PAGE });
  search();
}

async function search(replace = false) {
  const turn = ++state.turn;
  drawQuery();
  keepAddress(replace);
  if (!state.picture && state.like.length === 0) {
    state.results = [];
    report("");
    drawResults();
    return;
  }
  const k = Math.min(state.k, state.most);
  report(say.searching);
  try {
    const answer = state.picture
      ? await api.searchPicture(state.collection, state.part ?? state.picture, k)
      : await api.searchRows(state.collection, state.like.map((r) => r.key), state.unlike.map((r) => r.key), k);
    if (turn !== state.turn) return;
    state.results = answer.results;
    drawResults();
  } catch (error) {
    if (turn !== state.turn) return;
    state.results = [];
    drawResults();
    report(error.message, true);
  }
}

// ---- what was found ----

function card(row) {
  const li = $("hit").content.firstElementChild.cloneNode(true);
  translate(li);
  li.dataset.key = row.key;
  li.querySelector("img").src = api.thumbnail(state.collection, row.key);
  const picture = li.querySelector(".picture");
  picture.setAttribute("aria-label", say.searchFrom(row.path));
  picture.addEventListener("click", () => searchFrom(row));
  li.querySelector(".path").textContent = row.path;
  const size = row.payload.width ? ` · ${row.payload.width}×${row.payload.height}` : "";
  li.querySelector(".facts").textContent = `${say.score} ${row.score.toFixed(3)}${size}`;
  li.querySelector(".open").href = api.original(state.collection, row.key);
  li.querySelector(".like").addEventListener("click", () => addExample("like", row));
  li.querySelector(".unlike").addEventListener("click", () => addExample("unlike", row));
  li.querySelector(".copy").addEventListener("click", () => copy(row.path));
  return li;
}

const similarEnough = () => state.results.filter((row) => row.score >= Number($("similarity").value));

function drawResults() {
  const rows = similarEnough();
  const cards = new Map([...$("grid").children].map((li) => [li.dataset.key, li]));
  const same = (row) => {
    const old = cards.get(String(row.key));
    return old && old.dataset.score === String(row.score) ? old : undefined;
  };
  $("grid").replaceChildren(...rows.map((row) => {
    const li = same(row) ?? card(row);
    li.dataset.score = row.score;
    return li;
  }));
  if (state.picture || state.like.length > 0) report(rows.length > 0 ? say.found(rows.length) : say.none);
}

// More results when the end of the grid comes into sight.
new IntersectionObserver((entries) => {
  if (!entries[0].isIntersecting || state.results.length < state.k || state.k >= state.most) return;
  state.k += PAGE;
  search();
}, { rootMargin: "400px" }).observe($("more"));

// ---- the controls ----

for (const [button, input] of [["choose", "file"], ["photograph", "camera"]]) {
  $(button).addEventListener("click", () => $(input).click());
  $(input).addEventListener("change", () => {
    if ($(input).files[0]) searchPicture($(input).files[0]);
    $(input).value = "";
  });
}
for (const type of ["dragover", "dragenter"])
  document.addEventListener(type, (event) => {
    event.preventDefault();
    $("drop").classList.add("over");
  });
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) $("drop").classList.remove("over"); });
document.addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  searchPicture(event.dataTransfer.files[0]);
});
document.addEventListener("paste", (event) => {
  const item = [...event.clipboardData.files][0];
  if (item) searchPicture(item);
});
$("similarity").addEventListener("input", () => {
  $("least").textContent = Number($("similarity").value).toFixed(2);
  drawResults();
});
$("crop").addEventListener("click", async () => {
  const part = await crop(state.picture).catch((error) => {
    report(error.message, true);
    return "cancel";
  });
  if (part === "cancel") return;
  state.part = part === "whole" ? undefined : part;
  state.k = PAGE;
  search();
});
$("copy").addEventListener("click", () => copy(similarEnough().map((row) => row.path).join("\n")));
$("again").addEventListener("click", () => {
  Object.assign(state, { picture: undefined, part: undefined, like: [], unlike: [], k: PAGE });
  $("similarity").value = 0;
  $("least").textContent = "0.00";
  search();
});

function choose(collection, replace = false) {
  if (collection.name !== state.collection) $("grid").replaceChildren(); // keys mean other rows there
  state.collection = collection.name;
  $("about").textContent = say.holds(collection.rows, collection.features);
  search(replace);
}

async function begin() {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  translate(document);
  try {
    ({ collections: all, max_k: state.most } = await api.collections());
    $("collection").replaceChildren(...all.map((c) => new Option(c.name, c.name)));
    $("collection").disabled = all.length < 2;
    $("collection").addEventListener("change", () => {
      Object.assign(state, { picture: undefined, part: undefined, like: [], unlike: [], k: PAGE });
      choose(all[$("collection").selectedIndex]);
    });
    fromAddress();
  } catch (error) {
    report(error.message, true);
  }
}
begin();
