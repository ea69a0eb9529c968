// With JavaScript every change asks for the page of the new state and takes its answer over: the server renders both.

import { watchComputer } from "./computer.js";
import { watchCopyButtons } from "./copy.js";
import { isDevice, takePicked, watchDevices } from "./devices.js";

const PAUSE_MS = 300; // while somebody types

const form = document.getElementById("state");
let pending = new AbortController();
let timer;

function address() {
  const state = new URLSearchParams();
  for (const [name, value] of new FormData(form)) if (value.trim()) state.append(name, value.trim());
  return `${form.action}?${state}`;
}

// The state on one device.
function addressWith(device) {
  const url = new URL(address());
  url.searchParams.delete("pick");
  url.searchParams.set("device", device);
  return url.href;
}

async function load(url) {
  pending.abort();
  pending = new AbortController();
  document.getElementById("answer").setAttribute("aria-busy", "true");
  try {
    const reply = await fetch(url, { signal: pending.signal, headers: { Accept: "text/html" } });
    show(new DOMParser().parseFromString(await reply.text(), "text/html"), url);
  } catch (error) {
    if (error.name !== "AbortError") location.assign(url); // let the browser say what is wrong
  }
}

function show(page, url) {
  const next = page.getElementById("answer");
  if (!next) return location.assign(url);
  document.getElementById("answer").replaceWith(document.adoptNode(next));
  takeForm(page.getElementById("state"));
  document.title = page.title;
  history.replaceState(null, "", new URL(next.dataset.canonical || url, location));
}

// The devices are replaced unless one is being typed; elsewhere the focus and what is being typed stay.
function takeForm(next) {
  const [mine, theirs] = [form, next].map((one) => one.querySelector("fieldset"));
  const isSameLength = mine.childElementCount === theirs.childElementCount;
  if (!isSameLength || !mine.contains(document.activeElement)) mine.replaceWith(document.adoptNode(theirs));
  for (const field of form.querySelectorAll("[id]")) {
    const other = next.querySelector(`#${field.id}`);
    if (other?.hasAttribute("aria-invalid")) field.setAttribute("aria-invalid", "true");
    else field.removeAttribute("aria-invalid");
    if (field !== document.activeElement && other && field.value !== other.value) field.value = other.value;
  }
}

function changed(pause) {
  clearTimeout(timer);
  timer = setTimeout(() => load(address()), pause);
}

document.documentElement.classList.add("scripted");
form.addEventListener("change", ({ target }) => {
  takePicked(form);
  if (target.name) changed(0);
});
form.addEventListener(
  "input",
  ({ target }) => target.matches("input[name]") && !isDevice(target) && changed(PAUSE_MS),
);
form.addEventListener("submit", (event) => {
  event.preventDefault();
  changed(0);
});
watchCopyButtons(document);
watchDevices(form, { onChange: () => changed(0) });
watchComputer(form, { onDevice: (id) => load(addressWith(id)), stateOf: addressWith });
