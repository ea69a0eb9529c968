// With JavaScript every change asks for the page of the new state and takes its answer over: the server renders both.

import "./chart.js";
import { watchCopyButtons } from "./copy.js";
import { watchFiles } from "./local.js";
import { arePairsOpen, keepPairs, watchPairs } from "./matrix.js";

const PAUSE_MS = 250; // while somebody types

const form = document.getElementById("state");
let pending = new AbortController();
let timer;

function address() {
  const state = new URLSearchParams();
  for (const [name, value] of new FormData(form)) if (value.trim()) state.append(name, value.trim());
  const kv = [state.get("k"), state.get("v")];
  state.delete("k");
  state.delete("v");
  state.set("kv", kv.join(":"));
  return `${form.action}?${state}`;
}

// The state with one field changed and others left out.
function addressWith(name, value, without = []) {
  const url = new URL(address());
  for (const other of without) url.searchParams.delete(other);
  url.searchParams.set(name, value);
  return url.href;
}

async function load(url, { record }) {
  pending.abort();
  pending = new AbortController();
  const answer = document.getElementById("answer");
  answer.setAttribute("aria-busy", "true");
  try {
    const reply = await fetch(url, { signal: pending.signal, headers: { Accept: "text/html" } });
    show(new DOMParser().parseFromString(await reply.text(), "text/html"), url, record);
  } catch (error) {
    if (error.name === "AbortError") return;
    location.assign(url); // let the browser say what is wrong
  }
}

function show(page, url, record) {
  const next = page.getElementById("answer");
  if (!next) return location.assign(url);
  const open = arePairsOpen();
  document.getElementById("answer").replaceWith(document.adoptNode(next));
  keepPairs(open);
  takeForm(page.getElementById("state"));
  document.title = page.title;
  const canonical = next.dataset.canonical || url;
  if (record) history.replaceState(null, "", new URL(canonical, location));
}

// The new form is taken over field by field, so that the focus and what is being typed stay.
function takeForm(next) {
  const active = document.activeElement;
  const sameFields = next.elements.length === form.elements.length;
  if (!sameFields || !form.contains(active)) {
    const open = [...form.querySelectorAll("details")].map((part) => part.open);
    const name = active?.name || active?.id;
    form.replaceChildren(...document.adoptNode(next).childNodes);
    form.querySelectorAll("details").forEach((part, i) => (part.open ||= open[i]));
    if (name && form.elements[name]?.focus) form.elements[name].focus();
    return;
  }
  for (let i = 0; i < form.elements.length; i += 1) {
    if (form.elements[i].type === "file") continue;
    const [mine, theirs] = [form.elements[i], next.elements[i]];
    mine.toggleAttribute("aria-invalid", theirs.hasAttribute("aria-invalid"));
    if (theirs.hasAttribute("aria-invalid")) mine.setAttribute("aria-invalid", "true");
    mine.disabled = theirs.disabled;
    if (mine !== active && mine.value !== theirs.value) mine.value = theirs.value;
  }
  const [mine, theirs] = [form.querySelector("#engine-hint"), next.querySelector("#engine-hint")];
  mine.textContent = theirs.textContent;
}

// A model that is browsed for goes where models are typed, so that it is typed over like any other.
function takeBundled() {
  if (!form.elements.bundled?.value) return;
  form.elements.model.value = form.elements.bundled.value;
  form.elements.bundled.value = "";
}

// A name on the Hub is looked up when it is whole, not at each letter.
function isUnfinished(field) {
  return field.id === "model" && ![...field.list.options].some((option) => option.value === field.value);
}

function changed(pause) {
  clearTimeout(timer);
  timer = setTimeout(() => load(address(), { record: true }), pause);
}

document.documentElement.classList.add("scripted");
form.addEventListener("change", (event) => {
  takeBundled();
  if (event.target.name || event.target.id === "bundled") changed(0);
});
form.addEventListener(
  "input",
  (event) => event.target.matches("input[name]") && !isUnfinished(event.target) && changed(PAUSE_MS),
);
form.addEventListener("submit", (event) => {
  event.preventDefault();
  changed(0);
});
watchCopyButtons(document);
watchPairs();
watchFiles(form, {
  onModel: (facts) => load(addressWith("facts", facts, ["model", "quant"]), { record: true }),
  onProjector: (size) => load(addressWith("mmproj", size), { record: true }),
});
