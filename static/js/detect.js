// Which device profiles a browser's own words about its GPU mean. Pure: nothing is read or sent here.

const SOFTWARE = /swiftshader|llvmpipe|softpipe|software rasterizer|basic render|gdi generic/i;
const HIDDEN = /, or similar|^apple gpu$/i; // Firefox names one GPU for a whole class, Safari none
const NOISE = /^(gpu|igpu|graphics|gddr\d+x?|refresh|system|generation)$/;
const OTHERS = /^(ti|super|xt|xtx|gre|d|v2|pro|max|ultra|laptop|mobile|sff|server)$/; // behind a name: another chip
const SAME_IN_LAPTOPS = /^(gtx 1[06]|rtx 20)\d\d/; // NVIDIA says "Laptop GPU" from the RTX 30 series on

const words = (text) =>
  text
    .toLowerCase()
    .replace(/\((r|tm)\)|0x[0-9a-f]+/g, " ")
    .replace(/\bwith max-q design\b/g, "laptop")
    .replace(/\b\d+ ?gb\b/g, " ")
    .match(/[a-z0-9+]+/g)
    ?.filter((word) => !NOISE.test(word)) ?? [];

// The chips that a profile's name stands for, in words: "RTX 3060 12 GB" is "rtx 3060", an APU also its graphics, and an
// older one of a laptop goes by the desktop's name.
const chips = (name) =>
  name
    .replace(/\([^)]*\)/g, "")
    .split("/")
    .map((part) => words(part).join(" "))
    .flatMap((chip) => (SAME_IN_LAPTOPS.test(chip) ? [chip, chip.replace(/ laptop$/, "")] : [chip]));

// Where the words of a chip stand in those of a renderer, and not those of another chip that begins alike.
function names(renderer, chip) {
  const maker = chip.includes(" ") ? "" : "(?:apple|nvidia|tesla) "; // "m1" or "l4" alone says too little
  const rest = ` ${renderer.join(" ")} `.match(new RegExp(` ${maker}${chip.replaceAll("+", "\\+")} (\\S*)`));
  return rest !== null && !OTHERS.test(rest[1]);
}

function matching(renderer, profiles) {
  const said = words(renderer);
  const found = new Map(); // chip: its profiles
  for (const profile of profiles) {
    for (const chip of chips(profile.name)) {
      if (chip && names(said, chip)) found.set(chip, [...(found.get(chip) ?? []), profile]);
    }
  }
  const best = [...found.keys()].sort((one, other) => other.length - one.length)[0];
  if (!best) return [];
  const all = [...new Set(found.get(best))];
  const memory = renderer.match(/\b(\d+) ?GB\b/i)?.[1];
  return memory ? all.filter(({ name }) => new RegExp(`\\b${memory} GB`).test(name)) : all;
}

// The GPU's name within what a browser says: without ANGLE, its backends and the numbers of devices and versions.
export function gpuName(renderer) {
  const said = renderer.replace(/, or similar$/, "");
  const inside = said.match(/^ANGLE \((?:[^,]*, )?(.*)\)$/)?.[1] ?? said;
  const name = inside
    .replace(/^ANGLE Metal Renderer: |^Vulkan [\d.]+ \(/, "")
    .replace(/ Direct3D.*| \(radeonsi.*|\/PCIe.*| ?\(0x.*|, (Unspecified Version|OpenGL|D3D).*|\), .*/, "")
    .replace(/\((R|TM)\)/gi, "")
    .replace(/^NVIDIA NVIDIA/, "NVIDIA");
  return name.replace(/\s+/g, " ").trim();
}

/**
 * What a renderer's text means.
 *
 * @param {string} renderer as WebGL or WebGPU says it; empty where the browser says nothing
 * @param {{id: string, name: string}[]} profiles those of the picker
 * @returns {{kind: "found"|"unknown"|"hidden"|"software"|"none", name: string, candidates: {id: string, name: string}[]}}
 *   more than one candidate where a chip comes with several memory sizes, or in laptops under the same name; where the
 *   browser hides which Mac it is, all Macs
 */
export function detect(renderer, profiles) {
  const name = gpuName(renderer);
  if (!renderer) return { kind: "none", name, candidates: [] };
  if (SOFTWARE.test(renderer)) return { kind: "software", name, candidates: [] };
  if (HIDDEN.test(renderer)) {
    const isApple = /apple/i.test(renderer);
    return { kind: "hidden", name, candidates: isApple ? profiles.filter(({ id }) => /^m\d/.test(id)) : [] };
  }
  const candidates = matching(renderer, profiles);
  return { kind: candidates.length ? "found" : "unknown", name, candidates };
}
