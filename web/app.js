// The page: what is searched for (a picture, or rows), what was found, and what can be done with it.
import { language, say, translate } from "./words.js";
import * as api from "./api.js";
import { crop } from "./cropper.js";
import { stringify, whole } from "./exact.js";
import { show } from "./views.js";

const $ = (id) => document.getElementById(id);
const PAGE = 60; // results that are fetched at a time
const NEAR = 10; // bits of the perceptual hash, as for `kith dups`

const state = {
  collection: "",
  pictures: [],         // {blob, part, minus, vector}: what was dropped, the part of it that counts, whether to keep away from it
  like: [], unlike: [], // rows {key, path}
  k: PAGE,
  results: [],
  least: undefined,     // score that a result must have to be shown; undefined: the slider was not moved
  most: PAGE,           // results that the server gives
  turn: 0,              // of the last search: answers to older ones are dropped
  picked: new Map(),    // rows that are selected, by key
  view: "search",
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
  if (source) li.append(Object.assign(document.createElement("img"), { src: source, alt: "" }));
  const label = document.createElement("span");
  label.textContent = (minus ? "− " : "") + name;
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "×";
  button.setAttribute("aria-label", say.remove(name));
  button.addEventListener("click", remove);
  li.className = minus ? "minus" : "";
  li.append(label, button);
  return li;
}

let role = "read"; // what the one at the page may do
let all = []; // the collections that are served
let shown = []; // the object URLs of chips
function drawQuery() {
  shown.forEach((url) => URL.revokeObjectURL(url));
  shown = state.pictures.map((picture) => URL.createObjectURL(picture.part ?? picture.blob));
  const chips = state.pictures.map((picture, i) => chip(shown[i], say.your, picture.minus, () => {
    state.pictures = state.pictures.filter((other) => other !== picture);
    search();
  }));
  for (const list of ["like", "unlike"])
    for (const row of state[list])
      chips.push(chip(hasPictures() && api.thumbnail(state.collection, row.key), row.path, list === "unlike", () => {
        state[list] = state[list].filter((r) => r !== row);
        search();
      }));
  $("chips").replaceChildren(...chips);
  $("query").hidden = chips.length === 0;
  $("crop").hidden = state.pictures.length === 0;
}

const hasPictures = () => all.find((c) => c.name === state.collection)?.pictures;
const isAsked = () => state.like.length > 0 || state.pictures.some((picture) => !picture.minus);
const onlyRows = (like) => ({ pictures: [], like, unlike: [], k: PAGE });

// Search for a picture; how: "like" or "unlike", as one more example.
function searchPicture(blob, how) {
  if (!blob || !blob.type.startsWith("image/")) {
    report(say.noPicture, true);
    return;
  }
  if (!how) Object.assign(state, onlyRows([]));
  state.pictures.push({ blob, minus: how === "unlike" });
  state.k = PAGE;
  search();
}

// ---- the address: a search from rows can be kept as a link, and the browser's Back goes back ----

const keysOf = (rows) => rows.map((row) => row.key).join(",");

function keepAddress(replace) {
  const parts = { in: state.collection, like: keysOf(state.like), unlike: keysOf(state.unlike), filter: $("filter").value.trim(),
    view: state.view === "search" ? "" : state.view };
  const hash = "#" + new URLSearchParams(Object.entries(parts).filter(([, value]) => value));
  if (hash !== location.hash) history[replace ? "replaceState" : "pushState"](null, "", hash);
}

const rowsOf = (text) => (text ?? "").split(",").filter((key) => /^[1-9]\d*$/.test(key)).map((key) => ({ key: whole(key), path: `№ ${key}` }));

function readAddress() {
  const parts = new URLSearchParams(location.hash.slice(1));
  Object.assign(state, onlyRows(rowsOf(parts.get("like"))), { unlike: rowsOf(parts.get("unlike")) });
  $("filter").value = parts.get("filter") ?? "";
  state.view = document.querySelector(`#tabs [data-view="${CSS.escape(parts.get("view") ?? "")}"]`)?.dataset.view ?? "search";
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
  state.view = "search";
  drawView();
  Object.assign(state, onlyRows([row]));
  search();
  window.scrollTo({ top: 0 });
}

// An example more, beside the pictures that were dropped.
function addExample(list, row) {
  const other = list === "like" ? "unlike" : "like";
  state[other] = state[other].filter((r) => r.key !== row.key);
  if (!state[list].some((r) => r.key === row.key)) state[list].push(row);
  if (!isAsked()) { // something to be like is needed: the best of the others
    const best = state.results.find((r) => r.key !== row.key);
    if (best) state.like.push(best);
  }
  state.k = PAGE;
  search();
}

const meanOf = (list) => list[0].map((_, d) => list.reduce((sum, x) => sum + x[d], 0) / list.length);

// The vector of a picture that has none yet. While it is asked for the picture may be cropped: then it is that of another part.
async function findVector(picture) {
  while (!picture.vector) {
    const part = picture.part, vector = await api.pictureVector(state.collection, part ?? picture.blob);
    if (picture.part === part) picture.vector = vector;
  }
}

// Of pictures and rows together: what is looked for is the mean of those to be like, moved away from the mean of the others, as the
// server does it for rows alone.
async function searchMixed(k, filter) {
  const rows = [...state.like, ...state.unlike], vectors = await api.vectors(state.collection, rows.map((row) => row.key));
  for (const picture of state.pictures) await findVector(picture);
  const of = (minus, list) => state.pictures.filter((p) => p.minus === minus).map((p) => p.vector)
    .concat(vectors.filter((v, i) => v && list.includes(rows[i])));
  const like = of(false, state.like), unlike = of(true, state.unlike);
  if (like.length === 0) return { results: [] }; // the rows are gone
  const to = meanOf(like), from = unlike.length > 0 ? meanOf(unlike) : to;
  const examples = new Set(rows.map((row) => row.key));
  const answer = await api.searchVector(state.collection, to.map((x, d) => 2 * x - from[d]), Math.min(k + examples.size, state.most), filter);
  return { results: answer.results.filter((row) => !examples.has(row.key)).slice(0, k) };
}

function ask(k, filter) {
  const rows = state.like.length + state.unlike.length, [picture] = state.pictures;
  if (!picture) return api.searchRows(state.collection, state.like.map((r) => r.key), state.unlike.map((r) => r.key), k, filter);
  if (state.pictures.length > 1 || rows > 0) return searchMixed(k, filter);
  return api.searchPicture(state.collection, picture.part ?? picture.blob, k, filter);
}

async function search(replace = false) {
  const turn = ++state.turn;
  drawQuery();
  keepAddress(replace);
  if (!isAsked()) {
    state.results = [];
    report("");
    drawResults();
    return;
  }
  const k = Math.min(state.k, state.most), filter = $("filter").value.trim();
  report(say.searching);
  try {
    const answer = await ask(k, filter);
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
  if (hasPictures()) li.querySelector("img").src = api.thumbnail(state.collection, row.key);
  const picture = li.querySelector(".picture");
  picture.setAttribute("aria-label", say.searchFrom(row.path));
  picture.addEventListener("click", () => searchFrom(row));
  li.querySelector(".path").textContent = row.path;
  const size = row.payload.width ? ` · ${row.payload.width}×${row.payload.height}` : "";
  li.querySelector(".facts").textContent = `${say.score} ${row.score.toFixed(3)}${size}`;
  const pick = li.querySelector(".pick input");
  pick.checked = state.picked.has(row.key);
  pick.addEventListener("change", () => {
    if (pick.checked) state.picked.set(row.key, row);
    else state.picked.delete(row.key);
    $("download").disabled = state.picked.size === 0;
  });
  li.querySelector(".copies").textContent = row.copies ? say.copies(row.copies) : "";
  if (!hasPictures()) {
    for (const e of li.querySelectorAll(".open, img")) e.remove();
    picture.textContent = row.path;
  }
  li.querySelectorAll(".open").forEach((a) => { a.href = api.original(state.collection, row.key); });
  li.querySelector(".like").addEventListener("click", () => addExample("like", row));
  li.querySelector(".unlike").addEventListener("click", () => addExample("unlike", row));
  li.querySelector(".copy").addEventListener("click", () => copy(row.path));
  return li;
}

// How many bits two perceptual hashes differ in.
function differ(a, b) {
  let x = BigInt(`0x${a}`) ^ BigInt(`0x${b}`), n = 0;
  for (; x; x &= x - 1n) n++;
  return n;
}

// Without those that look like one before them, which says how many they are.
function fold(rows) {
  const kept = [];
  for (const row of rows) {
    const hash = row.payload.phash;
    const same = hash && kept.find((other) => other.payload.phash && differ(hash, other.payload.phash) <= NEAR);
    if (same) same.copies++;
    else kept.push(Object.assign(row, { copies: 0 }));
  }
  return kept;
}

function similarEnough() {
  const rows = state.results.filter((row) => state.least === undefined || row.score >= state.least);
  if ($("collapse").checked) return fold(rows);
  for (const row of rows) row.copies = 0;
  return rows;
}

// The slider goes from the least score of the results to the greatest: under dot and cosine they are below 0, too.
function drawSlider() {
  const scores = state.results.map((row) => row.score).concat(state.least ?? []);
  const low = Math.floor(Math.min(...scores) * 100) / 100, high = Math.ceil(Math.max(...scores) * 100) / 100;
  const slider = $("similarity");
  slider.disabled = scores.length === 0;
  if (scores.length > 0)
    Object.assign(slider, { min: low, max: high, step: high - low > 4 ? ((high - low) / 200).toPrecision(2) : 0.01, value: state.least ?? low });
  $("least").textContent = state.least?.toFixed(2) ?? "—";
}

function drawResults() {
  drawSlider();
  const rows = similarEnough();
  const cards = new Map([...$("grid").children].map((li) => [li.dataset.key, li]));
  const same = (row) => {
    const old = cards.get(String(row.key));
    return old && old.dataset.score === `${row.score} ${row.copies}` ? old : undefined;
  };
  $("grid").replaceChildren(...rows.map((row) => {
    const li = same(row) ?? card(row);
    li.dataset.score = `${row.score} ${row.copies}`;
    return li;
  }));
  if (isAsked()) report(rows.length === 0 ? say.none : hasPictures() ? say.found(rows.length) : say.foundRows(rows.length));
}

// More results when the end of the grid comes into sight.
new IntersectionObserver((entries) => {
  if (!entries[0].isIntersecting || state.results.length < state.k || state.k >= state.most) return;
  state.k += PAGE;
  search();
}, { rootMargin: "400px" }).observe($("more"));

// ---- the controls ----

let chosenFor; // what the picture that is being chosen is
for (const [button, input, use] of [["choose", "file"], ["photograph", "camera"], ["addLike", "file", "like"], ["addUnlike", "file", "unlike"]])
  $(button).addEventListener("click", () => {
    chosenFor = use;
    $(input).click();
  });
for (const input of ["file", "camera"])
  $(input).addEventListener("change", () => {
    if ($(input).files[0]) searchPicture($(input).files[0], chosenFor);
    $(input).value = "";
  });
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
  const value = Number($("similarity").value);
  state.least = value <= Number($("similarity").min) ? undefined : value; // at its left end nothing is left out
  drawResults();
});
$("crop").addEventListener("click", async () => {
  const picture = state.pictures.at(-1); // the last one
  const part = await crop(picture.blob).catch((error) => {
    report(error.message, true);
    return "cancel";
  });
  if (part === "cancel") return;
  Object.assign(picture, { part: part === "whole" ? undefined : part, vector: undefined });
  state.k = PAGE;
  search();
});
$("collapse").addEventListener("change", drawResults);
let typing;
$("filter").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => { state.k = PAGE; search(true); }, 400);
});

// Each picture as a file; rows without pictures as one file of JSON lines.
$("download").addEventListener("click", () => {
  const rows = [...state.picked.values()];
  const save = (href, name) => Object.assign(document.createElement("a"), { href, download: name }).click();
  if (hasPictures()) {
    for (const row of rows) save(api.original(state.collection, row.key), row.path.split("/").pop());
    return;
  }
  const lines = rows.map((row) => stringify({ key: row.key, payload: row.payload })).join("\n");
  const url = URL.createObjectURL(new Blob([lines + "\n"], { type: "application/x-ndjson" }));
  save(url, `${state.collection}.jsonl`);
  setTimeout(() => URL.revokeObjectURL(url), 1000);
});

// On a narrow screen the controls are folded, so that results are seen below the chips.
const narrow = matchMedia("(max-width: 40rem)");
const foldTools = () => { $("fold").open = !narrow.matches; };
narrow.addEventListener("change", foldTools);
foldTools();

// ---- the other views ----

function drawView() {
  for (const tab of document.querySelectorAll("#tabs [data-view]"))
    if (tab.dataset.view === state.view) tab.setAttribute("aria-current", "page");
    else tab.removeAttribute("aria-current");
  $("search").hidden = state.view !== "search";
  $("view").hidden = state.view === "search";
  show(state.view, all.find((c) => c.name === state.collection), { searchFrom, copy, writes: role === "write" || role === "admin" });
}
$("tabs").addEventListener("click", (event) => {
  if (!event.target.dataset.view) return;
  state.view = event.target.dataset.view;
  keepAddress(false);
  drawView();
});

$("copy").addEventListener("click", () => copy(similarEnough().map((row) => row.path).join("\n")));
$("again").addEventListener("click", () => {
  Object.assign(state, onlyRows([]));
  state.least = undefined;
  pickNone();
  search();
});

function pickNone() {
  state.picked.clear();
  $("download").disabled = true;
}

function choose(collection, replace = false) {
  if (collection.name !== state.collection) { // keys mean other rows there, scores are of another kind
    $("grid").replaceChildren();
    state.least = undefined;
  }
  state.collection = collection.name;
  $("about").textContent = say.holds(collection.rows, collection.features || `${collection.dim}-d, ${collection.metric}`);
  for (const id of ["drop", "addLike", "addUnlike"]) $(id).hidden = !collection.pictures;
  pickNone();
  search(replace);
  drawView();
}

async function begin() {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  translate(document);
  try {
    ({ collections: all, max_k: state.most, role } = await api.collections());
    $("collection").replaceChildren(...all.map((c) => new Option(c.name, c.name)));
    $("collection").disabled = all.length < 2;
    $("collection").addEventListener("change", () => {
      Object.assign(state, onlyRows([]));
      choose(all[$("collection").selectedIndex]);
    });
    if (all.length > 0) fromAddress();
    else report(say.empty);
    for (const id of ["drop", "tabs"]) if (all.length === 0) $(id).hidden = true;
  } catch (error) {
    report(error.message, true);
  }
}
begin();
