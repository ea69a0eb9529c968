// With JavaScript every change asks for the page of the new state and takes its answer over: the server renders both.

import "./chart.js";
import { watchComputer } from "./computer.js";
import { watchCopyButtons } from "./copy.js";
import { isDevice, takePicked, watchDevices } from "./devices.js";
import { watchFiles } from "./local.js";
import { arePairsOpen, keepPairs, watchPairs } from "./matrix.js";

const PAUSE_MS = 250; // while somebody types

const form = document.getElementById("state");
let pending = new AbortController();
let timer;

function address() {
  const state = new URLSearchParams();
  for (const [name, value] of new FormData(form)) if (value.trim()) state.append(name, value.trim());
  if (state.has("k")) {
    state.set("kv", [state.get("k"), state.get("v")].join(":"));
    state.delete("k");
    state.delete("v");
  }
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
  const sameEngine = next.elements.was.value === form.elements.was.value;
  const sameFields = sameEngine && next.elements.length === form.elements.length;
  if (!sameFields || !form.contains(active)) {
    const open = [...form.querySelectorAll("details")].map((part) => part.open);
    const alike = () => [...form.elements].filter((one) => one.name === active?.name && one.id === active?.id);
    const place = alike().indexOf(active);
    form.replaceChildren(...document.adoptNode(next).childNodes);
    form.querySelectorAll("details").forEach((part, i) => (part.open ||= open[i]));
    alike()[place]?.focus();
    return;
  }
  for (let i = 0; i < form.elements.length; i += 1) {
    if (form.elements[i].type === "file") continue;
    const [mine, theirs] = [form.elements[i], next.elements[i]];
    mine.toggleAttribute("aria-invalid", theirs.hasAttribute("aria-invalid"));
    if (theirs.hasAttribute("aria-invalid")) mine.setAttribute("aria-invalid", "true");
    mine.disabled = theirs.disabled;
    const isTyped = mine === active && !(isDevice(mine) && isOffered(mine));
    if (!isTyped && mine.value !== theirs.value) mine.value = theirs.value;
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

const isOffered = (field) => [...field.list.options].some((option) => option.value === field.value);

// A name is looked up when it is whole, not at each letter: one id of a device may be the beginning of another.
function isUnfinished({ target, inputType }) {
  if (isDevice(target) && inputType && inputType !== "insertReplacementText") return true;
  return (target.id === "model" || isDevice(target)) && !isOffered(target);
}

function changed(pause) {
  clearTimeout(timer);
  timer = setTimeout(() => load(address(), { record: true }), pause);
}

document.documentElement.classList.add("scripted");
form.addEventListener("change", (event) => {
  takeBundled();
  takePicked(form);
  if (event.target.name || event.target.id === "bundled") changed(0);
});
form.addEventListener(
  "input",
  (event) => event.target.matches("input[name]") && !isUnfinished(event) && changed(PAUSE_MS),
);
form.addEventListener("submit", (event) => {
  event.preventDefault();
  changed(0);
});
watchCopyButtons(document);
watchPairs();
watchDevices(form, { onChange: () => changed(0) });
watchComputer(form, {
  onDevice: (id) => load(addressWith("device", id), { record: true }),
  stateOf: (id) => addressWith("device", id),
});
watchFiles(form, {
  onModel: (facts) => load(addressWith("facts", facts, ["model", "quant"]), { record: true }),
  onProjector: (size) => load(addressWith("mmproj", size), { record: true }),
});
