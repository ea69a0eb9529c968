// The button that asks the browser which GPU this computer has. Nothing is sent but the device that is then chosen.

import { detect } from "./detect.js";

const MASKED = "WebKit WebGL"; // what Chromium and Safari say where they are not asked for more

function webglRenderer() {
  const gl = document.createElement("canvas").getContext("webgl", { powerPreference: "high-performance" });
  if (!gl) return "";
  let renderer = gl.getParameter(gl.RENDERER);
  if (!renderer || renderer === MASKED) {
    const debug = gl.getExtension("WEBGL_debug_renderer_info");
    renderer = debug ? gl.getParameter(debug.UNMASKED_RENDERER_WEBGL) : "";
  }
  gl.getExtension("WEBGL_lose_context")?.loseContext();
  return renderer ?? "";
}

async function webgpuRenderer() {
  try {
    const adapter = await navigator.gpu?.requestAdapter({ powerPreference: "high-performance" });
    return adapter?.info?.description || adapter?.info?.device || "";
  } catch {
    return "";
  }
}

// What WebGL tells, or WebGPU where that tells more.
async function read(profiles) {
  const found = detect(webglRenderer(), profiles);
  if (found.kind === "found") return found;
  const other = detect(await webgpuRenderer(), profiles);
  return other.kind === "found" || found.kind === "none" ? other : found;
}

function sentence({ kind, name, candidates }) {
  const own = /nvidia|geforce/i.test(name) ? "cuda-12gb" : /amd|radeon/i.test(name) ? "rocm-16gb" : "";
  const byName = "type its name above.";
  switch (kind) {
    case "found":
      return `The browser tells of ${name}.${candidates.length > 1 ? " Which one is it?" : ""}`;
    case "hidden":
      if (candidates.length) return `The browser only tells of an “${name}”. Which Mac is it?`;
      return `The browser hides which GPU this is and only tells of one like ${name}: ${byName}`;
    case "software":
      return `The browser shows no GPU, it draws with ${name}: ${byName}`;
    case "unknown":
      return `The browser tells of ${name}, which has no profile here${own ? `: type its memory above, such as ${own}.` : "."}`;
    default:
      return `The browser does not tell which GPU this computer has: ${byName}`;
  }
}

const profilesOf = (list) =>
  [...list.options].map(({ value, textContent }) => ({ id: value, name: textContent.split(" · ")[0] }));

// Calls onDevice with the id of the device; stateOf gives the address of the state with it.
export function watchComputer(form, { onDevice, stateOf }) {
  function link({ id, name }) {
    const item = document.createElement("li");
    const anchor = item.appendChild(document.createElement("a"));
    anchor.href = stateOf(id);
    anchor.textContent = name;
    anchor.dataset.detected = id;
    return item;
  }

  form.addEventListener("click", async (event) => {
    if (event.target.dataset.detected) {
      event.preventDefault();
      onDevice(event.target.dataset.detected);
    }
    if (!event.target.matches("[data-detect]")) return;
    const place = event.target.parentElement;
    const found = await read(profilesOf(document.getElementById("devices")));
    place.querySelector("[role=status]").textContent = sentence(found);
    const { candidates } = found;
    place.querySelector("ul").replaceChildren(...(candidates.length > 1 ? candidates.map(link) : []));
    if (candidates.length === 1) onDevice(candidates[0].id);
  });
}
